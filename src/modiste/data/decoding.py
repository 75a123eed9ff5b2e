"""Pictures to pixels: one decoded, a block of them, and many on all cores.

Decoding a small picture is mostly Python's own work, which threads cannot share, so that processes do it. Each runs
`work`, which takes blocks of pictures from its standard input and returns their pixels, and ends with this process. It
imports little: no settings and no PyTorch.
"""

from __future__ import annotations

import io
import pickle
import queue
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from modiste.data.images import RESIZE, Pixels, fingerprint, scaled, stack_pictures
from modiste.errors import ModisteError

Size = tuple[int, int]  # width, height
LAST_UPRIGHT = 4  # photo orientations above this exchange width and height
FAINT, CLEAR = 16, 128  # a picture has vanished where its colours differ by less and its transparency by more
BLOCK_PICTURES, BLOCK_BYTES = 256, 2**22
"""A block of pictures has no more of them, and no more bytes when decoded."""
WORTH_PROCESSES = 4_000
"""Pictures that take longer than it takes to start processes, some half a second."""


class ParquetPicture(NamedTuple):
    """One row of a Parquet file: a picture as the file that it was, in PNG or another format."""

    file: Path
    row: int
    name: str
    """The class's folder and the name kept with it; of a picture without a name, its place."""
    content: bytes

    def __str__(self) -> str:
        return f"{self.file}[{self.row}]"


Picture = Path | ParquetPicture


class Scaling(NamedTuple):
    """How pictures are brought to one size, by the keys of a recipe's `data`; without resize they must have it."""

    resize: int | None
    resize_filter: str
    fit: str
    background: str


class Block(NamedTuple):
    """Some pictures after each other."""

    pixels: Pixels
    """[N, C, H, W]; grey if all are."""
    fingerprints: bytes
    """16 bytes of each picture as it was before scaling."""
    oblong: list[Size]
    """Sizes of those that were not square."""
    transparent: int
    vanished: int


class Decoded(NamedTuple):
    """A picture in mode L or RGB, upright, transparent parts laid over the background."""

    picture: Image.Image
    frames: int
    """The number of pictures in the file."""
    transparent: bool
    vanished: bool
    """Whether hardly anything is visible on this background, though its transparency has a shape."""


def decode(file: Picture, background: str = "black", check: Callable[[Picture, Size], None] | None = None) -> Decoded:
    """The decoded picture; `check` is called with its size before that. ModisteError for one that cannot be read."""
    try:
        with Image.open(file if isinstance(file, Path) else io.BytesIO(file.content)) as opened:
            frames = 1 if opened.format == "MPO" else getattr(opened, "n_frames", 1)  # MPO: a photo and its previews
            width, height = opened.size
            turned = width != height and opened.getexif().get(ExifTags.Base.Orientation, 1) > LAST_UPRIGHT
            if check and frames == 1:
                check(file, (height, width) if turned else (width, height))
            opened.load()
            upright = opened.getexif().get(ExifTags.Base.Orientation, 1) == 1
            picture = opened if upright else ImageOps.exif_transpose(opened)
    except ModisteError:
        raise
    except Exception as error:  # parsers raise anything for a damaged file
        reason = "unknown format" if isinstance(error, UnidentifiedImageError) else error
        raise ModisteError(f"{file} is not a readable picture ({reason}); replace or remove it") from None
    if picture.mode.startswith(("I", "F")):
        raise ModisteError(f"{file} has more than 8 bits per channel ({picture.mode}); convert it to 8 bits")
    if not picture.has_transparency_data:
        mode = "L" if picture.mode in ("1", "L") else "RGB"
        return Decoded(picture if picture.mode == mode else picture.convert(mode), frames, False, False)
    picture = picture.convert("RGBA")
    opacity = np.asarray(picture.getchannel("A"))
    picture = Image.alpha_composite(Image.new("RGBA", picture.size, background), picture).convert("RGB")
    has_shape = np.ptp(opacity) > CLEAR
    vanished = has_shape and np.ptp(np.asarray(picture), axis=(0, 1)).max() < FAINT
    return Decoded(picture, frames, bool(opacity.min() < 255), bool(vanished))


def decode_block(
    files: Sequence[Picture], scaling: Scaling, check: Callable[[Picture, Size], None] | None = None
) -> Block:
    """These pictures as pixels; ModisteError for the first that cannot be read, or that `check` refuses."""
    rows, fingerprints, oblong = [], [], []
    transparent = vanished = 0
    for file in files:
        decoded = decode(file, scaling.background, check)
        if decoded.frames > 1:
            raise ModisteError(f"{file} holds {decoded.frames} pictures; save each as a file of its own")
        picture, size = decoded.picture, decoded.picture.size
        transparent, vanished = transparent + decoded.transparent, vanished + decoded.vanished
        row = np.asarray(picture)
        fingerprints.append(fingerprint(row if row.ndim == 2 else row.transpose(2, 0, 1)))
        if scaling.resize is not None:
            oblong += [size] if size[0] != size[1] else []
            row = np.asarray(scaled(picture, scaling.resize, scaling.resize_filter, scaling.fit, scaling.background))
        rows.append(row[:, :, 0] if row.ndim == 3 and (row == row[:, :, :1]).all() else row)
    return Block(stack_pictures(rows), b"".join(fingerprints), oblong, transparent, vanished)


@dataclass(frozen=True)
class SameSize:
    """A check that every picture has the size of the first."""

    first: str
    size: Size

    def __call__(self, file: Picture, size: Size) -> None:
        if size != self.size:
            raise ModisteError(
                f"{file} is {worded(size)} pixels but {self.first} is {worded(self.size)}; bring all pictures to one "
                f"size, before or with {RESIZE}"
            )


def worded(size: Size) -> str:
    return f"{size[0]} x {size[1]}"


def decode_all(
    files: Iterable[Picture],
    scaling: Scaling,
    check_first: Callable[[Picture, Size], None] | None = None,
    processes: int = 1,
) -> Iterator[Block]:
    """All pictures in blocks, in their order and in little memory, by so many processes.

    Without scaling they must have one size, the first one's, on which `check_first` has a say.
    """
    rest = iter(files)
    if (first := next(rest, None)) is None:
        return
    sizes: list[Size] = []

    def keep(file: Picture, size: Size) -> None:
        if check_first is not None:
            check_first(file, size)
        sizes.append(size)

    block = decode_block([first], scaling, None if scaling.resize else keep)
    size = SameSize(str(first), sizes[0]) if sizes else None
    yield block
    largest = 3 * block.pixels.shape[2] * block.pixels.shape[3]
    count = max(1, min(BLOCK_PICTURES, BLOCK_BYTES // largest))
    chunks = iter(lambda: list(islice(rest, count)), [])
    if processes == 1:
        yield from (decode_block(chunk, scaling, size) for chunk in chunks)
    else:
        yield from _by_processes(chunks, scaling, size, processes)


# --- processes


def _by_processes(
    chunks: Iterator[list[Picture]], scaling: Scaling, check: SameSize | None, processes: int
) -> Iterator[Block]:
    """The decoded chunks in their order; of each process one is waiting while another is decoded."""
    with ExitStack() as stack:
        free: queue.SimpleQueue[subprocess.Popen[bytes]] = queue.SimpleQueue()
        for _ in range(processes):
            free.put(stack.enter_context(_worker()))

        def decoded(chunk: list[Picture]) -> Block:
            worker = free.get()
            assert worker.stdin is not None and worker.stdout is not None
            try:
                pickle.dump((chunk, scaling, check), worker.stdin)
                worker.stdin.flush()
                answer = pickle.load(worker.stdout)
            except (OSError, EOFError):
                raise ModisteError(
                    f"a process that decodes pictures ended at one of {chunk[0]} to {chunk[-1]}, maybe for want of "
                    "memory; run it again when more is free"
                ) from None
            finally:
                free.put(worker)
            if isinstance(answer, Block):
                return answer
            raise answer

        threads = stack.enter_context(ThreadPoolExecutor(processes))
        waiting: deque[Future[Block]] = deque()
        stack.callback(lambda: [future.cancel() for future in waiting])
        for chunk in chunks:
            waiting.append(threads.submit(decoded, chunk))
            if len(waiting) == 2 * processes:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


@contextmanager
def _worker() -> Iterator[subprocess.Popen[bytes]]:
    """A process that runs `work`, with this one's search path: files of the working folder hide nothing."""
    code = "import sys; sys.path[:] = sys.argv[1:]; from modiste.data import decoding; decoding.work()"
    command = [sys.executable, "-c", code, *sys.path]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as worker:
        try:
            yield worker
        finally:
            assert worker.stdin is not None
            with suppress(OSError):  # it has ended and cannot take what it was sent
                worker.stdin.close()


def work() -> None:
    """Decode the chunks of pictures that come from the standard input, until it is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that started this one decides
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    while True:
        try:
            chunk, scaling, check = pickle.load(requests)
        except EOFError:
            return
        try:
            answer: Block | Exception = decode_block(chunk, scaling, check)
        except (ModisteError, MemoryError) as error:
            answer = error
        pickle.dump(answer, answers, pickle.HIGHEST_PROTOCOL)
        answers.flush()
