"""Augmentation experiments: what is planned, trained, reused, continued and refused."""

from __future__ import annotations

import errno
import json
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from support import JobsHere

from modiste import config, environment, runs
from modiste.config import Data, Recipe
from modiste.data import sets as data_sets
from modiste.data.images import Images, content_digest
from modiste.data.sets import Part
from modiste.errors import ModisteError, UsageError
from modiste.experiments import runner, studies
from modiste.experiments.augmentation import arms, experiment, plan, subsets
from modiste.experiments.augmentation.arms import ArmRow
from modiste.experiments.augmentation.augment import Experiment, augment, measure_arms
from modiste.experiments.augmentation.plan import AugmentOptions
from modiste.provenance import metadata
from modiste.sampling import generators, writers
from modiste.training import trainer

QUIET = Console(quiet=True)
ARMS = [arms.REAL, arms.CLASSICAL, arms.MIXED, arms.BOTH, arms.ALONE]


class Killed(BaseException):
    """Ends an experiment in the middle, as a signal that nothing can catch would."""


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Jobs run in this process, which saves the time to start others; their commands, in order."""
    jobs = JobsHere()
    monkeypatch.setattr(runner, "run_locally", jobs.run_locally)
    return jobs.commands


@pytest.fixture
def recipe(tiny: Recipe, tmp_path: Path) -> Path:
    """A recipe file of ten updates."""
    path = tmp_path / "tiny.toml"
    path.write_text(config.to_toml(config.override(tiny, {"train.images": 160})), encoding="utf-8")
    return path


def experiment_of(closet: Path, recipe: Path, out: Path, **changes: Any) -> Experiment:
    options = {"budgets": (40, 80), "seeds": (0, 1), "steps": 4, "count": 50, **changes}
    return augment(closet, out, recipe=recipe, console=QUIET, **options)


def test_an_experiment_goes_on_where_it_was_stopped_and_repeats_itself(
    closet: Path, recipe: Path, tmp_path: Path, here: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = experiment_of(closet, recipe, tmp_path / "whole")
    assert whole.is_finished()
    assert [(row.budget, row.seed, row.arm.name) for row in whole.read_rows()] == [
        (budget, seed, arm) for seed in (0, 1) for budget in ("40", "80") for arm in ARMS
    ]
    for row in whole.read_rows():
        assert row.steps == 4 and row.tested == 200 and row.images == int(row.budget)
        assert row.real == (0 if row.arm.name == arms.ALONE else row.images)
        assert row.synthetic == (0 if row.arm.name in (arms.REAL, arms.CLASSICAL) else 50)
    folder = tmp_path / "whole" / "40-seed1"
    subset = data_sets.open_data(Data(name=str(folder / "subset.npz")))
    indices = json.loads((folder / "subset.json").read_text())["indices"]
    assert (
        subset.pixels == data_sets.open_data(Data(name=str(closet)), part="fit").select(np.array(indices)).pixels
    ).all()
    manifest = runs.Run(folder / "generator").read_manifest()
    assert manifest.data.digest == content_digest(subset)  # the labels of its budget, and no others
    assert runs.Run(folder / "generator").read_recipe().seed == 1
    written = data_sets.open_data(Data(name=str(folder / "synthetic.npz")))
    assert written.labels is not None and np.bincount(written.labels).tolist() == [5] * 10
    assert metadata.says_synthetic(folder / "synthetic.npz") and not metadata.says_synthetic(folder / "subset.npz")
    for name in ("report.md", "accuracy.png", "accuracy.svg", "records.csv", "records.jsonl"):
        assert (tmp_path / "whole" / name).stat().st_size > 200
    assert whole.read_answer()

    calls = []
    measure_arm = arms.measure_arm

    def measure_seven(*arguments: Any) -> ArmRow:
        if len(calls) == 7:
            raise Killed
        calls.append(1)
        return measure_arm(*arguments)

    monkeypatch.setattr(arms, "measure_arm", measure_seven)
    with pytest.raises(Killed):
        experiment_of(closet, recipe, tmp_path / "cut")
    cut = Experiment(tmp_path / "cut")
    assert len(cut.read_rows()) == 7 and not cut.is_finished()
    set_before = (tmp_path / "cut/80-seed0/synthetic.npz").stat().st_mtime_ns
    (tmp_path / "cut/80-seed1/subset.json").unlink()  # as if it had been killed between the two files of a subset
    monkeypatch.setattr(arms, "measure_arm", measure_arm)
    here.clear()
    again = augment(tmp_path / "cut", console=QUIET)
    assert [line.split()[0] for line in here] == ["augment", "train", "augment", "train", "augment"]
    assert (tmp_path / "cut/80-seed0/synthetic.npz").stat().st_mtime_ns == set_before
    assert again.read_rows() == whole.read_rows()

    here.clear()
    assert experiment_of(closet, recipe, tmp_path / "cut").read_rows() == whole.read_rows()
    assert here == []
    with pytest.raises(UsageError, match="holds another experiment \\(steps: 4 -> 5"):
        experiment_of(closet, recipe, tmp_path / "cut", steps=5)
    with pytest.raises(UsageError, match="only --seeds and --budgets can be given, not --steps"):
        augment(tmp_path / "cut", steps=5, console=QUIET)
    with pytest.raises(UsageError, match="only --seeds and --budgets can be given, not --out"):
        augment(tmp_path / "cut", tmp_path / "elsewhere", console=QUIET)


def test_rare_classes_variants_and_a_small_budget(closet: Path, recipe: Path, tmp_path: Path, here: list[str]) -> None:
    """Ten labels are fewer than the recipe's batch of 18 in 3 parts, and every filter has a set of its own."""
    found = experiment_of(closet, recipe, tmp_path / "rare", budgets=("all",), seeds=(0,), rare=["bag", "shirt"])
    rows = {row.arm.name: row for row in found.read_rows()}
    assert list(rows) == [*ARMS[:2], arms.REPEATS, *ARMS[2:]]
    assert rows[arms.MIXED].images == 27 * 8 + 2 * 2 and rows[arms.MIXED].synthetic == 2 * 25
    assert rows[arms.REPEATS].real == 270 and rows[arms.ALONE].synthetic == 250
    expected = np.mean([rows[arms.BOTH].per_class[name] for name in ("Shirt", "Bag")])
    assert rows[arms.BOTH].rare == pytest.approx(expected)

    changes: dict[str, Any] = {"filter": ["none", "confidence"], "keep": 0.25, "ratio": [0.25, 0.5]}
    changes["overrides"] = {"train.batch_size": 18, "train.accumulate": 3}
    found = experiment_of(closet, recipe, tmp_path / "ten", budgets=(10,), seeds=(0,), **changes)
    assert len(found.read_rows()) == 2 + 2 * (2 * 2 + 1)
    folder = tmp_path / "ten/10-seed0"
    trained = runs.Run(folder / "generator").read_recipe().train
    assert (trained.batch_size, trained.accumulate) == (8, 1)
    assert len(data_sets.open_data(Data(name=str(folder / "synthetic-confidence.npz")))) == 50
    assert "What ratio and filter change" in (tmp_path / "ten/report.md").read_text()


def test_a_run_is_used_for_the_images_that_it_was_trained_on_and_for_no_fewer(
    closet: Path, tiny: Recipe, tmp_path: Path, here: list[str], call: Callable[..., tuple[int, str, str]]
) -> None:
    small = {"data.name": str(closet), "data.resize": None, "data.split": "fit", "train.images": 32}
    run = trainer.train(tiny, tmp_path / "run", overrides=small, console=QUIET)
    found = augment(run.path, tmp_path / "out", seeds=(0, 1), steps=2, count=20, console=QUIET)
    assert all(line.startswith("augment") for line in here)
    assert {row.images for row in found.read_rows()} == {64}  # the recipe's data.count
    sets = [(tmp_path / f"out/all-seed{seed}/synthetic.npz").read_bytes() for seed in (0, 1)]
    assert sets[0] != sets[1]
    first = generators.load(run).sample_set(seeds=range(20))
    assert (data_sets.open_data(Data(name=str(tmp_path / "out/all-seed0/synthetic.npz"))).pixels == first.pixels).all()

    weights = run.path / "generator.safetensors"
    before = weights.read_bytes()
    weights.write_bytes(before + b" ")  # trained on since
    with pytest.raises(
        UsageError, match=r"is another than the one that .*out was begun with, .* start another experim"
    ):
        augment(tmp_path / "out", seeds=(0, 1, 2), console=QUIET)
    assert not (tmp_path / "out/all-seed2/generator/manifest.json").exists()
    weights.write_bytes(before)
    code, _, said = call("augment", run.path, "--budgets", "20", "--out", tmp_path / "less")
    assert code == 2 and "that is the only fair budget" in said and not (tmp_path / "less").exists()
    code, _, said = call("augment", run.path, "--recipe", "swift", "--out", tmp_path / "less")
    assert code == 2 and "whose generator is made already; leave --recipe out" in said
    moved = runs.Run(shutil.copytree(run.path, tmp_path / "moved"))
    runs.update_manifest(moved, data=replace(moved.read_manifest().data, digest="0"))
    code, _, said = call("augment", moved.path, "--out", tmp_path / "less")
    assert code == 2 and "is not what" in said
    runs.update_manifest(moved, status="interrupted")
    code, _, said = call("augment", moved.path)
    assert code == 2 and "is not finished (interrupted)" in said
    free = {**small, "network.conditioning": "none"}
    run = trainer.train(tiny, tmp_path / "free", overrides=free, console=QUIET)
    code, _, said = call("augment", run.path)
    assert code == 2 and "was trained without labels" in said


def test_a_generator_of_other_images_is_refused(closet: Path, recipe: Path, tmp_path: Path, here: list[str]) -> None:
    """Its images would know labels outside the budget."""
    one = {"seeds": (0,), "budgets": (40,), "steps": 1}
    experiment_of(closet, recipe, tmp_path / "mine", **one)
    folder = tmp_path / "mine/40-seed0"
    for name in ("arms.jsonl", "synthetic.npz"):
        (folder / name).unlink()
    run = runs.Run(folder / "generator")
    runs.update_manifest(run, data=replace(run.read_manifest().data, digest="of more images"))
    with pytest.raises(ModisteError, match=r"1 of 1 measurements failed, .* would know labels outside the budget"):
        experiment_of(closet, recipe, tmp_path / "mine", **one)


def test_a_full_disk_leaves_no_half_written_set(
    closet: Path, recipe: Path, tmp_path: Path, here: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = {"seeds": (0,), "budgets": (40,), "steps": 1}
    settle = os.fsync

    def full(descriptor: int) -> None:
        if "synthetic" in Path(f"/proc/self/fd/{descriptor}").readlink().name:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        settle(descriptor)

    if not Path("/proc/self/fd").is_dir():
        pytest.skip("needs /proc to know which file is written")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ModisteError, match=r"synthetic\.npz: No space left on device.*make room"):
        experiment_of(closet, recipe, tmp_path / "full", **one)
    folder = tmp_path / "full/40-seed0"
    assert not list(folder.glob("*synthetic*"))
    assert [row.arm.name for row in Experiment(tmp_path / "full").read_rows()] == ARMS[:2]
    monkeypatch.setattr(os, "fsync", settle)
    assert augment(tmp_path / "full", console=QUIET).is_finished()


BAD: dict[str, tuple[list[str], str]] = {
    "budget": (["--budgets", "40,271"], "a budget of 271 labels is larger than the 270 images"),
    "few": (["--budgets", "8"], "with 8 labels the class"),
    "none": (["--budgets", "0"], "--budgets 0 is not possible: give numbers of images from 2 on, or all"),
    "words": (["--budgets", "many"], "'many' are no numbers of images"),
    "rare": (["--rare", "hat"], "'hat' is no class"),
    "as many": (["--rare", "bag", "--budgets", "10"], "the rare classes have as many images as any other"),
    "both": (["--rare", "bag", "--ratio", "0.3"], "--ratio has no meaning with --rare"),
    "ratio": (["--ratio", "1.5"], "--ratio 1.5 is not possible: give shares above 0 and below 1, as 0.25,0.5"),
    "no ratio": (["--ratio", ","], "--ratio '' is not possible: give shares above 0"),
    "seed": (["--seeds", "4294967296,"], "4294967296 is no seed; give seeds from 0 to 2147483647"),
    "noise": (["--seeds", "4294,"], "4294 is not possible: give a count, or seeds from 0 to 4293"),
    "seeds": (["--seeds", "99999999999"], "--seeds 99999999999 is no possible count of seeds; give one from 1"),
    "shares": (["--ratio", "half"], "'half' are no numbers"),
    "filter": (["--filter", "taste"], "--filter taste is not possible: choose among none,"),
    "keep": (["--keep", "1e-9"], "--keep 1e-09 is not possible: a filter keeps a share from 0.05 to 1"),
    "keep what": (["--keep", "0.2"], "--keep 0.2 is the share that a filter keeps; name one with --filter"),
    "many": (["--count", "2000000"], "1,000,000 are the most; ask for fewer with --count\n"),
    "filtered": (
        ["--count", "60000", "--filter", "none,distance", "--keep", "0.05"],
        "1,200,000 images would be made for one synthetic set, and 1,000,000 are the most; ask for fewer with --count, "
        "or for a greater share of them with --keep",
    ),
    "recipe": (["--recipe", "noronha"], "noronha makes no labelled images"),
    "data": (["--set", "data.count=5"], "--set data.count is the experiment's to choose"),
    "ancestor": (
        ["--set", "finetune.ancestor=pretrained"],
        "finetune.ancestor = 'pretrained' has seen more than a budget's images; leave it out",
    ),
    "length": (["--length", "long"], "--length 'long' is no length; write it as 5min, 3 epochs or 60000 images"),
    "only": (["--only", "40-seed0"], "is no experiment"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_sentence_and_nothing_is_written(
    case: str, closet: Path, tmp_path: Path, call: Callable[..., tuple[int, str, str]], here: list[str]
) -> None:
    words, complaint = BAD[case]
    code, _, said = call("augment", closet, "--seeds", "1", *words, "--out", tmp_path / "out")
    assert code == 2 and complaint in said and said.count("\n") == 1
    assert not (tmp_path / "out").exists() and here == []


def test_experiments_of_smaller_shares_are_opened_still(
    closet: Path, recipe: Path, tmp_path: Path, here: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once a filter could keep any share; what is told of too many images is what their folders let be changed."""
    monkeypatch.setattr(runner, "run_locally", lambda *_: iter(()))
    experiment_of(closet, recipe, tmp_path / "old", filter=["distance"], keep=0.5)
    place = tmp_path / "old" / "settings.toml"
    place.write_text(place.read_text(encoding="utf-8").replace("keep = 0.5", "keep = 0.01"), encoding="utf-8")
    assert augment(tmp_path / "old", console=QUIET).read_settings().keep == 0.01
    assert experiment_of(closet, recipe, tmp_path / "old", filter=["distance"], keep=0.01).read_settings().keep == 0.01
    with pytest.raises(UsageError, match=r"holds another experiment \(keep: 0\.01 -> 0\.02"):
        experiment_of(closet, recipe, tmp_path / "old", filter=["distance"], keep=0.02)
    place.write_text(place.read_text(encoding="utf-8").replace("keep = 0.01", "keep = 1e-9"), encoding="utf-8")
    with pytest.raises(UsageError, match=r"ask for smaller budgets with --budgets, or start another experiment$"):
        augment(tmp_path / "old", console=QUIET)
    monkeypatch.setattr(plan, "SEED_STRIDE", 9)
    with pytest.raises(UsageError, match=r"ask for smaller budgets with --budgets$"):
        experiment_of(closet, recipe, tmp_path / "new", budgets=(80,), rare=["bag"], count=1)


def test_without_ray_nothing_is_written(
    closet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Callable[..., tuple[int, str, str]]
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    for words in (["augment", closet, "--budgets", "40", "--seeds", "1"], ["study", "diaz", "--set", "data.name=toy"]):
        code, _, said = call(*words, "--ray", "local", "--out", tmp_path / "out")
        assert code == 2 and "pip install 'modiste[ray]', or leave --ray out" in said and said.count("\n") == 1
        assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_used(
    closet: Path, recipe: Path, tmp_path: Path, call: Callable[..., tuple[int, str, str]]
) -> None:
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters/dear.txt").write_text("you")
    words = ("--recipe", recipe, "--budgets", "40", "--seeds", "1")
    code, _, said = call("augment", closet, *words, "--out", tmp_path / "letters")
    assert code == 2 and "holds other files (dear.txt)" in said
    code, _, said = call("augment", closet, *words, "--out", tmp_path / "letters/dear.txt/out")
    assert code == 2 and "letters/dear.txt is a file and not a folder" in said and said.count("\n") == 1
    code, _, said = call("augment", tmp_path / "nothing.npz")
    assert code == 1 and "does not exist" in said


def test_the_plan_and_the_result_on_the_command_line(
    closet: Path, recipe: Path, tmp_path: Path, call: Callable[..., tuple[int, str, str]], here: list[str]
) -> None:
    out = tmp_path / "out"
    words = ("augment", closet, "--recipe", recipe, "--seeds", "2", "--out", out, "--steps", "1", "--count", "10")
    code, said, _ = call(*words, "--dry-run", "--json")
    plan = json.loads(said)
    assert code == 0 and not out.exists()
    assert [(one["piece"], one["labels"]) for one in plan["pieces"]] == [
        ("100-seed0", 100), ("all-seed0", 270), ("100-seed1", 100), ("all-seed1", 270)
    ]  # fmt: skip
    assert plan["pieces"][0]["generator_images"] == 160 and plan["arms"] == ARMS
    assert "160 images " in call(*words, "--dry-run")[1]
    code, said, _ = call(*words, "--budgets", "100", "--length", "90s", "--rare", "bag,0", "--dry-run")
    assert code == 0 and "160 images, at most 1 min 30 s" in said and "take" in said and not out.exists()
    assert "takes at most 3 min 00 s one after the other" in said and "tenth is kept: T-shirt/top, Bag\n" in said
    code, said, _ = call(*words, "--budgets", "40")
    assert code == 0 and "40 labels:" in said and "report.md" in said and "real + classical" in said
    code, said, _ = call(*words, "--budgets", "40", "--json")
    found = json.loads(said)
    assert code == 0 and found["finished"] and len(found["rows"]) == 10 and len(found["gains"]) == 4


def test_every_process_of_a_generators_training_has_a_core(
    closet: Path, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    monkeypatch.setattr(runner, "run_locally", lambda work, jobs, *_: asked.append(jobs) or iter(()))
    for module in (studies, environment):
        monkeypatch.setattr(module, "cores", lambda: 4)
    for number, together, threads in ((1, 3, 1), (2, 2, 2)):
        changes = {"overrides": {"train.processes": number, "train.device": "cpu"}, "jobs": 3}
        found = experiment_of(closet, recipe, tmp_path / str(number), **changes)
        assert asked.pop() == together and found.read_settings().threads == threads


def test_the_data_are_opened_once(closet: Path, tiny: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of many pictures takes minutes."""
    small = {"data.name": str(closet), "data.resize": None, "data.split": "fit", "train.images": 32}
    run = trainer.train(tiny, tmp_path / "run", overrides=small, console=QUIET)
    parts: list[str | None] = []
    open_data = data_sets.open_data

    def counted(settings: Data, part: Part | None = None) -> Images:
        parts.append(part)
        return open_data(settings, part=part)

    for module in (experiment, subsets):
        monkeypatch.setattr(module, "open_data", counted)
    monkeypatch.setattr(runner, "run_locally", lambda *_: iter(()))
    for what, asked in ((closet, {"budgets": (40,)}), (run.path, {}), (tmp_path / "0", {})):
        parts.clear()
        augment(what, None if what.name == "0" else tmp_path / str(len(asked)), console=QUIET, **asked)
        assert parts == [None, "test"]


def test_what_is_asked_for_twice_is_made_once(closet: Path, recipe: Path, tmp_path: Path) -> None:
    twice = {"seeds": (0, 1, 0), "budgets": (40, 40), "ratio": [0.5, 0.5], "filter": ("none", "none")}
    planned = plan.resolve(closet, tmp_path / "out", AugmentOptions(recipe=recipe, **twice))
    settings = planned.settings
    assert (settings.seeds, settings.budgets, settings.ratio, settings.filter) == ((0, 1), (40,), (0.5,), ("none",))
    assert [arm.name for arm in experiment.all_arms(settings)] == ARMS
    assert [one.name for one in planned.measurements] == ["40-seed0", "40-seed1"]


def test_folds_where_there_are_no_test_images(closet: Path, recipe: Path, tmp_path: Path, here: list[str]) -> None:
    images = data_sets.open_data(Data(name=str(closet)))
    writers.write(images, None, tmp_path / "mine.npz", "npz")
    found = experiment_of(tmp_path / "mine.npz", recipe, tmp_path / "out", budgets=("all",), steps=1)
    assert {(row.images, row.tested) for row in found.read_rows()} == {(240, 60)}
    settings, _ = experiment.read(tmp_path / "out")
    assert settings.flip and settings.data.split == "train"
    measurements = experiment.measurements(settings, tmp_path / "out")
    digests = [json.loads((one.folder / "subset.json").read_text())["digest"] for one in measurements]
    assert len(set(digests)) == 2


def test_data_that_changed_are_refused(closet: Path, tiny: Recipe, tmp_path: Path) -> None:
    """A subset drawn before could have images of a fold that is drawn from other data."""
    images, place = data_sets.open_data(Data(name=str(closet))), tmp_path / "mine.npz"
    new, old = tmp_path / "new", tmp_path / "old"
    arrays = {"images": images.pixels, "labels": images.labels, "class_names": np.array(images.class_names)}
    settings = experiment.Settings(data=Data(name=str(place), split="train"), budgets=(40,), seeds=(0,))
    tested = {"x_test": images.pixels[:50], "y_test": arrays["labels"][:50]}

    def prepare(out: Path, **changes: Any) -> None:
        np.savez(place, **{**arrays, **changes})
        plan.write(plan.make_plan(settings, tiny, out, plan.open_images(settings, out)))

    for out in (new, old):
        prepare(out)
    (old / "data.json").unlink()  # as experiments were that know nothing of digests
    prepare(old)
    for changes in ({"images": images.pixels[::-1]}, {"x_test": images.pixels[:9], "y_test": arrays["labels"][:9]}):
        for out in (new, old):
            with pytest.raises(UsageError, match=r"mine\.npz are not those that .* was begun with"):
                prepare(out, **changes)
            with pytest.raises(UsageError, match="was begun with"):
                measure_arms(out, "40-seed0")
    prepare(tmp_path / "tested", **tested)
    with pytest.raises(UsageError, match="was begun with"):
        prepare(tmp_path / "tested", **{**tested, "x_test": images.pixels[1:51]})


@pytest.mark.slow
def test_measurements_in_processes_of_their_own(
    closet: Path, recipe: Path, tmp_path: Path, here: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two at a time they give what one process gives."""
    one = experiment_of(closet, recipe, tmp_path / "one", budgets=(40,), steps=2, jobs=environment.cores())
    monkeypatch.undo()
    two = experiment_of(closet, recipe, tmp_path / "two", budgets=(40,), steps=2, jobs=environment.cores())
    assert two.read_rows() == one.read_rows()


@pytest.mark.slow
def test_measurements_on_ray(
    closet: Path, recipe: Path, tmp_path: Path, here: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a Ray cluster of this machine they give what one process gives."""
    pytest.importorskip("ray")
    one = experiment_of(closet, recipe, tmp_path / "one", budgets=(40,), steps=2, jobs=environment.cores())
    monkeypatch.undo()
    two = experiment_of(closet, recipe, tmp_path / "two", budgets=(40,), steps=2, jobs=environment.cores(), ray="local")
    assert two.read_rows() == one.read_rows()
