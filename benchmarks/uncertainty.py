"""Are the numbers after ± right, are alarms silent where they should be, and which copies of training images are seen?

    python benchmarks/uncertainty.py errors      # each score's standard error against its deviation over 50 sets
    python benchmarks/uncertainty.py alarms      # alarms on unseen real images that pose as generated ones, 200 draws
    python benchmarks/uncertainty.py copies      # sets with 50, 10 and 2 % copies: which alarm notices which

Fashion-MNIST and the generator that ships. Each part prints its table of docs/validation.md (ten minutes to an hour on
one core). The features of every image are computed once; the scores are the suite's own, on every set anew.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from modiste import config, progress
from modiste.data.images import Images
from modiste.data.sets import open_data
from modiste.data.subsets import drawn_subset
from modiste.evaluation import alarms, audit, records
from modiste.evaluation.alarms import Alarm
from modiste.evaluation.records import Protocol, ReferenceFacts
from modiste.metrics import features, judge, memorisation
from modiste.metrics import suite as metric_suite
from modiste.metrics.features import Extractor, Features
from modiste.metrics.functional import Score
from modiste.metrics.metric_names import MetricName
from modiste.metrics.nearest_neighbours import NearestNeighbours, nearest
from modiste.metrics.suite import Memory, Reference
from modiste.networks.layers import ImageShape
from modiste.sampling import generators

Say = Callable[[str], None]
Random = np.random.Generator
Row = dict[str, Any]
TRIVIAL_IMAGES = 1_000


def extractors() -> list[Extractor]:
    """The judge, the second judge and the random network, as an evaluation has them."""
    found = [features.from_judge(judge.load(name), name) for name in judge.SHIPPED]
    return [*found, features.random_network(ImageShape(1, 28))]


def once(extractor: Extractor, known: Sequence[Images], say: Say) -> Extractor:
    """The extractor with the features of these images computed once: it gives them for any choice of the images."""
    place: dict[bytes, int] = {}
    for image in (image for images in known for image in images.pixels):
        place.setdefault(image.tobytes(), len(place))
    unique = np.stack([np.frombuffer(image, np.uint8).reshape(known[0].pixels.shape[1:]) for image in place])
    say(f"{extractor.name}: features of {len(unique):,} images")
    found = features.extract(extractor, Images(unique, None, (), "all"))

    def examine(pixels: features.Pixels) -> Features:
        rows = [place[image.tobytes()] for image in pixels]
        return Features(found.vectors[rows], None if found.logits is None else found.logits[rows])

    return replace(extractor, examine=examine)


def short(name: MetricName) -> str:
    """A score's kind, with its extractor where that is not the judge."""
    return f"{name.kind}, {name.extractor}" if name.extractor in ("second", "random") else name.kind


def part(images: Images, rows: Any, name: str = "") -> Images:
    """Some of the images, under another name."""
    return replace(images.select(rows), name=name or images.name)


# --- standard errors


def errors(sets: int, count: int, say: Say) -> dict[str, Any]:
    """Per score the mean, the true deviation and the mean standard error over disjoint sets of generated images."""
    dataset = config.Data()
    test, fit = (open_data(dataset, part=name) for name in ("test", "fit"))
    say(f"making {sets * count:,} images")
    made = generators.load("pretrained").sample_set(sets * count)
    chosen = [once(extractor, [test, fit, made], say) for extractor in extractors()]
    whole = metric_suite.make_reference(test, "test", chosen, train=fit, unseen=test, count=count)
    found: dict[MetricName, list[Score]] = {}
    for k in range(sets):
        say(f"set {k + 1} of {sets}")
        one = part(made, slice(k * count, (k + 1) * count))
        for name, score in metric_suite.measure(one, replace(whole, seed=k)).scores.items():
            found.setdefault(name, []).append(score)
    return {short(name): spread(several) for name, several in found.items()}


def spread(several: Sequence[Score]) -> dict[str, float]:
    """Mean and deviation of the values, and the root mean square of what the scores say their standard errors are."""
    values = np.array([score.value for score in several])
    stated = np.array([np.nan if score.uncertainty is None else score.uncertainty for score in several])
    return {"mean": values.mean(), "deviation": values.std(ddof=1), "stated": float(np.sqrt((stated**2).mean()))}


def errors_table(found: Mapping[str, Mapping[str, float]]) -> str:
    body = []
    for name, one in found.items():
        stated = one["stated"]
        known = np.isfinite(stated)
        ratio = f"{stated / one['deviation']:.2f}" if known and one["deviation"] else "-"
        shown = [records.format_number(one[key], 3) for key in ("mean", "deviation")]
        body.append([name, *shown, records.format_number(stated, 3) if known else "none", ratio])
    return records.markdown(["score", "mean", "deviation over sets", "± says", "± over deviation"], body)


# --- false alarms


def raised(
    scores: Mapping[MetricName, Score],
    of_real: Mapping[MetricName, Score],
    trivial: Mapping[str, Score],
    real: Images,
    count: int,
) -> list[Alarm]:
    """The alarms of these scores, as evaluations raise them."""
    entries = [
        records.score_entry(
            name, score, of_real.get(name), {"noise": trivial[name.kind]} if name.kind in trivial else {}
        )
        for name, score in scores.items()
    ]
    facts = ReferenceFacts(real.name, count=len(real), class_names=list(real.class_names))
    return alarms.find(entries, Protocol(facts, count))


def false_alarms(draws: int, count: int, of_train: int, of_reference: int, say: Say) -> dict[str, Any]:
    """How often each alarm speaks of unseen real images: all parts but the training images are drawn anew each time."""
    dataset, random = config.Data(), np.random.Generator(np.random.PCG64(26))
    test, heldout, fit = (open_data(dataset, part=name) for name in ("test", "heldout", "fit"))
    train = part(fit, drawn_subset(len(fit), fit.labels, of_train, seed=0), "train")
    pool = Images(
        np.concatenate([test.pixels, heldout.pixels]), np.concatenate([test.labels, heldout.labels]),
        test.class_names, "unseen",
    )  # fmt: skip
    chosen = [once(extractor, [pool, train], say) for extractor in extractors()]
    judge_of, shape = chosen[0], ImageShape(1, 28)
    learned = features.extract(judge_of, train)
    say("distances")
    own = nearest(learned.vectors, learned.vectors, exclude_self=True).distances[:, 0]
    far = nearest(metric_suite.flat(pool, shape), metric_suite.flat(train, shape)).distances[:, 0]
    near = nearest(features.extract(judge_of, pool).vectors, learned.vectors)
    trivial = scores_of_noise(test, fit, chosen[:1])
    seen: Counter[str] = Counter()
    copies: Counter[str] = Counter()
    for draw in range(draws):
        say(f"draw {draw + 1} of {draws}")
        order = random.permutation(len(pool))
        at, posing, others = np.split(order[: of_reference + 2 * count], [of_reference, of_reference + count])
        real = part(pool, at)
        memory = Memory(train, learned, real, features.extract(judge_of, real), far[at], own)
        looks = {extractor.name: features.extract(extractor, real) for extractor in chosen}
        whole = Reference("test", real, tuple(chosen), looks, None, count, seed=draw)
        scores, of_real = (suite(part(pool, rows), rows, whole, memory, near, far) for rows in (posing, others))
        of_real |= remembering(part(pool, at), at, whole, memory, near, far)  # as evaluations have it
        seen.update({alarm.kind for alarm in raised(scores, of_real, trivial, pool, count)})
        for space, one, other in (("pixels", far, far), ("features", near.distances[:, 0], near.distances[:, 0])):
            copies[f"{space}: {audit.copies(one[posing], other[at])['verdict']}"] += 1
    return {"draws": draws, "alarms": dict(seen), "audit": dict(copies)}


def suite(
    images: Images, rows: Any, whole: Reference, memory: Memory, near: NearestNeighbours, far: Any
) -> dict[MetricName, Score]:
    """The whole suite on these images of the pool, whose distances to the training images are known."""
    return metric_suite.measure(images, whole).scores | remembering(images, rows, whole, memory, near, far)


def remembering(
    images: Images, rows: Any, whole: Reference, memory: Memory, near: NearestNeighbours, far: Any
) -> dict[MetricName, Score]:
    """The scores of memory, from distances that are known."""
    name, count = whole.judge.name, whole.count
    vectors, unseen = features.extract(whole.judge, images).vectors, memory.unseen_features.vectors
    found = {
        MetricName("nearest_ratio_pixels", count=count): memorisation.nearest_ratio(
            far[rows], memory.unseen_pixel_distances
        ),
        MetricName("authenticity", name, count): memorisation.authenticity(
            NearestNeighbours(near.distances[rows], near.indices[rows]), memory.train_feature_distances
        ),
        MetricName("near_duplicates_pixels", count=count): memorisation.duplicates(
            far[rows], memory.unseen_pixel_distances
        ),
    }
    if len(rows) == whole.count:  # the others are no candidates, and C_T needs no baseline
        found[MetricName("data_copying", name, count)] = memorisation.data_copying(
            vectors, unseen, memory.train_features.vectors, seed=whole.seed
        )
    return found


def scores_of_noise(test: Images, fit: Images, chosen: Sequence[Extractor]) -> dict[str, Score]:
    """The scores of noise by the judge, by kind, which some alarms compare with."""
    known = [replace(extractor, examine=extractors()[0].examine) for extractor in chosen]
    some = part(test, slice(TRIVIAL_IMAGES))
    whole = metric_suite.make_reference(some, "test", known, count=TRIVIAL_IMAGES)
    noise = metric_suite.trivial("noise", TRIVIAL_IMAGES, some, fit, 0)
    return {name.kind: score for name, score in metric_suite.measure(noise, whole).scores.items()}


def alarms_table(found: Mapping[str, Any]) -> str:
    draws = found["draws"]
    counts = {words: found["alarms"].get(kind, 0) for kind, words in alarms.KINDS.items()}
    for space in ("pixels", "features"):
        counts[f"audit: {audit.MORE}, {space}"] = found["audit"].get(f"{space}: {audit.MORE}", 0)
    body = [[words, f"{count} of {draws}"] for words, count in counts.items()]
    return records.markdown(["alarm", "draws of unseen real images"], body)


# --- copies

SHARES = (50, 10, 2)
Change = Callable[[np.ndarray, Random], np.ndarray]


def shifted(pixels: np.ndarray, random: Random) -> np.ndarray:
    """Moved by one pixel to a side of chance; what comes in is black."""
    sides = random.integers(0, 4, len(pixels))
    moved = np.zeros_like(pixels)
    moved[sides == 0, :, 1:] = pixels[sides == 0, :, :-1]
    moved[sides == 1, :, :-1] = pixels[sides == 1, :, 1:]
    moved[sides == 2, :, :, 1:] = pixels[sides == 2, :, :, :-1]
    moved[sides == 3, :, :, :-1] = pixels[sides == 3, :, :, 1:]
    return moved


def noised(sigma: float) -> Change:
    def change(pixels: np.ndarray, random: Random) -> np.ndarray:
        return np.round(pixels + random.normal(0, sigma, pixels.shape)).clip(0, 255).astype(np.uint8)

    return change


CHANGES: dict[str, Change] = {
    "exact": lambda pixels, _: pixels,
    "mirrored": lambda pixels, _: np.ascontiguousarray(pixels[..., ::-1]),
    "shifted by a pixel": shifted,
    "noise of 2 of 255": noised(2),
    "noise of 8 of 255": noised(8),
}


def copied(images: Images, train: Images, share: float, change: Change) -> Images:
    """A share of the images replaced by changed training images of the same class."""
    random = np.random.Generator(np.random.PCG64(0))
    pixels, chosen = images.pixels.copy(), random.permutation(len(images))[: round(len(images) * share / 100)]
    for label in range(len(images.class_names)):
        places = chosen[images.labels[chosen] == label]
        taken = random.choice(np.flatnonzero(train.labels == label), len(places), replace=False)
        pixels[places] = change(train.pixels[taken], random)
    return replace(images, pixels=pixels)


def copies(base: str, count: int, say: Say) -> Iterator[Row]:
    """Per kind and share of copies the scores of memory, the alarms, and the audit's verdicts."""
    dataset = config.Data()
    test, heldout, fit = (open_data(dataset, part=name) for name in ("test", "heldout", "fit"))
    chosen = extractors()
    whole = metric_suite.make_reference(test, "test", chosen, train=fit, unseen=test, count=count)
    memory, shape = whole.memory, ImageShape(1, 28)
    assert memory is not None
    say("real images")
    of_real = metric_suite.measure(part(heldout, slice(count)), replace(whole, memory=None)).scores
    of_real |= metric_suite.measure(test, whole, only="memorisation_scores").scores
    trivial = scores_of_noise(test, fit, chosen[:1])
    unseen_near = nearest(memory.unseen_features.vectors, memory.train_features.vectors).distances[:, 0]
    made = (
        generators.load("pretrained").sample_set(count) if base == "generated" else part(heldout, slice(-count, None))
    )
    todo = [("none", 0.0), *((name, float(share)) for name in CHANGES for share in SHARES)]
    for name, share in todo:
        say(f"{share:g} % copies, {name}")
        images = copied(made, fit, share, CHANGES[name]) if share else made
        scores = metric_suite.measure(images, whole).scores
        kinds = [alarm.kind for alarm in raised(scores, of_real, trivial, test, count)]
        far = nearest(metric_suite.flat(images, shape), metric_suite.flat(fit, shape)).distances[:, 0]
        near = nearest(features.extract(chosen[0], images).vectors, memory.train_features.vectors).distances[:, 0]
        verdicts = {
            "pixels": audit.copies(far, memory.unseen_pixel_distances)["verdict"],
            "features": audit.copies(near, unseen_near)["verdict"],
        }
        yield {
            "copies": name, "share": share, "alarms": kinds,
            "audit": verdicts, "scores": {short(key): score.value for key, score in scores.items()},
        }  # fmt: skip


NOTICES = {
    "exact copies": "exact copies",
    "near-duplicates": "near copies",
    "C_T": "data copying",
    "authenticity": "authenticity",
    "surer": "little variety",
}


def copies_table(found: Sequence[Row]) -> str:
    """Who notices, a column for each alarm that is ever raised, and the scores."""
    shown = ("frechet", "nearest_ratio_pixels", "near_duplicates_pixels", "data_copying", "authenticity")
    body: list[dict[str, str]] = []
    for one in found:
        others = [alarms.KINDS[kind] for kind in one["alarms"] if kind not in NOTICES.values()]
        marks = {f"alarm: {name}": "yes" if kind in one["alarms"] else "" for name, kind in NOTICES.items()}
        marks["other alarms"] = "; ".join(sorted(set(others)))
        for space in ("pixels", "features"):
            marks[f"audit, {space}"] = "yes" if one["audit"][space] == audit.MORE else ""
        values = {kind.replace("_", " "): records.format_number(one["scores"][kind], 3) for kind in shown}
        body.append({"copies": one["copies"], "share": f"{one['share']:g} %", **marks, **values})
    heads = [head for head in body[0] if any(line[head] for line in body)]
    return records.markdown(heads, [[line[head] for head in heads] for line in body])


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure one part, print its table."""
    parser = argparse.ArgumentParser(description="Standard errors, false alarms, and copies that are noticed.")
    parser.add_argument("part", choices=("errors", "alarms", "copies"))
    parser.add_argument("--count", type=int, help="images of a set; default 1000, of alarms 500, of copies 2000")
    parser.add_argument("--sets", type=int, default=50, help="sets for errors")
    parser.add_argument("--draws", type=int, default=200, help="draws for alarms")
    parser.add_argument("--base", choices=("generated", "real"), default="generated", help="what copies are put among")
    parser.add_argument("--json", type=Path, help="also write all numbers to this file")
    options = parser.parse_args(arguments)
    with progress.live_log(options.part) as say:
        if options.part == "errors":
            found: Any = errors(options.sets, options.count or 1_000, say)
            table = errors_table(found)
        elif options.part == "alarms":
            found = false_alarms(options.draws, options.count or 500, 20_000, 2_000, say)
            table = alarms_table(found)
        else:
            found = list(copies(options.base, options.count or 2_000, say))
            table = copies_table(found)
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    print(table)


if __name__ == "__main__":
    main()
