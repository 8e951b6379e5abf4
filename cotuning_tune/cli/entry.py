"""What runs on the cluster, by every backend: starts the run or continues it.

``python -m cotuning_tune.cli.entry EXPERIMENT --storage ... [--address ... --nodes N]``, as the command ``run``.
Exit codes: 0 done, 85 unfinished: the same command continues, 2 a mistake in what was given, 75
another driver works on the run, else failed. So a requeue, a preemption and a retry all are the same command again.
"""

from cotuning_tune.cluster.signals import end_cleanly, survive_hang_up

end_cleanly()  # first: a scheduler may signal before anything is up
survive_hang_up()

import sys  # noqa: E402

from cotuning_tune.cli import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main(["run", *sys.argv[1:]]))
