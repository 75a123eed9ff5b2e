"""The command line as a person uses it; most calls run in this process, a few as a command of their own."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer
from handmade_records import record
from PIL import Image

import modiste
from modiste import cli, config
from modiste.config import Recipe
from modiste.data import toy
from modiste.training import trainer

RECORD = "record.json"
COMMAND = [sys.executable, "-m", "modiste"]


class Outcome:
    """What a call printed and how it ended."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    def run(*words: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["modiste", *map(str, words)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            cli.main()
        printed = capsys.readouterr()
        return Outcome(int(end.value.code or 0), printed.out, printed.err)

    return run


@pytest.fixture
def recipe_file(tiny: Recipe, tmp_path: Path) -> Path:
    file = tmp_path / "tiny.toml"
    file.write_text(config.to_toml(tiny), encoding="utf-8")
    return file


@pytest.fixture
def trained(tiny: Recipe, tmp_path: Path) -> Path:
    return modiste.train(tiny, tmp_path / "trained", overrides={"train.images": 80}).path


def test_help_and_version(call: Any) -> None:
    assert call("--version").out.strip() == f"modiste {modiste.__version__}"
    help_text = call("--help")
    assert help_text.code == 0 and all(
        command in help_text.out for command in ("train", "sample", "evaluate", "judge", "data", "recipes", "doctor")
    )
    for words in commands_of(typer.main.get_command(cli.app), ()):
        assert f"Example: modiste {' '.join(words)}" in call(*words, "--help").out, words
    for command in ("study", "evaluate", "augment"):
        shown = call(command, "--help").out
        assert shown.count("Example: modiste ") == 3
        assert shown.index("─ Options") < shown.index("─ Scoring") < shown.index("─ Advanced"), command
    for command in ("sample", "export", "report"):
        assert "pretrained" in call(command, "--help").out.partition("Options")[0]


def commands_of(group: Any, words: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    for name, command in group.commands.items():
        yield (*words, name)
        if hasattr(command, "commands"):
            yield from commands_of(command, (*words, name))


def test_train_then_resume_then_finished(call: Any, recipe_file: Path, tmp_path: Path) -> None:
    done = call("train", recipe_file, "--out", tmp_path / "run", "--set", "train.images=80")
    assert done.code == 0 and "trained 80 images" in done.out and "modiste sample" in done.out
    lines = [line for line in done.err.splitlines() if line.startswith("epoch")]
    assert len(lines) == 1 and re.search(r"images\s+80/80 .*loss G .* D accuracy real .* images/s .* left", lines[0])
    again = call("train", recipe_file, "--out", tmp_path / "run", "--set", "train.images=80", "--json")
    assert "is finished" in again.err.replace("\n", " ") and json.loads(again.out)["status"] == "finished"
    other = call("train", recipe_file, "--out", tmp_path / "run", "--seed", 5)
    assert other.code == 2 and "seed: 0 -> 5" in other.err and other.err.count("\n") == 1
    assert call("train", tmp_path / "run").code == 0


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["train", "swfit"], 2, "did you mean 'swift'?"),
        (["train", "diaz-a", "--set", "train.batchsize=3"], 2, "did you mean 'train.batch_size'?"),
        (["train", "diaz-a", "--set", "train.beta1=7"], 2, "less than 1"),
        (["train", "diaz-a", "--data", "nowhere"], 2, "nowhere"),
        (["train", "diaz-a", "--budget", "soon"], 2, "write it as 5min, 3 epochs or 60000 images"),
        (["train", "diaz-a", "--track", "abacus"], 2, "choose one of tensorboard"),
        (["sample", "nowhere", "--out", "x.png"], 2, "is not a run folder"),
        (["recipes", "show", "noronah"], 2, "did you mean 'noronha'?"),
        (["evaluate", "a", "b", "--out", "m.json"], 2, "leave it out"),
        (["evaluate", "metrics.json"], 1, "cannot read the record metrics.json"),
        (["judge", "show", "sewing"], 2, "sewing is no judge"),
    ],
)
def test_wrong_use_is_one_sentence(
    call: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], code: int, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = call(*words)
    assert outcome.code == code and said in outcome.err
    assert outcome.err.startswith("modiste: ") and outcome.err.count("\n") == 1 and "Traceback" not in outcome.err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("words", [("recipes", "keys"), ("evaluate", RECORD, RECORD), ("--help",), ("--version",)])
def test_a_reader_that_closes_the_pipe_ends_the_command_quietly(words: tuple[str, ...], tmp_path: Path) -> None:
    """As `head` does after its lines: printed by print, Rich and Typer."""
    (tmp_path / RECORD).write_text(json.dumps(record().to_json()), encoding="utf-8")
    command = [sys.executable, "-m", "modiste", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        errors = process.stderr.read()
    assert process.returncode == 0
    assert [line for line in errors.splitlines() if not line.endswith(": preparing")] == []


def test_a_command_whose_messages_nobody_can_read_has_failed(recipe_file: Path, tmp_path: Path) -> None:
    """A closed pipe of messages ends the work early, and that is no success."""
    command = [sys.executable, "-m", "modiste", "train", str(recipe_file), "--out", str(tmp_path / "run")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stderr.close()
        process.stdout.read()
    assert process.returncode == 1


def test_a_closed_output_is_no_failure() -> None:
    command = f"{sys.executable} -m modiste recipes keys >&-"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True)
    assert done.returncode == 0 and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("words", "place"),
    [
        (("data", ""), "the word after data"),
        (("sample", "pretrained", "--seeds", "", "--out", "a.png"), "the word after --seeds"),
        (("train", "swift", "--out="), "the value of --out"),
    ],
)
def test_an_empty_word_is_refused(call: Any, words: tuple[str, ...], place: str) -> None:
    refused = call(*words)
    assert (refused.code, refused.out) == (
        2,
        "",
    ) and refused.err == f"modiste: {place} is empty; write one, or leave it out\n"


def test_unknown_commands_and_options_exit_with_two(call: Any) -> None:
    assert call("trian").code == 2 and call("train", "diaz-a", "--sed", 1).code == 2


def test_dry_run_prints_a_recipe_that_trains(call: Any, recipe_file: Path, tmp_path: Path) -> None:
    outcome = call("train", recipe_file, "--dry-run", "--out", tmp_path / "run", "--set", "train.epochs=2")
    assert outcome.code == 0 and "GFLOP per image shown" in outcome.out and not (tmp_path / "run").exists()
    assert config.from_toml(outcome.out, "dry run").train.images == 128
    told = json.loads(call("train", recipe_file, "--dry-run", "--set", "train.epochs=2", "--json").out)
    assert config.build(told["recipe"], "dry run").train.images == 128 and told["gflop_per_image"] > 0
    assert told["out"].startswith("runs/") and "images" in told["data"]


def test_sample_writes_every_form(call: Any, trained: Path, tmp_path: Path) -> None:
    grid = tmp_path / "grid.png"
    assert call("sample", trained, "--class", "sneaker", "--count", 8, "--seeds", "0-7", "--out", grid).code == 0
    with Image.open(grid) as picture:
        assert picture.mode == "L" and picture.width > 400
    before = grid.read_bytes()
    call("sample", trained, "--class", 7, "--count", 8, "--out", grid)
    assert grid.read_bytes() == before
    assert call("sample", trained, "--interpolate", 1, 2, "--count", 5, "--out", tmp_path / "walk.gif").code == 0
    with Image.open(tmp_path / "walk.gif") as walk:
        assert walk.n_frames == 5
    result = call("sample", trained, "--seeds", "3,5-6", "--out", tmp_path / "set.npz", "--json")
    assert json.loads(result.out)["count"] == 3
    with np.load(tmp_path / "set.npz") as arrays:
        assert arrays["seeds"].tolist() == [3, 5, 6] and arrays["labels"].tolist() == [3, 5, 6]
    assert call("sample", trained, "--count", 4, "--out", tmp_path / "folder").code == 0
    assert call("sample", trained, "--count", 4, "--out", tmp_path / "idx-folder").code == 0
    assert len(list((tmp_path / "folder").rglob("*.png"))) == 4
    assert {path.name for path in (tmp_path / "idx-folder").iterdir()} == {
        "train-images-idx3-ubyte.gz",
        "train-labels-idx1-ubyte.gz",
    }
    wrong = call("sample", trained, "--class", "hat", "--out", grid)
    assert wrong.code == 2 and "9 Ankle boot" in wrong.err


def test_recipes_list_show_and_keys(call: Any) -> None:
    rows = json.loads(call("recipes", "--json").out)
    assert {"diaz-a", "noronha", "roh", "dense-sigmoid", "bare-naich", "swift"} <= {row["name"] for row in rows}
    assert all(row["source"] and row["about"] and row["gflop_per_image"] > 0 for row in rows)
    shown = call("recipes", "show", "noronha").out
    for count in (
        "627,200",
        "25,088",
        "409,600",
        "512",
        "102,400",
        "128",
        "800",
        "1,664",
        "409,856",
        "12,545",
        "424,065",
    ):
        assert re.search(rf" {count}$", shown, re.MULTILINE), count
    assert "train.batch_size = 128" in call("recipes", "keys").out


def test_data_shows_a_set(call: Any, closet: Path, tmp_path: Path) -> None:
    outcome = call("data", closet, "--out", tmp_path / "shown")
    assert outcome.code == 0 and "Sneaker" in outcome.out and "duplicates" in outcome.out
    assert (tmp_path / "shown" / "counts.png").is_file() and (tmp_path / "shown" / "first-images.png").is_file()
    assert (
        json.loads(call("data", closet, "--out", tmp_path / "shown", "--json").out)["splits"]["train"]["images"] == 300
    )


def test_doctor(call: Any) -> None:
    facts = json.loads(call("doctor", "--json").out)
    assert facts["modiste"] == modiste.__version__ and facts["device"] in ("cpu", "cuda", "mps")


def test_tensorboard_mirrors_the_log(call: Any, recipe_file: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    call("train", recipe_file, "--out", tmp_path / "run", "--track", "tensorboard", "--set", "train.images=160")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    assert [event.step for event in events.Scalars("loss_g")] == [80, 160]
    assert len(events.Images("samples")) == 2


def test_a_terminated_command_saves_and_says_how_to_go_on(recipe_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    command = [*COMMAND, "train", str(recipe_file), "--out", str(out), "--set", "train.images=1000000"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 60
        while not (out / "log.jsonl").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        os.kill(process.pid, signal.SIGTERM)
        printed, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "state saved" in printed and f"modiste train {out}" in printed
    assert json.loads((out / "manifest.json").read_text(encoding="utf-8"))["status"] == "interrupted"


def test_a_place_that_cannot_be_written_is_one_sentence(call: Any, trained: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    for words in (
        ["sample", trained, "--out", tmp_path / "file" / "x.png"],
        ["data", "toy", "--out", tmp_path / "file"],
    ):
        outcome = call(*words)
        assert outcome.code == 1 and outcome.err.startswith("modiste: ") and outcome.err.count("\n") == 1
        assert str(tmp_path / "file") in outcome.err


def test_seeds_and_interpolation_exclude_each_other(call: Any, trained: Path, tmp_path: Path) -> None:
    refused = call("sample", trained, "--interpolate", 1, 2, "--seeds", "0-3", "--out", tmp_path / "walk.gif")
    assert refused.code == 2 and "leave --seeds out" in refused.err
    assert call("sample", trained, "--interpolate", 1, 2, "--out", tmp_path / "walk.npz").code == 0
    with np.load(tmp_path / "walk.npz") as arrays:
        assert len(arrays["images"]) == 10 and "seeds" not in arrays
    refused = call("sample", trained, "--columns", 4, "--out", tmp_path / "walk.gif")
    assert refused.code == 2 and "--columns 4 is of a grid, and" in refused.err and "format gif" in refused.err
    many = call("sample", trained, "--seeds", "0-3000000000", "--out", tmp_path / "many.npz")
    assert many.code == 2 and "are more than 10,000,000" in many.err


def test_the_suggested_commands_run(call: Any, recipe_file: Path, closet: Path, tmp_path: Path) -> None:
    done = call("train", recipe_file, "--data", closet, "--out", tmp_path / "a run", "--set", "train.images=32")
    suggested = [shlex.split(line) for line in done.out.splitlines() if line.startswith("  modiste ")]
    assert [words[1] for words in suggested] == ["sample", "evaluate", "sample", "train"]
    for words in suggested:
        fewer = ["--count", "60"] if words[1] == "evaluate" else []  # than 10,000, for speed
        assert call(*words[1:], *fewer).code == 0, words
    assert (tmp_path / "a run-seed1" / "progress.gif").is_file() and (tmp_path / "a run" / "metrics.json").is_file()


@pytest.fixture
def garments(tmp_path: Path) -> list[Path]:
    """Two files of 60 drawn garments each; the second one's are half as bright."""
    pixels = toy.draw(60, 16, 60).pixels
    for name, shown in (("bright", pixels), ("dim [half]", pixels // 2 + 60)):
        np.savez(tmp_path / f"{name}.npz", images=shown, labels=np.arange(60) % 10, class_names=toy.CLASS_NAMES)
    return [tmp_path / "bright.npz", tmp_path / "dim [half].npz"]


def test_evaluate_prints_a_table_and_writes_the_record(
    call: Any, garments: list[Path], closet: Path, closet_judge: Path
) -> None:
    words = ["evaluate", garments[0], "--data", closet, "--count", 60]
    shown = call(*words)
    assert shown.code == 0 and "bright: 60 images against 200 of closet test" in shown.out
    lines = shown.out.splitlines()
    heads = next(line for line in lines if line.startswith("score"))
    assert re.split(r"\s{2,}", heads.strip()) == [
        "score",
        "generated",
        "real images",
        "trivial",
        "reading",
        "what it says",
    ]
    (line,) = [line for line in lines if line.startswith("frechet_closet_60_test ")]
    assert re.search(r"frechet_closet_60_test +\S+ ± \S+ +\S+ +\S+ +\S.* distance between real and generated", line)
    assert any(line.startswith("not measured: classifier_accuracy: slow, up to an hour") for line in lines)
    place = garments[0].with_name("bright.metrics.json")
    assert lines[-1] == f"wrote {place}" and "bright.npz: features: closet" in shown.err
    record = json.loads(call(*words, "--json").out)
    assert record.pop("written") == str(place) and record == json.loads(place.read_text())
    table = call(*words, "--markdown").out.splitlines()
    assert "| score | generated | real images | trivial | reading | what it says |" in table
    again = call("evaluate", place)
    assert again.code == 0 and line in again.out and "wrote" not in again.out


def test_evaluate_puts_things_side_by_side(
    call: Any, garments: list[Path], closet: Path, closet_judge: Path, tmp_path: Path
) -> None:
    both = call("evaluate", *garments, "--data", closet, "--count", 60)
    assert both.code == 0
    heads = next(line for line in both.out.splitlines() if line.startswith("score"))
    assert re.split(r"\s{2,}", heads.strip()) == ["score", "bright", "dim [half]", "real images", "trivial"]
    assert "agree on the order by Fréchet distance: bright < dim [half]" in both.out
    records = [garment.with_suffix(".metrics.json") for garment in garments]
    assert call("evaluate", *records).out == both.out  # from the records alone
    assert call("evaluate", *records, "--markdown").out.startswith(
        "| score | bright | dim [half] | real images | trivial |"
    )
    assert [record["subject"]["name"] for record in json.loads(call("evaluate", *records, "--json").out)] == [
        "bright",
        "dim [half]",
    ]


def test_evaluate_refuses_to_mix_protocols(call: Any, garments: list[Path], closet: Path, closet_judge: Path) -> None:
    first, second = (garment.with_suffix(".metrics.json") for garment in garments)
    call("evaluate", garments[0], "--data", closet, "--count", 60)
    call("evaluate", garments[1], "--data", closet, "--count", 60, "--reference", "heldout", "--out", second)
    refused = call("evaluate", first, second)
    assert (
        refused.code == 2
        and not refused.out
        and refused.err.startswith("warning: too little for scores to be relied upon: closet heldout drawn-10% (30 ")
    )
    assert refused.err.endswith(
        "bright and dim [half] were not measured alike, so one table cannot hold both: one against closet test, one "
        "against closet heldout drawn-10%; evaluate both against the same images\n"
    )
    call("evaluate", garments[1], "--data", closet, "--count", 40, "--out", second)
    refused = call("evaluate", first, second)
    assert refused.code == 2 and "60 and 40 (and 2 more)" in refused.err


def test_evaluate_says_what_it_cannot_open(call: Any, tmp_path: Path) -> None:
    outcome = call("evaluate", tmp_path / "nowhere")
    assert outcome.code == 2 and not outcome.out
    assert outcome.err.splitlines()[-1].startswith(f"modiste: {tmp_path / 'nowhere'} does not exist; give a run folder")


def test_evaluate_warns_on_standard_error(call: Any, garments: list[Path], closet: Path) -> None:
    outcome = call("evaluate", garments[0], "--data", closet, "--count", 90, "--json")
    assert outcome.code == 0 and json.loads(outcome.out)["protocol"]["generated"] == 60
    outcome = call("evaluate", garments[0], "--data", closet, "--count", 90)
    assert "warning: " in outcome.err and "holds 60 images and 90 were asked for" in outcome.err


def test_memory_that_runs_out_is_one_sentence(call: Any, recipe_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer, "train", lambda *_, **__: torch.empty(2**52))
    outcome = call("train", recipe_file)
    assert outcome.code == 1 and "more memory than there is" in outcome.err and outcome.err.count("\n") == 1


def test_a_judge_is_trained_found_and_shown(
    call: Any, garments: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODISTE_CACHE", str(tmp_path / "cache"))
    data, own = garments[0], tmp_path / "own" / "mine.safetensors"
    trained = call("judge", "train", "--data", data, "--epochs", 1, "--seed", 2)
    assert trained.code == 0 and re.search(r"epoch +1/1  loss \S+  accuracy on held-out images \S+%", trained.err)
    assert (
        "residual classifier, " in trained.out
        and f"--data {Path(data).name} --kind residual --epochs 1 --seed 2" in trained.out
    )
    assert len(list((tmp_path / "cache" / "judges").iterdir())) == 2
    found = call("evaluate", garments[1], "--data", data, "--reference", "heldout", "--count", 60)
    assert found.code == 0 and "frechet_bright_60_heldout" in found.out
    made = call("judge", "train", "--data", data, "--epochs", 1, "--kind", "plain", "--out", own, "--json")
    card = json.loads(made.out)
    assert card["kind"] == "plain" and own.is_file() and card == json.loads(own.with_suffix(".json").read_text())
    refused = call("judge", "train", "--data", data, "--epochs", 1, "--out", own.with_suffix(".txt"))
    assert refused.code == 2 and "a judge is one FILE.safetensors" in refused.err
    shown = call("judge", "show", own)
    assert shown.code == 0 and card["sha256"] in shown.out and card["data"]["digest"] in shown.out
    assert re.search(r"Ankle boot +\d+\.\d\d%   taken for ( +\d+){10}$", shown.out, re.MULTILINE)
    assert json.loads(call("judge", "show", own, "--json").out) == card
    own.write_bytes(b"nothing")
    assert call("judge", "show", own).code == 1


def test_a_training_names_its_best_generator(call: Any, recipe_file: Path, closet: Path, tmp_path: Path) -> None:
    judged = ("train.images=80", "evaluate.every_images=80", "evaluate.count=20", "data.resize=none", "data.count=none")
    settings = [word for text in judged for word in ("--set", text)]
    done = call("train", recipe_file, "--out", tmp_path / "run", "--data", closet, *settings)
    assert done.code == 0 and f"best        {tmp_path / 'run' / 'best.safetensors'}: after 80 images" in done.out
    assert f"modiste evaluate {tmp_path / 'run'}" in done.out
    best = call("evaluate", tmp_path / "run", "--checkpoint", "best", "--count", 60)
    assert best.code == 0 and best.out.endswith(f"wrote {tmp_path / 'run' / 'metrics-best.json'}\n")


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (
            ("search", "noronha", "--seeds", "0,2"),
            ("'--seeds'", "integer", "(given: '0,2')", "`modiste search --help`"),
        ),
        (("evaluate", "x", "--reference", "foo"), ("'foo' is not one of 'test'", "`modiste evaluate --help`")),
        (("sample", "runs/x"), ("missing option '--out'", "`modiste sample --help`")),
        (("judge", "train", "--epochs", "x"), ("'--epochs'", "(given: 'x')", "`modiste judge train --help`")),
        (("trian", "swift"), ("'trian'", "Did you mean 'train'?", "See `modiste --help`")),
        (("study", "diaz", "--jobs", "0"), ("'--jobs'", "greater than or equal to 1", "(given: '0')")),
    ],
)
def test_what_the_parser_refuses_is_one_sentence_too(call: Any, words: tuple[str, ...], parts: tuple[str, ...]) -> None:
    done = call(*words)
    assert done.code == 2 and done.err.startswith("modiste: ") and done.err.count("\n") == 1
    assert all(part in done.err for part in parts), done.err


def test_without_a_verb_the_help_is_all_that_is_said(call: Any) -> None:
    done = call()
    assert done.code == 2 and "modiste:" not in done.out + done.err and "train" in done.out + done.err


def test_a_budget_is_a_time_epochs_or_images(call: Any, recipe_file: Path, tmp_path: Path) -> None:
    done = call("train", recipe_file, "--budget", "96 images", "--out", tmp_path / "run", "--json")
    assert done.code == 0 and json.loads(done.out)["images"] == 96
    refused = call("train", recipe_file, "--budget", "long", "--out", tmp_path / "other")
    assert refused.code == 2 and "--budget 'long' is no length; write it as 5min, 3 epochs" in refused.err
    assert not (tmp_path / "other").exists()
