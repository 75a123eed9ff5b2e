"""Trackers: every number arrives once, by images shown, however often a run was stopped; and the sentences."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from support import JobsHere

from modiste import cli, config, runs
from modiste.config import Recipe
from modiste.errors import ModisteError, UsageError
from modiste.experiments import runner, studies, study_config, trackers
from modiste.training import trainer
from modiste.training.callbacks import Listener

QUIET = Console(quiet=True)
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning")  # MLflow's own


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty current folder, and nothing that says where MLflow writes."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.setenv("MLFLOW_LOGGING_LEVEL", "WARNING")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data base with MLflow's tables; to make them takes longer than all else."""
    place = tmp_path_factory.mktemp("store") / "mlflow.db"
    pytest.importorskip("mlflow").MlflowClient(f"sqlite:///{place}")
    return place


@pytest.fixture
def mlflow(alone: None, empty_store: Path, tmp_path: Path) -> Any:
    """A client of an empty store in the current folder, which is where MLflow writes when nothing else is said."""
    shutil.copy(empty_store, tmp_path)
    return pytest.importorskip("mlflow").MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")


def only_run(client: Any) -> Any:
    (run,) = client.search_runs([client.get_experiment_by_name("modiste").experiment_id])
    return run


def steps(client: Any, run: Any, metric: str) -> list[int]:
    return [entry.step for entry in client.get_metric_history(run.info.run_id, metric)]


def test_the_working_folder_s_name_is_no_part_of_a_url(
    empty_store: Path, alone: None, tiny: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "outer" / "a%20b?c#d"
    folder.mkdir(parents=True)
    shutil.copy(empty_store, folder)
    monkeypatch.chdir(folder)
    trainer.train(tiny, "run", overrides={"train.images": 80}, follow=trackers.choose("mlflow").follow)
    assert sorted(path.name for path in folder.glob("mlruns/**/*.png")) == ["000000000.png", "000000080.png"]
    client = pytest.importorskip("mlflow").MlflowClient()
    (found,) = client.search_runs([client.get_experiment_by_name("modiste").experiment_id])
    assert len(client.list_artifacts(found.info.run_id, "samples")) == 2
    assert not (folder.parent / "a b").exists()


def test_a_training_that_was_cut_off_goes_on_in_the_same_mlflow_run(mlflow: Any, tiny: Recipe, tmp_path: Path) -> None:
    tracker = trackers.choose("mlflow")

    @contextmanager
    def cut_off(run: runs.Run) -> Iterator[Listener]:
        with tracker.follow(run) as listen:

            def until(record: Mapping[str, Any]) -> None:
                listen(record)
                if record["images"] == 160:  # after the tick is told, before its state is saved
                    raise RuntimeError("power cut")

            yield until

    with pytest.raises(RuntimeError, match="power cut"):
        trainer.train(tiny, tmp_path / "mine", console=QUIET, follow=cut_off)
    assert steps(mlflow, only_run(mlflow), "loss_g") == [80, 160]
    run = trainer.train(tiny, tmp_path / "mine", console=QUIET, follow=tracker.follow)

    found = only_run(mlflow)
    for key in run.read_log()[0].keys() - {"images"}:
        assert steps(mlflow, found, key) == [80, 160, 240, 320]
    assert found.data.metrics["loss_g"] == pytest.approx(run.read_log()[-1]["loss_g"])
    assert found.info.status == "FINISHED"
    assert found.data.params["train.images"] == "320" and found.data.params["network.generator_widths"] == "[8, 4]"
    assert not {"name", "about", "source"} & found.data.params.keys()
    tags = {
        "recipe": "tiny",
        "recipe_hash": run.read_manifest().recipe_hash,
        "seed": "0",
        "run_folder": str(run.path),
    }
    assert tags.items() <= found.data.tags.items()
    grids = [Path(file.path).name for file in mlflow.list_artifacts(found.info.run_id, "samples")]
    assert sorted(grids) == [grid.name for grid in run.list_grids()] and len(grids) == 5

    changes = {"train.images": 400}
    trainer.train(run.path, overrides=changes, extend=True, console=QUIET, follow=tracker.follow)
    longer = only_run(mlflow)
    assert steps(mlflow, longer, "epoch") == [80, 160, 240, 320, 400]
    assert longer.data.params["train.images"] == "320" and longer.data.tags["train.images"] == "400"


def test_a_mirror_that_breaks_ends_no_training_and_is_completed_later(
    mlflow: Any, tiny: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tracker, send = trackers.choose("mlflow"), trackers._send

    def broken(store: Any, run: runs.Run, run_id: str, log: Sequence[Mapping[str, Any]], known: Any) -> None:
        if log and log[-1]["images"] > 80:
            raise OSError("the server is gone")
        send(store, run, run_id, log, known)

    with monkeypatch.context() as patch:
        patch.setattr(trackers, "_send", broken)
        run = trainer.train(tiny, tmp_path / "mine", console=QUIET, follow=tracker.follow)
    assert run.read_manifest().status == "finished"
    assert capsys.readouterr().err.count("note: MLflow did not take it (the server is gone)") == 1
    assert steps(mlflow, only_run(mlflow), "loss_d") == [80]
    (run.path / "mlflow.txt").write_text("no id of a run", encoding="utf-8")  # and MLflow has lost the run
    mlflow.delete_run(only_run(mlflow).info.run_id)
    with tracker.follow(run):
        pass
    assert steps(mlflow, only_run(mlflow), "loss_d") == [80, 160, 240, 320]
    assert only_run(mlflow).info.status == "FINISHED"


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Commands of a study are carried out in this process; each one's words, in order."""
    jobs = JobsHere()
    monkeypatch.setattr(runner, "run_locally", jobs.run_locally)
    return jobs.commands


def test_a_study_is_mirrored_with_its_scores_and_nothing_twice(
    mlflow: Any, tiny: Recipe, closet: Path, closet_judge: Path, tmp_path: Path, here: list[str]
) -> None:
    recipe = config.override(tiny, {"data.name": str(closet), "data.resize": None, "train.images": 80})
    (tmp_path / "tiny.toml").write_text(config.to_toml(recipe), encoding="utf-8")
    one = study_config.Configuration(name="tiny", recipe=str(tmp_path / "tiny.toml"))
    asked = study_config.Study(
        name="small", configuration=(one,), seeds=1, threads=1, evaluate=study_config.Judging(count=50)
    )
    untracked = studies.study(asked, tmp_path / "small", console=QUIET)
    identity, row = untracked.read_plan().hash, untracked.read_rows()[0]
    assert not (untracked.run("tiny", 0).path / "mlflow.txt").exists() and len(here) == 2

    for _ in range(2):  # the run is reused, and sent once
        assert studies.study(asked, tmp_path / "small", track="mlflow", console=QUIET).read_plan().hash == identity
    assert len(here) == 2
    found = only_run(mlflow)
    for metric in ("loss_g", f"scores/{row.score}", f"uncertainty/{row.score}"):
        assert steps(mlflow, found, metric) == [80]
    assert found.data.metrics[f"scores/{row.score}"] == row.value
    assert found.data.tags["study"] == "small" and found.data.tags["configuration"] == "tiny"
    assert "metrics.json" in [file.path for file in mlflow.list_artifacts(found.info.run_id)]

    more = study_config.revise(asked, seeds=2)
    folder = studies.study(more, tmp_path / "small", track="mlflow", console=QUIET)
    assert [command.endswith("--track mlflow") for command in here[2:]] == [True, False]
    both = mlflow.search_runs([found.info.experiment_id])
    values = {run.data.tags["seed"]: run.data.metrics[f"scores/{row.score}"] for run in both}
    assert values == {str(other.seed): other.value for other in folder.read_rows() if other.score == row.score}
    assert steps(mlflow, found, f"scores/{row.score}") == [80]

    pytest.importorskip("tensorboard")
    for _ in range(2):
        studies.study(more, tmp_path / "small", track="tensorboard", console=QUIET)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder.run("tiny", 0).path / "tensorboard")).Reload()
    for name in ("loss_g", f"scores/{row.score}"):
        assert [event.step for event in events.Scalars(name)] == [80]


# the sentences


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """The command line in this process: exit code and what it says of an error."""

    def run(*words: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["modiste", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        return int(end.value.code or 0), capsys.readouterr().err

    return run


def absent(name: str) -> Any:
    if name.startswith("mlflow"):
        raise ModuleNotFoundError(f"No module named {name!r}")
    return import_module(name)


def test_a_missing_package_is_a_sentence_before_anything_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: Callable[..., tuple[int, str]]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(trackers, "import_module", absent)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    for name, extra in (("mlflow", "modiste[mlflow]"), ("tensorboard", "modiste[track]")):
        for command in (("train", "diaz-a"), ("study", "diaz")):
            code, text = said(*command, "--track", name)
            assert code == 2 and f"run pip install '{extra}'" in text and len(text.splitlines()) == 1
    assert not any(tmp_path.iterdir())


def test_an_unknown_tracker_is_a_sentence(said: Callable[..., tuple[int, str]]) -> None:
    for command in (("train", "diaz-a"), ("study", "diaz"), ("study", "diaz", "--dry-run")):
        code, text = said(*command, "--track", "abacus")
        assert code == 2 and "no tracker is named 'abacus'; choose one of tensorboard, mlflow" in text


@pytest.mark.parametrize("place", ["http://someone:secret@127.0.0.1:9", "nowhere://here"])
def test_a_store_that_does_not_answer_is_a_sentence(alone: None, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", place)
    with pytest.raises(ModisteError, match="set MLFLOW_TRACKING_URI to a store that answers") as caught:
        trackers.choose("mlflow")
    assert not isinstance(caught.value, UsageError)
    assert "\n" not in str(caught.value) and "secret" not in str(caught.value)


def test_tensorboard_is_sent_what_it_missed(tiny: Recipe, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    follow = trackers.choose("tensorboard").follow
    for images, mirror in ((80, follow), (160, None), (240, follow)):
        changes = {"train.images": images}
        run = trainer.train(tiny, tmp_path / "run", overrides=changes, extend=True, console=QUIET, follow=mirror)
    events = EventAccumulator(str(run.path / "tensorboard")).Reload()
    assert [event.step for event in events.Scalars("loss_g")] == [80, 160, 240]
    assert len(list((run.path / "tensorboard").glob("events.*"))) == 1
