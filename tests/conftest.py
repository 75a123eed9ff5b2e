"""What the tests share: one thread, no network, and recipes small enough to train in a blink."""

from __future__ import annotations

import functools
import gc
import os
import shutil
import sys
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported; also for the processes that tests start
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # two threads of a test leave the cores to the other tests

import numpy as np
import pytest
import torch
import typer
from support import Credentials, JobsHere, make_credentials

from modiste import cli, config, environment, progress
from modiste.config import Data, Evaluate, Loss, Network, Recipe, Train
from modiste.data import sets, toy
from modiste.data.images import content_digest
from modiste.data.sets import open_data
from modiste.experiments import runner
from modiste.metrics import judge
from modiste.networks import summary
from modiste.reports import judge_features

MAY_BE_SKIPPED = (
    "`make bench-rivals` sets up the environment of Keras",
    "asks Linux for processes",
    "forks",  # not on Windows
    "is not captured",  # a recipe whose steps no CUDA graph can hold
    "needs /proc to know which file is written",
    "needs git",
    "needs torch-fidelity",  # which the extra `dev` leaves out
    "no Chromium is installed",
    "onnxruntime-web is not in",
    "only root makes a disk",
    "root may write everywhere",
    "shell scripts stand in for apt-get",  # not on Windows
    "this file system takes UTF-8 only",  # macOS
)
"""Reasons for which a test may be skipped; any other is an error, so that no test is lost unseen."""


def _refuse_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    if report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        if not any(allowed in reason for allowed in MAY_BE_SKIPPED):
            report.outcome = "failed"
            report.longrepr = f"{reason}: a skip that tests/conftest.py does not allow"


def pytest_collection_finish() -> None:
    """Python looks for garbage seldom, and not among what imports have left: a tenth of the time of all tests."""
    gc.set_threshold(5000)
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    _refuse_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    _refuse_skip(report)
    return report


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test reads or fills the user's cache; what one test leaves there only saves another one time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MODISTE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session", autouse=True)
def _toy_set_is_drawn_once() -> Iterator[None]:
    """Drawing 10,000 garments takes three seconds, and dozens of tests want a few of them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sets, "_toy", functools.cache(sets._toy))
        yield


@pytest.fixture(scope="session", autouse=True)
def _commands_are_built_once() -> Iterator[None]:
    """Typer builds all of them anew for each call, which takes longer than most calls."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(typer.main, "get_command", functools.cache(typer.main.get_command))
        yield


@pytest.fixture(scope="session", autouse=True)
def _operations_of_a_recipe_are_counted_once() -> Iterator[None]:
    """Counting those of all that ship takes six seconds, and the command, a notebook and a page list them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(summary, "describe_recipe", functools.cache(summary.describe_recipe))
        yield


@pytest.fixture(scope="session", autouse=True)
def _reports_look_at_few_images() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(judge_features, "EXAMINED", 60)
        patch.setattr(judge_features, "SEARCHED", 20)
        yield


@pytest.fixture(scope="session", autouse=True)
def _no_file_waits_for_the_disk() -> Iterator[None]:
    """What these tests write need not outlast a power cut, and a file waits a hundredth of a second for its disk."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        yield


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a command says only because it takes a while is not said on a machine that is slow."""
    monkeypatch.setattr(progress, "QUIET_SECONDS", 600.0)


@pytest.fixture(autouse=True)
def _one_thread_in_order() -> None:
    """Every test stops at an operation of PyTorch that adds up in no fixed order."""
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)


@pytest.fixture(scope="session")
def closet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An .npz file of 300 training and 200 test images, drawn garments of 16 pixels with labels and class names."""
    train, test = (toy.draw(count, 16, seed) for count, seed in ((300, 7), (200, 8)))
    path = tmp_path_factory.mktemp("data") / "closet.npz"
    arrays = {"images": train.pixels, "labels": train.labels, "x_test": test.pixels, "y_test": test.labels}
    np.savez(path, class_names=np.array(train.class_names), **arrays)
    return path


@pytest.fixture(scope="session")
def closet_judge(closet: Path) -> Path:
    """The weights of a judge of the closet, in the cache where an evaluation finds it; it gets four of five right.

    Learned in float32 on every machine, so that scores do not depend on whether this one has bfloat16.
    """
    torch.set_num_threads(1)
    settings = Data(name=str(closet))
    place = judge.cache_path(content_digest(open_data(settings, part="fit")), "residual")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(environment, "choose_precision", lambda *_: "float32")
        judge.train(settings, place, epochs=16)
    return place


@pytest.fixture(scope="session")
def credentials(tmp_path_factory: pytest.TempPathFactory) -> Credentials:
    """A certificate to sign with, and its key."""
    pytest.importorskip("c2pa")
    return make_credentials(tmp_path_factory.mktemp("credentials"), "Studio Example")


@pytest.fixture
def tiny() -> Recipe:
    """A conditional DCGAN with batch norm and a moving average on 16-pixel toy garments: 20 updates."""
    return Recipe(
        name="tiny",
        data=Data(name="toy", count=64, resize=16),
        network=Network(z_dim=8, generator_widths=(8, 4), discriminator_widths=(4, 8), conditioning="one-hot"),
        train=Train(images=320, batch_size=16, tick_images=80, ema_halflife_images=100, precision="float32", threads=1),
        evaluate=Evaluate(every_images=0),
    )


@pytest.fixture
def tiny_free(tiny: Recipe) -> Recipe:
    """The same without batch norm, so that a batch may be split without changing the update."""
    network = tiny.network.model_copy(update={"generator_norm": "none", "discriminator_norm": "none"})
    return tiny.model_copy(update={"network": network, "loss": Loss(r1_gamma=0.1)})


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """The command line in this process: exit code, output, errors."""

    def run(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["modiste", *map(str, words)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            cli.main()
        printed = capsys.readouterr()
        return int(end.value.code or 0), printed.out, printed.err

    return run


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Headless Chromium, driven by playwright."""
    binary = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if binary is None:
        pytest.skip("no Chromium is installed")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright drives the browser")
    quiet = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
             "--disable-component-update", "--disable-sync"]  # fmt: skip
    playwright.expect.set_options(timeout=30_000)  # on a busy machine
    with playwright.sync_playwright() as engine:
        opened = engine.chromium.launch(executable_path=binary, args=quiet)
        yield opened
        opened.close()


@pytest.fixture
def study_file(tiny: Recipe, closet: Path, tmp_path: Path) -> Path:
    """A study of two learning rates on two seeds, with a recipe file beside it; ten updates a run."""
    recipe = config.override(tiny, {"data.name": str(closet), "data.resize": None, "train.images": 160})
    (tmp_path / "tiny.toml").write_text(config.to_toml(recipe), encoding="utf-8")
    study = tmp_path / "rates.toml"
    study.write_text(
        """
        about = "Does the learning rate matter?"
        seeds = 2
        threads = 1
        evaluate.count = 50
        grid.train.lr_generator = [1e-4, 2e-3]
        [[configuration]]
        name = "tiny"
        recipe = "tiny.toml"
        """,
        encoding="utf-8",
    )
    return study


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Runs are carried out in this process, which saves the time to start others; their names, in order."""
    jobs = JobsHere()
    monkeypatch.setattr(runner, "run_locally", jobs.run_locally)
    return jobs.folders
