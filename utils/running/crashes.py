"""What a process leaves that crashes in a library of C: where it was, and not its memory, which holds secrets."""

import contextlib
import ctypes
import faulthandler
import os
import resource

PR_SET_DUMPABLE = 4  # linux/prctl.h


def leave_no_core() -> None:
    """The kernel writes no core of this process, whatever limit it was started with. A crash prints the stack instead.

    A limit alone is not enough: where core_pattern is a pipe, the program behind it decides. On Linux no other process
    of the same user can read the memory and the environment of this one then. root can, and so can a debugger with
    CAP_SYS_PTRACE.
    """
    faulthandler.enable()  # names of functions and lines of files, and no values
    # A child that process() forks would wait at its end for the thread of faulthandler's timer, which it has not got
    # (measured). Of these hooks the first one that is registered runs last: nobody sets the timer behind it.
    os.register_at_fork(before=faulthandler.cancel_dump_traceback_later)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError, AttributeError):  # there is no prctl elsewhere
        ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
