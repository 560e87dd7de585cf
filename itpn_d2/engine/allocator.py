"""Memory that is freed stays with the process, where that is what makes a CPU run fast."""

import ctypes
import platform

# numbers of glibc's mallopt
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4


def keep_freed_memory() -> bool:
    """Ask the C library to use freed memory again instead of giving it back to the system.

    By default glibc fetches every block above 32 MiB afresh, so that each page of a large map costs a page
    fault and is cleared by the system: a good part of the time of a CPU at high resolution
    (docs/acceleration.md). The price: what the process has taken at its peak it keeps. For the whole process,
    and for good. Ours.

    Returns:
        Whether it was done; False where the C library is another one.
    """
    if platform.system() != "Linux" or platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    return bool(libc.mallopt(_MMAP_MAX, 0)) and bool(libc.mallopt(_TRIM_THRESHOLD, -1))
