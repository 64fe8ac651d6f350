"""What becomes of memory that is freed: kept for the next tensor while a job computes, given back between its parts.

glibc gives blocks above 32 MB back at once, and new ones are zeroed page by page: of a forward pass of 32 rows of 512
bases on a CPU that is up to 40 % of the time. Kept blocks of many sizes would in turn come to hold more and more.
Source: mallopt(3), malloc_trim(3). Without glibc, or with MALLOC_… in the environment, nothing is changed.
"""

import ctypes
import os

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
_kept = []


def keep() -> None:
    """Keep what is freed from now on."""
    if _kept or any(name.startswith("MALLOC_") for name in os.environ):
        return
    try:
        libc = ctypes.CDLL(None)
        libc.mallopt(_TRIM_THRESHOLD, 2**31 - 1)
        libc.mallopt(_MMAP_MAX, 0)
        _kept.append(libc.malloc_trim)
    except (AttributeError, OSError, TypeError):  # musl, macOS, Windows
        return


def give_back() -> None:
    """Give back what was kept and is free now."""
    for trim in _kept:
        trim(0)
