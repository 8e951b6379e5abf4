"""What a process keeps of the memory that its tensors leave."""

import subprocess
import sys

import pytest

SCRIPT = """
import resource, sys
from cotuning_tune.base.memory import keep_freed_memory
kept = keep_freed_memory() if sys.argv[1:] else False
for _ in range(3):
    bytearray(64 << 20)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    bytearray(64 << 20)
print(int(kept), resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def test_memory_is_not_cleared_again_and_again() -> None:
    """Ten tensors of 64 MB, one after the other: no new pages, where the C library can be told."""
    every = []
    for words in ([], ["keep"]):
        done = subprocess.run([sys.executable, "-c", SCRIPT, *words], capture_output=True, text=True, check=True)
        every.append([int(word) for word in done.stdout.split()])
    (_, before), (kept, after) = every
    if not kept:
        pytest.skip("NOT TESTED: this C library has no mallopt that takes the setting")
    assert after < before / 100, (before, after)
