from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from evaluations import measured

from modiste.data.images import resized
from modiste.errors import ModisteError, UsageError
from modiste.metrics import features, onnx_features

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

Shape = tuple[int | str, ...]


def write(
    path: Path,
    shape: Shape = ("n", 3, 8, 8),
    *,
    kind: Any = onnx.TensorProto.FLOAT,
    pool: bool = True,
    more_inputs: int = 0,
    metadata: dict[str, str] | None = None,
) -> Path:
    """A model whose features are the means of the left and the right half of each channel."""
    helper = onnx.helper
    inputs = [helper.make_tensor_value_info(f"images{k or ''}", kind, shape) for k in range(1 + more_inputs)]
    nodes = [helper.make_node("Cast", ["images"], ["floats"], to=onnx.TensorProto.FLOAT)]
    if pool:
        nodes += [
            helper.make_node("Split", ["floats"], ["left", "right"], axis=3),
            helper.make_node("ReduceMean", ["left"], ["l"], axes=[2, 3], keepdims=0),
            helper.make_node("ReduceMean", ["right"], ["r"], axes=[2, 3], keepdims=0),
            helper.make_node("Concat", ["l", "r"], ["features"], axis=1),
        ]
    else:
        nodes.append(helper.make_node("Identity", ["floats"], ["features"]))
    output = helper.make_tensor_value_info("features", onnx.TensorProto.FLOAT, [None] * (2 if pool else 4))
    graph = helper.make_graph(nodes, "halves", inputs, [output])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=9)
    helper.set_model_props(model, metadata or {})
    path.write_bytes(model.SerializeToString())
    return path


def halves(pixels: np.ndarray) -> np.ndarray:
    """What the model computes from pixels in its range."""
    left, right = np.split(pixels.astype(np.float64), 2, axis=3)
    return np.concatenate([left.mean((2, 3)), right.mean((2, 3))], axis=1)


PIXELS = np.random.default_rng(0).integers(0, 256, (130, 1, 8, 8), np.uint8)


@pytest.mark.parametrize(
    ("metadata", "factor", "offset", "words"),
    [
        ({}, [1 / 255] * 3, [0, 0, 0], "[0, 1], assumed"),
        ({"range": "[-1, 1]"}, [2 / 255] * 3, [-1] * 3, "range [-1, 1]"),
        (
            {"mean": "[0.5, 0.4, 0.25]", "std": "[0.5, 0.2, 0.25]"},
            [1 / (255 * 0.5), 1 / (255 * 0.2), 1 / (255 * 0.25)],
            [-1, -2, -1],
            "mean [0.5, 0.4, 0.25], std [0.5, 0.2, 0.25]",
        ),
    ],
)
def test_pixels_come_in_the_range_that_the_model_names(
    tmp_path: Path, metadata: dict[str, str], factor: list[float], offset: list[float], words: str
) -> None:
    own = onnx_features.extractor(write(tmp_path / "Halves v2.onnx", metadata=metadata), 28)
    assert own.name == "onnx-halves-v2" and own.facts["range"] == words
    assert bool(own.warning) == (not metadata)
    found = own.examine(PIXELS.repeat(3, axis=1)).vectors
    rows = np.array(factor)[:, None, None], np.array(offset)[:, None, None]
    np.testing.assert_allclose(found, halves(PIXELS * rows[0] + rows[1]), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(found[:7], own.examine(PIXELS[:7].repeat(3, axis=1)).vectors)


def test_grey_images_of_another_size_are_resized_and_repeated(tmp_path: Path) -> None:
    path = write(tmp_path / "halves.onnx", (16, 3, 4, 4), kind=onnx.TensorProto.UINT8)
    own = onnx_features.extractor(path, 8)
    assert (own.shape.channels, own.shape.size, own.facts["features"]) == (3, 4, 6)
    assert own.facts["range"] == "0 to 255, as uint8" and own.facts["colour"] == "grey repeated" and not own.warning
    assert own.facts["hash"] == hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    fitted = resized(PIXELS, 4, "lanczos").repeat(3, axis=1)
    np.testing.assert_array_equal(features.fit_pixels(PIXELS, own.shape), fitted)
    np.testing.assert_allclose(own.examine(fitted).vectors, halves(fitted), rtol=1e-6)


def test_a_model_of_any_size_takes_the_images_as_they_are(tmp_path: Path) -> None:
    own = onnx_features.extractor(write(tmp_path / "any.onnx", ("n", 1, "h", "w")), 8)
    assert (own.shape.channels, own.shape.size) == (1, 8) and own.facts["colour"] == "averaged to grey"
    np.testing.assert_allclose(own.examine(PIXELS).vectors, halves(PIXELS / 255), rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"shape": ("n", 8, 8, 3), "pool": False},
            r"takes images of the shape .* export it for \[N, 1 or 3, side, side\]",
        ),
        ({"shape": ("n", 3, 8, 6)}, r"ours are square"),
        ({"shape": ("n", 192), "pool": False}, r"one input \[N, C, H, W\] of floats or uint8"),
        ({"kind": onnx.TensorProto.INT64}, r"one input \[N, C, H, W\] of floats or uint8"),
        ({"more_inputs": 1}, r"a feature extractor takes images alone"),
        ({"pool": False}, r"gives \[64, 3, 8, 8\] for 64 images, .* average its maps"),
        ({"metadata": {"range": "0 to 1"}}, r"has the metadata range = 0 to 1; write range as"),
        ({"metadata": {"mean": "[0.5]"}}, r"has the metadata mean"),
        ({"metadata": {"mean": "[0.5, 0.5]", "std": "[1, 1]"}}, r"lists of 3 numbers"),
        ({"metadata": {"range": "[1, 1]"}}, r"write range as"),
    ],
)
def test_what_cannot_fit_is_one_sentence(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message) as refused:
        onnx_features.extractor(write(tmp_path / "net.onnx", **options), 8)
    assert "net.onnx" in str(refused.value) and "\n" not in str(refused.value)


def test_a_file_that_is_no_model_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(b"no model")
    with pytest.raises(UsageError, match=r"cannot be loaded as an ONNX model .*; export it anew"):
        onnx_features.extractor(tmp_path / "net.onnx", 8)
    with pytest.raises(UsageError, match=r"there is no file .*nowhere\.onnx; give the path of an ONNX model"):
        onnx_features.extractor(tmp_path / "nowhere.onnx", 8)


def test_an_evaluation_has_the_distances_and_names_the_file(closet: Path, tmp_path: Path) -> None:
    arrays = np.load(closet)
    fresh = tmp_path / "fresh.npz"
    np.savez(fresh, images=arrays["x_test"][:60], labels=arrays["y_test"][:60], class_names=arrays["class_names"])
    path = write(tmp_path / "halves.onnx", metadata={"range": "[-1, 1]"})
    record = measured(fresh, closet, reference="heldout", features=[path])
    names = [str(name) for name in map(str, record.scores) if "onnx-halves" in name]
    assert names == ["frechet_onnx-halves_60_heldout", "kernel_onnx-halves_60_heldout"]
    facts = record.protocol.extractors["onnx-halves"]
    assert (
        facts["extractor"] == "ONNX model halves.onnx"
        and facts["hash"] == onnx_features.extractor(path, 16).facts["hash"]
    )
    first = record.scores[names[0]]
    assert first.real is not None and first.trivial is not None and first.trivial > first.value

    (tmp_path / "b").mkdir()
    other = write(tmp_path / "b" / "halves.onnx", ("n", 1, 8, 8))
    with pytest.raises(ModisteError, match="two files named halves"):
        measured(fresh, closet, reference="heldout", features=[path, other])
