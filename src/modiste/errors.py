"""What goes wrong in a user's hands, said in one sentence that names the value, the place and the remedy.

Exception
 └─ ModisteError    it failed: the command line prints the sentence and exits with 1
     └─ UsageError  it was asked for wrongly: exit code 2
"""

from __future__ import annotations


class ModisteError(Exception):
    """A failure whose message is a sentence for the user: what, where, and what to do about it."""

    exit_code = 1


class UsageError(ModisteError):
    """A wrong request: an unknown name, a key that does not exist, a value out of range."""

    exit_code = 2


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out: Python's, or PyTorch's, which tells of a processor's and a GPU's in its own words."""
    said = str(error).lower() if isinstance(error, RuntimeError) else ""
    signs = ("can't allocate memory", "out of memory", "alloc_failed")  # the last of CUDA's libraries
    return isinstance(error, MemoryError) or any(sign in said for sign in signs)
