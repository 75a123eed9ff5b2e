"""Settings files: the TOML of recipes, studies and searches, and one sentence for an error in them."""

from __future__ import annotations

import difflib
import inspect
import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from modiste.errors import UsageError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FOLDERS = {"recipe": "presets/recipes", "study": "presets/studies", "search space": "presets/searches"}
"""The folders of the package's TOML files, by their kind."""
NO_WORDS: Mapping[str, str] = MappingProxyType({})


class Section(BaseModel):
    """A frozen part of the settings in which an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)


S = TypeVar("S", bound=Section)


def shipped(kind: str = "recipe") -> list[str]:
    """Names of the recipes, studies or search spaces in the package, sorted."""
    entries = (resources.files("modiste") / FOLDERS[kind]).iterdir()
    return sorted(entry.name.removesuffix(".toml") for entry in entries if entry.name.endswith(".toml"))


def read_toml(name_or_path: str | Path, kind: str = "recipe") -> tuple[str, str]:
    """The text of the user's file or of one in the package, comments included, and the place that errors name."""
    name, path = str(name_or_path), Path(name_or_path)
    if path.suffix == ".toml" or path.is_file():
        try:
            return path.read_text(encoding="utf-8-sig"), str(path)
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "not UTF-8 text"
            raise UsageError(f"cannot read the {kind} file {path}: {reason}; check the path") from None
    known = shipped(kind)
    if name not in known:
        listed = "`modiste recipes` lists them" if kind == "recipe" else f"there are {', '.join(known)}"
        raise UsageError(
            f"no {kind} is named {name!r}{nearest(name, known)}; {listed}, or give the path of a .toml file"
        )
    return (resources.files("modiste") / FOLDERS[kind] / f"{name}.toml").read_text(encoding="utf-8"), f"{name}.toml"


def parse_toml(text: str, place: str) -> dict[str, Any]:
    """The tree of a TOML text; errors name `place`."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{place} is not valid TOML: {error}; mend the file and try again") from None


def parse_value(text: str) -> Any:
    """The value of a TOML literal or of a bare word; None for none, null and nothing."""
    if text.lower() in ("none", "null", ""):
        return None
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def validate(
    model: type[S],
    tree: Mapping[str, Any],
    place: str | None,
    *,
    keys: Sequence[str] = (),
    listing: str = "",
    missing: str = "",
    allowed: Mapping[str, str] = NO_WORDS,
) -> S:
    """Settings from nested plain values; UsageError in one sentence that names `place`, or None for an option.

    `keys` are all dotted keys where `listing` says how to list them, `missing` says what a file needs, and `allowed`
    words the possible values of a key where pydantic's own words will not do.
    """
    try:
        return model.model_validate(tree)
    except ValidationError as error:
        # Of several errors an unknown key comes first: it may be the misspelt name of a missing one.
        first = min(error.errors(), key=lambda one: one["type"] != "extra_forbidden")
    steps = [part for part in first["loc"] if isinstance(part, str) and not _is_union_tag(part)]
    key, value = ".".join(steps), first["input"]
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "tuple_type":
        message = f"it takes a list, as [{json.dumps(value)}]" if isinstance(value, (str, int, float)) else message
    message = allowed.get(steps[0] if steps else "", message[0].lower() + message[1:])
    if first["type"] == "extra_forbidden":
        sentence = unknown_key(key, keys, listing) if keys else unknown_key(key, _keys_beside(model, steps))
    elif first["type"] == "missing":
        sentence = f"{key} is missing; {missing}"
    elif isinstance(value, (Mapping, BaseModel)) or not key:  # a rule over several keys, which its message names
        sentence = f"{key}: {message}" if key else message
    elif place is None:
        raise UsageError(f"--{key} {value if value != () else repr('')} is not possible: {message}")
    else:
        sentence = f"{key} = {value!r} is not possible: {message}"
    raise UsageError(f"{place}: {sentence}" if place else sentence)


def _is_union_tag(part: str) -> bool:
    """Whether part of an error's location is pydantic's name for a type and no key."""
    return re.search(r"[\[-]|^(int|float|tuple)$", part) is not None


def _keys_beside(model: type[BaseModel], steps: Sequence[str]) -> list[str]:
    """The keys of the section that the last of these steps is in; names that a user gives are no fields."""
    for step in steps[:-1]:
        if step in model.model_fields:
            model = next((one for one in _types(model.model_fields[step].annotation)), model)
    return list(model.model_fields)


def _types(annotation: Any) -> list[type[BaseModel]]:
    if inspect.isclass(annotation) and not get_args(annotation):
        return [annotation] if issubclass(annotation, BaseModel) else []
    return [found for part in get_args(annotation) for found in _types(part)]


def unknown_key(key: str, known: Sequence[str], listing: str = "") -> str:
    """The sentence for a key that does not exist."""
    word = key if listing else key.rpartition(".")[2]
    listing = listing or f"there are {', '.join(known)}"
    return f"no key is named {key!r}{nearest(word, known)}; {listing}"


def nearest(word: str, known: Iterable[str]) -> str:
    """`; did you mean ...?` with the most similar known word; empty where none is similar."""
    known = list(known)
    ends = {key.rpartition(".")[2]: key for key in known}
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    close = close or [ends[end] for end in difflib.get_close_matches(word.rpartition(".")[2], ends, n=1, cutoff=0.5)]
    return f"; did you mean {close[0]!r}?" if close else ""
