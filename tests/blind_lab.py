"""Blind tests of drawn garments, and people who answer as they are told to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from modiste.data import toy
from modiste.experiments.blind import answers, page
from modiste.experiments.blind.answers import Key, KeyTrial, Sheet
from modiste.experiments.blind.trials import BlindTest

Chooser = Callable[[int, KeyTrial], str]


def other(side: str) -> str:
    """The other side."""
    return "right" if side == "left" else "left"


def garments(path: Path, count: int = 400, side: int = 16, seed: int = 5, names: Sequence[str] | None = None) -> str:
    """An .npz file of drawn garments, other ones for every seed; its path."""
    drawn = toy.draw(count, side, seed)
    class_names = np.array(names or drawn.class_names)
    np.savez(path, images=drawn.pixels, labels=drawn.labels, class_names=class_names)
    return str(path)


def key_of(test: BlindTest) -> Key:
    """The key as it is read from its file."""
    return answers.parse_key(page.key(test), "key.json")


def plain_key(count: int = 85, pairs: int = 1, checks: int = 8, **changes: Any) -> Key:
    """A key of so many trials per pair and attention checks, its sides tossed."""
    random = np.random.default_rng(1)
    listed: list[int | None] = [*np.repeat(np.arange(pairs), count).tolist(), *[None] * checks]
    entries = [KeyTrial(pair, "bag", "left" if random.integers(2) else "right") for pair in listed]
    names = tuple((f"run-{k}", "real images") for k in range(pairs))
    facts = {"test": "t", "question": "generated", "per_class": False, "pairs": names, "trials": tuple(entries)}
    return Key(**{**facts, **changes})


def answered(key: Key, choose: Chooser, name: str = "ada", ms: int = 1500) -> Sheet:
    """The sheet of a person who chooses so and passes every attention check."""
    chosen = []
    for k, trial in enumerate(key.trials):
        noise = trial.first if key.question == "generated" else other(trial.first)
        side = noise if trial.pair is None else choose(k, trial)
        chosen.append(answers.Answer(k, side, ms))  # type: ignore[arg-type]
    return Sheet(f"answers-{name}.json", key.test, name, name, tuple(chosen))


def right_with(share: float, random: np.random.Generator) -> Chooser:
    """Somebody who chooses the first source, the generated one, with that probability."""
    return lambda _, trial: trial.first if random.random() < share else other(trial.first)


def as_json(sheet: Sheet) -> dict[str, Any]:
    """The sheet as the page saves it."""
    listed = [{"trial": one.trial, "choice": one.choice, "ms": one.ms} for one in sheet.answers]
    person = {"id": sheet.person, "name": sheet.name}
    return {"format": answers.ANSWERS, "test": sheet.test, "person": person, "answers": listed}
