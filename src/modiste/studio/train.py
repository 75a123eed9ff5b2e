"""Training from the page: a form made from the recipes' keys, and the command that it stands for."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from modiste import config, runs, schema, subprocesses
from modiste.data.published import PUBLISHED
from modiste.errors import UsageError
from modiste.experiments import study_config
from modiste.studio import library
from modiste.studio.commands import commands_of, describe
from modiste.studio.queries import entry_of, folder_of, posting, text_of
from modiste.wording import quoted

OWN_FIELDS = {"name", "about", "source", "seed", "data.name", "train.images", "train.epochs", "train.budget_seconds"}
OWN_FIELDS |= {key for key in config.KEYS if key.startswith("finetune.")}  # an ancestor is a path
"""Keys that the form asks for in fields of their own, or not at all."""
NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}"
MOST_SEED = 999_999_999


class WrongField(UsageError):
    """A value of the form that cannot be, and its field: name, data, budget, seed or a key."""

    def __init__(self, field: str, sentence: object) -> None:
        super().__init__(str(sentence))
        self.field = field


def form(request: Request) -> Response:
    """Recipes, data sets and every key that the form can set, by section."""
    sections: dict[str, list[dict[str, Any]]] = {}
    for key in config.describe_keys():
        if key["key"] not in OWN_FIELDS:
            section = key["key"].partition(".")[0]
            facts = {"key": key["key"], "meaning": key["meaning"], "choices": _choices(key["key"])}
            sections.setdefault(section, []).append(facts)
    recipes = [{"name": name, "about": config.load(name).about} for name in schema.shipped()]
    return JSONResponse({"recipes": recipes, "data": _data_sets(folder_of(request)), "sections": sections})


def recipe_values(request: Request) -> Response:
    """The values of a shipped recipe by key, as texts for --set."""
    recipe = config.load(_recipe(request.path_params["name"]))
    tree = recipe.model_dump(mode="json")
    values = {key: _value(tree, key) for key in config.KEYS if key not in OWN_FIELDS}
    length = recipe.train.images or recipe.train.epochs
    unit = "images" if recipe.train.images else "epochs"
    return JSONResponse({"values": values, "data": recipe.data.name, "length": f"{length:g} {unit}" if length else ""})


def check(request: Request, asked: dict[str, Any]) -> Response:
    """The command that the form stands for, or what is wrong with its values."""
    try:
        words, _ = _words(asked, folder_of(request))
    except UsageError as error:
        return JSONResponse({"problem": str(error), "field": error.field if isinstance(error, WrongField) else ""})
    return JSONResponse({"command": subprocesses.printable(words)})


def start(request: Request, asked: dict[str, Any]) -> Response:
    """Start the training of the form."""
    words, path = _words(asked, folder_of(request))
    commands_of(request).start(words, runs.Run(path))
    return JSONResponse(describe(commands_of(request), folder_of(request)))


def go_on(request: Request, asked: dict[str, Any]) -> Response:
    """Resume a run, or extend it to a greater length."""
    entry, budget = entry_of(request), text_of(asked, "budget")
    if entry.run.shipped:
        raise UsageError("the generator in the package has no state to go on from; train its recipe anew")
    words = ["train", str(entry.run.path)]
    if budget:
        study_config.budget_changes(budget, "the length")
        words += ["--extend", "--budget", budget]
    commands_of(request).start(words, entry.run)
    return JSONResponse(describe(commands_of(request), folder_of(request)))


def _words(asked: Mapping[str, Any], folder: Path) -> tuple[list[str], Path]:
    """The arguments of the training that was asked for, and its run folder; UsageError for what is not valid."""
    recipe = _recipe(text_of(asked, "recipe"))
    name, data, budget, seed = (text_of(asked, key) for key in ("name", "data", "budget", "seed"))
    settings = asked.get("settings", {})
    if not isinstance(settings, Mapping) or not all(isinstance(value, str) for value in settings.values()):
        raise UsageError("the settings are no texts by key; load the page again")
    changes = {}
    for key, text in settings.items():
        if key not in config.KEYS or key in OWN_FIELDS:
            raise UsageError(f"{quoted(key)} is no setting of this form")
        if (choices := _choices(key)) and text not in choices:
            raise WrongField(key, f"{key} {quoted(text)} is none of {', '.join(choices)}")
        changes[key] = schema.parse_value(text)
    if data and data not in _data_sets(folder):
        raise WrongField(
            "data", f"{quoted(data)} is no data set of the list; train on it once with `modiste train {recipe} --data`"
        )
    if seed and not (seed.isascii() and seed.isdigit() and int(seed) <= MOST_SEED):
        raise WrongField("seed", f"the seed {quoted(seed)} is no whole number from 0 to {MOST_SEED}")
    if not re.fullmatch(NAME, name):
        raise WrongField(
            "name", f"the name {quoted(name)} cannot be a folder's here; write letters, digits, dots and hyphens"
        )
    path = folder / name
    if path.exists():
        raise WrongField("name", f"{name} exists already; choose another name, or extend it")
    _check_settings(config.load(recipe), changes, budget)
    words = ["train", recipe, "--out", str(path)]
    words += ["--data", data] if data else []
    words += ["--budget", budget] if budget else []
    words += ["--seed", seed] if seed else []
    return [*words, *(f"--set={key}={text}" for key, text in settings.items())], path


def _check_settings(recipe: config.Recipe, changes: Mapping[str, Any], budget: str) -> None:
    """WrongField for settings or a length that a recipe cannot have, of several the first that it cannot have alone."""
    try:
        length = study_config.budget_changes(budget, "the length") if budget else {}
    except UsageError as error:
        raise WrongField("budget", error) from None
    try:
        config.override(recipe, {**changes, **length}, "the form")
    except UsageError as error:
        raise WrongField(next((key for key in changes if not _fits(recipe, key, changes[key])), ""), error) from None


def _fits(recipe: config.Recipe, key: str, value: Any) -> bool:
    try:
        config.override(recipe, {key: value}, "the form")
    except UsageError:
        return False
    return True


def _recipe(name: str) -> str:
    """The name of a shipped recipe; UsageError for any other."""
    if name not in schema.shipped():
        raise UsageError(f"no recipe is named {quoted(name)}; choose one of the list")
    return name


def _choices(key: str) -> list[str]:
    """The values that a key may have, as texts, where they are few; else empty. Code of the user's own is none."""
    section, _, leaf = key.rpartition(".")
    annotation = config.SECTIONS[section].model_fields[leaf].annotation if section else None
    if annotation is bool:
        return ["true", "false"]
    members = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    named = [list(get_args(member)) for member in members if get_origin(member) is Literal]
    others = [member for member in members if get_origin(member) is not Literal and member != config.OwnPart]
    return named[0] if named and not others else []


def _value(tree: Mapping[str, Any], key: str) -> str:
    """A setting as the text that --set takes."""
    section, _, leaf = key.rpartition(".")
    value = tree[section][leaf]
    if value is None:
        return "none"
    return value if isinstance(value, str) else json.dumps(value)


def _data_sets(folder: Path) -> list[str]:
    """Names that need no path, and the sets of the listed runs."""
    known = [*PUBLISHED, "toy"]
    used = {entry.facts.data for entry in library.list_runs(folder) if entry.facts}
    return known + sorted(used - set(known))


ROUTES = [
    Route("/api/train/form", form),
    Route("/api/train/recipes/{name}", recipe_values),
    Route("/api/train/check", posting(check), methods=["POST"]),
    Route("/api/train/start", posting(start), methods=["POST"]),
    Route("/api/runs/{id}/go-on", posting(go_on), methods=["POST"]),
]
