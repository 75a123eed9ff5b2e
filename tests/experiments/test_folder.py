"""The folder of an experiment: nobody else's files, one process at a time, recipes that stay."""

from __future__ import annotations

from pathlib import Path

import pytest

from modiste.errors import UsageError
from modiste.experiments.folder import ExperimentFolder, recipe_copies
from modiste.files import InUse


def test_a_start_that_was_cut_off_may_be_repeated_and_nothing_else(tmp_path: Path) -> None:
    folder = ExperimentFolder(tmp_path, "study")
    texts = {"study.toml": "seeds = 2\n", "recipes/own.toml": "seed = 1\n"}
    folder.refuse_foreign_files(texts)
    (tmp_path / "study.toml").write_text("seeds = 2\r\n", encoding="utf-8")
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes/earlier.toml").touch()
    (tmp_path / "optuna.db").touch()
    folder.refuse_foreign_files(texts, ignored=["optuna.db"])
    with pytest.raises(UsageError, match=r"optuna\.db.* is no study"):
        folder.refuse_foreign_files(texts)
    (tmp_path / "optuna.db").unlink()
    (tmp_path / "recipes/own.toml").write_text("seed = 2\n", encoding="utf-8")
    with pytest.raises(UsageError, match=r"recipes.own\.toml is there with another text"):
        folder.refuse_foreign_files(texts)
    (tmp_path / "recipes/own.toml").unlink()
    (tmp_path / "recipes/letter.txt").touch()
    with pytest.raises(UsageError, match=r"letter\.txt"):
        folder.refuse_foreign_files(texts)


def test_other_settings_are_refused_and_three_of_them_named(tmp_path: Path) -> None:
    folder = ExperimentFolder(tmp_path, "search")
    folder.refuse_other_settings([], "trials")
    with pytest.raises(UsageError) as error:
        folder.refuse_other_settings(["a: 1 -> 2", "b: 1 -> 2", "c: 1 -> 2", "d: 1 -> 2", "e: 1 -> 2"], "trials")
    assert str(error.value) == (
        f"{tmp_path} holds another search (a: 1 -> 2; b: 1 -> 2; c: 1 -> 2 and 2 more); only trials can be added to "
        "it, so choose another folder with --out"
    )


def test_one_process_holds_the_folder(tmp_path: Path) -> None:
    folder = ExperimentFolder(tmp_path / "new", "experiment")
    with folder.locked(), pytest.raises(InUse, match="another experiment"), folder.locked():
        pass


def test_recipe_files_of_one_name_get_numbers_only_where_their_texts_differ(tmp_path: Path) -> None:
    sources = []
    for number, text in enumerate(["seed = 1", "seed = 2", "seed = 1", "seed = 3"]):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "own.toml").write_text(text, encoding="utf-8")
        sources.append(str(tmp_path / str(number) / "own.toml"))
    copies = recipe_copies(["swift", *sources])
    assert [copy.name for copy in copies] == ["own.toml", "own-2.toml", "own.toml", "own-3.toml"]
    assert [copy.source for copy in copies] == sources
    folder = ExperimentFolder(tmp_path / "study", "study")
    folder.make()
    folder.write_recipes(copies)
    assert (tmp_path / "study" / copies[1].portable).read_text(encoding="utf-8") == "seed = 2"
