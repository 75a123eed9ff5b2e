"""The run folder: all that is needed to use, repeat or resume a training.

    runs/NAME/recipe.toml            the resolved recipe, enough to repeat the run
              manifest.json          versions, device, threads, data digest, recipe hash, start, end, status
              log.jsonl              one line per tick
              samples/000000000.png  grids from one fixed noise, named by images shown
              state/                 resumable state, the two newest
              generator.safetensors  the last generator (its moving average where the recipe has one)
              best.safetensors       the best one on held-out images, if the recipe asks for the selection
              generator.json         how to build them
              parts/                 copies of the user's own losses and networks, where the recipe names some

A pretrained run is the published part of it: recipe.toml, manifest.json, generator.json, generator.safetensors in
float16, metrics.json and README.md, the model card. One ships in the package under the name `pretrained`.

`files` writes and locks. A state has the hash of its bytes in its name, so that a damaged one is recognised.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from modiste import config, files, parts, schema
from modiste.environment import utc_now
from modiste.errors import ModisteError, UsageError

if TYPE_CHECKING:
    from torch import nn

STATES_KEPT = 2
PRETRAINED = "pretrained"
SHIPPED = Path(__file__).parent / "assets" / PRETRAINED

Status = Literal["running", "finished", "interrupted", "failed"]


@dataclass(frozen=True)
class DataFacts:
    """The images a run was trained on."""

    name: str = ""
    digest: str = ""
    """SHA-256 of pixels and labels."""
    count: int = 0
    channels: int = 1
    size: tuple[int, ...] = ()
    """Height and width."""
    classes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    other: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class BestCheckpoint:
    """The checkpoint in best.safetensors: the images shown to it and its held-out score, by the score's name."""

    images: int
    score: str
    value: float


@dataclass(frozen=True)
class Pretrained:
    """What an export to float16 weights keeps of the run it was made from."""

    checkpoint: str = "last"
    images_shown: int | None = None
    weights: str = ""
    difference: int = 0
    """The largest difference, of 255, between pixels before and after rounding."""


@dataclass(frozen=True)
class Ancestor:
    """The run from whose weights a training started."""

    name: str
    weights: str
    """The first 16 digits of the SHA-256 of its generator's file, by which records name weights, too."""
    images_shown: int | None = None
    data: str = ""
    """The name of the images that it was trained on."""
    discriminator: bool = True
    """Whether its discriminator was at hand, too."""
    ancestor: Mapping[str, Any] | None = None
    """Its own, as in its manifest."""


@dataclass(frozen=True)
class Manifest:
    """How a run was made: versions, machine, data, and how far it came."""

    recipe_hash: str = ""
    start: str = ""
    end: str | None = None
    status: Status = "running"
    modiste: str = ""
    python: str = ""
    torch: str = ""
    numpy: str = ""
    platform: str = ""
    git_commit: str | None = None
    command: tuple[str, ...] = ()
    device: str = "cpu"
    gpu: str | None = None
    precision: str = ""
    threads: int = 1
    """Processor threads of each process; sums depend on it."""
    processes: int = 1
    data: DataFacts = DataFacts()
    images: int | None = None
    seconds: float | None = None
    """Training time over all sessions."""
    peak_memory_bytes: int | None = None
    best: BestCheckpoint | None = None
    reason: str | None = None
    """Why the training failed."""
    ancestor: Ancestor | None = None
    pretrained: Pretrained | None = None
    other: Mapping[str, Any] = field(default_factory=dict)
    """Entries of other versions, kept as they are."""

    @classmethod
    def from_json(cls, tree: Mapping[str, Any]) -> Manifest:
        """The inverse of `to_json`, also of older versions."""
        known, other = _split(cls, tree)
        known["command"] = tuple(known.get("command") or ())
        data, more = _split(DataFacts, known["data"])
        lists = {key: tuple(data.get(key) or ()) for key in ("size", "classes", "notes")}
        known["data"] = DataFacts(**{**data, **lists}, other=more)
        if best := known.get("best"):
            name, value = next(((key, value) for key, value in best.items() if key != "images"), ("", 0.0))
            known["best"] = BestCheckpoint(best["images"], name, value)
        if pretrained := known.get("pretrained"):
            known["pretrained"] = Pretrained(**_split(Pretrained, pretrained)[0])
        if ancestor := known.get("ancestor"):
            known["ancestor"] = Ancestor(**_split(Ancestor, ancestor)[0])
        return cls(**known, other=other)

    def to_json(self) -> dict[str, Any]:
        """The content of manifest.json; what is not known is left out, but for the end and the commit."""
        tree = asdict(self)
        tree |= tree.pop("other")
        tree["data"] |= tree["data"].pop("other")
        if self.best:
            tree["best"] = {"images": self.best.images, self.best.score: self.best.value}
        return {key: value for key, value in tree.items() if value is not None or key in ("end", "git_commit")}


def _split(kind: type, tree: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The entries of a JSON object that are fields of this dataclass, and the others."""
    names = {one.name for one in fields(kind)} - {"other"}
    known = {key: value for key, value in tree.items() if key in names}
    return known, {key: value for key, value in tree.items() if key not in names}


@dataclass(frozen=True)
class Run:
    """A run folder; all access to its files goes through this class and the functions below."""

    path: Path
    shipped: bool = False
    """Whether it is the one in the package, whose folder is never written to."""

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def word(self) -> str:
        """The run as the command line takes it."""
        return PRETRAINED if self.shipped else str(self.path)

    @property
    def outputs(self) -> Path:
        """The default folder of outputs made from the run: its own; for the shipped run one in the current folder."""
        return Path("runs") / f"modiste-{PRETRAINED}" if self.shipped else self.path

    @property
    def folders(self) -> tuple[Path, ...]:
        """Where outputs made from the run are looked for, what was made here first."""
        return tuple(dict.fromkeys((self.outputs, self.path)))

    def read_recipe(self) -> config.Recipe:
        """The resolved recipe of the run; code of the user's own that it names is pinned (see `parts`)."""
        place = self.path / "recipe.toml"
        recipe = config.from_toml(_read(place), str(place))
        parts.require_pinned(config.own_parts(recipe), self.path)
        return recipe

    def read_manifest(self) -> Manifest:
        """How the run was made."""
        place = self.path / "manifest.json"
        tree = read_json(place)
        if missing := {"status", "data", "device", "threads"} - tree.keys():
            raise ModisteError(f"{place} lacks {', '.join(sorted(missing))}; train anew with --fresh")
        return Manifest.from_json(tree)

    def is_pretrained(self) -> bool:
        """Whether the folder holds a generator without the state to resume training from."""
        return self.read_manifest().pretrained is not None

    def read_log(self) -> list[dict[str, Any]]:
        """The log's records, one per tick; a last line cut off by a crash is dropped."""
        place = self.path / "log.jsonl"
        if not place.exists():
            return []
        return [_record(place, line) for line in _read(place).split("\n")[:-1]]

    def list_grids(self) -> list[Path]:
        """The sample grids in the order of training."""
        return sorted((self.path / "samples").glob("[0-9]*.png"), key=_position)


def read_last_record(run: Run) -> dict[str, Any] | None:
    """The log's newest record, read without the others; None if there is none yet."""
    place = run.path / "log.jsonl"
    if not place.is_file():
        return None
    with place.open("rb") as log:
        end = log.seek(0, os.SEEK_END)
        for reach in (1 << 12, 1 << 20, end):  # a record has a few hundred bytes
            log.seek(max(0, end - reach))
            lines = log.read().split(b"\n")[:-1]  # without a line cut off by a crash
            if len(lines) > 1 or reach >= end:
                break
    return _record(place, lines[-1].decode()) if lines else None


class LogReader:
    """Reads the records that a training adds to a run's log; starts again when the log was replaced."""

    def __init__(self, run: Run) -> None:
        self.place = run.path / "log.jsonl"
        self.inode, self.offset = 0, 0

    def read_new(self) -> list[dict[str, Any]]:
        """The records since the last call."""
        if not self.place.is_file():
            return []
        with self.place.open("rb") as log:
            inode = os.fstat(log.fileno()).st_ino
            self.inode, self.offset = inode, self.offset if inode == self.inode else 0
            log.seek(self.offset)
            whole, newline, _ = log.read().rpartition(b"\n")  # a line that is still being written is left for later
        self.offset += len(whole + newline)
        return [_record(self.place, line.decode()) for line in whole.split(b"\n") if line]


def _record(place: Path, line: str) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        record = None
    if isinstance(record, dict) and type(record.get("images")) is int:
        return record
    raise ModisteError(f"{place} has a line that is no record ({line[:40]!r}); remove that line and try again")


def exists(path: Path) -> bool:
    """Whether there is a run in this folder."""
    return (path / "manifest.json").is_file()


def find_run(path: str | Path) -> Run | None:
    """The run in that folder, or the shipped one for `pretrained` unless a folder has that name; else None."""
    path = Path(path)
    if exists(path):
        return Run(path)
    if path != Path(PRETRAINED):
        return None
    if not exists(SHIPPED):
        raise ModisteError(
            "this copy of Modiste ships without a pretrained generator; `modiste train swift` makes one in minutes"
        )
    return Run(SHIPPED, shipped=True)


def open_run(path: str | Path) -> Run:
    """The run that `find_run` finds; UsageError when there is none."""
    path = Path(path)
    run = find_run(path)
    if run is None:
        if path.is_file() and exists(path.parent):
            best = " (and --checkpoint best, where the command has it)" if path.name == "best.safetensors" else ""
            raise UsageError(f"{path} is a file of a run; give the run's folder, {path.parent}{best}")
        near = sorted(other.name for other in path.parent.glob("*") if _is_run(other)) if path.parent.is_dir() else []
        hint = f"; {path.parent}/ holds {', '.join(near[:8])}" if near else "; `modiste train swift` makes one"
        meant = schema.nearest(path.name, (PRETRAINED,)) if len(path.parts) == 1 else ""
        raise UsageError(f"{path} is not a run folder (it has no manifest.json){meant}{hint}")
    return run


def _is_run(path: Path) -> bool:
    """Whether this is a run folder that this user may read."""
    try:
        return exists(path)
    except PermissionError:
        return False


def resolve_trainable(name: str, out: str | Path | None) -> str:
    """The recipe or run that `train` was given, the shipped run as its folder; UsageError for one without a state."""
    run = None if name in schema.shipped() else find_run(name)
    if run is None or not run.is_pretrained():
        return name
    if out is None:
        raise UsageError(
            f"{name} is a generator made with the recipe {run.read_recipe().name}, without the state that training "
            f"goes on from; start a new one from its weights with `modiste train swift --from {name}`, or train that "
            f"recipe anew with `modiste train {name} --out runs/mine`"
        )
    return str(run.path)


def create_run(path: Path, recipe: config.Recipe, manifest: Manifest) -> Run:
    """Create a run folder with its recipe and, last, its manifest, which makes the folder a run.

    Hash of the recipe and start are filled in.
    """
    run = Run(path)
    try:
        (path / "samples").mkdir(parents=True, exist_ok=True)
        (path / "state").mkdir(exist_ok=True)
    except OSError as error:
        raise ModisteError(f"cannot make the run folder {path}: {error.strerror}; choose another with --out") from None
    files.write_text(path / "recipe.toml", config.to_toml(recipe))
    parts.write_copies(path, config.own_parts(recipe))
    manifest = replace(manifest, recipe_hash=config.content_hash(recipe), start=utc_now())
    files.write_json(path / "manifest.json", manifest.to_json())
    return run


def update_manifest(run: Run, **changes: Any) -> None:
    """Change fields of the run's manifest."""
    files.write_json(run.path / "manifest.json", replace(run.read_manifest(), **changes).to_json())


def fresh_path(path: Path) -> Path:
    """The path itself if no run is there, else the first free one of path-2, path-3, ..."""
    path = path if path.name else path.resolve()  # `.` has no name to number
    number, candidate = 1, path
    while candidate.is_file() or (candidate.exists() and any(candidate.iterdir())):
        number += 1
        candidate = path.with_name(f"{path.name}-{number}")
    return candidate


def refuse_foreign_folder(path: Path, recipe: config.Recipe | None = None) -> None:
    """UsageError when a folder holds files that are no run's, or a pretrained run.

    A start that was cut off leaves recipe.toml; with `recipe`, that file must equal the one to be written.
    """
    if exists(path) and Run(path).is_pretrained():
        raise UsageError(f"{path} holds a pretrained generator, which training would replace; choose another --out")
    if not exists(path):
        files.refuse_foreign_folder(path, "run folder", ("recipe.toml", parts.FOLDER))
        if recipe is not None:
            files.refuse_changed({path / "recipe.toml": config.to_toml(recipe)}, "training")


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Lock a run folder, and remove the unfinished files of ended processes."""
    with files.locked(path, "training"):
        files.sweep(path.rglob(".*.writing"))
        yield


def append_log(run: Run, record: Mapping[str, Any]) -> None:
    """Append a record to the log."""
    with files.errors_name_place(run.path / "log.jsonl"), (run.path / "log.jsonl").open("a", encoding="utf-8") as log:
        log.write(json.dumps(record) + "\n")
        log.flush()
        os.fsync(log.fileno())


def write_log(run: Run, records: Iterable[Mapping[str, Any]]) -> None:
    """Replace the log by these records."""
    files.write_text(run.path / "log.jsonl", "".join(json.dumps(record) + "\n" for record in records))


def rewind(run: Run, images: int) -> None:
    """Remove log lines, grids and damaged states after that position, before training resumes there."""
    if (run.path / "log.jsonl").exists():
        write_log(run, [record for record in run.read_log() if record["images"] <= images])
    for file in (*run.list_grids(), *states(run)):
        if int(file.stem.partition("-")[0]) > images:
            file.unlink()


def save_state(run: Run, images: int, state: Mapping[str, Any]) -> Path:
    """Write a state of tensors and plain values, and keep the two newest."""
    import torch

    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    content = buffer.getvalue()
    path = run.path / "state" / f"{images:09d}-{_hash(content)}.pt"
    files.write_bytes(path, content)
    for old in states(run)[STATES_KEPT:]:
        old.unlink()
    return path


def states(run: Run) -> list[Path]:
    """The state files, newest first."""
    return sorted((run.path / "state").glob("[0-9]*-*.pt"), key=_position, reverse=True)


def _position(path: Path) -> tuple[int, str]:
    """The order of names that begin with images shown, also beyond nine digits."""
    return len(path.name), path.name


def load_state(run: Run) -> tuple[dict[str, Any] | None, list[str]]:
    """The newest undamaged state (None if none was saved yet), and a sentence per damaged one."""
    notes: list[str] = []
    paths = states(run)
    for path in paths:
        state = read_state(path)
        if state is not None:
            return state, notes
        notes.append(
            f"{path} is damaged (its content does not match the hash in its name); falling back to an older state"
        )
    if paths:
        raise ModisteError(f"every saved state in {run.path / 'state'} is damaged; start anew beside it with --fresh")
    return None, notes


def read_state(path: Path) -> dict[str, Any] | None:
    """The state in that file; None if its content does not match the hash in its name."""
    import torch

    content = path.read_bytes()
    if _hash(content) != path.stem.rpartition("-")[2]:
        return None
    state: dict[str, Any] = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    return state


def save_generator(run: Run, generator: nn.Module, name: str = "generator") -> None:
    """Write the generator's weights to NAME.safetensors: `generator` is the last one, `best` the best one."""
    from safetensors.torch import save

    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in generator.state_dict().items()}
    files.write_bytes(run.path / f"{name}.safetensors", save(tensors))


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise ModisteError(f"cannot read {path}: {reason}; is it part of a run folder?") from None


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file of a run folder; ModisteError where there is none."""
    try:
        tree = json.loads(_read(path))
    except json.JSONDecodeError as error:
        raise ModisteError(f"{path} is not valid JSON ({error}); restore it, or start anew with --fresh") from None
    if not isinstance(tree, dict):
        raise ModisteError(f"{path} holds no JSON object; restore it, or start anew with --fresh")
    return tree


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
