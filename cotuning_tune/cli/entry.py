"""What runs on the cluster, by every backend: starts the run or continues it.

``python -m cotuning_tune.cli.entry EXPERIMENT --storage ... [--address ... --nodes N]``, as the command ``run``.
Exit codes: 0 done, 85 unfinished: the same command continues, 2 a mistake in what was given, 75
another driver works on the run, else failed. So a requeue, a preemption and a retry all are the same command again.
How it ended stands in the run's ``ended.json`` then, for whoever has started it and cannot ask the process.
"""

from cotuning_tune.cluster.signals import end_cleanly, survive_hang_up

end_cleanly()  # first: a scheduler may signal before anything is up
survive_hang_up()

import argparse  # noqa: E402
import sys  # noqa: E402
from contextlib import suppress  # noqa: E402

from cotuning_tune.base.endings import FAULT  # noqa: E402
from cotuning_tune.base.files import place, write_json  # noqa: E402
from cotuning_tune.cli import main  # noqa: E402
from cotuning_tune.runs.folder import RunDir  # noqa: E402


def drive(words: list[str]) -> int:
    """Do as ``run`` does, and leave word of the end; the exit code."""
    lines = [""]

    def say(line: str) -> None:
        lines[0] = line
        print(line, file=sys.stderr)

    code = FAULT
    try:
        code = main(["run", *words], say)
    finally:
        with suppress(Exception):  # nobody waits for it at any price
            _leave_word(words, code, lines[0])
    return code


def _leave_word(words: list[str], code: int, line: str) -> None:
    parser = argparse.ArgumentParser(add_help=False, exit_on_error=False)
    parser.add_argument("--storage")
    parser.add_argument("--name")
    asked, _ = parser.parse_known_args(words)
    run = RunDir(place(asked.storage) / asked.name)
    if run.path.is_dir():
        write_json(run.ended, {"code": code, "line": line.strip().removeprefix("cotuning-tune: ")})


if __name__ == "__main__":
    sys.exit(drive(sys.argv[1:]))
