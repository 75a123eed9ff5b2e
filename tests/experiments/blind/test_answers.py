"""Answers are anybody's text: what is wrong with a file is one sentence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from blind_lab import answered, as_json, plain_key

from modiste.errors import ModisteError
from modiste.experiments.blind import answers

KEY = plain_key(4)


def good() -> dict[str, Any]:
    return as_json(answered(KEY, lambda *_: "left"))


def changed(**changes: Any) -> dict[str, Any]:
    return {**good(), **changes}


def with_answer(**changes: Any) -> dict[str, Any]:
    tree = good()
    tree["answers"][2] |= changes
    return tree


def test_what_the_page_saves_is_read_as_it_was() -> None:
    assert answers.parse_answers(good(), "answers-ada.json") == answered(KEY, lambda *_: "left")


@pytest.mark.parametrize(
    ("tree", "problem"),
    [
        ([], "'format' is missing"),
        ({"scores": {}}, "'format' is missing"),
        (changed(format="modiste blind key 1"), "its format is not"),
        (changed(test=7), "'test' is no str"),
        (changed(person="ada"), "'person' is no dict"),
        (changed(answers={}), "'answers' is no list"),
        (changed(answers=[3]), "'trial' is missing"),
        (with_answer(trial=True), "'trial' is no int"),
        (with_answer(trial=-1), "trial -1"),
        (with_answer(trial=1), "it answers trial 2 twice"),
        (changed(answers=[good()["answers"][0]] * 2), "it answers trial 1 twice"),
        (with_answer(choice="middle"), "'middle' is neither left nor right"),
        (with_answer(ms=1.5), "'ms' is no int"),
        (with_answer(ms=-5), "after -5 ms"),
    ],
)
def test_other_json_is_one_sentence(tree: Any, problem: str) -> None:
    with pytest.raises(ModisteError) as error:
        answers.parse_answers(tree, "a.json")
    text = str(error.value)
    assert text.startswith("a.json does not hold the answers to a blind test (") and problem in text
    assert text.endswith("; give a file as the page saves it") and "\n" not in text


@pytest.mark.parametrize("content", ["", "{", "\0", "[" * 100_000, '{"a": 1e999999, ', "\ufeff{}"])
def test_no_json_is_one_sentence(content: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(content, encoding="utf-8")
    with pytest.raises(ModisteError, match=r"a\.json is not JSON; give a file as the page saves it"):
        answers.read_sheets([tmp_path / "a.json"])


def test_a_file_that_is_missing_or_huge_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ModisteError, match=r"cannot read .*none\.json"):
        answers.read_sheets([tmp_path / "none.json"])
    (tmp_path / "huge.json").write_bytes(b" " * (answers.MOST_BYTES + 1))
    with pytest.raises(ModisteError, match="more than 4 MB"):
        answers.read_sheets([tmp_path / "huge.json"])


def save(folder: Path, name: str, tree: Any) -> Path:
    (folder / name).write_text(json.dumps(tree), encoding="utf-8")
    return folder / name


def test_files_of_two_pages_or_twice_of_one_person_are_refused(tmp_path: Path) -> None:
    first, second = save(tmp_path, "a.json", good()), save(tmp_path, "b.json", good())
    with pytest.raises(ModisteError, match=r"a\.json and .*b\.json are answers of one person"):
        answers.read_sheets([first, second])
    other = save(tmp_path, "c.json", changed(test="another", person={"id": "x", "name": ""}))
    with pytest.raises(ModisteError, match=r"a\.json and .*c\.json answer different pages"):
        answers.read_sheets([first, other])
    fine = save(tmp_path, "d.json", changed(person={"id": "x", "name": ""}))
    assert [sheet.name for sheet in answers.read_sheets([first, fine])] == ["ada", "anonymous"]


def test_names_move_no_cursor() -> None:
    sheet = answers.parse_answers(changed(person={"id": "x", "name": "\x1b[2J\nA\u202eda" + "x" * 99}), "a")
    assert sheet.name == ("[2JAda" + "x" * 99)[:60]


def key_tree(**changes: Any) -> dict[str, Any]:
    listed = [{"pair": one.pair, "class": one.class_name, "first": one.first} for one in KEY.trials]
    facts = {"format": answers.KEY, "test": "t", "question": "generated", "per_class": False}
    return {**facts, "pairs": [list(pair) for pair in KEY.pairs], "trials": listed, **changes}


def test_the_key_is_found_by_its_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    sheets = answers.read_sheets([save(tmp_path / "in", "a.json", good())])
    with pytest.raises(ModisteError, match=r"no key of the page that .* say with --key"):
        answers.find_key(sheets)
    save(tmp_path, "a.key.json", {"something": "else"})
    save(tmp_path, "b.key.json", key_tree(test="another"))
    save(tmp_path, "c.key.json", key_tree())
    assert answers.find_key(sheets) == KEY
    assert answers.find_key(sheets, tmp_path / "c.key.json") == KEY
    with pytest.raises(ModisteError, match="is the key of another page"):
        answers.find_key(sheets, tmp_path / "b.key.json")
    with pytest.raises(ModisteError, match=r"a\.key\.json is not the key of a blind test \('format' is missing\)"):
        answers.find_key(sheets, tmp_path / "a.key.json")


@pytest.mark.parametrize(
    "changes",
    [{"pairs": [["one"]]}, {"pairs": [[1, 2]]}, {"trials": [{"pair": 9, "class": "", "first": "left"}]},
     {"trials": [{"class": "", "first": "left"}]}, {"trials": ["x"]}, {"question": "worse"}, {"per_class": 1}],
)  # fmt: skip
def test_a_damaged_key_is_one_sentence(changes: dict[str, Any]) -> None:
    with pytest.raises(ModisteError, match="is not the key of a blind test"):
        answers.parse_key(key_tree(**changes), "k.json")
