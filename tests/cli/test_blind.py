"""The command `blind`: a page with its key, and results from answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from blind_lab import answered, as_json, garments, right_with

from modiste.experiments.blind import answers

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def folder(tmp_path: Path, closet: Path, call: Call, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a page of 60 trials and its key."""
    monkeypatch.chdir(tmp_path)
    garments(tmp_path / "made.npz")
    code, out, err = call("blind", "made.npz", "--data", closet, "--trials", 60)
    assert code == 0, err
    assert out.splitlines()[-1] == "open blind.html" and "wrote blind.key.json" in out and "by chance)" in out
    return tmp_path


def save(folder: Path, name: str, share: float) -> str:
    key = answers.parse_key(json.loads((folder / "blind.key.json").read_text()), "blind.key.json")
    sheet = answered(key, right_with(share, np.random.default_rng(len(name))), name)
    (folder / f"answers-{name}.json").write_text(json.dumps(as_json(sheet)))
    return f"answers-{name}.json"


def test_answers_become_a_table_and_sentences(folder: Path, call: Call) -> None:
    files = [save(folder, "ada", 0.95), save(folder, "bob", 0.8)]
    code, out, _ = call("blind", "--score", *files)
    assert code == 0 and "made is told from real images" in out and "p < 0.001" in out
    assert "class" in out and "Ankle boot" in out and "60/60" in out and "HYPE-infinity" in out
    tree = json.loads(call("blind", "--score", *files, "--key", "blind.key.json", "--json")[1])
    assert tree["pairs"][0]["word"] == "told apart" and tree["pairs"][0]["people"] == 2
    assert [person["name"] for person in tree["people"]] == ["ada", "bob"] and tree["sentences"][0] in out


def test_the_facts_of_a_page_as_json(folder: Path, closet: Path, call: Call) -> None:
    words = ("blind", "made.npz", "--data", closet, "--trials", 10, "--out", "other.html", "--seed", 3, "--json")
    tree = json.loads(call(*words)[1])
    assert tree["html"] == "other.html" and tree["key"] == "other.key.json" and tree["trials"] == 14
    assert tree["pairs"] == [["made", "real images"]] and tree["giveaways"][0]["share"] >= 0.5
    assert json.loads((folder / "other.key.json").read_text())["test"] == tree["test"]
    assert str(folder) not in (folder / "other.key.json").read_text()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["made.npz", "--key", "x.json"], "--key is for scoring answers"),
        (["--score", "a.json", "--against", "real"], "--score reads answers and makes no page"),
        (["real"], "real images are named by --against real"),
        (["nowhere"], "nowhere does not exist"),
        (["made.npz", "--out", "page.png"], "does not end in .html"),
        (["made.npz", "--trials", "0"], "a test of 0 trials is not possible"),
        (["made.npz", "--truncation", "1"], "is none; leave them out"),
    ],
)
def test_wrong_use_is_one_sentence_and_writes_nothing(
    words: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Call
) -> None:
    monkeypatch.chdir(tmp_path)
    garments(tmp_path / "made.npz", 40)
    code, _, err = call("blind", *words)
    assert code == 2 and said in err and err.count("\n") == 1
    assert [file.name for file in tmp_path.iterdir()] == ["made.npz"]
