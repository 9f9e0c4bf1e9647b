"""The one kind of error that a user's input can cause, and those that the machine causes."""

import errno
import re


class PapersError(Exception):
    """Bad input. The message is one line: what is wrong, and what mends it.

    The command line prints the message alone and exits with code 2; in Python and in a notebook it
    is raised as it is.
    """


_TEXTS = re.compile(
    r"out of (shared )?memory|not enough memory|bad_alloc|ALLOC_FAILED|can't start new thread"
    r"|(can(no|')t|cannot|unable to|failed to) (allocate|map segment)|no space left on device"
    r"|could not (create|execute) a (primitive(?! desc)|memory)"  # oneDNN's, where its kernels find no room
    r"|too many open files|killed by signal: killed|uncorrectable ECC",
    re.IGNORECASE,
)
_NAMES = ("ENOMEM", "ENOSPC", "EDQUOT", "EMFILE", "ENFILE", "EAGAIN", "EIO", "ESTALE")


def fault_of_the_machine(error: BaseException) -> bool:
    """Whether memory, disk, threads or open files ran out: the same work succeeds when there are more.

    torch has no type of its own for most of these, on CPU and GPU; its texts are known here and nowhere else.
    """
    if isinstance(error, OSError) and errno.errorcode.get(error.errno or 0) in _NAMES:
        return True
    if isinstance(error, RuntimeError | OSError | ImportError):  # ImportError: a library that finds no memory
        return _TEXTS.search(str(error)) is not None
    return isinstance(error, MemoryError)
