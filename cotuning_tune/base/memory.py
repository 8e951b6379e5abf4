"""How this process takes memory from the system."""

import ctypes
import functools
import sys

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # of mallopt(3)
LARGEST, SMALLER = 1 << 30, 1 << 25  # bytes; the second where a C library refuses the first


@functools.cache
def keep_freed_memory() -> bool:
    """Let glibc keep what large tensors leave, in place of giving it back after each and asking again.

    On a CPU a step of training spends a tenth of its time with pages that the system clears anew. A process takes no
    more than at its peak. False where the C library has no such setting.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    kept = mallopt(MMAP_THRESHOLD, LARGEST) or mallopt(MMAP_THRESHOLD, SMALLER)
    return bool(kept and mallopt(TRIM_THRESHOLD, LARGEST))
