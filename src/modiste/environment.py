"""This package's version, and the machine and process it runs in: device, precision, cores, memory, signals, seeds."""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from modiste.errors import ModisteError, UsageError

__version__ = "0.3.0"
"""The version of this package."""


def choose_device(setting: str) -> str:
    """cpu, cuda or mps; UsageError where this PyTorch lacks the device."""
    import torch

    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if setting == "auto":
        return next(device for device in ("cuda", "mps", "cpu") if available[device])
    if not available[setting]:
        raise UsageError(
            f"train.device = {setting!r}, but this PyTorch finds no such device; use train.device=auto or cpu"
        )
    return setting


def choose_precision(setting: str, device: str) -> str:
    """float32 or bfloat16."""
    import torch

    if setting != "auto":
        return setting
    if device == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    return "bfloat16" if device == "cpu" and _processor_has_bfloat16() else "float32"


def _processor_has_bfloat16() -> bool:
    """Whether the CPU has bfloat16 instructions; emulated ones are slower than float32."""
    try:
        flags = set(Path("/proc/cpuinfo").read_text(encoding="utf-8").split())
    except OSError:
        return False
    return bool(flags & {"avx512_bf16", "amx_bf16", "bf16"})


def seed_for(seed: int, purpose: str, *position: int) -> int:
    """A seed of 63 bits for one purpose at one position, independent of all other seeds."""
    import numpy as np

    entropy = [seed, len(position), *purpose.encode(), *position]  # with the length, since trailing zeros are ignored
    return int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0] >> np.uint64(1))


_RANDOM_NUMBERS = threading.Lock()


@contextmanager
def own_random_numbers() -> Iterator[None]:
    """Reserve PyTorch's global random numbers for one training, and restore those of the CPU at the end.

    ModisteError where another training runs in this process: each would seed the other's numbers.
    """
    import torch

    if not _RANDOM_NUMBERS.acquire(blocking=False):
        raise ModisteError(
            "another training is under way in this process, and both would draw from PyTorch's one sequence of random "
            "numbers; wait for it, or train in a process of its own (`modiste train`, or multiprocessing)"
        )
    try:
        with torch.random.fork_rng([]):
            yield
    finally:
        _RANDOM_NUMBERS.release()


def gpu_name(device: str) -> str | None:
    """The name of the GPU in use; None on other devices."""
    import torch

    return torch.cuda.get_device_name() if device == "cuda" else None


def describe_machine() -> dict[str, Any]:
    """Versions, platform and command of this process, for the manifest."""
    import numpy
    import torch

    name = Path(sys.argv[0]).name
    return {
        "modiste": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "platform": platform.platform(),
        "git_commit": _git_commit(),
        "command": ("modiste" if name == "__main__.py" else name, *sys.argv[1:]),
    }


def _git_commit() -> str | None:
    """The commit of the source tree the package runs from; None for an installed package."""
    file = Path(__file__)
    with suppress(OSError, subprocess.SubprocessError):
        # A package installed inside another repository is not part of it: the first command fails.
        for words in (["ls-files", "--error-unmatch", file.name], ["rev-parse", "HEAD"]):
            command = ["git", "-C", str(file.parent), *words]
            answer = subprocess.run(command, capture_output=True, timeout=5, check=True).stdout.decode("ascii").strip()
        return answer
    return None


def utc_now() -> str:
    """The time in UTC as ISO 8601, to the second."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def cores() -> int:
    """The number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


Part = TypeVar("Part")
Result = TypeVar("Result")


def in_parallel(work: Callable[[Part], Result], parts: Iterable[Part]) -> list[Result]:
    """`work` of every part, in order, on as many threads as PyTorch has, each of which computes with one.

    Quicker than the threads within PyTorch's operations, which wait for each other after every one, and the numbers do
    not depend on how many there are. The first exception in the order of the parts is raised.
    """
    import torch

    threads = torch.get_num_threads()
    if threads == 1:
        return list(map(work, parts))
    try:
        with ThreadPoolExecutor(threads, "modiste", partial(torch.set_num_threads, 1)) as pool:
            return list(pool.map(work, parts))
    finally:
        torch.set_num_threads(threads)  # new threads take their number from the last call


def let_threads_sleep() -> None:
    """Let PyTorch's threads that wait soon sleep; called before torch is imported, unless the user has set it.

    Where anything else uses a core, ones that spin as long as libgomp lets them bring a step to a standstill
    (docs/performance.md).
    """
    os.environ.setdefault("GOMP_SPINCOUNT", "5000")


HANGUP: signal.Signals | None = getattr(signal, "SIGHUP", None)
"""Sent when a terminal is closed; not on Windows."""


def is_main_process() -> bool:
    """Whether this process is the main one of its group, which prints and writes."""
    return int(os.environ.get("RANK", "0")) == 0


def peak_memory_bytes() -> int | None:
    """The largest resident set of this process so far; None where the system does not report it."""
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak if sys.platform == "darwin" else peak * 1024)


def keep_freed_memory() -> None:
    """Let this process keep the memory that it frees, which a training asks for again in its next step.

    glibc hands large pieces back to the system, which clears each page again when it is next used. Other C libraries
    are left as they are.
    """
    if not sys.platform.startswith("linux"):
        return
    import ctypes

    with suppress(OSError, AttributeError):
        set_option = ctypes.CDLL(None).mallopt
        m_trim_threshold, m_mmap_threshold = -1, -3
        set_option(m_mmap_threshold, 1 << 30)
        set_option(m_trim_threshold, (1 << 31) - 1)


@contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """A function that tells whether SIGINT, SIGTERM or SIGHUP has been received; a second SIGINT interrupts at once.

    After SIGHUP the terminal is gone, so nothing more is written to it. Where SIGHUP is ignored, as under nohup, it
    remains ignored.
    """
    received: list[int] = []
    terminals = [number for number in (1, 2) if os.isatty(number)]

    def note(number: int, _: object) -> None:
        if received and number == signal.SIGINT:
            raise KeyboardInterrupt
        if number == HANGUP:
            silence(terminals)
        received.append(number)

    if threading.current_thread() is not threading.main_thread():  # only the main thread may set handlers
        yield lambda: False
        return
    numbers = [signal.SIGINT, signal.SIGTERM]
    if HANGUP and signal.getsignal(HANGUP) != signal.SIG_IGN:
        numbers.append(HANGUP)
    before = {number: signal.signal(number, note) for number in numbers}
    try:
        yield lambda: bool(received)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def silence(descriptors: Sequence[int]) -> None:
    """Redirect these descriptors to the null device; a write to a closed terminal would end the process."""
    null = os.open(os.devnull, os.O_WRONLY)
    for number in descriptors:
        os.dup2(null, number)
    os.close(null)
