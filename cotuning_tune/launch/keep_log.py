"""Puts a driver's log beside its run before the machine goes.

``python -m cotuning_tune.launch.keep_log FILE ADDRESS``
"""

import sys
from pathlib import Path

from cotuning_tune.base.files import place, write_bytes


def keep_log(log: Path, address: str) -> None:
    """Write the file to an address of the storage. Raises UserError, OSError."""
    write_bytes(place(address), log.read_bytes())


if __name__ == "__main__":
    keep_log(Path(sys.argv[1]), sys.argv[2])
