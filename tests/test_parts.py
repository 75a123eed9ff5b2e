"""Losses and networks of the user's own: the page's examples, and that nothing runs which nobody asked for."""

from __future__ import annotations

import re
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from pages import blocks
from support import assert_same, content

import modiste
from modiste import config, files, parts, runs
from modiste.config import Recipe
from modiste.errors import ModisteError, UsageError
from modiste.experiments import runner, studies, study_config
from modiste.experiments.augmentation import plan as augmentation
from modiste.experiments.runner import Job
from modiste.experiments.search import spaces
from modiste.sampling import generators
from modiste.training import losses

PAGE = (Path(__file__).parents[1] / "docs" / "own-parts.md").read_text(encoding="utf-8")
SMALL = ("--set", "train.images=64", "--set", "train.batch_size=16", "--set", "evaluate.every_images=0")
Call = Callable[..., tuple[int, str, str]]


def write_examples(folder: Path) -> None:
    """The files that the page shows, which begin with their names."""
    for kind in ("python", "toml"):
        for text in blocks(PAGE, kind):
            (folder / text.partition("\n")[0].removeprefix("# ")).write_text(text, encoding="utf-8")


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with the files of the page."""
    monkeypatch.chdir(tmp_path)
    write_examples(tmp_path)
    return tmp_path


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From its call on, the cache of somebody else, who has run none of this."""

    def leave() -> None:
        monkeypatch.setenv("MODISTE_CACHE", str(tmp_path / "another-cache"))
        parts._module.cache_clear()

    return leave


def own_recipe(tiny: Recipe, folder: Path) -> Recipe:
    """A recipe whose loss and networks leave a file `ran` behind whenever their code runs."""
    trace = f"from pathlib import Path\nPath({str(folder / 'ran')!r}).touch()\n"
    nets = next(text for text in blocks(PAGE, "python") if "my_nets.py" in text)
    (folder / "loss.py").write_text(f"{trace}def own(r, f):\n    return f - r, -f\n", encoding="utf-8")
    (folder / "nets.py").write_text(trace + nets, encoding="utf-8")
    changes = {"loss.adversarial": f"{folder / 'loss.py'}:own", "network.family": f"{folder / 'nets.py'}:Pair"}
    return config.override(tiny, {**changes, "network.conditioning": "none"})


def test_the_examples_of_the_page_train_sample_and_evaluate(page: Path, closet: Path, call: Call) -> None:
    code, _, said = call("train", "my_recipe.toml", "--data", closet, *SMALL, "--set", "network.generator_widths=[8,4]",
                         "--set", "network.discriminator_widths=[4,8]")  # fmt: skip
    assert code == 0 and "note: this training runs code of your own, my_losses.py:centred@" in said
    pinned = runs.open_run("runs/my_recipe").read_recipe().loss.adversarial
    assert re.fullmatch(r"my_losses\.py:centred@[0-9a-f]{16}", pinned)
    (copy,) = Path("runs/my_recipe/parts").iterdir()
    assert copy.read_bytes() == Path("my_losses.py").read_bytes() and pinned.endswith(copy.stem.rpartition("-")[2])

    code, _, said = call("train", "swift", "--data", closet, *SMALL, "--set", "network.family=my_nets.py:Pair",
                         "--set", "network.conditioning=none", "--out", "runs/pair")  # fmt: skip
    assert code == 0, said
    assert modiste.load("runs/pair").sample(3).shape == (3, 1, 16, 16)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's older exporter, which needs no further package, calls itself old
        exec(Path("export.py").read_text(encoding="utf-8"), {})
    record = modiste.evaluate("runs/pair", count=20, features=["net.onnx"])
    assert record.protocol.extractors["onnx-net"]["range"].startswith("mean [0.485, 0.456, 0.406], std")
    assert "discriminator_accuracy_fake" in map(str, record.scores)


def test_the_loss_of_the_page_is_the_papers(page: Path) -> None:
    loss = losses.named(parts.pin("my_losses.py:centred"))
    r, f = torch.tensor([1.0, 3.0]), torch.tensor([-1.0, 2.0])
    assert loss.discriminator(r, f).tolist() == [0.0, ((3 - 1) ** 2 + (2 + 1) ** 2) / 2]
    assert loss.generator(r, f).tolist() == [0.5, 2.0]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("my_losses.py:own", ("my_losses.py", "own", "")),
        ("../a b/x.py:own", ("../a b/x.py", "own", "")),
        ("C:\\work\\x.py:own", ("C:\\work\\x.py", "own", "")),
        ("package.nets:Pair@0123456789abcdef", ("package.nets", "Pair", "0123456789abcdef")),
        ("hinge", None),
        ("x.py", None),
        ("x.py:own.other", None),
        ("x.py:own@0123", None),
        ("package.:own", None),
        (3, None),
    ],
)
def test_references(text: object, found: tuple[str, str, str] | None) -> None:
    reference = parts.parse(text)
    assert (reference and (reference.place, reference.name, reference.pin)) == found
    assert reference is None or str(reference) == text


def test_the_content_is_part_of_the_recipe_and_its_hash(tiny: Recipe, tmp_path: Path) -> None:
    recipe = own_recipe(tiny, tmp_path)
    first = config.with_own_parts(recipe, parts.pin)
    assert config.with_own_parts(first, parts.pin) == first
    (tmp_path / "loss.py").write_text("def own(r, f):\n    return f - r, f * f\n", encoding="utf-8")
    second = config.with_own_parts(recipe, parts.pin)
    assert config.content_hash(first) != config.content_hash(second)
    (change,) = config.differences(first, second)
    assert change.key == "loss.adversarial"
    with pytest.raises(UsageError, match=r"nowhere\.py:own cannot be read \(No such file.*put nowhere\.py beside"):
        parts.pin("nowhere.py:own")


def test_another_content_under_the_same_out_is_refused(tiny: Recipe, tmp_path: Path) -> None:
    recipe = own_recipe(tiny, tmp_path)
    run = modiste.train(recipe, tmp_path / "run")
    (tmp_path / "loss.py").write_text("def own(r, f):\n    return f - r, f * f\n", encoding="utf-8")
    with pytest.raises(UsageError, match=r"other settings \(loss\.adversarial: loss\.py:own@\w+ -> loss\.py:own@\w+\)"):
        modiste.train(recipe, run.path)


def test_a_run_goes_on_with_the_code_it_was_started_with(tiny: Recipe, tmp_path: Path) -> None:
    recipe = own_recipe(tiny, tmp_path)
    whole = modiste.train(recipe, tmp_path / "whole")
    half = modiste.train(config.override(recipe, {"train.images": 160}), tmp_path / "half")
    (tmp_path / "loss.py").unlink()
    (tmp_path / "nets.py").write_text("Pair = None\n", encoding="utf-8")
    resumed = modiste.train(half.path, overrides={"train.images": 320}, extend=True)
    assert_same(content(resumed), content(whole))


def test_processes_share_a_training_with_code_of_the_users_own(tiny_free: Recipe, tmp_path: Path) -> None:
    recipe = config.override(own_recipe(tiny_free, tmp_path), {"train.images": 64, "train.tick_images": 64})
    one = modiste.train(recipe, tmp_path / "one")
    two = modiste.train(config.override(recipe, {"train.processes": 2}), tmp_path / "two")
    assert two.read_manifest().processes == 2
    states = [runs.load_state(run)[0] for run in (one, two)]
    for name, tensor in states[0]["generator"].items():  # type: ignore[index]
        torch.testing.assert_close(tensor, states[1]["generator"][name], rtol=1e-3, atol=1e-4)  # type: ignore[index]


def test_a_module_keeps_the_imports_of_its_package(
    tiny: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "atelier"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "terms.py").write_text("WEIGHT = 2\n", encoding="utf-8")
    source = "from .terms import WEIGHT\n\ndef own(r, f):\n    return WEIGHT * (f - r), -f\n"
    (package / "losses.py").write_text(source, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    pinned = parts.pin("atelier.losses:own")
    (package / "losses.py").unlink()
    loss = losses.named(pinned)
    assert loss.discriminator(torch.zeros(1), torch.ones(1)).tolist() == [2.0]
    run = modiste.train(config.override(tiny, {"loss.adversarial": pinned, "train.images": 16}), tmp_path / "run")
    assert [path.name[:16] for path in (run.path / "parts").iterdir()] == ["atelier.losses-" + pinned[19]]
    with pytest.raises(UsageError, match=r"Python finds no module atelier\.nowhere .*nowhere\.py:own"):
        parts.pin("atelier.nowhere:own")


# --- what somebody sent


def test_a_run_that_somebody_sent_runs_no_code_before_it_is_trusted(
    tiny: Recipe, tmp_path: Path, call: Call, elsewhere: Callable[[], None]
) -> None:
    sent = modiste.train(own_recipe(tiny, tmp_path), tmp_path / "sent").path
    elsewhere()
    (tmp_path / "ran").unlink()
    commands = [
        ("train", sent),
        ("train", sent / "recipe.toml", "--out", tmp_path / "new"),
        ("train", sent, "--dry-run"),
        ("sample", sent, "--out", tmp_path / "grid.png"),
        ("evaluate", sent, "--count", 20),
        ("report", sent, "--out", tmp_path / "report.html"),
        ("export", sent, "--pretrained", "--out", tmp_path / "out"),
        ("blind", sent, "--out", tmp_path / "blind.html"),
        ("augment", sent, "--out", tmp_path / "augmented"),
        ("directions", sent),
        ("project", sent, "toy-16", "--count", 2, "--out", tmp_path / "found"),
        ("detect", sent, "toy-16", "--out", tmp_path / "strange"),
        ("train", "swift", "--from", sent, "--out", tmp_path / "tuned"),
    ]
    for words in commands:
        code, _, said = call(*words)
        assert code == 2 and "add --trust once" in said and "parts" in said, (words, said)
        assert not (tmp_path / "ran").exists(), words
    with pytest.raises(UsageError, match=r"parts/nets-\w+\.py\); read it, .* modiste\.trust\('.*sent'\)"):
        modiste.load(sent)
    assert not (tmp_path / "ran").exists() and not (tmp_path / "grid.png").exists()

    code, _, said = call("sample", sent, "--out", tmp_path / "grid.png", "--trust")
    assert code == 0 and len(re.findall(r"note: .*parts/\w+-\w+\.py may run on this machine from now on", said)) == 2
    assert (tmp_path / "ran").exists()
    assert modiste.load(sent).sample(2).shape == (2, 1, 16, 16)  # remembered


def test_trust_is_asked_for_in_python_too(tiny: Recipe, tmp_path: Path, elsewhere: Callable[[], None]) -> None:
    sent = modiste.train(own_recipe(tiny, tmp_path), tmp_path / "sent").path
    expected = modiste.load(sent).sample(2)
    elsewhere()
    assert [path.name.partition("-")[0] for path in modiste.trust(sent)] == ["loss", "nets"]
    np.testing.assert_array_equal(modiste.load(sent).sample(2), expected)
    assert modiste.trust(tmp_path / "nowhere") == []


def test_a_reference_that_modiste_did_not_write_is_never_run(tiny: Recipe, tmp_path: Path, call: Call) -> None:
    """As in a folder where somebody has taken the digits away, so that another file would run."""
    sent = modiste.train(own_recipe(tiny, tmp_path), tmp_path / "sent").path
    for name in ("recipe.toml", "generator.json"):
        whole = (sent / name).read_text(encoding="utf-8")
        bare = re.sub(r"(loss|nets)(\.py:\w+)@\w+", rf"{tmp_path}/\1\2", whole)
        assert bare != whole
        (sent / name).write_text(bare, encoding="utf-8")
        (tmp_path / "ran").unlink(missing_ok=True)
        parts._module.cache_clear()
        words = ("train", sent) if name == "recipe.toml" else ("sample", sent, "--out", tmp_path / "grid.png")
        code, _, said = call(*words, "--trust")
        assert code == 2 and "in a way that Modiste does not write" in said, said
        assert not (tmp_path / "ran").exists()
        (sent / name).write_text(whole, encoding="utf-8")


def test_digits_of_another_source_run_nothing(tiny: Recipe, tmp_path: Path, elsewhere: Callable[[], None]) -> None:
    sent = modiste.train(own_recipe(tiny, tmp_path), tmp_path / "sent").path
    elsewhere()
    (copy,) = (sent / "parts").glob("nets-*.py")
    copy.write_text(f"from pathlib import Path\nPath({str(tmp_path / 'evil')!r}).touch()\n", encoding="utf-8")
    modiste.trust(sent)  # of what lies there, which no reference names
    with pytest.raises(UsageError, match="has not run before"):
        modiste.load(sent)
    copy.unlink()
    with pytest.raises(UsageError, match=r"lacks the copy parts/nets-\w+\.py; ask for it"):
        modiste.load(sent)
    assert not (tmp_path / "evil").exists()


def test_a_damaged_source_in_the_cache_is_not_run(tiny: Recipe, tmp_path: Path) -> None:
    pinned = config.with_own_parts(own_recipe(tiny, tmp_path), parts.pin).loss.adversarial
    reference = parts.parse(pinned)
    assert reference is not None and parts.is_trusted(reference)
    place = parts._stored(reference.pin)
    place.write_bytes(place.read_bytes() + b"\n# more\n")
    parts._module.cache_clear()
    with pytest.raises(UsageError, match="code that this machine has not run before"):
        parts.load(pinned)
    parts.pin(f"{tmp_path / 'loss.py'}:own")
    assert callable(parts.load(pinned))


def test_a_pretrained_run_brings_its_networks(tiny: Recipe, tmp_path: Path, elsewhere: Callable[[], None]) -> None:
    run = modiste.train(own_recipe(tiny, tmp_path), tmp_path / "run")
    out = modiste.export_pretrained(run, tmp_path / "small").folder
    modiste.export_pretrained(run, tmp_path / "small")  # an earlier export is replaced
    assert files.as_json({}) and len(list((out / "parts").iterdir())) == 2
    elsewhere()
    with pytest.raises(UsageError, match="add --trust once"):
        modiste.load(out)
    modiste.trust(out)
    assert generators.load(out).sample(2).shape == (2, 1, 16, 16)


def test_a_training_may_start_from_own_networks_that_somebody_sent(
    tiny: Recipe, tmp_path: Path, call: Call, elsewhere: Callable[[], None]
) -> None:
    """They are the ancestor's, also where the recipe would have classes, and freeze no more layers than they have."""
    sent = modiste.train(config.override(own_recipe(tiny, tmp_path), {"train.images": 32}), tmp_path / "sent")
    elsewhere()
    (tmp_path / "tiny.toml").write_text(config.to_toml(config.override(tiny, {"train.images": 16})), encoding="utf-8")
    words = ("train", tmp_path / "tiny.toml", "--from", sent.path, "--trust", "--out")
    assert tiny.network.conditioning != "none"
    code, _, said = call(*words, tmp_path / "tuned")
    assert code == 0 and "starting from the weights of sent (32 images shown)" in said, said
    tuned = runs.open_run(tmp_path / "tuned")
    assert tuned.read_recipe().network == sent.read_recipe().network and list((tuned.path / "parts").glob("nets-*"))
    start = runs.read_state(next(path for path in runs.states(tuned) if path.name.startswith("000000000-")))
    before, _ = runs.load_state(sent)
    assert start is not None and before is not None
    assert all(torch.equal(start["discriminator"][name], one) for name, one in before["discriminator"].items())
    for changes, sentence in {
        "network.conditioning=one-hot": "carries over to the same size, colours and classes only",
        "finetune.frozen_layers=9": "finetune.frozen_layers = 9 leaves nothing to train of the discriminator's",
    }.items():
        code, _, said = call(*words, tmp_path / "new", "--set", changes)
        assert code == 2 and sentence in said and not (tmp_path / "new").exists(), said


def test_own_networks_keep_their_classes_also_where_these_are_numbers(tiny: Recipe, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    sets = [tmp_path / "one.npz", tmp_path / "two.npz"]
    for place in sets:
        pixels = random.integers(0, 256, (32, 16, 16), np.uint8)
        np.savez(place, images=pixels, labels=np.arange(32) % 2)
    (tmp_path / "nets.py").write_text("from modiste.networks import dense_dcgan as Pair\n", encoding="utf-8")
    own = {"data.count": None, "data.resize": None, "train.images": 16, "network.family": f"{tmp_path}/nets.py:Pair"}
    old = modiste.train(config.override(tiny, {**own, "data.name": str(sets[0])}), tmp_path / "old")
    changes = {**own, "data.name": str(sets[1])}
    new = modiste.train(config.override(tiny, changes), tmp_path / "new", from_=old)
    start = runs.read_state(next(path for path in runs.states(new) if path.name.startswith("000000000-")))
    before, _ = runs.load_state(old)
    assert start is not None and before is not None
    assert all(torch.equal(start["generator"][name], one) for name, one in before["ema"].items())


# --- studies, searches, experiments


@pytest.fixture
def own_study(tiny: Recipe, closet: Path, tmp_path: Path) -> Path:
    """A study file of an own loss beside a shipped one; its recipe file has own networks."""
    recipe = own_recipe(tiny, tmp_path)
    changes = {"data.name": str(closet), "data.resize": None, "train.images": 32, "loss.adversarial": "hinge"}
    recipe = config.override(recipe, {**changes, "network.family": "nets.py:Pair"})
    (tmp_path / "own.toml").write_text(f"# Mine.\n{config.to_toml(recipe)}", encoding="utf-8")
    (tmp_path / "compared.toml").write_text(
        'seeds = 1\nthreads = 1\nevaluate.count = 20\ngrid.loss.adversarial = ["hinge", "loss.py:own"]\n'
        '[[configuration]]\nname = "tiny"\nrecipe = "own.toml"\n',
        encoding="utf-8",
    )
    return tmp_path / "compared.toml"


def test_a_study_compares_an_own_loss_and_keeps_all_it_needs(
    own_study: Path, tmp_path: Path, here: list[str], call: Call, elsewhere: Callable[[], None]
) -> None:
    folder = modiste.study(own_study, tmp_path / "study")
    assert here == ["adversarial-hinge-seed0", "adversarial-own-seed0"]
    assert folder.run("adversarial-own", 0).read_recipe().loss.adversarial.startswith("loss.py:own@")
    assert sorted(path.name.partition("-")[0] for path in (folder.path / "parts").iterdir()) == ["loss", "nets"]
    copy = (folder.path / "recipes" / "own.toml").read_text(encoding="utf-8")
    assert copy.startswith("# Mine.\n") and 'family = "nets.py:Pair@' in copy

    for name in ("loss.py", "nets.py", "own.toml"):
        (tmp_path / name).unlink()
    modiste.study(folder.path)  # goes on, and has nothing to do
    assert len(here) == 2

    elsewhere()
    (tmp_path / "ran").unlink()
    for words in (("study", folder.path), ("study", folder.path / "study.toml"), ("study", folder.path, "--dry-run")):
        code, _, said = call(*words)
        assert code == 2 and "holds code that this machine has not run before" in said and "--trust" in said
    assert not (tmp_path / "ran").exists()
    code, _, said = call("study", folder.path, "--trust")
    assert code == 0, said


def test_a_study_with_a_recipe_that_modiste_did_not_write_is_refused(own_study: Path, tmp_path: Path) -> None:
    sent = tmp_path / "sent"
    (sent / "recipes").mkdir(parents=True)
    shutil.copy(own_study, sent / "study.toml")
    text = (sent / "study.toml").read_text(encoding="utf-8").replace('"own.toml"', '"recipes/own.toml"')
    (sent / "study.toml").write_text(text.replace('"loss.py:own"', '"wasserstein"'), encoding="utf-8")
    shutil.copy(tmp_path / "own.toml", sent / "recipes")
    shutil.copy(tmp_path / "nets.py", sent / "recipes")
    with pytest.raises(UsageError, match="in a way that Modiste does not write"):
        studies.resolve_study(sent)
    assert not (tmp_path / "ran").exists()
    assert studies.resolve_study(own_study)[0].grid["loss.adversarial"][1].startswith("loss.py:own@")


def test_a_job_brings_the_code_to_another_machine(
    tiny: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = config.with_own_parts(own_recipe(tiny, tmp_path), parts.pin)
    sources = tuple(parts.copies(config.own_parts(recipe)).values())
    (tmp_path / "tiny.toml").write_text(config.to_toml(recipe), encoding="utf-8")
    monkeypatch.setenv("MODISTE_CACHE", str(tmp_path / "of-another-machine"))
    command = ("train", str(tmp_path / "tiny.toml"), "--out", str(tmp_path / "run"))
    job = Job(tmp_path / "run", (command,), tmp_path / "log", tmp_path)
    parts._module.cache_clear()
    with pytest.raises(UsageError, match="has not run before"):
        modiste.train(tmp_path / "tiny.toml", tmp_path / "run")
    assert runner.run_job(Job(**{**vars(job), "sources": sources})).status == "finished"


def test_a_search_may_choose_an_own_loss(tiny: Recipe, tmp_path: Path, elsewhere: Callable[[], None]) -> None:
    own_recipe(tiny, tmp_path)
    (tmp_path / "tiny.toml").write_text(config.to_toml(tiny), encoding="utf-8")
    place = tmp_path / "space.toml"
    text = 'recipe = "tiny.toml"\n[space."loss.adversarial"]\nchoices = ["hinge", "loss.py:own"]\n'
    (tmp_path / "losses.toml").write_text(text, encoding="utf-8")
    space = spaces.load(tmp_path / "losses.toml")
    (own,) = spaces.own_parts(space)
    assert own.startswith("loss.py:own@") and not (tmp_path / "ran").exists()
    place.write_text(spaces.to_toml(space), encoding="utf-8")
    assert spaces.own_parts(spaces.load(tmp_path)) == [own]
    elsewhere()
    with pytest.raises(UsageError, match=r"needs the code|has not run before"):
        spaces.load(tmp_path)
    place.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match="in a way that Modiste does not write"):
        spaces.load(tmp_path)


def test_an_experiments_generators_may_have_own_networks(tiny: Recipe, closet: Path, tmp_path: Path) -> None:
    source = "from modiste.networks import dcgan as Pair\n"
    (tmp_path / "nets.py").write_text(source, encoding="utf-8")
    recipe = config.override(tiny, {"network.family": "nets.py:Pair"})
    (tmp_path / "own.toml").write_text(config.to_toml(recipe), encoding="utf-8")
    options = augmentation.AugmentOptions(recipe=tmp_path / "own.toml")
    assert augmentation._generator_recipe(options).network.family.startswith("nets.py:Pair@")


def test_names_of_configurations_have_the_name_alone() -> None:
    assert study_config._word("my_losses.py:own@0123456789abcdef") == "own"


def test_an_unknown_loss_is_still_one_sentence() -> None:
    with pytest.raises(ModisteError, match=r"loss\.adversarial = 'hing' is not possible: .*'hinge'"):
        config.override(Recipe(), {"loss.adversarial": "hing"})
