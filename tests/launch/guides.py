"""Reading the commands out of a guide, so that a test follows it word by word."""

import re
import shlex
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[2]


def commands_of(guide: str, places: Mapping[str, str]) -> list[list[str]]:
    """The ``cotuning-tune`` commands in a guide's code blocks, in order, without the program's name.

    ``places``: words of the guide and what stands for them here.
    """
    blocks = re.findall(r"^```\w*\n(.*?)^```", (ROOT / "docs" / guide).read_text(), flags=re.MULTILINE | re.DOTALL)
    words = [shlex.split(line, comments=True) for block in blocks for line in block.splitlines()]
    return [[places.get(w, w) for w in line[1:]] for line in words if line[:1] == ["cotuning-tune"]]
