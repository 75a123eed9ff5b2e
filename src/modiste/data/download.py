"""Downloads of files from an address or from a Debian package, verified before they appear in their folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path

from modiste import progress
from modiste.errors import ModisteError

Verify = Callable[[str, Path], object]
"""Raises ModisteError if the file at that path is not what was published under that name."""

CONNECT_SECONDS, READ_SECONDS = 4, 30
ATTEMPTS = 2  # a transfer that was cut off is tried once more


def download(address: str, target: Path, verify: Verify, show_progress: bool = True) -> None:
    """Write the file to `target`, complete and verified, or raise ModisteError and leave nothing."""
    import pooch
    import requests

    reason = ""
    for _ in range(ATTEMPTS):
        bar = Bar(target.name) if show_progress else None
        part = target.with_name(f"{target.name}.part")
        fetch = pooch.HTTPDownloader(
            progressbar=bar or False, chunk_size=1 << 16, timeout=(CONNECT_SECONDS, READ_SECONDS)
        )
        try:
            fetch(address, str(part), None)
            verify(target.name, part)
            part.replace(target)
            return
        except ModisteError as error:
            reason = f"{target.name} arrived broken: {error}"
        except (requests.exceptions.ChunkedEncodingError, requests.exceptions.ContentDecodingError):
            reason = f"the transfer of {target.name} was cut off"
        except requests.exceptions.HTTPError as error:
            raise ModisteError(f"{target.name}: {error}") from None
        except requests.exceptions.RequestException as error:
            raise ModisteError(_reason(error)) from None
        finally:
            part.unlink(missing_ok=True)
            if bar:
                bar.close()
    raise ModisteError(f"{reason}, {ATTEMPTS} times")


def _reason(error: Exception) -> str:
    """Why a connection failed, without the library's nesting."""
    text = str(error)
    for sign, words in (
        ("resolve", "the name of the host cannot be resolved; no network?"),
        ("timed out", "no answer in time"),
        ("refused", "the connection was refused"),
        ("unreachable", "the network is unreachable"),
    ):
        if sign in text:
            return words
    return f"{type(error).__name__}: {text[:200]}"


class Bar:
    """A progress bar with the interface that pooch expects: drawn in a terminal, one plain line elsewhere."""

    def __init__(self, name: str):
        from rich.progress import Progress, TaskID

        self.drawn: Progress | None = None
        self.task = TaskID(0)
        self.name = name
        self._total = 0
        self._shown = ExitStack()

    @property
    def total(self) -> int:
        """Bytes of the file."""
        return self._total

    @total.setter
    def total(self, count: int) -> None:
        from rich.progress import BarColumn, DownloadColumn, TimeRemainingColumn

        self._total = count
        console = progress.console()
        if console.is_terminal:
            columns = (BarColumn(), DownloadColumn(), TimeRemainingColumn())
            self.drawn = self._shown.enter_context(progress.bar(console, *columns))
            self.task = self.drawn.add_task(self.name, total=count)
        else:
            progress.log_plain(f"downloading {self.name} ({count / 1e6:.1f} MB)")

    def update(self, count: int) -> None:
        if self.drawn is not None:
            self.drawn.update(self.task, advance=count)

    def reset(self) -> None:
        if self.drawn is not None:
            self.drawn.update(self.task, completed=0)

    def close(self) -> None:
        self._shown.close()


def from_debian(package: str, names: Iterable[str], folder: Path, verify: Verify) -> None:
    """Write the named files of a Debian package into the folder, verified; needs apt-get but no root."""
    for program in ("apt-get", "dpkg-deb"):
        if shutil.which(program) is None:
            raise ModisteError(f"{program} is not on this machine")
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        try:
            _call(["apt-get", "download", package], work)
        except ModisteError:  # without current package lists: fetch them into our own folder, which needs no root
            for part in ("lists/partial", "cache/archives/partial"):
                (work / part).mkdir(parents=True)
            options = ["-o", f"Dir::State::Lists={work / 'lists'}", "-o", f"Dir::Cache={work / 'cache'}"]
            options += ["-o", "Acquire::Retries=0", "-o", "Acquire::http::Timeout=10"]
            _call(["apt-get", *options, "update"], work)
            _call(["apt-get", *options, "download", package], work)
        archive = next(work.glob(f"{package}_*.deb"), None)
        if archive is None:
            raise ModisteError(f"apt-get download {package} brought no file")
        _call(["dpkg-deb", "-x", str(archive), "unpacked"], work)
        for name in names:
            found = next((work / "unpacked").rglob(name), None)
            if found is None:
                raise ModisteError(f"the package {package} has no {name}")
            verify(name, found)
            beside = folder / f"{name}.part"
            try:
                shutil.copyfile(found, beside)
                beside.replace(folder / name)
            finally:
                beside.unlink(missing_ok=True)


def _call(command: list[str], work: Path) -> None:
    """Run a program in that folder; ModisteError with its last error message if it fails."""
    shown = " ".join(word for word in command if "=" not in word and word != "-o")
    environment = {**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
    try:
        done = subprocess.run(
            command,
            cwd=work,
            env=environment,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=300,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        reason = "no end after 300 s" if isinstance(error, subprocess.TimeoutExpired) else error.strerror
        raise ModisteError(f"{shown}: {reason}") from None
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if line.startswith("E:")] or done.stderr.splitlines()
        raise ModisteError(f"{shown}: {lines[-1] if lines else f'exit code {done.returncode}'}")
