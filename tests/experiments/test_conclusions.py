"""The conclusions of a study: facts, and each kind of sentence once."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from modiste.experiments import conclusions, results, statistics
from modiste.experiments.conclusions import Conclusions
from modiste.experiments.results import StudyRow
from modiste.metrics import transforms
from modiste.metrics.metric_names import MetricName

FRECHET, RANDOM = "frechet_garment_10k_test", "frechet_random_10k_test"
PRECISION, COVERAGE = "precision_k3_garment_10k_test", "coverage_k5_garment_10k_test"
BASELINES = {FRECHET: (0.04, 112.0), RANDOM: (0.01, 30.0), PRECISION: (0.87, 0.95), COVERAGE: (0.9, 0.0)}


def rows(
    study: Mapping[str, Mapping[str, Sequence[float | None]]], images: Mapping[str, int] | None = None
) -> list[StudyRow]:
    """A study's table from score and configuration to the values of seeds 0, 1, ...; None is a failed run."""
    found = []
    for score, table in study.items():
        real, trivial = BASELINES.get(score, (0.04, 112.0))
        better = MetricName.parse(score).meaning.better
        for name, values in table.items():
            for seed, value in enumerate(values):
                row = StudyRow("some", name, seed, images=(images or {}).get(name, 1000))
                found.append(
                    replace(row, status="failed", reason="no")
                    if value is None
                    else replace(
                        row, status="finished", score=score, value=value, uncertainty=0.01, real=real, trivial=trivial,
                        better=better, protocol_hash="one",
                    )
                )  # fmt: skip
    return found


def told(found: Conclusions) -> list[tuple[str, str]]:
    return [(verdict.word, verdict.reason) for verdict in found.verdicts]


GOOD, BAD = (1.0, 1.01, 1.02), (5.0, 5.2, 5.1)


def test_a_verdict_names_its_score_extractor_and_count() -> None:
    found = conclusions.conclude(rows({FRECHET: {"a": GOOD, "b": BAD}}))
    assert (found.score, found.extractor, found.count, found.seeds) == (FRECHET, "garment", 10_000, 3)
    assert told(found) == [("better", "")] and found.verdicts[0].winner == "a"
    said = conclusions.sentences(found)
    measured = "in the features of the judge garment, 10,000 images per run"
    assert said[0] == f"by {FRECHET} ({measured}), over training seeds:"
    assert said[1].startswith(f"  a is better than b by {FRECHET}: 1.01 against 5.10, factor 5.05")
    assert len(said) == 2


def test_other_scores_and_other_extractors_that_say_the_opposite_are_named() -> None:
    study = {
        FRECHET: {"a": GOOD, "b": BAD},
        RANDOM: {"a": (2.0, 2.1, 2.0), "b": (1.0, 1.9, 0.8)},  # lower is better: every seed says b
        PRECISION: {"a": (0.61, 0.60, 0.62), "b": (0.71, 0.72, 0.70)},  # higher is better: b
        COVERAGE: {"a": (0.5, 0.6, 0.5), "b": (0.4, 0.4, 0.4)},  # a
        "recall_k3_garment_10k_test": {"a": (0.5, 0.2, 0.5), "b": (0.4, 0.4, 0.4)},  # neither
        "nearest_ratio_pixels_10k": {"a": (0.9, 0.9, 0.9), "b": (1.0, 1.0, 1.0)},  # about copies, not about quality
    }
    (pair,) = conclusions.conclude(rows(study)).pairs
    stances = {one.score: one.stance for one in pair.opinions}
    assert stances == {
        RANDOM: "opposes",
        PRECISION: "opposes",
        COVERAGE: "agrees",
        "recall_k3_garment_10k_test": "open",
    }
    assert [one.score for one in pair.opposed] == [RANDOM, PRECISION] and pair.verdict.word == "better"
    sentence = conclusions.pair_sentence(pair, FRECHET)
    assert sentence.endswith(f"; but {RANDOM} (2.03 against 1.15), {PRECISION} (0.610 against 0.710) say the opposite")
    turned = {score: dict(reversed(table.items())) for score, table in study.items()}
    (pair,) = conclusions.conclude(rows(turned)).pairs
    assert pair.verdict.word == "worse" and [one.score for one in pair.opposed] == [RANDOM, PRECISION]
    del study[RANDOM], study[PRECISION]
    (pair,) = conclusions.conclude(rows(study)).pairs
    assert pair.opposed == () and "1 of 2 other scores agree, none says the opposite" in conclusions.pair_sentence(
        pair, "x"
    )


def test_two_seeds_never_decide() -> None:
    found = conclusions.conclude(rows({FRECHET: {"a": (1.0, 1.0001), "b": (90.0, 90.02), "c": (1.0, 1.5)}}))
    assert told(found) == [("no verdict possible", "two seeds")] * 3
    assert all(verdict.p_value is None and (verdict.seeds_needed or 100) >= 3 for verdict in found.verdicts)
    assert found.verdicts[0].difference.p_value < 0.001  # type: ignore[operator]
    assert not any("better" in sentence for sentence in conclusions.sentences(found))
    one = conclusions.conclude(rows({FRECHET: {"a": (1.0, 1.1, None), "b": (5.0, 5.1, 5.2)}}))  # one of three failed
    assert told(one) == [("no verdict possible", "two seeds")]


def test_runs_that_learned_nothing_are_never_better() -> None:
    """97 is 2 % of the way from 112 to 0.04 by factors, whatever the p value; 5 is 39 %."""
    low, high = (97.0, 97.1, 97.05), (110.0, 110.1, 110.2)
    found = conclusions.conclude(rows({FRECHET: {"low": low, "high": high, "good": BAD}}))
    assert told(found) == [("no verdict possible", "nothing learned"), ("worse", ""), ("worse", "")]
    assert [one.configuration for one in found.unlearned] == ["low", "high"]
    shares = {one.configuration: one.share for one in found.learning}
    assert shares["low"] == pytest.approx(0.018, abs=0.001) and shares["good"] == pytest.approx(0.389, abs=0.001)
    said = " ".join(conclusions.sentences(found))
    assert f"no verdict on low and high by {FRECHET}: nothing has been learned yet" in said
    assert "nothing has been learned yet by low (97.05), high (110.1)" in said and "use a longer budget" in said


def test_learning_nothing_is_seen_by_the_distance_when_another_score_decides() -> None:
    low, high = (97.0, 97.1, 97.05), (110.0, 110.1, 110.2)
    study = rows({FRECHET: {"low": low, "high": high}, COVERAGE: {"low": (0.01, 0.012, 0.011), "high": (0, 0, 0.0001)}})
    coverage = conclusions.DecidingScore(COVERAGE, results.values(study, COVERAGE), "higher", None, "share")
    assert told(conclusions.conclude(study, coverage)) == [("no verdict possible", "nothing learned")]


def caveats(study: Mapping[str, Mapping[str, Sequence[float | None]]], **shown: int) -> list[str]:
    return conclusions.caveats(conclusions.conclude(rows(study, shown)))


def test_caveats() -> None:
    assert caveats({FRECHET: {"a": GOOD, "b": BAD}}, a=1000, b=1050) == []
    (unequal,) = caveats({FRECHET: {"a": GOOD, "b": BAD}}, a=1000, b=2000)
    assert "unequal numbers of images, from 1,000 (a) to 2,000 (b)" in unequal
    alone, few = caveats({"frechet_random_500_test": {"a": GOOD, "b": BAD}}, a=1, b=1)
    assert "a network with random weights only" in alone and "few images (500 per run)" in few
    assert caveats({RANDOM: {"a": GOOD, "b": BAD}, FRECHET: {"a": GOOD, "b": BAD}}) == []
    (collapsed,) = caveats({FRECHET: {"a": (1.0, 1.1, 111.0), "b": BAD}})
    assert collapsed == "1 of the 3 runs of a learned nothing"


def test_two_groups_are_seen_and_withhold_what_chance_makes() -> None:
    """Half of all runs collapse: all of a and none of b did, and d shows that they might."""
    study = {"a": (1.0, 1.02, 1.01), "b": (30.0, 31.0, 30.5), "c": (2.0, 2.1, 2.0), "d": (1.01, 30.2, 30.9)}
    first = conclusions.conclude(rows({FRECHET: study})).verdicts[0]
    assert (first.word, first.leaping) == ("cannot be told apart", ("d",))
    assert first.seeds_needed is not None and first.seeds_needed >= 6
    assert "seeds of d lie as far apart in two groups" in conclusions.verdict_sentence(first)
    steady = conclusions.conclude(rows({FRECHET: {**study, "d": (30.9, 30.2, 31.0)}})).verdicts[0]
    assert (steady.word, steady.leaping) == ("better", ())


def test_what_cannot_be_compared_has_no_verdict() -> None:
    assert conclusions.conclude([]).obstacle == "no score" and conclusions.sentences(conclusions.conclude([])) == []
    alone = conclusions.conclude(rows({FRECHET: {"a": GOOD}}))
    assert alone.obstacle == "one configuration" and conclusions.sentences(alone) == []
    mixed = rows({FRECHET: {"a": GOOD, "b": BAD}})
    mixed[0] = replace(mixed[0], protocol_hash="another")
    found = conclusions.conclude(mixed)
    assert found.obstacle == "measured unlike" and found.pairs == () and len(conclusions.sentences(found)) == 1
    assert (
        "no verdict is possible"
        in conclusions.sentences(conclusions.conclude(rows({FRECHET: {"a": (1.0,), "b": (5.0,)}})))[0]
    )


def test_programs_get_the_same_facts() -> None:
    found = conclusions.conclude(
        rows({FRECHET: {"a": GOOD, "b": BAD}, PRECISION: {"a": (0.6, 0.6, 0.61), "b": GOOD[:3]}})
    )
    tree: Any = json.loads(json.dumps(conclusions.to_json(found)))
    assert tree["pairs"][0]["verdict"]["word"] == "better" and tree["pairs"][0]["opinions"][0]["stance"] == "opposes"
    assert tree["score"] == FRECHET and tree["sentences"] == conclusions.sentences(found)


# --- the sentence on a pair


def runs(*values: float | None) -> dict[int, float | None]:
    return dict(enumerate(values))


SWIFT, ROH = (2.24, 2.53, 2.54), (68.1, 58.7, 52.3)  # Fréchet distances of two systems over three seeds


def test_sentences_on_two_configurations() -> None:
    study = {"swift": runs(0.41, 0.43, 0.40), "diaz-a": runs(2.1, 2.3, 1.9), "roh": runs(2.3, 2.0, 2.4)}
    found = {(v.first, v.second): v for v in statistics.verdicts(study, better="lower")}
    assert conclusions.verdict_sentence(found["swift", "diaz-a"]) == (
        "swift is better than diaz-a: 0.41 against 2.10, difference 1.69 (1.23 to 2.15), "
        "p = 0.012 after Holm's correction, 3 seeds"
    )
    undecided = found["diaz-a", "roh"]
    assert undecided.word == "cannot be told apart" and undecided.seeds_needed is not None
    assert conclusions.verdict_sentence(undecided).startswith(
        "diaz-a and roh cannot be told apart with 3 seeds: 2.10 against 2.23"
    )
    assert f"; about {undecided.seeds_needed} seeds would likely settle it" in conclusions.verdict_sentence(undecided)
    turned = statistics.verdicts({name: study[name] for name in ("roh", "swift")}, better="lower")[0]
    assert (
        turned.word == "worse"
        and "difference 1.82 (1.27 to 2.37), p = 0.005, 3 seeds" in conclusions.verdict_sentence(turned)
    )


def test_systems_that_are_24_times_apart_are_told_apart() -> None:
    study = {"swift": runs(*SWIFT), "roh": runs(*ROH)}
    for number, values in enumerate([(16.9, 16.7, 15.0), (44.0, 32.5, 38.6), (44.4, 41.7, 38.5), (109, 95.4, 107)]):
        study[f"other{number}"] = runs(*values)
    plain, log = (statistics.verdicts(study, better="lower", scale=scale)[0] for scale in ("plain", "log"))
    assert plain.word == "cannot be told apart" and plain.p_value is not None and plain.p_value > 0.05
    assert conclusions.verdict_sentence(log) == (
        "swift is better than roh: 2.43 against 59.4, factor 24.4 (14.9 to 40.1), "
        "p = 0.014 after Holm's correction, 3 seeds"
    )


def test_sentences_on_scales() -> None:
    def sentence(
        first: statistics.Runs, second: statistics.Runs, scale: transforms.Scale, better: str = "lower"
    ) -> str:
        return conclusions.verdict_sentence(
            statistics.verdicts({"a": first, "b": second}, better=better, scale=scale)[0]
        )

    assert "a is worse than b: 59.4 against 2.43, factor 24.4 (14.9 to 40.1), p" in sentence(
        runs(*ROH), runs(*SWIFT), "log"
    )
    assert "a is better than b: 59.4 against 2.43, factor 24.4 (14.9 to 40.1), p" in sentence(
        runs(*ROH), runs(*SWIFT), "log", "higher"
    )
    alike = sentence(runs(1.001, 1.002, 1.003), runs(1.002, 1.001, 1.003), "log")
    assert "1.0020 against 1.0020, factor 1.0000 (0.99752 to 1.0025)" in alike
    far = sentence(runs(1e-9, 3e-9, 2e-9), runs(2.0e7, 1.0, 4472.1), "log")
    assert "1.8e-09 against 4,472" in far and "e+" in far
    shares = sentence(runs(0.90, 0.95, 0.93), runs(0.41, 0.35, 0.52), "share", "higher")
    assert shares.startswith("a is better than b: 0.93 against 0.43, difference 0.50, p = 0.012, 3 seeds")
    assert "0.500 against 0.500, difference 0.000" in sentence(runs(0.5, 0.5, 0.5), runs(0.5, 0.5, 0.5), "share")
    assert "0.0 against 1.0, difference 1.0, p = 0.250" in sentence(runs(0.0, 0.0, 0.0), runs(1.0, 1.0, 1.0), "share")


def test_sentences_at_the_edges() -> None:
    def sentence(first: statistics.Runs, second: statistics.Runs, better: str = "lower") -> str:
        return conclusions.verdict_sentence(
            statistics.verdicts({"a": first, "b": second}, better=better, target=0.5)[0]
        )

    one = sentence(runs(1.0), runs(2.0))
    assert one == (
        "no verdict is possible on a and b with only one seed: 1.0 against 2.0; train at least three seeds of each"
    )
    assert "no run of b has finished" in sentence(runs(1.0, 2.0), runs(None))
    assert "no run of a and b has finished" in sentence({}, {})
    assert "no number of seeds up to 100 would" in sentence(runs(1.0, 2.0, 3.0), runs(1.5, 1.0, 3.6))
    assert "no number of seeds up to 100 would" in sentence(runs(1.0, 2.0, 4.0), runs(1.0, 2.0, 4.0))
    assert "3 seeds (without seeds 3, 4)" in sentence(runs(1.0, 1.2, 1.4, None), {**runs(7.0, 7.3, 7.2, 1.0), 4: 3.0})
    assert "with 3 and 3 seeds, unpaired" in sentence(runs(1.0, 2.0, 1.5), {7: 1.4, 8: 1.9, 9: 1.0})
    assert sentence(runs(1.0, 1.1), runs(2.0, 2.2)) == (
        "no verdict on a and b: two seeds cannot settle it (1.050 against 2.100, difference 1.050); "
        "about 3 seeds would likely do if the difference is what it seems"
    )
    near = sentence(runs(0.51, 0.48, 0.5), runs(0.9, 0.1, 0.88), "near")
    assert near.startswith("a is better than b: 0.0100 against 0.3933 away from 0.5")
    assert "1,041.0 against 2,043.0" in sentence(runs(1040, 1041, 1042), runs(2041, 2043, 2045))
    assert "about 6 seeds would" in sentence(runs(1.0, 1.0, 1.0), runs(2.0, 2.0, 2.0))  # 2^-5 <= 0.05 < 2^-4
