"""Errors for the user: one sentence with the value, the place and the remedy.

Exception
 └─ ModisteError    the work failed: the command line prints the sentence and exits with 1
     └─ UsageError  the request was wrong: exit code 2

KeyboardInterrupt
 └─ Interrupted     the user stopped the work in a script or a notebook; the sentence says how to go on
"""

from __future__ import annotations


class ModisteError(Exception):
    """A failure whose message is a sentence for the user: what, where, and what to do about it."""

    exit_code = 1


class UsageError(ModisteError):
    """A wrong request: an unknown name, a key that does not exist, a value out of range."""

    exit_code = 2


class Interrupted(KeyboardInterrupt):
    """Work that the user stopped; its message is a sentence on what is saved, where, and how to go on."""

    def _render_traceback_(self) -> list[str]:
        """What IPython prints instead of a traceback, which would hide the sentence."""
        return [f"Interrupted: {self}"]


def first_line(error: BaseException) -> str:
    """The first line of a foreign error's message, to stand within a sentence; its type where it has none."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, of Python, or of PyTorch on CPU or GPU, which has no exception type for it."""
    message = str(error).lower() if isinstance(error, RuntimeError) else ""
    signs = ("can't allocate memory", "out of memory", "alloc_failed")  # the last one from CUDA's libraries
    return isinstance(error, MemoryError) or any(sign in message for sign in signs)
