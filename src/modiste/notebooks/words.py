"""The command line's words as keyword arguments: what they change in a recipe, and the right one for a wrong one."""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ParamSpec, TypeVar

from modiste import config
from modiste.errors import UsageError

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


def with_known_words(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """The function with a sentence for keyword arguments that it does not have, which names the right one."""
    known = list(inspect.signature(function).parameters)

    @functools.wraps(function)
    def call(*args: Parameters.args, **words: Parameters.kwargs) -> Result:
        for word in words:
            if word not in known:
                raise UsageError(f"{function.__name__}() takes no {word!r}{_meant(word, words[word], known)}")
        return function(*args, **words)

    return call


def _meant(word: str, value: Any, known: Sequence[str]) -> str:
    """What was meant: another keyword or, where recipes are changed, a recipe's key; else all keywords."""
    meant = {one: f"{one}=" for one in known}
    if "set" in known:
        keys = {row["key"].rpartition(".")[2]: row["key"] for row in config.describe_keys()
                if "." in row["key"]}  # fmt: skip
        meant = {leaf: f"set={{{key!r}: {value!r}}}" for leaf, key in keys.items()} | meant
    close = difflib.get_close_matches(word, meant, n=1)
    return f"; did you mean {meant[close[0]]}?" if close else f"; it takes {', '.join(known)}"


def recipe_changes(
    *,
    data: Any = None,
    resize: int | None = None,
    fit: str | None = None,
    background: str | None = None,
    group_by: str | None = None,
    seed: int | None = None,
    from_: Any = None,
    budget: str | float | None = None,
    patience: int | None = None,
    set: Mapping[str, Any] | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The recipe's keys and values that these words set; `overrides` is another word for `set`.

    UsageError where two of them set the same key to different values.
    """
    from modiste.experiments import study_config

    named = {
        "data.name": None if data is None else str(data),
        "data.resize": resize,
        "data.fit": fit,
        "data.background": background,
        "data.group_by": group_by,
        "seed": seed,
        "evaluate.patience": patience,
        "finetune.ancestor": None if from_ is None else str(getattr(from_, "path", from_)),
    }
    changes = {key: value for key, value in named.items() if value is not None}
    if budget is not None:
        changes |= study_config.budget_changes(str(budget), "the budget")
    for other in (set or {}, overrides or {}):
        for key, value in other.items():
            if changes.get(key, value) != value:
                raise UsageError(f"{key} is set twice, to {changes[key]!r} and to {value!r}; leave one of them out")
            changes[key] = value
    return changes
