"""The benchmark compares like with like, and runs."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from modiste import config
from modiste.networks.build import build_discriminator, build_generator
from modiste.networks.layers import ImageShape

FOLDER = Path(__file__).parents[1] / "benchmarks"


def benchmark(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_tutorial_has_the_networks_of_diaz_a() -> None:
    script, network, shape = (
        benchmark("tutorial_dcgan"),
        config.load("diaz-a").network,
        ImageShape(channels=1, size=32),
    )
    for theirs, ours in (
        (script.make_generator(), build_generator(network, shape)),
        (script.make_discriminator(), build_discriminator(network, shape)),
    ):
        assert [weight.shape for weight in theirs.parameters()] == [weight.shape for weight in ours.parameters()]
        assert sum(weight.numel() for weight in theirs.parameters()) > 600_000


def test_the_tutorial_learns() -> None:
    script = benchmark("tutorial_dcgan")
    step = script.make_step(np.full((16, 28, 28), 200, np.uint8), batch_size=4)
    losses = [step()["loss_d"] for _ in range(4)]
    assert losses[-1] < losses[0]


def test_the_tutorial_transforms_as_the_recipe_does() -> None:
    script = benchmark("tutorial_dcgan")
    white, black = script.Garments(np.stack([np.full((28, 28), value, np.uint8) for value in (255, 0)]))
    assert white.shape == (1, 32, 32) and (white == 1).all() and (black == -1).all()


def test_quick_benchmark_gives_every_ratio() -> None:
    command = [sys.executable, str(FOLDER / "bench.py"), "--quick", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    ratios = result["ratios"]
    assert {"modiste / tutorial", "modiste / bare", "modiste / tutorial, 2 workers"} <= ratios.keys()
    assert ratios.keys() >= {"modiste float32 / tutorial"} or result["precision"] == "float32"
    for pair, row in ratios.items():
        assert 0 < row["min"] <= row["median"] <= row["max"], pair
        assert row["met"] is None or row["met"] == (row["median"] >= row["goal"]), pair
    assert 100 < result["memory"]["mb"] < 3000
    assert result["quick"] is True and result["data"] == "toy"
    assert result["scores"]["quick"] is True and result["scores"]["values"]
    speeds = result["sampling"]["images_per_second"]
    assert {"eager", "ONNX Runtime"} <= speeds.keys() and min(speeds.values()) > 0
    assert set(speeds) | set(result["sampling"]["missing"]) == {"eager", "compiled", "ONNX Runtime"}
    assert 0 < result["sampling"]["first_image_seconds"] < 60


def test_the_share_of_the_peak_is_rate_times_work_over_peak(capsys: pytest.CaptureFixture[str]) -> None:
    benchmark("peak").main(["--quick", "--json", "--device", "cpu", "--recipe", "dense-sigmoid"])
    result = json.loads(capsys.readouterr().out)
    row = result["rows"][0]
    assert (row["way"], row["of_eager_float32"]) == ("eager, float32", 1.0) and result["quick"] is True
    assert row["tflop_per_second"] == pytest.approx(row["images_per_second"] * row["gflop_per_image"] / 1e3)
    assert row["share_of_peak"] == pytest.approx(row["tflop_per_second"] / row["peak_tflop_per_second"])
    assert row["gflop_per_image"] == pytest.approx(0.229, abs=0.001)  # as README's table of recipes has it


def test_the_shorter_ways_are_compared_with_the_plain_ones(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    convolutions = benchmark("convolutions")
    (doubling, _), (penalties, _) = convolutions.WAYS.values()
    with doubling():
        assert convolutions.convolution._in_float32("anything") is False
    with penalties(), convolutions.double_backward.for_gradient_penalties():
        assert convolutions.double_backward.is_active() is False
    monkeypatch.setattr(convolutions, "TURNS", 1)
    monkeypatch.setattr(convolutions, "WAYS", {"gradient penalties": (penalties, {"wgan-gp": 2})})
    convolutions.main()
    assert re.search(r"gradient penalties .* wgan-gp .* \d\.\d\d", capsys.readouterr().out)


def test_quick_scores_are_the_rivals() -> None:
    scoring = benchmark("bench_scores").measure(quick=True, threads=1)
    assert scoring["met"]["values"], scoring["values"]
    assert set(scoring["values"]) >= {"Fréchet distance", "kernel distance", "inception score", "coverage, k = 5"}
    frechet = scoring["values"]["Fréchet distance"]
    assert frechet["allowed"] < 1e-5 * frechet["ours"]
    for name in ("ours", "theirs"):
        assert scoring["total_seconds"][name] == pytest.approx(sum(scoring["seconds"][name].values()))
        assert 50 < scoring["base_mb"][name] <= scoring["peak_mb"][name] < 3000


def test_a_score_that_differs_is_seen() -> None:
    bench = benchmark("bench_scores")
    ours = {"values": {"Fréchet distance": 1.0, "kernel distance": 0.1}, "errors": {"kernel distance": 0.01}}
    same = {"values": {"Fréchet distance": 1.0 + 1e-7, "kernel distance": 0.15}, "errors": {}}
    other = {"values": {"Fréchet distance": 1.0 + 1e-5, "kernel distance": 0.2}, "errors": {}}
    assert all(row["same"] for row in bench.compared(ours, same).values())
    assert not any(row["same"] for row in bench.compared(ours, other).values())


def test_time_to_quality_is_read_off_between_points() -> None:
    quality = benchmark("bench_quality")
    points = [(10.0, 8.0), (20.0, 4.0), (30.0, 5.0), (40.0, 1.0)]
    assert quality.seconds_to(8.0, points) == 10 and quality.seconds_to(4.0, points) == 20
    assert quality.seconds_to(6.0, points) == 15 and quality.seconds_to(2.0, points) == 37.5
    assert quality.seconds_to(0.5, points) is None and quality.seconds_to(9.0, points) == 10
    result = quality.compare([(1000.0, 6.0)], {"fast": points, "slow": [(500.0, 5.0)], "never": [(900.0, 7.0)]})
    rows = result["house"]
    assert [rows[name]["met"] for name in ("fast", "slow", "never")] == [True, False, False]
    assert rows["fast"]["share"] == 0.015 and rows["never"]["seconds"] is None
    log = [{"seconds": 1.0, "frechet_a": 9.0}, {"seconds": 2.0}, {"seconds": 3.0, "frechet_a": 4.0}]
    assert quality.course(log) == [(1.0, 9.0), (3.0, 4.0)] and quality.course([{"seconds": 1.0}]) == []


def test_copies_are_put_where_their_class_is_and_changed_as_said() -> None:
    script = benchmark("uncertainty")
    random = np.random.default_rng(0)
    train, made = (
        script.Images(random.integers(0, 256, (count, 1, 8, 8), np.uint8), np.arange(count) % 4, tuple("abcd"), "some")
        for count in (200, 40)
    )
    rows = {image.tobytes(): label for image, label in zip(train.pixels, train.labels, strict=True)}
    for share, count in ((50, 20), (10, 4)):
        copied = script.copied(made, train, share, script.CHANGES["exact"])
        found = [rows.get(image.tobytes()) for image in copied.pixels]
        assert sum(label is not None for label in found) == count
        assert all(label in (None, asked) for label, asked in zip(found, made.labels, strict=True))
    moved = script.CHANGES["shifted by a pixel"](train.pixels, random)
    assert np.array_equal(script.CHANGES["mirrored"](train.pixels, random)[..., ::-1], train.pixels)
    for image, shifted in zip(train.pixels[:, 0], moved[:, 0], strict=True):
        sides = [np.pad(image, 1)[1 + down : 9 + down, 1 + right : 9 + right]
                 for down, right in ((1, 0), (-1, 0), (0, 1), (0, -1))]  # fmt: skip
        assert any(np.array_equal(shifted, side) for side in sides)
    several = [script.Score(value, 2.0) for value in (1.0, 3.0, 5.0)]
    assert script.spread(several) == {"mean": 3.0, "deviation": 2.0, "stated": 2.0}
    assert "| 1.00 |" in script.errors_table({"frechet_garment_1k_test": script.spread(several)})
