"""Jobs: the commands of runs as processes of their own, several at a time, on this machine or on a Ray cluster.

Each process gets the command that a person would type. Its output goes to a log file; the last line of a command that
fails is the reason. On this machine one process evaluates all runs, one after the other, while the next ones train: it
starts and reads the data set once, and has the lowest priority, so that it costs a training with a budget of time next
to nothing. Processes whose parent was killed save and end (`subprocesses.start`).
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from modiste import files, parts, runs, subprocesses
from modiste.errors import ModisteError, UsageError

POLL_SECONDS = 0.2
RAY_POLL_SECONDS = 1.0
PATIENCE_SECONDS = 30.0
RAY_RETRIES = 5


@dataclass(frozen=True)
class Job:
    """The commands of one run, carried out one after the other; plain values, so that it can be sent elsewhere."""

    folder: Path
    commands: tuple[tuple[str, ...], ...]
    log: Path
    working_folder: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    cores: int = 1
    """The cores that a cluster keeps free for it: one for every thread and every process."""
    evaluation: tuple[str, ...] = ()
    """The command that evaluates the run, after the others; empty for none."""
    sources: tuple[bytes, ...] = ()
    """Code of the user's own that the commands run, for a machine whose cache does not have it (see `parts`)."""

    @property
    def all_commands(self) -> tuple[tuple[str, ...], ...]:
        """With the evaluation."""
        return (*self.commands, self.evaluation) if self.evaluation else self.commands


@dataclass(frozen=True)
class JobResult:
    """How a job ended."""

    status: Literal["finished", "failed", "interrupted"]
    reason: str = ""
    """Why it failed."""


Results = Iterator[tuple[int, JobResult]]
"""The position of each job that ends, and how it ended."""


class Stop:
    """Tells all threads to stop, and ends the processes that they started."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._processes: set[subprocess.Popen[bytes]] = set()
        self.requested = False

    def start(self, job: Job, command: Sequence[str], log: int) -> subprocess.Popen[bytes] | None:
        """A process of that command; None once a stop was requested."""
        with self._lock:
            if self.requested:
                return None
            process = subprocesses.start(
                command,
                log,
                environment=job.environment,
                folder=job.working_folder,
                own_session=True,  # the study passes a Ctrl-C at the terminal on, once
            )
            self._processes.add(process)
            return process

    def ended(self, process: subprocess.Popen[bytes]) -> None:
        """Forget a process that has ended."""
        subprocesses.let_go(process)
        with self._lock:
            self._processes.discard(process)

    def request(self) -> None:
        """Start no more processes, and ask the running ones to save and end."""
        with self._lock:
            self.requested = True
            for process in self._processes:
                process.terminate()


def run_job(job: Job, stop: Stop | None = None) -> JobResult:
    """Carry out the job's commands until one fails or is interrupted."""
    stop = stop or Stop()
    for source in job.sources:
        parts.keep(source)
    try:
        wait_until_free(job.folder, stop)
    except ModisteError as error:
        return JobResult("failed", str(error))
    for command in job.all_commands:
        if stop.requested:
            return JobResult("interrupted")
        with job.log.open("ab") as log:
            log.write(f"$ {subprocesses.printable(command)}\n".encode())
            log.flush()
            start = log.tell()
            process = stop.start(job, command, log.fileno())
            if process is None:
                return JobResult("interrupted")
            try:
                code = process.wait()
            except BaseException:  # a Ray task that is cancelled
                process.terminate()
                process.wait()
                raise
            finally:
                stop.ended(process)
        if stop.requested:
            return JobResult("interrupted")
        if code:
            return JobResult("failed", failure_reason(job.log, start, code))
        if runs.Run(job.folder).read_manifest().status != "finished":
            return JobResult("interrupted")
    return JobResult("finished")


def wait_until_free(folder: Path, stop: Stop) -> None:
    """Wait while another process trains in that run folder: it does the same work and may finish it."""
    while folder.is_dir() and not stop.requested:
        with suppress(files.InUse), files.locked(folder, "training"):
            return
        time.sleep(POLL_SECONDS)


def failure_reason(log: Path, start: int, code: int) -> str:
    """Why a command failed: the last line of its output, which begins there in the log, or the signal that ended it."""
    if code < 0:
        name = signal.Signals(-code).name
        return f"killed by {name}" + (", perhaps for want of memory" if name == "SIGKILL" else "")
    with log.open("rb") as file:
        file.seek(start)
        lines = file.read().decode(errors="replace").strip().splitlines()
    return lines[-1].removeprefix("modiste: ") if lines else f"exit code {code}"


class Evaluator:
    """One process that evaluates runs, one after the other; it is started with the first."""

    def __init__(self, stop: Stop, threads: int | None) -> None:
        self.stop, self.environment = stop, {"OMP_NUM_THREADS": str(threads)} if threads else {}
        self.process: subprocess.Popen[bytes] | None = None

    def run(self, job: Job) -> JobResult:
        """Carry out the job's evaluation."""
        with job.log.open("ab") as log:
            log.write(f"$ {subprocesses.printable(job.evaluation)}\n".encode())
            start = log.tell()
        code = self._answer(job)
        if self.stop.requested:
            return JobResult("interrupted")
        if code is None:  # killed, or it has ended by an error that is in the log
            code, self.process = self._end(), None
            code = code or 1
        return JobResult("failed", failure_reason(job.log, start, code)) if code else JobResult("finished")

    def _answer(self, job: Job) -> int | None:
        """The exit code of the evaluation; None where the process has ended."""
        if self.process is None:
            alone = replace(job, environment={**job.environment, **self.environment})
            self.process = self.stop.start(alone, (subprocesses.SERVE,), subprocess.PIPE)
        if self.process is None or self.process.stdout is None:
            return None
        with suppress(OSError):
            subprocesses.ask(self.process, json.dumps({"words": job.evaluation, "log": str(job.log)}))
            for line in self.process.stdout:
                if line.startswith(b"exit "):
                    return int(line.removeprefix(b"exit "))
        return None

    def _end(self) -> int:
        if self.process is None:
            return 0
        with suppress(OSError):
            self.stop.ended(self.process)
        if self.process.stdout is not None:
            self.process.stdout.close()
        return self.process.wait()

    def close(self) -> None:
        """End the process."""
        self._end()


def run_locally(jobs: Sequence[Job], at_a_time: int, stopped: Callable[[], bool], poll: Callable[[], None]) -> Results:
    """Carry out the jobs on this machine, some at a time, and their evaluations beside them.

    `poll` is called several times per second. When `stopped` returns True, the processes save and end.
    """
    stop = Stop()
    threads = [int(job.environment.get("OMP_NUM_THREADS", 0)) * at_a_time for job in jobs]
    evaluator = Evaluator(stop, max(threads, default=0) or None)
    with ThreadPoolExecutor(at_a_time) as pool, ThreadPoolExecutor(1) as evaluations:
        waiting: dict[Future[JobResult], int] = {}
        for k, job in enumerate(jobs):
            waiting[pool.submit(run_job, replace(job, evaluation=()), stop)] = k
        trained = set(waiting)
        try:
            while waiting:
                done, _ = wait(waiting, POLL_SECONDS, FIRST_COMPLETED)
                for future in done:
                    position, result = waiting.pop(future), future.result()
                    if future in trained and result.status == "finished" and jobs[position].evaluation:
                        waiting[evaluations.submit(evaluator.run, jobs[position])] = position
                    else:
                        yield position, result
                if stopped() and not stop.requested:
                    stop.request()
                poll()
        finally:
            stop.request()
            evaluator.close()


def ray_package() -> Any:
    """Ray; UsageError where it is not installed. Called before anything is written."""
    try:
        return import_module("ray")
    except ImportError:
        raise UsageError("Ray is not installed; run pip install 'modiste[ray]', or leave --ray out") from None


@contextmanager
def _beside_package() -> Iterator[None]:
    """Work in the folder that holds this package: Ray's workers import modules from the folder it is started in."""
    before = Path.cwd()
    os.chdir(subprocesses.MAIN.absolute().parents[1])
    try:
        yield
    finally:
        os.chdir(before)


def run_on_ray(
    address: str, jobs: Sequence[Job], at_a_time: int, stopped: Callable[[], bool], poll: Callable[[], None]
) -> Results:
    """Carry out the jobs as tasks of a Ray cluster that shares the folder; `local` starts one for some jobs at a time.

    Ray gives a task whose worker dies to another worker.
    """
    ray = ray_package()
    started_here = not ray.is_initialized()
    if started_here:
        try:
            cores = at_a_time * max((job.cores for job in jobs), default=1)
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
        task(num_cpus=job.cores, num_gpus=gpus, max_retries=RAY_RETRIES).remote(job): k for k, job in enumerate(jobs)
    }
    try:
        while waiting:
            done, _ = ray.wait(list(waiting), timeout=RAY_POLL_SECONDS)
            for future in done:
                try:
                    result = ray.get(future)
                except ray.exceptions.RayError as error:
                    result = JobResult("failed", f"its Ray task failed: {str(error).strip().splitlines()[-1]}")
                yield waiting.pop(future), result
            if stopped():
                break
            poll()
    finally:
        for future in waiting:
            ray.cancel(future)
        if waiting:
            ray.wait(list(waiting), num_returns=len(waiting), timeout=PATIENCE_SECONDS)
        if started_here:
            ray.shutdown()
