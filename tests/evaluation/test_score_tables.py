"""Tables of scores: a row's cells, several records side by side, and what the scores say of each other."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
from handmade_records import COVERAGE, FRECHET, RANDOM, record, score

from modiste.evaluation import records, score_tables
from modiste.evaluation.records import ScoreEntry
from modiste.metrics.metric_names import MEANINGS, MetricName

TWO_SAMPLE = "two_sample_1nn_garment_test"


def without(one: records.Record, name: str) -> records.Record:
    return replace(one, scores={key: entry for key, entry in one.scores.items() if key != name})


def test_a_record_is_not_changed_by_reading_it_out() -> None:
    one = record()
    before = copy.deepcopy(one)
    score_tables.rows(one), score_tables.comparison([one, one]), score_tables.agreement([one, one])
    assert one == before


@pytest.mark.parametrize(
    ("shown", "words"),
    [
        (score(FRECHET, 0.5, 0.5, 400.0), "like real images"),
        (score(FRECHET, 0.51, 0.5, 400.0, 0.006), "like real images"),
        (score(FRECHET, 0.53, 0.5, 400.0, 0.006), "1.1 x real"),
        (score(FRECHET, 0.0004, 0.0002, 4.0), "2.0 x real"),
        (score(FRECHET, 200.0, 0.5, 400.0), "400.0 x real"),
        (score(FRECHET, 400.0, 0.5, 400.0), "no better than a generator that learned nothing"),
        (score(FRECHET, 500.0, 0.5, 400.0), "no better than a generator that learned nothing"),
        (score(FRECHET, 0.02, -1e-6, 2.0), "1.00% of trivial"),
        (score(COVERAGE, 0.72, 0.96, 0.0), "75% of real"),
        (score(COVERAGE, 0.0, 0.96, 0.0), "no better than a generator that learned nothing"),
        (score(COVERAGE, 0.97, 0.96, 0.0), "101% of real"),
        # precision: noise lies in real images' neighbourhoods
        (score(COVERAGE, 0.96, 0.87, 0.95), "like real images, and so is a generator that learned nothing"),
        (score(COVERAGE, 0.03, 0.87, 0.95), "3% of real"),
        (score(TWO_SAMPLE, 0.505, 0.5, 1.0, 0.01), "like real images"),
        (score(TWO_SAMPLE, 0.9, 0.5, 1.0, 0.01), "above real images"),
        (score(TWO_SAMPLE, 0.3, 0.5, 1.0, 0.01), "below real images"),
        (score(FRECHET, 1.0, None, 2.0), ""),
        (score(FRECHET, None, 1.0, 2.0), ""),
        (score(FRECHET, 2.0, 1.0, None), "2.0 x real"),
    ],
)
def test_a_score_is_read_against_its_baselines(shown: ScoreEntry, words: str) -> None:
    assert score_tables.reading(shown) == words


def test_an_unbiased_score_of_one_distribution_is_0_on_average() -> None:
    kernel = "kernel_garment_10k_test"
    assert score_tables.reading(score(kernel, -0.05, -0.2, 2.0, 0.01)) == "like real images"
    assert score_tables.reading(score(kernel, 0.01, -0.2, 2.0, 0.01)) == "like real images"
    assert score_tables.reading(score(kernel, 0.05, -0.2, 2.0, 0.01)) == "2.50% of trivial"


def test_no_multiple_is_taken_of_a_baseline_that_is_0_but_for_chance() -> None:
    for name in ("kernel_garment_10k_test", "frechet_infinite_garment_test"):
        assert score_tables.reading(score(name, 0.02, 0.001, 2.0)) == "1.00% of trivial"


def test_rows_say_what_every_score_means() -> None:
    rows = score_tables.rows(record())
    assert [row[0] for row in rows] == [FRECHET, RANDOM, COVERAGE]
    assert dict(zip(score_tables.HEADS, rows[0], strict=True)) == {
        "score": FRECHET,
        "generated": "2.000 ± 0.010",
        "real images": "0.5000",
        "trivial": "400.0",
        "reading": "4.0 x real",
        "what it says": MEANINGS["frechet"].words,
    }
    assert score_tables.rows(record(frechet=None))[0][1].startswith("-")


def test_a_comparison_has_a_column_for_each() -> None:
    other = without(record("theirs", frechet=3.0), COVERAGE)
    heads, body = score_tables.comparison([record(), other])
    assert heads == ["score", "mine", "theirs", "real images", "trivial"]
    assert [line[0] for line in body] == [f"{FRECHET} (lower)", f"{RANDOM} (lower)", f"{COVERAGE} (higher)"]
    assert body[0][1:] == ["2.000 ± 0.010", "3.000 ± 0.010", "0.5000", "400.0"] and body[2][2] == "-"
    text = records.markdown(heads, body).splitlines()
    assert (
        text[0] == "| score | mine | theirs | real images | trivial |" and text[1] == "| --- | --- | --- | --- | --- |"
    )
    assert len(text) == 5 and all(line.count("|") == 6 for line in text)


def test_whether_all_extractors_agree() -> None:
    good, bad = record("good", 1.0, 10.0), record("bad", 2.0, 20.0)
    said = score_tables.agreement([bad, good])
    assert said == "all extractors (garment, random) agree on the order by Fréchet distance: good < bad"
    odd = record("odd", 0.5, 30.0)
    said = score_tables.agreement([good, odd])
    assert said.startswith("the extractors do not agree") and "garment: odd < good; random: good < odd" in said
    assert score_tables.agreement([without(good, RANDOM), without(bad, RANDOM)]) == ""


def test_gaps_with_the_same_reason_are_one_line() -> None:
    missing = {
        MetricName("kernel"): "few images",
        MetricName("frechet", "inception"): "none",
        MetricName("recall_k3"): "few images",
    }
    assert score_tables.gaps(missing) == ["kernel, recall_k3: few images", "frechet_inception: none"]
