"""Which errors are the user's to mend, and how they are told.

The library raises ValueError, TypeError and ImportError with a line that says what was given, what was expected and
what to do. The same types come from bugs, out of torch or of Python itself; these must not be taken for advice. The
difference is where an error began: at a `raise` in this package, or elsewhere.
"""

import errno
import opcode

import typer

USAGE, INTERRUPTED = 2, 130
"""Exit statuses: of an error that the user can mend, and of a command that was interrupted."""

_RAISE = opcode.opmap["RAISE_VARARGS"]
_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")
_REMEDIES = {
    errno.ENOENT: "check the name",
    errno.EACCES: "check the permissions",
    errno.EPERM: "check the permissions",
    errno.EROFS: "choose another place",
    errno.ENOSPC: "free some space or choose another disk; what was there before is kept",
    errno.EDQUOT: "free some space or choose another disk; what was there before is kept",
}


def explain(error: BaseException) -> str | None:
    """One line for the user, with the error's notes; None for an error that nobody foresaw."""
    text = _text(error)
    return None if text is None else " ".join("; ".join((text, *getattr(error, "__notes__", ()))).split())


def _text(error: BaseException) -> str | None:
    if isinstance(error, typer.TyperException):
        return _usage(error)
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    if isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(sign in str(error) for sign in _OUT_OF_MEMORY)
    ):
        return "out of memory: give a smaller --batch-size"
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename is not None else ""
        remedy = _REMEDIES.get(error.errno or 0)
        return where + (error.strerror or str(error)) + (f"; {remedy}" if remedy else "")
    if isinstance(error, ValueError | TypeError | ImportError) and _raised_here(error):
        return str(error)
    return None


def _usage(error: typer.TyperException) -> str:
    """What is wrong with the command line, and where its help is."""
    message = error.format_message().rstrip(".").replace("Value error, ", "")
    problems = getattr(error.__cause__, "errors", None)
    if problems is not None and repr(given := problems()[0]["input"]) not in message:
        message += f", {given!r} given"
    context = getattr(error, "ctx", None)
    return message if context is None else f"{message}; see '{context.command_path} --help'"


def _raised_here(error: BaseException) -> bool:
    """Whether the error began at a `raise` in this package."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return False
    package = __name__.partition(".")[0]
    module = str(trace.tb_frame.f_globals.get("__name__", ""))
    raised = trace.tb_frame.f_code.co_code[trace.tb_lasti] == _RAISE
    return raised and module.partition(".")[0] == package
