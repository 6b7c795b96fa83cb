"""Memory that a process frees stays with it, for its next step."""

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # as in glibc's malloc.h
_MOST = 2**31 - 1


def keep_freed_memory() -> None:
    """Let this process keep what it frees, where its memory is glibc's: on most Linux systems.

    Else every step hands its large maps back to the system, and waits while the system fills
    the pages of the next ones with zeros. The process stays as large as it was at its peak.
    Where memory is not glibc's, nothing happens.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_MAX, 0)
        mallopt(_TRIM_THRESHOLD, _MOST)
