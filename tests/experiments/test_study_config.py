"""Study files: what they plan, what they must not say, and the commands that follow from them."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from modiste import config, runs, schema, subprocesses
from modiste.config import Network
from modiste.errors import UsageError
from modiste.experiments import plan, studies, study_config
from modiste.experiments.folder import ExperimentFolder
from modiste.experiments.search import spaces
from modiste.experiments.studies import StudyOptions
from modiste.networks.build import build_discriminator, build_generator
from modiste.networks.layers import ImageShape
from modiste.training import losses, setup


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "some.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_recipes_times_grid_times_seeds(tmp_path: Path) -> None:
    study = study_config.load(
        written(
            tmp_path,
            """
            recipes = ["swift", "noronha"]
            seeds = [4, 1, 4]
            budget = "3 epochs"
            threads = 2
            set = { data.name = "toy", data.resize = 16, data.count = 300 }
            [grid]
            network.z_dim = [8, 16]
            "train.beta1" = [0.0, 0.5]
            """,
        )
    )
    planned = plan.expand(study, tmp_path / "out")
    assert len(planned) == 2 * 4 * 2
    assert [run.name for run in planned[:2]] == ["swift-z_dim-8-beta1-0.0-seed4", "swift-z_dim-8-beta1-0.5-seed4"]
    assert planned[-1].name == "noronha-z_dim-16-beta1-0.5-seed1"
    assert planned[-1].folder == tmp_path / "out/runs/noronha-z_dim-16-beta1-0.5-seed1"
    recipe = planned[-1].recipe
    assert (recipe.network.z_dim, recipe.train.beta1, recipe.data.name, recipe.seed) == (16, 0.5, "toy", 1)
    assert recipe.train.threads == 2
    assert recipe.train.epochs is None and (recipe.train.images or 0) % 3 == 0
    train, evaluate = planned[-1].commands
    assert " ".join(train).endswith("--set train.threads=2 --set train.epochs=3")
    record = str(planned[-1].record)
    assert evaluate[2:] == ("--count", "10000", "--reference", "test", "--out", record)


@pytest.mark.parametrize(
    "value", [None, "none", "hinge", "least-squares", "1e3", "two words", 3, 1e-7, True, [1, 2], "ü"]
)
def test_values_survive_the_way_through_a_command(value: object) -> None:
    assert config.assignments([f"some.key={study_config.literal(value)}"]) == {"some.key": value}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "compares nothing"),
        ('recipe = ["swift"]', "did you mean 'recipes'"),
        ('[[configuration]]\nname = "a"\nrecipes = "swift"', "did you mean 'recipe'"),
        ('[[configuration]]\nname = "a"', "configuration.recipe is missing"),
        ('recipes = ["swift"]\nevaluate.counts = 9', "did you mean 'count'"),
        ('recipes = ["swit"]', "did you mean 'swift'"),
        ('recipes = ["swift"]\nset.train.epoch = 9', "did you mean 'train.epochs'"),
        ('recipes = ["swift"]\ngrid.train.batch_size = []', "train.batch_size"),
        ('recipes = ["swift"]\ngrid.network.z_dim = [8, 0]', "network.z_dim = 0 is not possible"),
        ('recipes = ["swift", "swift"]', "two configurations of the study some are named 'swift'"),
        ('recipes = ["swift"]\nseeds = 0', "seeds = 0 is not possible"),
        ('recipes = ["swift"]\nseeds = []', "seeds = [] is not possible"),
        ('recipes = ["swift"]\nset.seed = 3', "write seeds = 3"),
        ('recipes = ["swift"]\nbudget = "soon"', "'soon' is no length"),
        ('recipes = ["swift"]\nbudget = "9 images"\ngrid.train.images = [1, 2]', "would undo train.images = 1; leave"),
        ('recipes = ["swift"]\nbudget = "9 images"\nset.train.epochs = 1', "would undo train.epochs = 1; leave"),
        ('recipes = ["swift"]\nbudget = "9s"\nset.train.budget_seconds = 1', "would undo train.budget_seconds = 1"),
        ('recipes = ["swift"]\nbudget = "0 epochs"', "'0 epochs' is no length"),
        ('recipes = ["swift"]\nbudget = "1.5 images"', "'1.5 images' is no length"),
        ("recipes = [", "is not valid TOML"),
    ],
)
def test_what_a_file_must_not_say(text: str, said: str, tmp_path: Path) -> None:
    path = written(tmp_path, text)
    with pytest.raises(UsageError) as error:
        plan.expand(study_config.revise(study_config.load(path), set={"data.name": "toy"}), tmp_path)
    assert said in str(error.value) and "\n" not in str(error.value)


def test_what_a_study_sets_itself_the_command_line_cannot_change(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--set augment\.adapt_images would change nothing .* itself \(adaptive\)"):
        study_config.revise(study_config.load("small-data"), set={"augment.adapt_images": 25_000})
    path = written(tmp_path, 'recipes = ["swift"]\ngrid."network.z_dim" = [8, 16]')
    with pytest.raises(UsageError, match=r"--set network\.z_dim would change nothing .* itself \(the grid\)"):
        study_config.revise(study_config.load(path), set={"network.z_dim": 4})


def test_a_study_has_one_data_set(closet: Path, tmp_path: Path) -> None:
    text = f'recipes = ["swift"]\ngrid."data.name" = ["toy", "{closet}"]'
    with pytest.raises(UsageError, match="judged on different images"):
        plan.expand(study_config.load(written(tmp_path, text)), tmp_path)


def test_data_without_test_images_are_judged_by_held_out_ones(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 1, 8, 8), np.uint8)
    np.savez(tmp_path / "own.npz", images=pixels, labels=np.arange(40) % 2)
    sizes = {"network.generator_widths": [4, 4], "network.discriminator_widths": [4, 4], "train.batch_size": 8}
    own = {"data.name": str(tmp_path / "own.npz"), **sizes}
    path = written(tmp_path, 'recipes = ["swift"]')
    asked, _ = studies.resolve_study(path, tmp_path / "out", StudyOptions(overrides=own))
    with pytest.raises(UsageError, match=r"own\.npz has no test images to judge by; use --reference heldout"):
        plan.expand(asked, tmp_path)
    asked, _ = studies.resolve_study(path, tmp_path / "out", StudyOptions(overrides=own, reference="heldout"))
    (first, *_) = plan.expand(asked, tmp_path)
    assert "heldout" in first.commands[1] and asked.evaluate.count == 10_000


def test_unknown_names() -> None:
    with pytest.raises(UsageError, match="no study is named 'dias'; did you mean 'diaz'"):
        study_config.load("dias")
    with pytest.raises(UsageError, match=r"cannot read the study file gone\.toml"):
        study_config.load("gone.toml")


@pytest.mark.parametrize(("text", "seeds"), [("3", 3), ("0,2,5", (0, 2, 5)), ("4,", (4,))])
def test_seeds_as_typed(text: str, seeds: object) -> None:
    assert study_config.parse_seeds(text) == seeds


@pytest.mark.parametrize("text", ["", "three", "-1", "1-3", ","])
def test_seeds_mistyped(text: str) -> None:
    with pytest.raises(UsageError, match="neither a count"):
        study_config.parse_seeds(text)


def test_seeds_out_of_range() -> None:
    for text in ("0", "1001", "99999999999"):
        with pytest.raises(UsageError, match=f"--seeds {text} is no possible count .* from 1 to 1,000, or the seeds"):
            study_config.parse_seeds(text)
    assert study_config.parse_seeds(f"0,{2**31 - 1}") == (0, 2**31 - 1)
    with pytest.raises(UsageError, match=f"--seeds 0,{2**31}: {2**31} is no seed; give seeds from 0 to {2**31 - 1}"):
        study_config.parse_seeds(f"0,{2**31}")


@functools.cache  # many configurations have the same networks
def can_be_built(network: Network, size: int) -> None:
    shape = ImageShape(1, size, 0 if network.conditioning == "none" else 10)
    with torch.device("meta"):
        build_generator(network, shape)
        build_discriminator(network, shape)


@pytest.mark.parametrize("name", study_config.shipped())
def test_shipped_studies_can_be_built(name: str) -> None:
    study = study_config.load(name)
    assert study.about.endswith(("?", ".")) and study.source
    found = study_config.configurations(study)
    assert len(found) > 1, "a study compares"
    seen = set()
    for one in found:
        recipe = config.override(config.load(one.recipe), one.set)
        seen.add(config.content_hash(recipe))
        can_be_built(recipe.network, recipe.data.resize or 28)
    assert len(seen) == len(found), "two configurations are the same"


def test_what_is_shipped() -> None:
    assert {
        "diaz",
        "noronha",
        "roh",
        "dense-sigmoid",
        "bare-naich",
        "seeds",
        "losses",
        "latent-size",
        "batch-size",
        "family",
        "house",
        "small-data",
        "few",
        "few-drawn",
    } == set(study_config.shipped())
    published = {"diaz-a", "noronha", "roh", "dense-sigmoid", "bare-naich"}
    assert {one.recipe for one in study_config.configurations(study_config.load("seeds"))} == {*published, "swift"}
    house = {one.recipe for one in study_config.configurations(study_config.load("house"))} | {
        "grand",
        "photos",
    }  # which wants a GPU
    baselines = set(schema.shipped()) - published - {"diaz-b", "diaz-c"} - house
    assert {one.recipe for one in study_config.configurations(study_config.load("family"))} == {*baselines, "swift"}
    assert set(study_config.load("losses").grid["loss.adversarial"]) == set(losses.ADVERSARIAL)
    assert study_config.load("latent-size").grid["network.z_dim"][
        :: len(study_config.load("latent-size").grid["network.z_dim"]) - 1
    ] == (8, 512)
    assert [one.name for one in study_config.configurations(study_config.load("diaz"))] == [
        "diaz-a",
        "diaz-b",
        "diaz-c",
    ]


def test_the_command_of_a_study_is_what_one_would_type() -> None:
    def typed(**changes: Any) -> str:
        return subprocesses.printable(
            study_config.study_argv(study_config.revise(study_config.load("diaz"), **changes), Path("studies/mine"))
        )

    assert typed() == "modiste study diaz --out studies/mine"
    assert typed(seeds=5, budget="5min") == "modiste study diaz --seeds 5 --budget 5min --out studies/mine"
    assert typed(seeds=(0, 2)) == "modiste study diaz --seeds 0,2 --out studies/mine"
    assert typed(about="the same in other words", threads=1) == typed()
    changed = {"set": {"train.lr_schedule": "constant"}, "evaluate": {"count": 2000}}
    options = "--set train.lr_schedule=constant --count 2000"
    assert typed(**changed) == f"modiste study diaz {options} --out studies/mine"
    of_file = "modiste study studies/mine/study.toml --out studies/mine"
    assert typed(name="other") == of_file and typed(recipes=("diaz-a",)) == of_file
    assert typed(evaluate={"reference": "heldout"}) == of_file
    own = study_config.build({"name": "small-data", "recipes": ["swift"], "set": {"data.count": 500}}, "mine.toml")
    assert study_config.study_argv(own, Path("mine"))[1] == "mine/study.toml"


def test_the_examples_of_the_page_on_studies_are_valid(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "studies-and-search.md").read_text(encoding="utf-8")
    study, space = re.findall(r"^```toml\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    (tmp_path / "mine.toml").write_text(study, encoding="utf-8")
    assert [one.name for one in study_config.configurations(study_config.load(tmp_path / "mine.toml"))] == [
        "swift",
        "long-noise",
    ]
    (tmp_path / "space.toml").write_text(space, encoding="utf-8")
    assert len(spaces.load(tmp_path / "space.toml").space) == 2


def test_a_study_tells_what_its_data_are_and_trains_without_classes_where_there_are_no_labels(tmp_path: Path) -> None:
    """A conditioning that the study asks for is refused; one that comes with the recipe gives way."""
    pixels = np.random.default_rng(0).integers(0, 120, (40, 8, 8), np.uint8)
    np.savez(tmp_path / "own.npz", images=pixels)
    sizes = {"network.generator_widths": [4, 4], "network.discriminator_widths": [4, 4], "train.batch_size": 8}
    own = {"data.name": str(tmp_path / "own.npz"), **sizes}
    path = written(tmp_path, 'recipes = ["swift"]\nevaluate.reference = "heldout"')
    (run, *_) = plan.expand(
        studies.resolve_study(path, tmp_path / "out", StudyOptions(overrides=own))[0], tmp_path / "out"
    )
    assert run.recipe.network.conditioning == "none"
    assert [type(note).__name__ for note in run.notes] == ["WithoutClasses", "HalfRange"]
    asked, _ = studies.resolve_study(
        path, tmp_path / "out", StudyOptions(overrides={**own, "network.conditioning": "one-hot"})
    )
    with pytest.raises(UsageError, match=r"swift: network.conditioning = 'one-hot' needs labels"):
        plan.expand(asked, tmp_path / "out")


def test_a_study_from_before_there_was_a_choice_keeps_stretching(tmp_path: Path) -> None:
    """New seeds too, by their commands; and it is the same study."""
    pixels = np.random.default_rng(0).integers(0, 256, (40, 8, 12), np.uint8)
    np.savez(tmp_path / "own.npz", images=pixels, labels=np.arange(40) % 2)
    own = {"data.name": str(tmp_path / "own.npz"), "data.resize": 8, "train.batch_size": 8}
    own |= {"network.generator_widths": [4, 4], "network.discriminator_widths": [4, 4]}
    path, out = written(tmp_path, 'recipes = ["swift"]\nseeds = 2\nevaluate.reference = "heldout"'), tmp_path / "out"
    asked, _ = studies.resolve_study(path, out, StudyOptions(overrides=own))
    first, _ = plan.expand(asked, out)
    assert first.recipe.data.fit == "crop" and "data.fit" not in " ".join(first.commands[0])
    old = config.override(first.recipe, {"data.fit": "stretch"})
    run = runs.create_run(first.folder, old, runs.Manifest())
    lines = (run.path / "recipe.toml").read_text().splitlines(True)
    kept = [line for line in lines if not line.startswith(("fit", "background"))]
    (run.path / "recipe.toml").write_text("".join(kept))
    again = plan.expand(asked, out)
    assert [one.recipe.data.fit for one in again] == ["stretch", "stretch"]
    assert all("data.fit=stretch" in one.commands[0] for one in again) and again[0].recipe == run.read_recipe()
    before = plan.make_plan(asked, again)
    for tree in before.configurations.values():
        del tree["data"]["fit"], tree["data"]["background"]
    assert plan.make_plan(asked, again).differences(before) == []


def test_a_study_that_was_begun_holds_the_same_images_out_in_every_run(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 8, 12), np.uint8)
    np.savez(tmp_path / "own.npz", images=pixels, labels=np.arange(40) % 2)
    own = {"data.name": str(tmp_path / "own.npz"), "data.resize": 8, "train.batch_size": 8}
    own |= {"network.generator_widths": [4, 4], "network.discriminator_widths": [4, 4]}
    path, out = written(tmp_path, CONFIGURATIONS), tmp_path / "out"
    asked, _ = studies.resolve_study(path, out, StudyOptions(overrides=own))
    first = plan.expand(asked, out)
    assert {(one.recipe.data.heldout, one.recipe.data.fit) for one in first} == {("drawn", "crop")}
    out.mkdir()
    studies._prepare(ExperimentFolder(out, "study"), asked, None)
    there = json.loads((out / "plan.json").read_text(encoding="utf-8"))
    for tree in there["configurations"].values():  # as before there was a choice
        for key in ("fit", "background", "heldout", "group_by"):
            tree["data"].pop(key, None)
    there["hash"] = "of before"
    (out / "plan.json").write_text(json.dumps(there), encoding="utf-8")
    _, again = studies._prepare(
        ExperimentFolder(out, "study"), asked, None
    )  # also where a configuration, or a seed, has no run yet
    assert {(one.recipe.data.heldout, one.recipe.data.fit) for one in again} == {("last", "stretch")}
    for one in again:
        recipe, _ = setup.resolve_run(*as_typed(one.commands[0]))
        assert recipe.data == one.recipe.data


CONFIGURATIONS = """
seeds = 2
evaluate.reference = "heldout"
[[configuration]]
name = "one"
recipe = "swift"
[[configuration]]
name = "two"
recipe = "swift"
set.train.beta1 = 0.25
"""


def as_typed(words: Sequence[str]) -> tuple[str, Path, dict[str, Any]]:
    """The recipe, folder and changes of a command that trains."""
    settings = [words[k + 1] for k, word in enumerate(words) if word == "--set"]
    return words[1], Path(words[words.index("--out") + 1]), config.assignments(settings)
