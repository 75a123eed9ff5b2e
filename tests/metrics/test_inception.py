from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from modiste.data.images import Images
from modiste.errors import ModisteError, UsageError
from modiste.metrics import inception
from modiste.metrics.features import Extractor, extract

pytestmark = pytest.mark.skipif(
    inception.importlib.util.find_spec("torch_fidelity") is None, reason="needs torch-fidelity"
)

State = dict[str, torch.Tensor]


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inception, "CHUNK", 2)


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, State]]:
    """Random weights of Inception's names and shapes, in the old file format that published weights have."""
    library = inception._torch_fidelity()
    library.load_state_dict_from_url = lambda *_, **__: {}  # type: ignore[attr-defined]

    class Blank(library.FeatureExtractorInceptionV3):  # type: ignore[misc, name-defined]
        def load_state_dict(self, _: Any) -> None:  # type: ignore[override]
            """Keep what torch has drawn."""

    torch.manual_seed(0)
    state = Blank("blank", ["2048"]).state_dict()
    place = tmp_path_factory.mktemp("weights") / "stand-in.pth"
    torch.save(state, place, _use_new_zipfile_serialization=False)
    yield place, state
    place.unlink()  # 96 MB, which pytest would keep


@pytest.fixture(scope="module")
def extractor(stand_in: tuple[Path, State]) -> Extractor:
    return inception.extractor(28, stand_in[0])


def grey(count: int, side: int = 28) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 1, side, side), np.uint8)


def test_features_and_logits_of_grey_images(extractor: Extractor, stand_in: tuple[Path, State]) -> None:
    pixels = grey(3)  # one chunk and a half
    features = extract(extractor, Images(pixels, None, (), "grey"))
    assert features.vectors.shape == (3, 2048) and features.logits is not None and features.logits.shape == (3, 1008)
    assert np.isfinite(features.vectors).all() and features.vectors.dtype == np.float32
    assert not np.array_equal(features.vectors[0], features.vectors[2])
    unbiased = features.vectors @ stand_in[1]["fc.weight"].numpy().T  # the last layer, without stand-in's own bias
    assert np.allclose(features.logits, unbiased, rtol=1e-3, atol=1e-6 * np.abs(unbiased).max())
    colour = extract(extractor, Images(pixels.repeat(3, axis=1), None, (), "colour"))
    assert np.array_equal(features.vectors, colour.vectors) and np.array_equal(features.logits, colour.logits)
    alone = extract(extractor, Images(pixels[2:], None, (), "alone"))
    assert np.array_equal(alone.vectors, features.vectors[2:])


def test_no_image_gives_no_features(extractor: Extractor) -> None:
    features = extractor.examine(np.empty((0, 3, 28, 28), np.uint8))
    assert features.vectors.shape == (0, 2048) and features.logits is not None and features.logits.shape == (0, 1008)


def test_the_network_enlarges_the_images_itself(extractor: Extractor, stand_in: tuple[Path, State]) -> None:
    other = inception.extractor(40, stand_in[0])
    assert other.shape.size == 40 and other.fingerprint != extractor.fingerprint
    plain = [np.full((1, 3, side, side), 90, np.uint8) for side in (28, 40)]
    small, large = extractor.examine(plain[0]), other.examine(plain[1])
    assert np.array_equal(small.vectors, large.vectors)  # one shade stays that shade at any size


def test_stand_in_weights_never_pass_for_the_published_ones(extractor: Extractor) -> None:
    facts = dict(extractor.facts)
    assert json.loads(json.dumps(facts)) == facts
    assert extractor.name == "inception-other"
    assert facts["weights"] == "stand-in or other: not the published Inception"
    assert facts["resize"] == "bilinear to 299, TensorFlow-compatible, inside the extractor"
    assert (facts["features"], facts["logits"], facts["input"], facts["grey"]) == (2048, 1008, [3, 28, 28], "repeated")
    assert len(facts["hash"]) == 16 == len(extractor.fingerprint)


def test_the_published_weights_are_known_by_their_hash(
    stand_in: tuple[Path, State], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(ModisteError, match=r"weights are not in .*checkpoints; download https://.*--inception-weights"):
        inception.extractor(28)
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / inception.FILE_NAMES[1]).symlink_to(stand_in[0])
    found = inception.extractor(28)
    assert found.name == "inception-other"  # a name of a file is no proof
    monkeypatch.setattr(inception, "PUBLISHED_HASH", found.facts["hash"][:8])
    published = inception.extractor(28)
    assert published.name == "inception" and published.facts["weights"].startswith("published")


def test_files_that_are_no_weights_say_so(stand_in: tuple[Path, State], tmp_path: Path) -> None:
    content = stand_in[0].read_bytes()
    for name, kept in (("cut.pth", content[:100_000]), ("empty.pth", b""), ("text.pth", b"<html>not found</html>")):
        (tmp_path / name).write_bytes(kept)
        with pytest.raises(ModisteError, match=rf"{name} cannot be read as weights \(.*get it again from https"):
            inception.extractor(28, tmp_path / name)
    for length in range(1, 6000, 97):  # a cut within the pickle, at any kind of its entries
        (tmp_path / "cut.pth").write_bytes(content[:length])
        with pytest.raises(ModisteError, match=r"cut\.pth cannot be read as weights \("):
            inception.extractor(28, tmp_path / "cut.pth")
    torch.save({"bad": Path("code")}, tmp_path / "code.pth")
    with pytest.raises(ModisteError, match=r"code\.pth cannot be read as weights"):
        inception.extractor(28, tmp_path / "code.pth")
    torch.save(torch.zeros(2), tmp_path / "tensor.pth")
    with pytest.raises(ModisteError, match=r"tensor\.pth holds a Tensor and no weights by name"):
        inception.extractor(28, tmp_path / "tensor.pth")
    torch.save({"weight": torch.zeros(2)}, tmp_path / "other.pth")
    with pytest.raises(ModisteError, match=r"other\.pth holds other weights than Inception's"):
        inception.extractor(28, tmp_path / "other.pth")
    with pytest.raises(UsageError, match=r"gone\.pth is no file"):
        inception.extractor(28, tmp_path / "gone.pth")
    with pytest.raises(UsageError, match=r"images of 4 pixels are too small"):
        inception.extractor(4, stand_in[0])


@pytest.mark.parametrize("loaded", [False, True])
def test_a_broken_torchvision_is_no_hindrance_and_the_library_is_left_as_it_was(
    loaded: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def modules() -> dict[str, Any]:
        return {name: module for name, module in sys.modules.items() if name.startswith("torch_fidelity")}

    (tmp_path / "torchvision.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')")
    monkeypatch.syspath_prepend(tmp_path)
    spec = inception.importlib.util.find_spec("torch_fidelity")
    for name in [*modules(), *(name for name in sys.modules if name.startswith("torchvision"))]:
        monkeypatch.delitem(sys.modules, name)
    if loaded:  # the user's own import
        module = inception.importlib.util.module_from_spec(spec)  # type: ignore[arg-type]
        monkeypatch.setitem(sys.modules, "torch_fidelity", module)
    before = modules()
    assert inception._torch_fidelity().FeatureExtractorInceptionV3.INPUT_IMAGE_SIZE == 299
    assert modules() == before and len(before) == loaded


def test_without_the_library_the_sentence_says_how_to_get_it(
    stand_in: tuple[Path, State], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)
    with pytest.raises(ModisteError, match=r"pip install 'modiste\[inception\]'"):
        inception.extractor(28, stand_in[0])
