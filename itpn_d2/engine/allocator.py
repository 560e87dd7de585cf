"""Freed memory is kept by the process, which makes runs on a CPU faster."""

import ctypes
import platform

# numbers of glibc's mallopt
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4


def keep_freed_memory() -> bool:
    """Ask the C library to reuse freed memory instead of returning it to the system.

    By default glibc fetches every block above 32 MiB afresh, so that each page of a large map costs a page
    fault and is cleared by the system: a good part of the time of a CPU at high resolution
    (docs/acceleration.md). The price is that the process keeps its peak memory. This applies to the whole
    process, until it ends (ours).

    Returns:
        Whether it was done; False with a C library other than glibc.
    """
    if platform.system() != "Linux" or platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    return bool(libc.mallopt(_MMAP_MAX, 0)) and bool(libc.mallopt(_TRIM_THRESHOLD, -1))
