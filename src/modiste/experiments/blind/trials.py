"""The trials of a blind test: which two pictures stand beside each other, on which sides and in which order.

Everything follows from the sources and one seed. Sides are independent tosses of a coin: where two sources do not
differ, the answer to every trial is then right by chance in exactly one half of cases, whatever people prefer.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from modiste import paths
from modiste.data.images import Images, Pixels, join_pixels
from modiste.data.sets import native_data
from modiste.errors import UsageError
from modiste.evaluation import class_matching, references, sources
from modiste.evaluation.options import Checkpoint, EvaluateOptions

Question = Literal["generated", "better"]
Side = Literal["left", "right"]

REAL = "real"
"""What `against` is called for the real images that the generators did not learn from."""
TRIALS_PER_CHECK, FEWEST_CHECKS = 12, 4
MOST_TRIALS = 2_000
SEEDS = 100_000
FIRST_RANGE = 10_000
"""The seeds of generated images begin at so many times their number: none that a grid or a page of the docs shows."""


@dataclass(frozen=True)
class BlindOptions:
    """The options of `modiste blind`."""

    against: str | None = None
    """`real`, or a run; None: real images for one source, and all pairs of several sources."""
    trials: int = 100
    """In all, without attention checks; raised until every pair (and every class, if they count) has as many."""
    per_class: bool = False
    """Whether every class gets as many trials and a verdict of its own."""
    seed: int = 0
    """Of the choice of images, the sides and the order."""
    data_name: str | None = None
    """The data set of the real images; None: that of the runs."""
    checkpoint: Checkpoint = "last"
    truncation: float | None = None


@dataclass(frozen=True, eq=False)
class Trial:
    """Two pictures of one class. In an attention check the first one is noise."""

    pair: int | None
    """The number of the pair of sources; None for an attention check."""
    class_name: str
    """Empty where the images have no classes."""
    first: Side
    """Where the picture of the pair's first source stands."""
    left: NDArray[np.uint8]
    right: NDArray[np.uint8]
    """[C, H, W]."""
    images: tuple[int, int]
    """Which image of the first and of the second source: its seed, or its place among those read; -1 for noise."""


@dataclass(frozen=True)
class Giveaway:
    """How often one number of a picture alone would tell the first source of a pair from the second."""

    pair: int
    measure: str
    share: float
    """From 0.5, as by tossing a coin, to 1."""
    chance: float
    """What the best of so many numbers stays below in 95 of 100 tests whose sources do not differ."""


@dataclass(frozen=True, eq=False)
class BlindTest:
    """A blind test; `page.render` makes its page and `key` what is kept back from those who answer."""

    question: Question
    sources: tuple[str, ...]
    pairs: tuple[tuple[int, int], ...]
    """Numbers of sources. Where the question is which picture is generated, the second one is the real images."""
    trials: tuple[Trial, ...]
    per_class: bool
    facts: dict[str, Any]
    """The seed, and for each source where its images come from; JSON values."""
    notes: tuple[str, ...] = ()
    """Sentences for the user."""

    @property
    def identity(self) -> str:
        """16 hexadecimal digits that follow from what the page shows, and from nothing else."""
        sha = hashlib.sha256(self.question.encode())
        for trial in self.trials:
            sha.update(f"{trial.class_name} {trial.left.shape}".encode())
            sha.update(trial.left.tobytes() + trial.right.tobytes())
        return sha.hexdigest()[:16]

    def pair_names(self, pair: int) -> tuple[str, str]:
        """The names of the two sources of a pair."""
        first, second = self.pairs[pair]
        return self.sources[first], self.sources[second]


def make_test(what: Sequence[str], options: BlindOptions) -> BlindTest:
    """A blind test of these sources: runs, or anything else that `evaluate` measures.

    One source is compared with real images; several are compared with each other, or each with `against`. Images are
    paired within a class, without one being shown twice; a picture is shown as it is, at its own brightness. UsageError
    where sizes differ, since they would give the answer away, or where there are too few images.
    """
    question, names, pairs = _plan(what, options)
    if not 1 <= options.trials <= MOST_TRIALS:
        raise UsageError(f"a test of {options.trials} trials is not possible; ask for 1 to {MOST_TRIALS:,}")
    if not 0 <= options.seed < SEEDS:
        raise UsageError(f"the seed {options.seed} is not possible; use one from 0 to {SEEDS - 1}")
    wanted = math.ceil(options.trials / len(pairs))
    checks = max(FEWEST_CHECKS, options.trials // TRIALS_PER_CHECK)
    random = np.random.default_rng([options.seed, len(pairs)])
    opened, notes = _open(names, 2 * len(pairs) * wanted + 2 * checks + 64, question, options, random)
    classes = sorted(set.intersection(*(set(deck.left) for deck in opened)))
    if not classes or (options.per_class and len(classes) < 2):
        raise UsageError(f"{' and '.join(deck.name for deck in opened)} share no classes; compare those that do")
    each = math.ceil(wanted / len(classes)) * len(classes) if options.per_class else wanted
    trials: list[Trial] = []
    for number, (first, second) in enumerate(pairs):
        turns = itertools.islice(itertools.cycle(random.permutation(classes).tolist()), each)
        trials += [_trial(number, (opened[first], opened[second]), label, random) for label in turns]
    trials += [_check(opened[-1], classes[k % len(classes)], random) for k in range(checks)]
    ordered = _spread([trials[k] for k in random.permutation(len(trials))], checks)
    facts = {"seed": options.seed, "sources": [one.facts for one in opened]}
    shown = tuple(one.name for one in opened)
    return BlindTest(question, shown, pairs, tuple(ordered), options.per_class, facts, tuple(notes))


def giveaways(test: BlindTest) -> list[Giveaway]:
    """For each pair the number of a picture by which a program would best tell its sources apart.

    These are properties of the images, and few of them can be seen: a brightest value of 251 in place of 255 cannot.
    """
    from scipy.stats import binom  # slow to load

    measures: dict[str, Callable[[NDArray[np.uint8]], Any]] = {
        "the brightest value": np.max,
        "the darkest value": np.min,
        "the mean brightness": np.mean,
        "the number of black pixels": lambda picture: np.sum(picture == 0),
    }
    found = []
    for number in range(len(test.pairs)):
        shares = {}
        trials = [trial for trial in test.trials if trial.pair == number]
        for name, measure in measures.items():
            apart = [float(measure(trial.left)) - float(measure(trial.right)) for trial in trials]
            signs = [
                np.sign(one) * (1 if trial.first == "left" else -1) for one, trial in zip(apart, trials, strict=True)
            ]
            shares[name] = 0.5 + abs(float(np.mean(signs))) / 2
        best = max(shares, key=shares.__getitem__)
        # Either way counts, and the best of all measures: Bonferroni's bound.
        chance = float(binom.isf(0.05 / (2 * len(measures)), len(trials), 0.5)) / len(trials)
        found.append(Giveaway(number, best, shares[best], min(1.0, chance)))
    return found


def _plan(what: Sequence[str], options: BlindOptions) -> tuple[Question, list[str], tuple[tuple[int, int], ...]]:
    """The question, the sources in order (real images last), and the pairs of their numbers."""
    names, against = list(what), options.against
    if REAL in names:
        raise UsageError(f"real images are named by --against {REAL}; of a run in the folder {REAL} give ./{REAL}")
    if against is None and len(names) == 1:
        against = REAL
    compared = names if against in (None, REAL) else [*names, str(against)]
    if len(set(compared)) < len(compared):
        raise UsageError(f"{' '.join(compared)} names one thing twice, which is like itself; name different ones")
    if against is None:
        return "better", names, tuple(itertools.combinations(range(len(names)), 2))
    pairs = tuple((k, len(names)) for k in range(len(names)))
    return ("generated" if against == REAL else "better"), [*names, against], pairs


@dataclass(frozen=True, eq=False)
class _Deck:
    """A source, and which of its images were not shown yet."""

    name: str
    images: Images
    facts: dict[str, Any]
    first_seed: int = 0
    """Of generated images, whose number is their seed; other images are numbered from 0."""
    left: dict[int, list[int]] = field(default_factory=dict)
    """Places of images by class, in random order; class 0 where there are none."""

    def class_name(self, label: int) -> str:
        return self.images.class_names[label] if self.images.labels is not None else ""

    def draw(self, label: int) -> int:
        """The place of an image of that class that was not shown yet."""
        if not self.left[label]:
            kind = f" of class {self.class_name(label)!r}" if self.images.labels is not None else ""
            raise UsageError(
                f"{self.name} has too few images{kind} for so many trials without showing one twice; ask for fewer"
            )
        return self.left[label].pop()


def _open(
    names: Sequence[str], count: int, question: Question, options: BlindOptions, random: np.random.Generator
) -> tuple[list[_Deck], list[str]]:
    """The sources with their labels in one numbering and their images shuffled, and what to say of them."""
    generated = names[:-1] if question == "generated" else names
    real, notes = _real(generated, options) if question == "generated" else (None, [])
    opened: list[_Deck] = []
    for name in generated:
        makes = sources.origin(name).kind in ("run", "checkpoint", "onnx")
        how = EvaluateOptions(
            count=count if makes else 10_000,
            checkpoint=options.checkpoint,
            truncation=options.truncation,
            seed=FIRST_RANGE + options.seed,
        )
        source = sources.open_source(name, how)
        notes += source.warnings[1:] if "asked" in source.facts else source.warnings  # of scores on fewer images
        facts = paths.without_paths(source.facts, (name,))
        opened.append(_Deck(source.name, source.images, facts, how.seed * how.count if makes else 0))
    if len({one.name for one in opened}) < len(opened):  # runs/a/best and runs/b/best
        opened = [replace(one, name=f"{one.name} ({number})") for number, one in enumerate(opened, 1)]
    opened += [real] if real else []
    opened = _labelled_alike(opened, notes)
    like = opened[-1]
    for one in opened:
        if one.images.pixels.shape[2:] != like.images.pixels.shape[2:]:
            sizes = [f"{each.images.pixels.shape[3]} x {each.images.pixels.shape[2]}" for each in (one, like)]
            raise UsageError(
                f"{one.name} has pictures of {sizes[0]} pixels and {like.name} of {sizes[1]}, which would give the "
                "answer away; compare sources of one size"
            )
    return [replace(one, left=_shuffled(one.images, random)) for one in opened], list(dict.fromkeys(notes))


def _labelled_alike(opened: list[_Deck], notes: list[str]) -> list[_Deck]:
    """The sources in the last one's numbering of classes; without classes where one has none, with a note."""
    bare = [one.name for one in opened if one.images.labels is None]
    if bare:
        if len(bare) < len(opened):
            notes.append(f"{bare[0]} has no classes, so pictures of different classes stand beside each other")
        return [replace(one, images=replace(one.images, labels=None, class_names=())) for one in opened]
    found = []
    for one in opened:
        matched, warnings = class_matching.match_labels(one.images, opened[-1].images.class_names)
        if matched.labels is None:
            raise UsageError(f"{warnings[0]}; compare sources of the same classes")
        found.append(replace(one, images=matched))
    return found


def _shuffled(images: Images, random: np.random.Generator) -> dict[int, list[int]]:
    labels = np.zeros(len(images), np.int64) if images.labels is None else images.labels
    order = random.permutation(len(images))
    return {label: [int(k) for k in order if labels[k] == label] for label in sorted(set(labels.tolist()))}


def _real(names: Sequence[str], options: BlindOptions) -> tuple[_Deck, list[str]]:
    """Real images that the generators did not learn from: test images, or held-out ones where there are none."""
    origins = [sources.origin(name) for name in names]
    used = [references.named(origin, options.data_name).model_copy(update={"count": None}) for origin in origins]
    for origin, data in zip(origins, used, strict=True):
        if (data.name, data.resize) != (used[0].name, used[0].resize):
            raise UsageError(
                f"{origins[0].name} and {origin.name} learned from different images ({used[0].name}, {data.name}); "
                "make a page for each"
            )
    data = used[0] if origins[0].run or origins[0].data else native_data(used[0])
    part, notes = references.part_of(data, None)
    for origin in origins:
        if part == "heldout" and origin.run and origin.run.read_recipe().data.split == "train":
            notes.append(f"{origin.name} has learned from the real images that it is compared with")
    images = references.opener()(data, part)
    facts = {"kind": "real", "data": images.name, "part": part}
    return _Deck("real images", images, facts), notes


def _trial(number: int, decks: tuple[_Deck, _Deck], label: int, random: np.random.Generator) -> Trial:
    places = [deck.draw(label) for deck in decks]
    pictures = join_pixels([deck.images.pixels[place][None] for deck, place in zip(decks, places, strict=True)])
    images = (decks[0].first_seed + places[0], decks[1].first_seed + places[1])
    return _placed(number, decks[0].class_name(label), pictures, images, random)


def _check(deck: _Deck, label: int, random: np.random.Generator) -> Trial:
    """A picture beside uniform noise, which nobody who looks can take for a picture."""
    place = deck.draw(label)
    picture = deck.images.pixels[place][None]
    noise = random.integers(0, 256, size=picture.shape, dtype=np.uint8)
    pictures = np.concatenate([noise, picture])
    return _placed(None, deck.class_name(label), pictures, (-1, deck.first_seed + place), random)


def _placed(
    pair: int | None, class_name: str, pictures: Pixels, images: tuple[int, int], random: np.random.Generator
) -> Trial:
    if random.integers(2):
        return Trial(pair, class_name, "left", pictures[0], pictures[1], images)
    return Trial(pair, class_name, "right", pictures[1], pictures[0], images)


def _spread(trials: Sequence[Trial], checks: int) -> list[Trial]:
    """The trials with the attention checks in the middle of equal stretches, so that they show whoever tires."""
    usual = [trial for trial in trials if trial.pair is not None]
    found = [trial for trial in trials if trial.pair is None]
    for k, check in enumerate(found):
        usual.insert(round((k + 0.5) / checks * (len(trials) - checks)) + k, check)
    return usual
