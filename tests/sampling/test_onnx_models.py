from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modiste.errors import ModisteError, UsageError
from modiste.evaluation.options import EvaluateOptions
from modiste.evaluation.sources import open_source
from modiste.sampling import generators, onnx_models

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

Z, SIDE, CLASSES = 6, 4, 3
WEIGHTS = np.random.default_rng(0).standard_normal((Z, SIDE * SIDE)).astype(np.float32)
STYLES = np.random.default_rng(1).standard_normal((CLASSES, SIDE * SIDE)).astype(np.float32)


def write(
    path: Path,
    *,
    labels: bool = False,
    noise_shape: tuple[Any, ...] = ("n", Z),
    activation: str = "Tanh",
    metadata: dict[str, str] | None = None,
    output_shape: tuple[int, ...] = (-1, 1, SIDE, SIDE),
) -> None:
    """A generator of one matrix: images = activation(noise @ WEIGHTS [+ STYLES[label]])."""
    helper, numpy_helper = onnx.helper, onnx.numpy_helper
    constants = {
        "weights": WEIGHTS,
        "styles": STYLES,
        "flat": np.array([-1, Z], np.int64),
        "image": np.array(output_shape, np.int64),
    }
    inputs = [helper.make_tensor_value_info("noise", onnx.TensorProto.FLOAT, noise_shape)]
    nodes = [
        helper.make_node("Reshape", ["noise", "flat"], ["rows"]),
        helper.make_node("MatMul", ["rows", "weights"], ["linear"]),
    ]
    if labels:
        inputs.append(helper.make_tensor_value_info("labels", onnx.TensorProto.INT64, noise_shape[:1]))
        nodes += [
            helper.make_node("Gather", ["styles", "labels"], ["style"]),
            helper.make_node("Add", ["linear", "style"], ["styled"]),
        ]
    nodes += [
        helper.make_node(activation, ["styled" if labels else "linear"], ["bounded"]),
        helper.make_node("Reshape", ["bounded", "image"], ["images"]),
    ]
    output = helper.make_tensor_value_info("images", onnx.TensorProto.FLOAT, [None] * len(output_shape))
    stored = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "generator", inputs, [output], stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    helper.set_model_props(model, metadata or {})
    path.write_bytes(model.SerializeToString())


def noise_of(seeds: range) -> np.ndarray:
    return np.asarray(generators.seed_noise(seeds, Z).numpy() @ WEIGHTS)


def pixels_of(unit: np.ndarray) -> np.ndarray:
    return np.round((unit + 1) * 127.5).clip(0, 255).reshape(-1, 1, SIDE, SIDE).astype(int)


def test_the_same_seeds_give_the_same_noise_as_everywhere(tmp_path: Path) -> None:
    write(tmp_path / "g.onnx")
    subject = open_source(tmp_path / "g.onnx", EvaluateOptions(count=70, seed=1))  # more than one chunk
    wanted = pixels_of(np.tanh(noise_of(range(70, 140))))
    assert subject.images.pixels.dtype == np.uint8 and len(subject.images) == 70
    assert np.abs(subject.images.pixels - wanted).max() <= 1 and subject.images.labels is None
    assert subject.facts["kind"] == "onnx" and subject.facts["seeds"] == "70 to 139" and subject.warnings == ()
    assert len(subject.facts["hash"]) == 16 and subject.facts["hash"] != subject.facts["pixels"]


def test_labels_cycle_and_are_named_by_the_metadata(tmp_path: Path) -> None:
    names = ["shirt", "shoe", "bag"]
    write(tmp_path / "g.onnx", labels=True, metadata={"class_names": json.dumps(names)})
    images = open_source(tmp_path / "g.onnx", EvaluateOptions(count=7)).images
    labels = np.arange(7) % 3
    assert images.class_names == tuple(names) and np.array_equal(images.labels, labels)  # type: ignore[arg-type]
    assert np.abs(images.pixels - pixels_of(np.tanh(noise_of(range(7)) + STYLES[labels]))).max() <= 1
    write(tmp_path / "number.onnx", labels=True, metadata={"modiste.classes": "3"})
    numbered = open_source(tmp_path / "number.onnx", EvaluateOptions(count=7)).images
    assert numbered.class_names == ("0", "1", "2") and np.array_equal(numbered.pixels, images.pixels)


def test_classes_that_nobody_names_are_ten_with_a_warning(tmp_path: Path) -> None:
    write(tmp_path / "g.onnx", labels=True)
    generator = onnx_models.load(tmp_path / "g.onnx")
    assert len(generator.class_names) == 10 and "10 are assumed" in generator.warnings[0]
    with pytest.raises(ModisteError, match=r"cannot make 64 images at once"):  # this model knows three
        open_source(tmp_path / "g.onnx", EvaluateOptions(count=10))


def test_noise_with_positions_and_a_fixed_batch(tmp_path: Path) -> None:
    write(tmp_path / "free.onnx")
    write(tmp_path / "fixed.onnx", noise_shape=(4, Z, 1, 1))
    free, fixed = (
        open_source(tmp_path / name, EvaluateOptions(count=10)).images for name in ("free.onnx", "fixed.onnx")
    )
    assert np.abs(free.pixels.astype(int) - fixed.pixels).max() <= 1


def test_images_from_zero_to_one_are_recognised_and_said(tmp_path: Path) -> None:
    write(tmp_path / "g.onnx", activation="Sigmoid", output_shape=(-1, SIDE, SIDE, 1))
    subject = open_source(tmp_path / "g.onnx", EvaluateOptions(count=5))
    wanted = np.round(255 / (1 + np.exp(-noise_of(range(5))))).reshape(5, 1, SIDE, SIDE)
    assert np.abs(subject.images.pixels - wanted).max() <= 1
    assert len(subject.warnings) == 1 and "taken for the range 0 to 1" in subject.warnings[0]
    write(tmp_path / "wild.onnx", activation="Identity")
    with pytest.raises(UsageError, match=r"the output of wild\.onnx holds floats from -.* neither in"):
        open_source(tmp_path / "wild.onnx", EvaluateOptions(count=5))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"noise_shape": ("n", "z")}, r"noise has the shape \['n', 'z'\]; export the generator with noise \[N, z\]"),
        ({"labels": True, "metadata": {"class_names": "a, b"}}, r"metadata class_names is 'a, b'; write a JSON list"),
        ({"labels": True, "metadata": {"class_names": "[]"}}, r"metadata class_names is '\[\]'"),
        ({"output_shape": (-1, SIDE * SIDE // 2)}, r"gives \d+ images for 64 noises"),
    ],
)
def test_unfit_models_say_why(tmp_path: Path, options: dict[str, Any], words: str) -> None:
    write(tmp_path / "g.onnx", **options)
    with pytest.raises(ModisteError, match=words):
        open_source(tmp_path / "g.onnx", EvaluateOptions(count=2))


def test_a_damaged_model_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "g.onnx").write_bytes(b"no model")
    with pytest.raises(ModisteError, match=r"g\.onnx cannot be loaded as an ONNX model .*export it anew"):
        open_source(tmp_path / "g.onnx", EvaluateOptions(count=2))


def test_without_the_runtime_the_sentence_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "g.onnx")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ModisteError, match=r"pip install 'modiste\[onnx\]'"):
        open_source(tmp_path / "g.onnx", EvaluateOptions(count=2))
