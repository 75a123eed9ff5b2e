"""What an export promises: the same pixels in onnxruntime and in a browser, a card that is true, nothing half-made."""

from __future__ import annotations

import errno
import functools
import http.server
import json
import os
import re
import shutil
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import modiste
from modiste import cli, config, files, paths, runs
from modiste.config import Data, Network, Recipe, Train
from modiste.data.sets import open_data
from modiste.errors import ModisteError, UsageError
from modiste.evaluation import sources
from modiste.evaluation.options import EvaluateOptions
from modiste.exports import model as exported_model
from modiste.networks.build import build_generator
from modiste.networks.convolution import DoublingConv2d
from modiste.networks.layers import ImageShape, SelfAttention
from modiste.sampling import generators
from modiste.training import trainer

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

Z, SIDE = 6, 16
SMALL: dict[str, Any] = {"z_dim": Z, "generator_widths": (8, 4), "discriminator_widths": (4, 8)}
FREE: dict[str, Any] = {"generator_norm": "none", "discriminator_norm": "none"}
SLIM: dict[str, Any] = {"family": "slim", "conditioning": "one-hot"}
ATTENTIVE: dict[str, Any] = {"family": "residual", "attention": (8,), "generator_spectral": True}
GENERATORS: dict[str, dict[str, Any]] = {
    "dcgan": {"family": "dcgan"},
    "dcgan with spectral norm": {"family": "dcgan", "conditioning": "projection", "generator_spectral": True},
    "conditional-dcgan": {"family": "conditional-dcgan", "conditioning": "one-hot"},
    "dense-dcgan": {"family": "dense-dcgan", "conditioning": "projection", "output": "sigmoid"},
    "slim": {"family": "slim", "conditioning": "one-hot", "generator_slope": 0.2},
    "slim with class noise and gains": {**SLIM, "class_noise": True, "class_gains": True},
    "slim with bilinear doubling": {**SLIM, "smooth": True},
    "slim with bilinear doubling and gains of the noise": {**SLIM, "smooth": True, "noise_gains": True},
    "residual": {"family": "residual", "conditioning": "projection"},
    "residual with attention and spectral norm": {**ATTENTIVE, "conditioning": "projection"},
    "norm-free": {"family": "norm-free", "conditioning": "one-hot", **FREE},
}


def generator_of(settings: dict[str, Any], shape: ImageShape) -> torch.nn.Module:
    """A generator as after some training: statistics that were moved, attention and blocks that have a share."""
    torch.manual_seed(0)
    generator = build_generator(Network(**{**SMALL, **settings}), shape)
    with torch.no_grad():
        for module in generator.modules():
            if isinstance(module, SelfAttention):
                module.gamma.fill_(0.5)
        for parameter in generator.parameters():
            if parameter.ndim > 1 and not parameter.any():
                parameter.normal_(0, 0.3)
        for _ in range(3):
            generator(torch.randn(8, Z), torch.arange(8) % 3 if shape.classes else None)
    return generator.eval()


@pytest.mark.parametrize(
    "settings",
    [pytest.param(settings, id=name) for name, settings in GENERATORS.items()]
    + [pytest.param(ATTENTIVE, id="attention without labels")],
)
def test_every_family_gives_the_same_images_in_any_number(settings: dict[str, Any]) -> None:
    conditional = settings.get("conditioning", "none") != "none"
    shape = ImageShape(3, SIDE, 3 if conditional else 0)
    generator = generator_of(settings, shape)
    before = {key: tensor.clone() for key, tensor in generator.state_dict().items()}
    content = exported_model.to_onnx(generator, shape, Z)
    doubling = any(isinstance(module, DoublingConv2d) for module in generator.modules())
    assert not doubling or b"ConvTranspose" not in content  # its short form is for this processor alone
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    (images,) = session.get_outputs()
    assert images.shape == ["N", 3, SIDE, SIDE] and images.type == "tensor(float)"
    for count in (1, 5):
        noise, labels = generators.seed_noise(range(count), Z), torch.arange(count) % 3
        with torch.no_grad():
            own = generator(noise, labels if conditional else None)
        feed = {"noise": noise.numpy(), **({"labels": labels.numpy()} if conditional else {})}
        torch.testing.assert_close(torch.from_numpy(session.run(None, feed)[0]), own, rtol=0, atol=1e-5)
        assert own.std() > 0.01
    after = generator.state_dict()
    assert before.keys() == after.keys() and all(torch.equal(before[key], after[key]) for key in before)


def test_spectral_norms_are_stored_as_plain_weights() -> None:
    shape = ImageShape(1, SIDE)
    plain, spectral = (
        exported_model.to_onnx(generator_of({"generator_spectral": on}, shape), shape, Z) for on in (False, True)
    )
    assert abs(len(plain) - len(spectral)) < 500


def train(closet: Path, folder: Path, conditioning: str) -> Path:
    recipe = Recipe(
        name="small",
        about="A recipe for tests.",
        data=Data(name=str(closet)),
        network=Network(**SMALL, conditioning=conditioning),  # type: ignore[arg-type]
        train=Train(images=64, batch_size=16, tick_images=32, precision="float32", threads=1),
    )
    trainer.train(recipe, folder)
    return folder


@pytest.fixture(scope="module")
def made(closet: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(closet, tmp_path_factory.mktemp("runs") / "small", "one-hot")


@pytest.fixture(scope="module")
def made_without_classes(closet: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(closet, tmp_path_factory.mktemp("runs") / "plain", "none")


@pytest.fixture(scope="module")
def exported(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported_model.export(made, tmp_path_factory.mktemp("out") / "model").folder


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "small"))


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def blocks(card: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", card, flags=re.MULTILINE | re.DOTALL)


def measure(run: Path, name: str = "metrics.json", weights: str | None = None) -> None:
    """A record as evaluate writes it, of one score, on these weights."""
    facts = sources.open_source(run, EvaluateOptions(count=1)).facts
    reference = {"data": "closet test", "count": 200}
    extractor = {"extractor": "garment judge", "hash": "0123"}
    score = {"value": 12.5, "uncertainty": 0.25, "real": 1.5, "trivial": 97.0, "better": "lower", "details": {}}
    record = {
        "format": 2,
        "subject": {"name": "small", **facts, "hash": weights or facts["hash"]},
        "protocol": {"reference": reference, "generated": 50, "real_count": 40, "real": "closet heldout",
                     "trivial": "noise", "pixels": "uint8", "extractors": {"garment": extractor}},
        "scores": {"frechet_garment_50": score},
        "alarms": ["classes that are hardly ever made: Bag"],
    }  # fmt: skip
    files.write_json(run / name, record)


def test_the_folder_and_the_model_hold_what_they_should(made: Path, exported: Path) -> None:
    assert names(exported) == sorted(exported_model.FILES) and names(exported.parent) == ["model"]
    for name in ("generator.safetensors", "generator.json"):
        assert (exported / name).read_bytes() == (made / name).read_bytes()
    model = onnx.load(exported / "generator.onnx")
    onnx.checker.check_model(model, full_check=True)
    facts = {entry.key: entry.value for entry in model.metadata_props}
    class_names = generators.load(made).class_names
    assert json.loads(facts["class_names"]) == list(class_names)
    assert (
        facts["modiste.recipe_hash"] == config.content_hash(runs.Run(made).read_recipe())
        and facts["modiste.run"] == "small"
    )
    assert "[-1, 1]" in facts["pixels"]
    Image.open(exported / "grid.png").load()


def test_evaluate_reads_it_as_the_same_generator(made: Path, exported: Path) -> None:
    own = sources.open_source(made, EvaluateOptions(count=70)).images
    theirs = sources.open_source(exported / "generator.onnx", EvaluateOptions(count=70))
    assert not theirs.warnings and theirs.images.class_names == own.class_names
    assert (theirs.images.labels == own.labels).all()
    assert np.abs(theirs.images.pixels.astype(int) - own.pixels).max() <= 1
    settings = runs.Run(made).read_recipe().data.model_dump(exclude={"split", "count"})
    assert theirs.facts["data"] == {**settings, "name": "closet.npz"}


def test_evaluate_asks_where_the_data_is_that_only_a_path_names(run: Path, closet: Path, call: Any) -> None:
    code, said, _ = call("export", run, "--onnx")
    assert code == 0 and f"modiste evaluate {run / 'onnx' / 'generator.onnx'} --data {closet}\n" in said
    with pytest.raises(UsageError, match=r"generator learned from closet\.npz; say with --data where that data set is"):
        modiste.evaluate(run / "onnx" / "generator.onnx", count=20)
    record = modiste.evaluate(run / "onnx" / "generator.onnx", count=20, data_name=str(closet))
    assert record.protocol.reference.data == "closet test"
    told = (run / "onnx" / "generator.metrics.json").read_text()
    assert call("export", run, "--onnx")[0] == 0  # the same model again: what was measured of it holds
    assert (run / "onnx" / "generator.metrics.json").read_text() == told
    assert modiste.evaluate(run, count=20) and call("export", run, "--onnx", "--checkpoint", "last")[0] == 0
    (run / "onnx" / "generator.onnx").write_bytes(b"another with modiste.version")
    assert call("export", run, "--onnx")[0] == 0 and not (run / "onnx" / "generator.metrics.json").exists()


def test_data_of_ones_own_called_like_a_known_set_is_not_taken_for_it(made: Path, tmp_path: Path, closet: Path) -> None:
    run = Path(shutil.copytree(made, tmp_path / "small"))
    own = tmp_path / "mine" / "mnist"
    own.mkdir(parents=True)
    recipe = config.override(runs.Run(run).read_recipe(), {"data.name": str(own)})
    (run / "recipe.toml").write_text(config.to_toml(recipe))
    runs.update_manifest(runs.Run(run), data=replace(runs.Run(run).read_manifest().data, name="mnist train"))
    model = exported_model.export(run).folder
    assert "ylecun" not in (model / "README.md").read_text()
    with pytest.raises(UsageError, match=r"generator learned from \./mnist; say with --data where that data set is"):
        modiste.evaluate(model / "generator.onnx", count=20)
    kept = exported_model.export_pretrained(run).folder
    with pytest.raises(ModisteError, match=r"mnist does not exist; check the path"):
        modiste.evaluate(kept, count=20)


def test_an_export_does_not_fail_after_it(run: Path, tmp_path: Path, call: Any) -> None:
    for damaged in (True, False):
        own = tmp_path / "own.npz"
        own.write_bytes(b"damaged") if damaged else own.unlink()
        recipe = config.override(runs.Run(run).read_recipe(), {"data.name": str(own)})
        (run / "recipe.toml").write_text(config.to_toml(recipe))
        code, said, _ = call("export", run, "--onnx")
        assert code == 0 and f"generator.onnx --data {own if damaged else 'WHERE-IT-IS'}\n" in said


def test_the_card_says_what_is_known_and_what_is_not(run: Path, closet: Path) -> None:
    assert not modiste.export(run).measured
    card = (run / "onnx" / "README.md").read_text()
    manifest = runs.Run(run).read_manifest()
    recipe = runs.Run(run).read_recipe()
    for said in ("# small", config.content_hash(recipe), manifest.data.digest, "64 images shown",
                 "0 T-shirt/top, 1 Trouser", "modiste evaluate RUN", "No licence has been chosen"):  # fmt: skip
        assert said in card
    assert str(closet.parent) not in card and "frechet" not in card
    assert [line for line in card.splitlines() if "{{" in line or "{%" in line] == []


def test_hubs_can_read_the_head_of_the_card(run: Path) -> None:
    yaml = pytest.importorskip("yaml")
    manifest = runs.Run(run).read_manifest()
    runs.update_manifest(runs.Run(run), data=replace(manifest.data, name="fashion-mnist fit"))
    own = runs.Run(run).read_recipe()
    (run / "recipe.toml").write_text(config.to_toml(config.override(own, {"data.name": "fashion-mnist"})))
    exported_model.export(run)
    card = (run / "onnx" / "README.md").read_text()
    head = yaml.safe_load(card.split("---")[1])
    assert head["library_name"] == "modiste" and "onnx" in head["tags"]
    assert head["datasets"] == ["zalando-datasets/fashion_mnist"] and "which for Fashion-MNIST is MIT" in card
    runs.update_manifest(runs.Run(run), data=replace(manifest.data, name="fashion-mnist-c fit"))
    (run / "recipe.toml").write_text(config.to_toml(own))
    exported_model.export(run)
    assert "zalando-datasets" not in (run / "onnx" / "README.md").read_text()  # another set, whatever it begins with


def test_a_card_does_not_tell_where_things_lay(tmp_path: Path) -> None:
    assert paths.last_part(f"{tmp_path}/a.toml") == "a.toml"
    assert paths.last_part(f"data.name={tmp_path}/set") == "data.name=set"
    told = paths.without_paths(
        {"reason": f"it failed; the last good state is {tmp_path}/run/state/7.pt", "n": ["a /b c"]}
    )
    assert told == {"reason": "it failed; the last good state is 7.pt", "n": ["a /b c"]}
    for word in ("runs/mine", "data.name=toy", "--fresh"):
        assert paths.last_part(word) == word


def test_scores_stand_in_the_card_only_if_they_are_of_these_weights(run: Path) -> None:
    measure(run)
    measure(run, "metrics-heldout.json", weights="0" * 16)
    assert exported_model.export(run).measured
    card = (run / "onnx" / "README.md").read_text()
    assert (
        re.search(r"\| frechet_garment_50 \| 12.50 ± 0.25 \| 1.500 \| 97.00 \|", card) and card.count("| frechet") == 1
    )
    assert "50 images per generator" in card and "hardly ever made: Bag" in card and "were not measured" not in card
    measure(run, weights="0" * 16)
    assert not exported_model.export(run).measured
    assert "12.5" not in (run / "onnx" / "README.md").read_text()


@pytest.mark.parametrize("classes", [True, False])
def test_the_cards_python_runs_in_the_folder(
    classes: bool, exported: Path, made_without_classes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = exported if classes else exported_model.export(made_without_classes).folder
    monkeypatch.chdir(folder)
    alone, with_modiste = blocks((folder / "README.md").read_text(), "python")
    found: dict[str, Any] = {}
    exec(alone, found)
    assert found["pixels"].shape == (16, 1, SIDE, SIDE) and found["pixels"].dtype == np.uint8
    assert found["pixels"].std() > 1
    exec(with_modiste, found)
    assert (found["pixels"] == found["generator"].sample(16, label=0 if classes else None)).all()


def test_a_model_of_other_weights_is_noticed(made: Path, exported: Path) -> None:
    trained = generators.load(made)
    assert exported_model.largest_difference(exported / "generator.onnx", trained) <= 1
    with torch.no_grad():
        next(trained.network.parameters()).mul_(1.5)
    assert exported_model.largest_difference(exported / "generator.onnx", trained) > 1


def test_nothing_is_left_behind_when_the_pixels_differ(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = names(run)
    with monkeypatch.context() as patch:
        patch.setattr(exported_model, "largest_difference", lambda *_: 2)
        with pytest.raises(ModisteError, match="differs from its network by 2 of 255"):
            exported_model.export(run)
        assert names(run) == before
    exported_model.export(run)
    card = (run / "onnx" / "README.md").read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(exported_model, "largest_difference", lambda *_: 2)
        with pytest.raises(ModisteError):
            exported_model.export(run)
    assert (run / "onnx" / "README.md").read_bytes() == card and names(run) == sorted([*before, "onnx"])


def test_a_model_that_does_not_run_is_a_fault_of_the_export(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = names(run)
    of_two = exported_model.to_onnx(OfTwo(), ImageShape(1, SIDE), Z)
    monkeypatch.setattr(exported_model, "to_onnx", lambda *_: of_two)
    with pytest.raises(ModisteError, match=r"nothing was exported.*cannot make 64 images.*a fault of Modiste"):
        exported_model.export(run)
    assert names(run) == before


class OfTwo(torch.nn.Module):
    """Makes images as long as they are two, as in the example that the exporter follows."""

    def forward(self, noise: torch.Tensor) -> torch.Tensor:
        return noise.reshape(2, 1, 1, Z).expand(2, 1, SIDE, Z).repeat(1, 1, 1, SIDE // Z + 1)[..., :SIDE]


def test_an_earlier_export_is_replaced_and_anything_else_is_refused(run: Path, tmp_path: Path) -> None:
    place = exported_model.export(run, tmp_path / "model").folder
    (place / "README.md").write_text(files.text_with_mark("old"))
    exported_model.export(run, place)
    assert "# small" in (place / "README.md").read_text() and names(place) == sorted(exported_model.FILES)
    (place / "notes.txt").write_text("mine")
    only_a_page = tmp_path / "page"
    only_a_page.mkdir()
    (only_a_page / "README.md").write_text("mine")
    for folder, stranger in ((place, "notes.txt"), (only_a_page, "README.md"), (run, "")):
        with pytest.raises(UsageError, match=f"holds other files .{stranger}"):
            exported_model.export(run, folder)
    assert (only_a_page / "README.md").read_text() == (place / "notes.txt").read_text() == "mine"
    with pytest.raises(UsageError, match="is a file"):
        exported_model.export(run, place / "notes.txt")


def test_an_earlier_export_survives_whatever_becomes_of_its_successor(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = exported_model.export(run, tmp_path / "model").folder
    old = files.text_with_mark("old")
    (place / "README.md").write_text(old)
    rename = Path.rename

    def failing(path: Path, target: Path) -> Path:
        if path.name.endswith(".writing"):
            raise OSError(errno.EIO, "Input/output error")
        return rename(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", failing)
        with pytest.raises(ModisteError, match=r"cannot write .*model: Input/output error"):
            exported_model.export(run, place)
    assert (place / "README.md").read_text() == old and names(tmp_path) == ["model", "small"]
    place.rename(
        files.temporary_beside(place).with_suffix(".replaced")
    )  # as a process leaves it that is killed between two renamings
    with monkeypatch.context() as patch:
        patch.setattr(exported_model, "largest_difference", lambda *_: 2)
        with pytest.raises(ModisteError, match="differs"):
            exported_model.export(run, place)
    assert (place / "README.md").read_text() == old and names(tmp_path) == ["model", "small"]


def test_what_is_missing_is_one_sentence(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (run / "best.safetensors").unlink(missing_ok=True)
    with pytest.raises(UsageError, match=r"has no best\.safetensors"):
        exported_model.export(run, checkpoint="best")
    for package in ("onnx", "onnxruntime"):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, package, None)
            with pytest.raises(ModisteError, match=rf"needs {package}; install it with pip install 'modiste\[onnx\]'"):
                exported_model.export(run)
    assert "onnx" not in names(run)


def test_of_two_exports_none_is_written_without_the_packages(
    run: Path, tmp_path: Path, call: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    code, _, said = call("export", run, "--onnx", "--pretrained", "--out", tmp_path / "both")
    assert code == 1 and "pip install 'modiste[onnx]'" in said and not (tmp_path / "both").exists()


def test_the_best_checkpoint_is_exported_as_such(run: Path) -> None:
    shutil.copy(run / "generator.safetensors", run / "best.safetensors")
    runs.update_manifest(runs.Run(run), best=runs.BestCheckpoint(32, "frechet_any_heldout", 1.0))
    exported_model.export(run, checkpoint="best")
    assert "32 images shown to this checkpoint, the best one" in (run / "onnx" / "README.md").read_text()


def test_the_verb(run: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(cli.app, ["export", str(run), "--onnx"])
    assert done.exit_code == 0 and "generator.onnx" in done.stdout and f"modiste evaluate {run} " in done.stdout
    out = tmp_path / "model"
    done = CliRunner().invoke(cli.app, ["export", str(run), "--onnx", "--out", str(out), "--json"])
    told = json.loads(done.stdout)
    assert told["out"] == str(out) and told["largest_difference"] <= 1 and all(Path(f).is_file() for f in told["files"])
    refused = CliRunner().invoke(cli.app, ["export", str(run)])
    assert isinstance(refused.exception, UsageError) and "--onnx" in str(refused.exception)


# in a browser

WEB_FILES = ("ort.wasm.min.js", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")


@pytest.fixture(scope="module")
def web() -> Path:
    """The folder of onnxruntime-web's files, which a person has installed: no test downloads."""
    base = Path(os.environ.get("ONNXRUNTIME_WEB") or "~/.cache/modiste/onnxruntime-web").expanduser()
    folder = base / "node_modules" / "onnxruntime-web" / "dist"
    if not all((folder / name).is_file() for name in WEB_FILES):
        pytest.skip(f"onnxruntime-web is not in {base}; npm install --prefix {base} onnxruntime-web")
    return folder


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """An empty folder and the address of a plain web server that shows it."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=tmp_path)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield tmp_path, f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.mark.slow  # not for its time: it needs a browser and files from npm
@pytest.mark.parametrize("classes", [True, False])
def test_the_cards_page_makes_the_same_pixels_in_a_browser(
    classes: bool, made: Path, made_without_classes: Path, web: Path, served: tuple[Path, str], browser: Any
) -> None:
    run, (folder, address) = made if classes else made_without_classes, served
    exported_model.export(run, folder / "model")
    (page_text,) = blocks((folder / "model" / "README.md").read_text(), "html")
    (folder / "index.html").write_text(page_text, encoding="utf-8")
    shutil.copy(folder / "model" / "generator.onnx", folder)
    for name in WEB_FILES:
        shutil.copy(web / name, folder)
    page = browser.new_page()
    said: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(address)
    own = generators.load(run).sample_set(64)
    labels = None if own.labels is None else own.labels.tolist()
    found = page.evaluate(
        """async ([noise, labels]) => {
            const { pixels, shape } = await makeImages(noise, labels);
            return { pixels: [...pixels], shape };
        }""",
        [generators.seed_noise(range(64), Z).flatten().tolist(), labels],
    )
    pixels = np.array(found["pixels"]).reshape(found["shape"])
    assert pixels.shape == own.pixels.shape and own.pixels.std() > 1
    assert np.abs(pixels - own.pixels).max() <= 1
    # The page's own picture: a row for each class, eight columns, drawn by itself.
    rows = len(open_data(runs.Run(run).read_recipe().data).class_names) if classes else 8
    drawn = f"() => document.getElementById('grid').width === {8 * SIDE}"
    page.wait_for_function(drawn)
    page.wait_for_function(
        """() => {
            const grid = document.getElementById("grid");
            return new Set(grid.getContext("2d").getImageData(0, 0, grid.width, grid.height).data).size > 3;
        }"""
    )
    assert page.evaluate("document.getElementById('grid').height") == rows * SIDE
    strangers = [url for url in asked if not url.startswith((address, "blob:" + address, "data:"))]
    assert not strangers and [line for line in said if "favicon" not in line and "404" not in line] == []
    page.close()
