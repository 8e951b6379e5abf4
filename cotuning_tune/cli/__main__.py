"""``python -m cotuning_tune.cli``."""

import sys

from cotuning_tune.cli import main

if __name__ == "__main__":
    sys.exit(main())
