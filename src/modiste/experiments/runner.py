"""Runs of a study as processes of their own, some at a time: on this machine, or as tasks of a Ray cluster.

Each process gets the command that a person would type. What it says goes to a log file; a command that fails leaves
its last line as the reason. The processes of a study that was killed save and end (`lifeline`); they are waited for.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from modiste import files, runs, subprocesses
from modiste.errors import ModisteError, UsageError
from modiste.experiments import study_config

INTERRUPTED = "interrupted"
GLANCE_SECONDS = 0.2
PATIENCE_SECONDS = 30.0
RAY_RETRIES = 5


@dataclass(frozen=True)
class Job:
    """Commands to carry out one after the other for one run; plain values, as they may travel."""

    folder: Path
    commands: tuple[tuple[str, ...], ...]
    log: Path
    working_folder: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    cores: int = 1
    """Those that a cluster keeps free for it: one for every thread and every process."""


class Stop:
    """Says to all threads that it is over, and ends the processes that they started."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._processes: set[subprocess.Popen[bytes]] = set()
        self.came = False

    def start(self, errand: Job, command: Sequence[str], log: int) -> subprocess.Popen[bytes] | None:
        """The process of that command, or None if it is over."""
        with self._lock:
            if self.came:
                return None
            process = subprocesses.start(
                command,
                log,
                environment=errand.environment,
                folder=errand.working_folder,
                own_session=True,  # a Ctrl-C at the terminal is the study's to pass on, once
            )
            self._processes.add(process)
            return process

    def ended(self, process: subprocess.Popen[bytes]) -> None:
        """Forget a process that has ended."""
        subprocesses.let_go(process)
        with self._lock:
            self._processes.discard(process)

    def now(self) -> None:
        """Start no more, and ask every process to save and end."""
        with self._lock:
            self.came = True
            for process in self._processes:
                process.terminate()


def run_job(errand: Job, stop: Stop | None = None) -> str:
    """Carry out the commands: an empty text when all went well, INTERRUPTED, or the reason why one failed."""
    stop = stop or Stop()
    try:
        wait_until_free(errand.folder, stop)
    except ModisteError as error:
        return str(error)
    for command in errand.commands:
        if stop.came:
            return INTERRUPTED
        with errand.log.open("ab") as log:
            log.write(f"$ {study_config.shown(command)}\n".encode())
            log.flush()
            start = log.tell()
            process = stop.start(errand, command, log.fileno())
            if process is None:
                return INTERRUPTED
            try:
                code = process.wait()
            except BaseException:  # a Ray task that is cancelled
                process.terminate()
                process.wait()
                raise
            finally:
                stop.ended(process)
        if stop.came:
            return INTERRUPTED
        if code:
            return reason(errand.log, start, code)
        if runs.Run(errand.folder).read_manifest().status != "finished":
            return INTERRUPTED
    return ""


def wait_until_free(folder: Path, stop: Stop) -> None:
    """Wait while another process trains in that run folder; it does the same work and may do it to the end."""
    while folder.is_dir() and not stop.came:
        with suppress(files.InUse), files.locked(folder, "training"):
            return
        time.sleep(GLANCE_SECONDS)


def reason(log: Path, start: int, code: int) -> str:
    """Why a command failed: the last line that it said after that place of the log, or the signal that ended it."""
    if code < 0:
        name = signal.Signals(-code).name
        return f"killed by {name}" + (", perhaps for want of memory" if name == "SIGKILL" else "")
    with log.open("rb") as file:
        file.seek(start)
        said = file.read().decode(errors="replace").strip().splitlines()
    return said[-1].removeprefix("modiste: ") if said else f"exit code {code}"


def locally(
    errands: Sequence[Job], jobs: int, stopped: Callable[[], bool], glance: Callable[[], None]
) -> Iterator[tuple[int, str]]:
    """Carry the errands out on this machine, `jobs` at a time: the number of each that ends, with its outcome.

    `glance` is called several times per second. When `stopped` says so, the processes save and end.
    """
    stop = Stop()
    with ThreadPoolExecutor(jobs) as pool:
        waiting: dict[Future[str], int] = {pool.submit(run_job, one, stop): k for k, one in enumerate(errands)}
        try:
            while waiting:
                done, _ = wait(waiting, GLANCE_SECONDS, FIRST_COMPLETED)
                for future in done:
                    yield waiting.pop(future), future.result()
                if stopped() and not stop.came:
                    stop.now()
                glance()
        finally:
            stop.now()


def ray_package() -> Any:
    """Ray; UsageError where it is not installed. To be asked for before anything is written."""
    try:
        return import_module("ray")
    except ImportError:
        raise UsageError("Ray is not installed; run pip install 'modiste[ray]', or leave --ray out") from None


@contextmanager
def _beside_package() -> Iterator[None]:
    """In the folder that holds this package: Ray has its workers import modules from where it is started."""
    before = Path.cwd()
    os.chdir(subprocesses.MAIN.absolute().parents[1])
    try:
        yield
    finally:
        os.chdir(before)


def on_ray(
    address: str,
    errands: Sequence[Job],
    jobs: int,
    stopped: Callable[[], bool],
    glance: Callable[[], None],
) -> Iterator[tuple[int, str]]:
    """The same as tasks of a Ray cluster that shares the folder: `local` starts one here, with room for `jobs` tasks.

    A task whose worker dies is given to another one.
    """
    ray = ray_package()
    mine = not ray.is_initialized()
    if mine:
        try:
            cores = jobs * max((one.cores for one in errands), default=1)
            room = {"num_cpus": cores, "include_dashboard": False} if address == "local" else {}
            with _beside_package():
                ray.init(address=address, log_to_driver=False, logging_level="ERROR", **room)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise UsageError(
                f"no Ray cluster answers at {address!r} ({error}); start one, or use --ray local"
            ) from None
    gpus = min(1, ray.cluster_resources().get("GPU", 0))  # Ray hides them from tasks that ask for none
    task = ray.remote(run_job).options
    waiting = {
        task(num_cpus=one.cores, num_gpus=gpus, max_retries=RAY_RETRIES).remote(one): k for k, one in enumerate(errands)
    }
    try:
        while waiting:
            done, _ = ray.wait(list(waiting), timeout=1.0)
            for future in done:
                try:
                    outcome = ray.get(future)
                except ray.exceptions.RayError as error:
                    outcome = f"its Ray task failed: {str(error).strip().splitlines()[-1]}"
                yield waiting.pop(future), outcome
            if stopped():
                break
            glance()
    finally:
        for future in waiting:
            ray.cancel(future)
        if waiting:
            ray.wait(list(waiting), num_returns=len(waiting), timeout=PATIENCE_SECONDS)
        if mine:
            ray.shutdown()
