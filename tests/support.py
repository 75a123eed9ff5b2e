"""What several tests share that is no fixture."""

from __future__ import annotations

import contextlib
import datetime
import gzip
import io
import struct
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from modiste import cli, runs
from modiste.config import Data, Recipe
from modiste.data.images import Images
from modiste.data.sets import open_data
from modiste.errors import ModisteError
from modiste.experiments import runner
from modiste.experiments.runner import Job, JobResult
from modiste.training import overfitting, setup
from modiste.training.distributed import ProcessGroup
from modiste.training.step import METER, Batch, State, StepFunctions, make_step_functions

TIMES = ("seconds", "images_per_second")


def content(run: runs.Run) -> dict[str, Any]:
    """All that must be the same in two equal runs: state, log without times, grids, generators."""
    state, notes = runs.load_state(run)
    assert state is not None and not notes
    del state["seconds"]
    log = [{key: value for key, value in record.items() if key not in TIMES} for record in run.read_log()]
    grids = {grid.name: grid.read_bytes() for grid in run.list_grids()}
    generators = {file.name: file.read_bytes() for file in run.path.glob("*.safetensors")}
    return {"state": state, "log": log, "grids": grids, "generators": generators}


def set_up(
    recipe: Recipe, device: str = "cpu", precision: str = "float32"
) -> tuple[State, StepFunctions, Callable[[int], list[Batch]]]:
    """What a step of this recipe needs, on one process; without an augmentation that would set in by itself."""
    recipe = overfitting.without_policy(recipe) if recipe.augment.policy == "auto" else recipe
    dataset, group = open_data(recipe.data), ProcessGroup()
    shape = setup.image_shape(recipe, dataset)
    state = setup.make_state(recipe, shape, device)
    functions = make_step_functions(recipe, state, group, device, precision)
    return state, functions, setup.batches(recipe, dataset, shape, group, device)


def narrower(recipe: Recipe) -> dict[str, tuple[int, ...]]:
    """The keys that give the recipe's networks an eighth of their widths, with all of their layers."""
    return {
        f"network.{key}": tuple(max(8, width // 8) for width in getattr(recipe.network, key))
        for key in ("generator_widths", "discriminator_widths")
    }


def sums(state: State) -> dict[str, float]:
    """The meter's sums by name."""
    return {term.name: value for term, value in zip(METER, state.meter.tolist(), strict=True)}


def weights(module: nn.Module) -> Tensor:
    """All parameters of a network as one vector."""
    return torch.cat([parameter.detach().flatten() for parameter in module.parameters()])


def assert_same(one: Any, other: Any, place: str = "run") -> None:
    assert type(one) is type(other), place
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other), place
    elif isinstance(one, dict):
        assert one.keys() == other.keys(), place
        for key in one:
            assert_same(one[key], other[key], f"{place}.{key}")
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(other), place
        for k, (left, right) in enumerate(zip(one, other, strict=True)):
            assert_same(left, right, f"{place}[{k}]")
    else:
        assert one == other, place


def idx(array):
    """An array of bytes as a file in the format of MNIST."""
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def wait_for(ready: Callable[[], bool], process: subprocess.Popen[bytes], seconds: float = 400) -> None:
    """Wait until something is ready that a process makes; AssertionError where it ends before."""
    end = time.monotonic() + seconds
    while not ready():
        if process.poll() is not None or time.monotonic() > end:
            process.kill()
            raise AssertionError(f"the process ended with {process.wait()} before it was ready")
        time.sleep(0.02)


class JobsHere:
    """Carries out jobs in this process, which saves the time to start others."""

    def __init__(self) -> None:
        self.folders: list[str] = []
        """The names of the run folders, in order."""
        self.commands: list[str] = []

    def run_locally(self, jobs: Sequence[Job], *_: Any) -> Iterator[tuple[int, JobResult]]:
        """In the place of `runner.run_locally`."""
        for position, job in enumerate(jobs):
            runner.wait_until_free(job.folder, runner.Stop())
            self.folders.append(job.folder.name)
            result = JobResult("finished")
            try:
                for command in job.all_commands:
                    self.commands.append(" ".join(command))
                    with contextlib.redirect_stdout(io.StringIO()):
                        cli.app(list(command), standalone_mode=False)
            except ModisteError as error:
                result = JobResult("failed", str(error))
            yield position, result


class Credentials(NamedTuple):
    """PEM files to sign with."""

    certificate: Path
    """The signer's certificate and that of the authority that issued it."""
    private_key: Path
    authority: Path


def make_credentials(folder: Path, name: str) -> Credentials:
    """Certificates and a key as C2PA's profile wants them, by an authority that calls itself `name` like the signer."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    keys = {who: ec.generate_private_key(ec.SECP256R1()) for who in ("authority", "signer")}
    names = {
        who: x509.Name(
            [x509.NameAttribute(NameOID.ORGANIZATION_NAME, name), x509.NameAttribute(NameOID.COMMON_NAME, who)]
        )
        for who in keys
    }
    unused = ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "encipher_only",
              "decipher_only")  # fmt: skip
    start = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(days=1)

    def certificate(who: str) -> bytes:
        is_authority = who == "authority"
        usage = dict.fromkeys(unused, False)
        usage |= {"digital_signature": not is_authority, "key_cert_sign": is_authority, "crl_sign": is_authority}
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(keys["authority"].public_key())
        builder = (
            x509.CertificateBuilder(names["authority"], names[who], keys[who].public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(start)
            .not_valid_after(start + datetime.timedelta(days=30))
            .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
            .add_extension(x509.KeyUsage(**usage), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(keys[who].public_key()), critical=False)
            .add_extension(issuer, critical=False)
        )
        if not is_authority:
            builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), False)
        return builder.sign(keys["authority"], hashes.SHA256()).public_bytes(Encoding.PEM)

    made = Credentials(folder / "chain.pem", folder / "key.pem", folder / "authority.pem")
    folder.mkdir(exist_ok=True)
    made.authority.write_bytes(certificate("authority"))
    made.certificate.write_bytes(certificate("signer") + made.authority.read_bytes())
    made.private_key.write_bytes(keys["signer"].private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return made


def write_idx(folder, count=20, split="train", labels=None, compress=True):
    """A folder of IDX files of `count` images of 4 x 4 pixels, which are returned with their labels."""
    pixels = np.arange(count * 16, dtype=np.uint8).reshape(count, 4, 4)
    labels = np.arange(count, dtype=np.uint8) % 2 if labels is None else np.array(labels, np.uint8)
    pack, ending = (gzip.compress, ".gz") if compress else (bytes, "")
    folder.mkdir(exist_ok=True)
    (folder / f"{split}-images-idx3-ubyte{ending}").write_bytes(pack(idx(pixels)))
    (folder / f"{split}-labels-idx1-ubyte{ending}").write_bytes(pack(idx(labels)))
    return pixels, labels


def picture(path, value=0, size=(4, 4), mode="L"):
    """A picture of one colour, as a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, value).save(path)


def frames(path, count):
    """A file of several grey pictures."""
    first, *others = (Image.new("L", (4, 4), 80 * k) for k in range(count))
    first.save(path, save_all=True, append_images=others)


def read(path: Path | str, part: Any = "train", **settings: Any) -> Images:
    """One part of the data set of that path, with these keys of the section data."""
    return open_data(Data(name=str(path), **settings), part=part)


def open_part(page: Any, part: str, run: str = "small") -> None:
    """Show a part of the studio for a run, by its tab and the list of runs."""
    page.select_option("#run", label=run)
    page.click(f"#tabs a[href^='#{part}/']")
    page.wait_for_selector(f".part.{part} h2")


def wait_for_command(client: Any, seconds: float = 120) -> dict[str, Any]:
    """The studio's command when it has ended."""
    deadline = time.monotonic() + seconds
    while (command := client.get("/api/command").json())["running"]:
        assert time.monotonic() < deadline, command["output"]
        time.sleep(0.1)
    return dict(command)
