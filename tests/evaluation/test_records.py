"""Records: written whole, read also in their first format, and told apart by their protocols."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from handmade_records import FRECHET, record, score

from modiste import runs
from modiste.data import toy
from modiste.errors import ModisteError, UsageError
from modiste.evaluation import records
from modiste.evaluation.options import EvaluateOptions
from modiste.evaluation.records import Protocol, ScoreEntry
from modiste.metrics.metric_names import MetricName


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    whole = replace(
        record(),
        source={"hash": "b7"},
        warnings=["dark"],
        alarms=["copies"],
        not_measured={MetricName("kernel"): "few"},
    )
    records.write(tmp_path / "metrics.json", whole)
    assert records.read(tmp_path / "metrics.json") == whole and not list(tmp_path.glob("*.writing"))
    odd = replace(score(FRECHET, math.nan, 0.5, 400.0), details={"z": (1.0, math.inf, [-math.inf])})
    records.write(tmp_path / "odd.json", replace(record(), scores={FRECHET: odd}))
    text = (tmp_path / "odd.json").read_text()
    assert "NaN" not in text and "Infinity" not in text
    again = records.read(tmp_path / "odd.json").scores[FRECHET]
    assert again.value is None and again.details == {"z": [1.0, None, [None]]}


OLDER = {
    "format": 1,
    "subject": {"name": "run", "kind": "run", "batch_norm": "standing statistics of 100 batches of 64", "warnings": []},
    "protocol": {
        "reference": {"data": "toy test", "part": "test", "count": 9, "digest": "d", "class_names": []},
        "generated": 5, "floor": "toy heldout", "floor_count": 4, "floor_digest": "f", "ceiling": "the worse",
        "generator": {"kind": "run", "batch_norm": "running statistics"}, "seed": 0,
    },
    "scores": {
        FRECHET: {
            "value": 2.0, "uncertainty": 0.1, "floor": 0.5, "floor_uncertainty": 0.2, "ceiling": 9.0,
            "ceilings": {"noise": 8.0, "mean_image": 9.0}, "better": "lower", "details": {},
        },
    },
    "alarms": [],
    "not_measured": {
        "memorisation": "no training images", "floor of label_agreement": "all known",
        "inception_style, class_frechet, label_agreement, class_balance_tv": "no judge",
        "frechet_inception, kernel_inception, inception_style_inception": "no weights",
        "discriminator_accuracy": "none",
    },
    "audit": {
        "protocol": {"floor_count_new_to_the_judge": 3},
        "scores": {"frequency": {"values": [0.1], "floors": [0.2]}},
        "disparity": {"frequency": {"index": 0.1, "floor": 0.2}},
        "not_measured": {"floors of frequency, label_agreement": "all known", "memory": "none"},
    },
}  # fmt: skip


def test_a_record_of_the_first_format_is_read_in_todays_shape(tmp_path: Path) -> None:
    (tmp_path / "old.json").write_text(json.dumps(OLDER))
    found = records.read(tmp_path / "old.json")
    assert found.scores[FRECHET] == ScoreEntry(
        MetricName("frechet", "garment", 10_000, "test"), 2.0, 0.1, 0.5, 0.2, 9.0, {"noise": 8.0, "mean_image": 9.0}
    )
    protocol = found.protocol
    assert (protocol.real, protocol.real_count, protocol.real_digest) == ("toy heldout", 4, "f")
    assert protocol.trivial == "the worse" and protocol.classes == "in equal shares"
    assert found.source["batch_norm_statistics"] == "standing" and records.is_usual(found)
    assert set(map(str, found.not_measured)) == {
        "nearest_ratio_pixels", "authenticity", "data_copying", "near_duplicates_pixels", "label_agreement",
        "inception_style", "class_frechet", "class_balance_tv", "frechet_inception", "kernel_inception",
        "inception_style_inception", "discriminator_accuracy_real", "discriminator_accuracy_fake",
    }  # fmt: skip
    assert found.audit == {
        "protocol": {"real_count_new_to_the_judge": 3},
        "scores": {"frequency": {"values": [0.1], "real": [0.2]}},
        "disparity": {"frequency": {"index": 0.1, "real": 0.2}},
        "not_measured": {"frequency": "all known", "label_agreement": "all known", "memory": "none"},
    }
    records.write(tmp_path / "new.json", found)
    assert json.loads((tmp_path / "new.json").read_text())["format"] == 2
    assert records.read(tmp_path / "new.json") == found
    (tmp_path / "newer.json").write_text(json.dumps({**OLDER, "format": 3}))
    with pytest.raises(ModisteError, match="a record of format 3"):
        records.read(tmp_path / "newer.json")


def test_searches_of_the_last_version_know_the_protocol_of_the_shipped_record_again() -> None:
    shipped = records.read(runs.open_run("pretrained").path / "metrics.json")
    assert records.protocol_hash(shipped) == "7e525436b55ce4c3"  # by 0.2.0


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[]", b"{}", b'{"scores": {}, "protocol": {}}'])
def test_a_file_that_is_no_record_is_one_sentence(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "metrics.json").write_bytes(content)
    with pytest.raises(ModisteError, match=r"metrics\.json.*evaluate its images again"):
        records.read(tmp_path / "metrics.json")
    with pytest.raises(ModisteError, match=r"cannot read the record .*evaluate its images again"):
        records.read(tmp_path / "gone.json")


@pytest.mark.parametrize(
    ("section", "key", "value", "said"),
    [
        ("reference", "part", "heldout", "reference.part: test and heldout"),
        ("extractors", "garment", {"hash": "xyz", "input": [1, 28, 28]}, "extractors.garment.hash: abc and xyz"),
        ("extractors", "second", {"hash": "s"}, "extractors.second.hash: None and s"),
        (None, "generated", 2_000, "generated: 10000 and 2000"),
    ],
)
def test_differences_are_named_by_dotted_keys(section: str | None, key: str, value: object, said: str) -> None:
    tree = record().to_json()["protocol"]
    (tree[section] if section else tree)[key] = value
    other = replace(record("theirs"), protocol=Protocol.from_json(tree))
    assert records.differences(record(), other) == [said]
    with pytest.raises(UsageError, match=r"^mine and theirs were not measured alike.*evaluate both again") as refusal:
        records.check_comparable([record(), other])
    assert said in str(refusal.value) and "more)" not in str(refusal.value)
    with pytest.raises(UsageError):
        records.check_comparable([record(), record(), other])


def test_other_real_images_are_the_difference_that_is_named() -> None:
    facts = records.ReferenceFacts("emoji test", "test", 90, "e", ["coat", "bag"])
    other = record("theirs", reference=facts, classes="in other shares")
    with pytest.raises(UsageError, match=r"one against toy test, one against emoji test; evaluate both against the"):
        records.check_comparable([record(), other])
    same_name = record("theirs", reference=replace(facts, data="toy test"))
    with pytest.raises(UsageError, match=r"one against toy test, one against other images of that name"):
        records.check_comparable([record(), same_name])


TOY = replace(toy.draw(9, 8, 0), name="toy test")
JUDGED = {"garment": {"hash": "abc"}}


def before_and_place(tmp_path: Path, **more: Any) -> Path:
    held = replace(record(), source={"hash": "b7"}, **more)
    records.write(tmp_path / "metrics.json", held)
    return tmp_path / "metrics.json"


@pytest.mark.parametrize(
    ("more", "count", "lost"),
    [
        ({}, 9_999, "scores of 10,000 images"),
        ({"audit": {"classes": []}}, 10_000, "an audit"),
        ({"scores": {"classifier_accuracy": score("classifier_accuracy", 0.5, 0.9, 0.1)}}, 10_000, "the classifier"),
        (
            {"scores": {"reconstruction_error": score("reconstruction_error", 9.0, 8.0, 20.0, images=100)}},
            10_000,
            "more reconstructions",
        ),
        (
            {"protocol": replace(record().protocol, extractors={**JUDGED, "onnx-net": {"hash": "n"}})},
            10_000,
            "scores in the",
        ),
    ],
)
def test_a_record_that_says_more_of_the_same_weights_is_not_replaced(
    tmp_path: Path, more: dict[str, Any], count: int, lost: str
) -> None:
    place = before_and_place(tmp_path, **more)
    options = EvaluateOptions(count=count)
    with pytest.raises(UsageError, match=rf"metrics\.json holds {lost}.* --out"):
        records.refuse_loss(place, {"hash": "b7"}, TOY, JUDGED, options)
    records.refuse_loss(place, {"hash": "b8"}, TOY, JUDGED, options)  # the training went on
    records.refuse_loss(place, {}, TOY, JUDGED, options)
    whole = EvaluateOptions(count=10_000, audit=True, classifier=True, reconstruct=100)
    records.refuse_loss(place, {"hash": "b7"}, TOY, {**JUDGED, "onnx-net": {}}, whole)
    with pytest.raises(UsageError, match=r"holds scores against toy test"):
        records.refuse_loss(place, {"hash": "b7"}, replace(TOY, name="emoji test"), JUDGED, options)


@pytest.mark.parametrize("now", [{"garment": {"hash": "trained again"}}, {"moved": {"hash": "abc"}}])
def test_a_judge_of_another_name_or_trained_again_loses_nothing(tmp_path: Path, now: dict[str, Any]) -> None:
    place = before_and_place(tmp_path)
    records.refuse_loss(place, {"hash": "b7"}, TOY, now, EvaluateOptions(count=10_000))
    with pytest.raises(UsageError, match="holds scores in the features of garment"):
        records.refuse_loss(place, {"hash": "b7"}, TOY, {"random": {"hash": "r"}}, EvaluateOptions(count=10_000))


def test_a_place_without_a_record_is_free(tmp_path: Path) -> None:
    records.refuse_loss(tmp_path / "metrics.json", {"hash": "b7"}, TOY, JUDGED, EvaluateOptions(count=2))


def test_several_differences_are_counted() -> None:
    other = record(generated=5, seed=3)
    with pytest.raises(UsageError, match=r"generated: 10000 and 5 \(and 1 more\)"):
        records.check_comparable([record(), other])


def test_how_images_were_made_and_versions_do_not_count() -> None:
    other = record(generator={"kind": "npz"}, versions={"torch": "3.0"}, real="others")
    assert records.differences(record(), other) == []
    records.check_comparable([record(), other, record()])


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (0.0, "0"),
        (12345.6, "12,346"),
        (123.456, "123.5"),
        (9.87654, "9.877"),
        (0.123456, "0.1235"),
        (0.00123456, "0.00123"),
        (0.00001234, "1.2e-05"),
        (-0.5, "-0.5000"),
        (-3e-7, "-3.0e-07"),
        (math.nan, "-"),
        (math.inf, "-"),
    ],
)
def test_numbers_have_the_digits_that_count(value: float | None, text: str) -> None:
    assert records.format_number(value) == text


def test_uncertainties_stand_beside_their_values() -> None:
    assert records.with_uncertainty(0.41234, 0.0061) == "0.4123 ± 0.0061"
    assert records.with_uncertainty(0.41234, None) == records.with_uncertainty(0.41234, 0.0) == "0.4123"
    assert records.with_uncertainty(None, None) == "-"


def test_records_of_unlike_classes_are_kept_apart() -> None:
    older, even, uneven = record(), record(classes="in equal shares"), record(classes="as often as in the reference")
    assert records.differences(older, even) == []
    assert records.differences(older, uneven) == ["classes: in equal shares and as often as in the reference"]


def test_a_cell_of_a_markdown_table_may_hold_a_bar() -> None:
    assert records.markdown(["class"], [["a|b"]]).endswith("| a\\|b |")
