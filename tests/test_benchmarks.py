"""The benchmark compares like with like, and runs."""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from rich.table import Table
from scipy import stats
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from modiste import config, runs
from modiste.config import Recipe
from modiste.metrics import metric_names
from modiste.networks import convolution
from modiste.networks.build import build_discriminator, build_generator
from modiste.networks.layers import ImageShape
from modiste.networks.summary import parameter_count, training_flops
from modiste.training import trainer

FOLDER = Path(__file__).parents[1] / "benchmarks"


def benchmark(name: str) -> ModuleType:
    if str(FOLDER) not in sys.path:
        sys.path.append(str(FOLDER))
    return importlib.import_module(name)


SHAPES = {"noronha": 28, "diaz-a": 32, "roh": 64, "dense-sigmoid": 28, "bare-naich": 28}
KERAS_PYTHON = Path(__file__).parents[1] / ".venv-rivals" / "bin" / "python"


def our_networks(name: str) -> tuple[nn.Module, nn.Module]:
    network = config.load(name).network
    shape = ImageShape(channels=1, size=SHAPES[name], classes=10 if network.conditioning != "none" else 0)
    return build_generator(network, shape), build_discriminator(network, shape)


@pytest.mark.parametrize("name", SHAPES)
def test_the_tutorial_has_the_settings_and_networks_of_the_recipe(name: str) -> None:
    script, recipe = benchmark("tutorial_gan").SCRIPTS[name], config.load(name)
    train, network = recipe.train, recipe.network
    assert (script.batch_size, script.z_dim, script.side) == (train.batch_size, network.z_dim, SHAPES[name])
    assert (script.rate, script.rate) == (train.lr_generator, train.lr_discriminator)
    assert (*script.betas, script.epsilon) == (train.beta1, train.beta2, train.epsilon)
    assert (script.minimax, script.conditional) == (
        recipe.loss.adversarial == "minimax",
        network.conditioning == "one-hot",
    )
    theirs, ours = script.networks(), our_networks(name)
    for one, other in zip(theirs, ours, strict=True):
        assert [weight.shape for weight in one.parameters()] == [weight.shape for weight in other.parameters()]
    # With our weights their networks are ours, so that padding, slopes and norms agree, too.
    for one, other in zip(theirs, ours, strict=True):
        for weight, own in zip(one.parameters(), other.parameters(), strict=True):
            weight.data.copy_(own.data)
    classes = torch.arange(4) if script.conditional else None
    hot = nn.functional.one_hot(torch.arange(4), 10).float()
    noise, images = torch.randn(4, script.z_dim), torch.rand(4, 1, script.side, script.side)
    maps = hot[:, :, None, None].expand(-1, -1, script.side, script.side)
    with torch.no_grad():
        made = theirs[0](torch.cat([noise, hot], 1) if script.conditional else noise)
        own = ours[0](noise, classes)
        for module in (theirs[1], ours[1]):
            module.eval()  # without dropout
        judged = theirs[1](torch.cat([images, maps], 1) if script.conditional else images).flatten()
        judged_by_ours = ours[1](images, classes).sigmoid()
    assert made.shape == own.shape and judged.shape == judged_by_ours.shape
    if (
        network.family != "dense-dcgan"
    ):  # its padding before and after differ, as Keras has it: maps are moved by a pixel
        assert torch.allclose(made, own, atol=1e-5) and torch.allclose(judged, judged_by_ours, atol=1e-5)


@pytest.mark.slow
def test_keras_has_the_settings_and_as_many_parameters() -> None:
    # Keras' layers are the same on each of its backends; this environment has PyTorch.
    code = (
        "import json, keras_gan as k, numpy as np\n"
        "count = lambda network: sum(int(np.prod(weight.shape)) for weight in network.trainable_variables)\n"
        "print(json.dumps({name: [[count(one) for one in k.build(script)], [one.output_shape for one in "
        "k.build(script)], script[1:]] for name, script in k.SCRIPTS.items()}))"
    )
    variables = os.environ | {"KERAS_BACKEND": "torch", "PYTHONPATH": str(FOLDER)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=variables, check=False)
    assert done.returncode == 0, done.stderr
    found, tutorial = json.loads(done.stdout), benchmark("tutorial_gan").SCRIPTS
    assert found.keys() == SHAPES.keys()
    for name, (counts, outputs, settings) in found.items():
        assert counts == [parameter_count(network) for network in our_networks(name)]
        assert outputs == [[None, SHAPES[name], SHAPES[name], 1], [None, 1]]
        their = tutorial[name]
        assert settings == [*their[1:5], their.betas[0], *their[6:]] and their.betas[1] == 0.999


@pytest.mark.parametrize("name", SHAPES)
def test_the_tutorial_learns(name: str) -> None:
    torch.manual_seed(0)
    scripts = benchmark("tutorial_gan")
    script, white = scripts.SCRIPTS[name], np.full((16, 28, 28), 200, np.uint8)
    step = scripts.make_step(script, script.networks(), white, np.arange(16) % 10, batch_size=4)
    losses = [step()["loss_d"] for _ in range(5)]
    assert min(losses[1:]) < losses[0]


def test_the_tutorial_transforms_as_the_recipe_does() -> None:
    pixels = np.stack([np.full((28, 28), value, np.uint8) for value in (255, 0)])
    (white, one), (black, two) = benchmark("tutorial_gan").Garments(pixels, np.array([3, 5]), 32)
    assert white.shape == (1, 32, 32) and (white == 1).all() and (black == -1).all() and (one, two) == (3, 5)


def run_quick_rivals(*options: str) -> dict[str, Any]:
    command = [sys.executable, str(FOLDER / "bench_rivals.py"), "--quick", "--json", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    for recipe in result["recipes"]:
        assert recipe["parameters"] == [parameter_count(network) for network in our_networks(recipe["recipe"])]
        for pair, row in recipe["ratios"].items():
            assert 0 < row["min"] <= row["median"] <= row["max"], pair
            assert row["met"] is None or row["met"] == (row["median"] >= row["goal"]), pair
    return result


def test_quick_rivals_in_pytorch() -> None:
    result = run_quick_rivals("--without-keras", "--recipe", "dense-sigmoid")
    (recipe,) = result["recipes"]
    assert "modiste float32 / tutorial" in recipe["ratios"] and not any("Keras" in pair for pair in recipe["ratios"])


@pytest.mark.slow
@pytest.mark.skipif(not KERAS_PYTHON.exists(), reason="`make bench-rivals` sets up the environment of Keras")
def test_quick_rivals_with_keras() -> None:
    recipes = run_quick_rivals()["recipes"]
    assert [recipe["recipe"] for recipe in recipes] == list(SHAPES)
    assert all("modiste float32 / Keras float32" in recipe["ratios"] for recipe in recipes)


def test_the_card_of_the_shipped_discriminator_says_what_was_measured() -> None:
    text = benchmark("discriminator").note(1000, 55_000, 197_216, 8, (0.511, 0.656), 5000)
    assert "197,216 pairs of the same class, 8 minutes" in (plain := text.replace("\n", " "))
    assert plain.endswith("finds the real one in 65.6% (51.1% before; half would be chance).")


def test_a_contestant_that_ends_says_why() -> None:
    protocol = benchmark("line_protocol")
    command = [sys.executable, "-c", "import sys; print('three', file=sys.stderr); sys.exit(3)"]
    with pytest.raises(ChildProcessError, match="ended with code 3: three"), protocol.started(command, {}):
        pass


def check_scores(scoring: dict[str, Any]) -> None:
    """They are the rivals', and their times and memory are known."""
    assert scoring["quick"] is True and scoring["met"]["values"], scoring["values"]
    assert set(scoring["values"]) >= {"Fréchet distance", "kernel distance", "inception score", "coverage, k = 5"}
    frechet = scoring["values"]["Fréchet distance"]
    assert frechet["allowed"] < 1e-5 * frechet["ours"]
    for name in ("ours", "theirs"):
        assert scoring["total_seconds"][name] == pytest.approx(sum(scoring["seconds"][name].values()))
        assert 50 < scoring["base_mb"][name] <= scoring["peak_mb"][name] < 3000


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
    check_scores(result["scores"])
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
    assert row["gb_per_second"] == pytest.approx(row["images_per_second"] * row["mb_per_image"] / 1e3)
    assert row["share_of_bandwidth"] == pytest.approx(row["gb_per_second"] / row["peak_gb_per_second"])
    assert row["share_of_bound"] == pytest.approx(max(row["share_of_peak"], row["share_of_bandwidth"]))
    assert row["share_of_bound"] == pytest.approx(row["images_per_second"] / row["bound_images_per_second"])


def test_operations_are_those_of_a_plain_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convolution, "_takes_shorter_way", lambda *_: False)
    roofline, shape = benchmark("roofline"), ImageShape(channels=1, size=32)
    recipe = config.override(config.load("diaz-a"), {"train.batch_size": 4})
    step = benchmark("bare_step").make_step(recipe, shape, torch.rand(4, 1, 32, 32), "float32")
    step()
    with FlopCounterMode(display=False) as torch_counter:  # PyTorch's own count of what runs
        step()
    with roofline.Counter() as counter:
        step()
    assert counter.operations == torch_counter.get_total_flops() == 4 * training_flops(recipe, shape)


def test_bytes_are_those_of_the_layers() -> None:
    roofline, shape = benchmark("roofline"), ImageShape(channels=1, size=32)
    recipe = config.override(config.load("diaz-a"), {"train.batch_size": 4, "train.ema_halflife_images": 1000})
    generator, discriminator = our_networks("diaz-a")
    sizes: dict[nn.Module, list[list[int]]] = {generator: [], discriminator: []}  # input, output and weights per layer
    for network, rows in sizes.items():
        for layer in network.modules():
            if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
                layer.register_forward_hook(
                    lambda layer, inputs, output, rows=rows: rows.append(
                        [inputs[0].numel(), output.numel(), layer.weight.numel()]
                    )
                )
    discriminator(generator(torch.randn(4, 100)))

    def forward(network: nn.Module) -> int:
        return sum(map(sum, sizes[network]))

    def by_weights(network: nn.Module) -> int:
        return forward(network)  # gradient and input read, as large as output and input; gradient by weights written

    def by_inputs(network: nn.Module, first: int) -> int:
        return sum(inputs + weights for inputs, _, weights in sizes[network][first:])  # the gradient is read already

    outputs = sum(row[1] for row in sizes[discriminator])
    moved = forward(generator) + 3 * forward(discriminator)
    moved += 2 * (by_weights(discriminator) + by_inputs(discriminator, 1)) + outputs + by_inputs(discriminator, 0)
    moved += by_weights(generator) + by_inputs(generator, 1)
    state = 4 * (10 * parameter_count(generator) + 7 * parameter_count(discriminator))
    for precision, size in (("float32", 4), ("bfloat16", 2)):
        counted = 4 * roofline.bytes_per_image(recipe, shape, precision)
        assert counted == pytest.approx(size * moved + state, rel=1e-3)  # costs are counted with biases for norms


def test_a_profile_divides_the_whole_step(capsys: pytest.CaptureFixture[str]) -> None:
    script = benchmark("profile_step")
    script.main(["--quick", "--json", "--recipe", "noronha", "--precision", "both"])
    rows = json.loads(capsys.readouterr().out)
    assert rows[0]["precision"] == "float32"
    for row in rows:
        kinds = row["kinds_ms"]
        assert sum(kinds.values()) == pytest.approx(row["ms_per_step"])
        known = {script.BY_IMAGES, script.BY_WEIGHTS, "convolution, forward", "dropout", "batch norm", "activations"}
        assert all(kinds[kind] > 0 for kind in known) and "convolution, backward" not in kinds
        assert kinds.get("other operators", 0.0) < 0.2 * sum(kinds.values())
        assert {entry["kind"] for entry in row["operators_ms"]} >= {"dropout", "optimiser and moving average"}


def test_the_shorter_ways_are_compared_with_the_plain_ones(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    convolutions = benchmark("convolutions")
    (doubling, *_), (penalties, *_), *_ = convolutions.WAYS.values()
    with doubling():
        assert convolutions.convolution._in_float32("anything") is False
    with penalties(), convolutions.double_backward.for_gradient_penalties():
        assert convolutions.double_backward.is_active() is False
    monkeypatch.setattr(convolutions, "TURNS", 1)
    monkeypatch.setattr(convolutions, "WAYS", {"gradient penalties": (penalties, "bfloat16", {"wgan-gp": 2})})
    convolutions.main()
    assert re.search(r"gradient penalties .* wgan-gp .* \d\.\d\d", capsys.readouterr().out)


def test_a_score_that_differs_is_seen() -> None:
    bench = benchmark("bench_scores")
    ours = {"values": {"Fréchet distance": 1.0, "kernel distance": 0.1}, "errors": {"kernel distance": 0.01}}
    same = {"values": {"Fréchet distance": 1.0 + 1e-7, "kernel distance": 0.15}, "errors": {}}
    other = {"values": {"Fréchet distance": 1.0 + 1e-5, "kernel distance": 0.2}, "errors": {}}
    assert all(row["same"] for row in bench.compared(ours, same).values())
    assert not any(row["same"] for row in bench.compared(ours, other).values())


def test_a_table_as_markdown(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table("recipe", "a\nb")
    table.add_row("swift", "1.5")
    benchmark("tables").put(table, Console(), True)
    assert capsys.readouterr().out == "| recipe | a, b |\n| --- | --- |\n| swift | 1.5 |\n\n"


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


def test_a_speedrun_measures_as_evaluate_does_and_leaves_the_training_as_it_is(
    closet: Path, tiny: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    speedrun, out, book = benchmark("speedrun"), tmp_path / "out", tmp_path / "book.jsonl"
    monkeypatch.setattr(speedrun, "COUNT", 60)
    monkeypatch.setattr(speedrun, "pin", lambda cores: cores)
    changes = {"data.name": str(closet), "data.resize": None, "train.images": 160, "evaluate.count": 50}
    recipe = config.override(tiny, changes)
    (tmp_path / "tiny.toml").write_text(config.to_toml(recipe), encoding="utf-8")
    arguments = ["--recipe", str(tmp_path / "tiny.toml"), "--seeds", "1", "--out", str(out), "--book", str(book)]
    for _ in range(2):  # the second time nothing is left to do
        speedrun.main([*arguments, "--enter"])
        lines = speedrun.read(book)
        assert len(lines) == 1 and speedrun.read(out / "speedrun.jsonl") == lines
    (line,) = lines
    record = json.loads((out / "tiny-0" / "metrics.json").read_text())["scores"][line["score"]]
    assert [images for images, *_ in line["points"]] == [80, 160] and line["cores"] == 2
    assert line["points"][-1][2] == pytest.approx(record["value"], rel=1e-4) != line["points"][0][2]
    assert line["real"] == pytest.approx(record["real"], rel=1e-4)
    plain = trainer.train(recipe, tmp_path / "plain", overrides={"evaluate.every_images": 80})
    scored = [[bool(metric_names.heldout_score(record)) for record in run.read_log()]
              for run in (plain, runs.Run(out / "tiny-0"))]  # fmt: skip
    assert scored == [[True, True], [False, True]]
    weights = [(folder / "generator.safetensors").read_bytes() for folder in (plain.path, out / "tiny-0")]
    assert weights[0] == weights[1]


def test_a_speedrun_measures_ticks_a_step_apart() -> None:
    log = [{"images": images} for images in (20, 40, 60, 80, 100, 110, 120, 130, 140, 141)]
    assert [record["images"] for record in benchmark("speedrun").chosen(log)] == [20, 40, 60, 80, 100, 120, 140, 141]
    assert benchmark("speedrun").chosen([]) == []


def line_of_the_book(recipe: str, seed: int, minutes: float, **changes: Any) -> dict[str, Any]:
    """A run that is at 12 times real images after so many minutes and never at 6."""
    facts = dict.fromkeys(("recipe_hash", "code", "precision", "torch", "modiste"), "same")
    facts |= {"recipe": recipe, "seed": seed, "threads": 2, "processes": 1, "others": 0.01, "ancestor": None, "end": {}}
    facts |= {"processor": "named", "cores": 2, "test": {"name": "toy test", "digest": ""}, "score": "", "real": 0.1}
    return {**facts, "points": [[10, 30 * minutes, 2.0], [20, 60 * minutes, 1.2], [30, 90 * minutes, 0.8]], **changes}


def test_a_record_is_earlier_than_the_last_one_by_the_rule(capsys: pytest.CaptureFixture[str]) -> None:
    speedrun = benchmark("speedrun")

    def several(recipe: str, *minutes: float, **changes: Any) -> list[dict[str, Any]]:
        return [line_of_the_book(recipe, seed, value, **changes) for seed, value in enumerate(minutes)]

    first, near, fast = (10.0, 11.0, 10.5), (9.0, 10.4, 10.1), (5.0, 5.2, 5.1)
    book = [
        *several("two", 1, 1),
        *several("first", *first),
        *several("near", *near),
        *several("busy", 1, 1.1, 1, others=0.4),
        *several("tuned", 1, 1.1, 1, ancestor="older"),
        *several("elsewhere", 30, 31, 29, processor="other"),
        *several("fast", *fast),
        *several("late", 8, 8.1, 8.2),
    ]
    here, other = speedrun.entries(book).values()
    rows = {row.entry.lines[0]["recipe"]: row for row in speedrun.standings(here, 12)}
    log = {name: np.log(list(rows[name].minutes.values())) for name in ("first", "near", "fast")}
    tests = [float(stats.ttest_ind(log["first"], log[name], equal_var=False).pvalue) for name in ("near", "fast")]
    assert [rows[name].p_value for name in ("near", "fast")] == pytest.approx(tests) and tests[1] < 0.01 < tests[0]
    assert {name for name, row in rows.items() if not row.against} == {"first", "fast"}
    reasons = {
        "two": "2 of 3 seeds",
        "near": f"p = {tests[0]:.2g} against",
        "busy": "0.40 cores",
        "tuned": "from older",
    }
    assert all(reason in rows[name].against for name, reason in reasons.items())
    assert "not earlier than `fast`" in rows["late"].against
    assert [row.against for row in speedrun.standings(other, 12)] == [""]  # nothing to beat on that machine
    assert all("never with 3 of 3" in row.against for row in speedrun.standings(other, 6))
    speedrun.show(book, Console(), True)
    early, table, *_ = capsys.readouterr().out.partition("Minutes to 30 times")[2].split("Minutes to 12 times")
    assert early.count("(its first tick)") == 7 and "(its first tick)" not in table.partition("At the end")[0]
    assert "| 5.10 [4.86, 5.35] | 5.00, 5.20, 5.10 | 0.01 | **yes**, p = 0" in " ".join(table.split())


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


@pytest.mark.slow
def test_reading_data_is_measured_the_first_time_and_again(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("pyarrow")
    recipe = ["--recipe", "dense-sigmoid", "--images", "64"]
    benchmark("bench_data").main(["--pictures", "60", "--sets", "pictures", "parquet", "toy", "--json", *recipe])
    rows = json.loads(capsys.readouterr().out)
    assert [(row["set"].partition(" ")[0], row["command"]) for row in rows] == [
        *[("60", "modiste data"), ("60", "modiste train")] * 2,
        ("toy,", "modiste train"),
    ]
    for row in rows:
        for when in ("first", "again"):
            assert row[when]["seconds"] > 0 and 0 < row[when]["own"] < row[when]["peak"] < 4e9
    assert benchmark("bench_data").line(rows[0]).count("|") == 7
