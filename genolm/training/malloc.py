"""Tell glibc not to return freed pages during training (mallopt); trim afterwards.

glibc returns blocks above 32 MB at once, and new ones are zeroed page by page: up to 40 % of a CPU forward pass. Kept
blocks of many sizes would add up, so they are trimmed between the parts of a job. Without glibc, or with MALLOC_… in
the environment, nothing is changed. Source: mallopt(3), malloc_trim(3).
"""

import ctypes
import os

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
_malloc_trim = []


def keep_freed_pages() -> None:
    """Keep the pages of what is freed from now on."""
    if _malloc_trim or any(name.startswith("MALLOC_") for name in os.environ):
        return
    try:
        libc = ctypes.CDLL(None)
        libc.mallopt(_TRIM_THRESHOLD, 2**31 - 1)
        libc.mallopt(_MMAP_MAX, 0)
        _malloc_trim.append(libc.malloc_trim)
    except (AttributeError, OSError, TypeError):  # musl, macOS, Windows
        return


def trim_freed_pages() -> None:
    """Return the free pages that were kept to the system."""
    for malloc_trim in _malloc_trim:
        malloc_trim(0)
