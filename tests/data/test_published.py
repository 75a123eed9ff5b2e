"""Where Fashion-MNIST comes from: local places, a download that cannot go wrong quietly, the Debian package."""

import gzip
import hashlib
import json
import subprocess
import sys
import threading
import time
from dataclasses import asdict, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from support import idx

from modiste.config import Data
from modiste.data import published
from modiste.data.published import FASHION_MNIST, FILES, open_published
from modiste.data.sets import open_data
from modiste.errors import ModisteError

NAMES = FILES["train"] + FILES["test"]
ARRAYS = [
    np.arange(n, dtype=np.uint8).reshape(shape) for n, shape in ((80, (5, 4, 4)), (5, 5), (32, (2, 4, 4)), (2, 2))
]
PAYLOADS = {name: idx(array) for name, array in zip(NAMES, ARRAYS, strict=True)}
FILE_BYTES = {name: gzip.compress(payload) for name, payload in PAYLOADS.items()}
MD5 = {name: hashlib.md5(payload).hexdigest() for name, payload in PAYLOADS.items()}
TINY = replace(FASHION_MNIST, addresses=(), md5=MD5, system_folder=None, debian_package=None)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.delenv("MODISTE_DATA", raising=False)
    monkeypatch.setenv("MODISTE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "fashion-mnist"


@pytest.fixture
def server():
    """A local address whose `moods` say how the next answers for a file go; good when none is left."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            name = self.path.removeprefix("/")
            served.asked.append(name)
            mood = served.moods.get(name, []).pop(0) if served.moods.get(name) else "good"
            content = FILE_BYTES[name]
            time.sleep(served.delay)
            if mood == "missing":
                self.send_error(404)
                return
            if mood == "corrupt":
                content = gzip.compress(PAYLOADS[name][:-1] + b"\xff")
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[: len(content) // 2] if mood == "cut" else content)

        def log_message(self, *_):
            pass

    served = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served.moods, served.asked, served.delay = {}, [], 0.0
    served.dataset = replace(TINY, addresses=(f"http://127.0.0.1:{served.server_port}/",))
    thread = threading.Thread(target=served.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield served
    served.shutdown()
    thread.join()
    served.server_close()


def put(folder, names=NAMES):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_bytes(FILE_BYTES[name])


def test_a_download_fills_the_cache_once(server, cache, capsys):
    train = open_published(server.dataset, "train")
    assert "downloading train-images-idx3-ubyte.gz" in capsys.readouterr().err
    assert len(server.asked) == 4 and sorted(p.name for p in cache.iterdir()) == sorted(NAMES)
    np.testing.assert_array_equal(train.pixels[:, 0], ARRAYS[0])
    assert train.labels.tolist() == [0, 1, 2, 3, 4] and train.class_names == FASHION_MNIST.class_names
    assert len(open_published(server.dataset, "test")) == 2
    assert len(server.asked) == 4  # the second time comes from the cache


def test_a_corrupt_payload_leaves_nothing(server, cache):
    server.moods[NAMES[0]] = ["corrupt", "corrupt"]
    with pytest.raises(ModisteError, match=r"arrived broken: .* has md5 .*, 2 times"):
        open_published(server.dataset, "train", show_progress=False)
    assert list(cache.iterdir()) == []


def test_a_cut_transfer_is_begun_anew(server, cache):
    server.moods[NAMES[0]] = ["cut"]
    (cache.parent / "fashion-mnist").mkdir(parents=True)
    (cache / f"{NAMES[0]}.part").write_bytes(b"left by a killed process")
    assert len(open_published(server.dataset, "train", show_progress=False)) == 5
    assert server.asked.count(NAMES[0]) == 2
    assert sorted(p.name for p in cache.iterdir()) == sorted(NAMES)


def test_the_second_address_helps_out(server):
    bad = f"{server.dataset.addresses[0]}nowhere/"
    FILE_BYTES["nowhere/" + NAMES[0]] = b""
    server.moods["nowhere/" + NAMES[0]] = ["missing"]
    dataset = replace(server.dataset, addresses=(bad, *server.dataset.addresses))
    assert len(open_published(dataset, "train", show_progress=False)) == 5
    del FILE_BYTES["nowhere/" + NAMES[0]]


def test_a_spoilt_cache_is_replaced(server, cache):
    put(cache)
    (cache / NAMES[1]).write_bytes(gzip.compress(PAYLOADS[NAMES[1]][:-1] + b"\7"))
    assert open_published(server.dataset, "train", show_progress=False).labels.tolist() == [0, 1, 2, 3, 4]


def test_two_processes_download_once(server, cache):
    server.delay = 0.05
    settings = {key: value for key, value in asdict(server.dataset).items()}
    code = (
        "import json, sys; from modiste.data.published import Published, open_published\n"
        "print(len(open_published(Published(**json.loads(sys.argv[1])), 'train', show_progress=False)))"
    )
    command = [sys.executable, "-c", code, json.dumps(settings)]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    answers = [process.communicate(timeout=60) for process in both]
    assert [out.strip() for out, _ in answers] == ["5", "5"], answers
    assert sorted(server.asked) == sorted(NAMES)


def test_a_failure_lists_every_place_and_how_to_help_oneself(cache, tmp_path, monkeypatch):
    dataset = replace(TINY, addresses=("http://127.0.0.1:9/",), system_folder=tmp_path / "share")
    with pytest.raises(ModisteError) as caught:
        open_published(dataset, "train", show_progress=False)
    text = str(caught.value)
    for part in ("MODISTE_DATA: not set", f"cache: {cache}", f"system: {tmp_path / 'share'}", "http://127.0.0.1:9/: "):
        assert part in text
    assert "the connection was refused" in text and all(name in text for name in NAMES)


@pytest.mark.parametrize("inside", ["", "fashion-mnist"])
def test_modiste_data_comes_first(inside, tmp_path, monkeypatch, cache):
    monkeypatch.setenv("MODISTE_DATA", str(tmp_path / "mine"))
    put(tmp_path / "mine" / inside)
    assert len(open_published(TINY, "train")) == 5
    assert not cache.exists()


def test_unverifiable_sets_are_held_to_their_published_counts(tmp_path, monkeypatch):
    monkeypatch.setenv("MODISTE_DATA", str(tmp_path))
    put(tmp_path / "mnist")
    with pytest.raises(ModisteError, match="holds 5 items, not the 60,000"):
        open_published(replace(published.MNIST, addresses=()), "train")


def test_an_unwritable_cache_is_a_reason(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("MODISTE_CACHE", str(tmp_path / "file"))
    with pytest.raises(ModisteError, match="cache: cannot write"):
        open_published(TINY, "train")


@pytest.fixture
def fake_debian(tmp_path, monkeypatch):
    """apt-get without lists until it is told to update; its package holds the tiny files."""
    put(tmp_path / "root" / "usr" / "share" / "datasets" / "fashion-mnist")
    programs = {
        "apt-get": 'echo "$@" >> {log}\n'
        'case "$*" in *update) ;; -o*download*) echo x > dataset-fashion-mnist_1_all.deb ;;'
        ' *) echo "E: Unable to locate package" >&2; exit 100 ;; esac',
        "dpkg-deb": 'mkdir -p "$3" && cp -r {root}/usr "$3"',
    }
    (tmp_path / "bin").mkdir()
    for name, body in programs.items():
        path = tmp_path / "bin" / name
        path.write_text("#!/bin/sh\n" + body.format(log=tmp_path / "log", root=tmp_path / "root"))
        path.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=":")
    return tmp_path


@pytest.mark.skipif(sys.platform == "win32", reason="shell scripts stand in for apt-get")
def test_the_debian_package_with_lists_of_its_own(fake_debian, cache, capsys):
    dataset = replace(TINY, debian_package="dataset-fashion-mnist")
    assert len(open_published(dataset, "train")) == 5
    assert "fetching the package dataset-fashion-mnist" in capsys.readouterr().err
    calls = (fake_debian / "log").read_text().splitlines()
    assert calls[0] == "download dataset-fashion-mnist"
    assert calls[1].endswith("update") and calls[2].endswith("download dataset-fashion-mnist")
    assert sorted(p.name for p in cache.iterdir()) == sorted(NAMES)


@pytest.mark.skipif(sys.platform == "win32", reason="shell scripts stand in for apt-get")
def test_a_wrong_package_leaves_nothing(fake_debian, cache):
    dataset = replace(TINY, debian_package="dataset-fashion-mnist", md5=MD5 | {NAMES[0]: "0" * 32})
    with pytest.raises(ModisteError, match=r"package dataset-fashion-mnist: .* has md5"):
        open_published(dataset, "train", show_progress=False)
    assert list(cache.iterdir()) == []


def test_without_apt_the_reason_is_said(monkeypatch):
    monkeypatch.setattr("shutil.which", lambda program: None)
    with pytest.raises(ModisteError, match="apt-get is not on this machine"):
        open_published(replace(TINY, debian_package="dataset-fashion-mnist"), "train", show_progress=False)


@pytest.mark.slow
def test_the_published_set_is_what_it_is_known_to_be():
    heldout, fit = (open_data(Data(name="fashion-mnist"), part=part) for part in ("heldout", "fit"))
    train, test = (open_data(Data(name="fashion-mnist"), part=part) for part in ("train", "test"))
    assert train.pixels.shape == (60_000, 1, 28, 28) and len(test) == 10_000
    assert np.bincount(train.labels).tolist() == [6_000] * 10 and np.bincount(test.labels).tolist() == [1_000] * 10
    assert np.bincount(heldout.labels).tolist() == [500] * 10 and len(fit) == 55_000
    whole = {image.tobytes() for image in train.pixels}
    assert {image.tobytes() for image in fit.pixels} | {image.tobytes() for image in heldout.pixels} == whole
    assert len(whole) == 60_000 and not whole & {image.tobytes() for image in test.pixels}
    assert train.pixels.mean() / 255 == pytest.approx(0.2860, abs=1e-4)  # as everyone normalises it
    assert train.pixels.std() / 255 == pytest.approx(0.3530, abs=1e-4)
    assert train.labels[:5].tolist() == [9, 0, 0, 3, 0]


@pytest.mark.slow
def test_a_folder_with_the_published_files_is_recognised(tmp_path):
    train = open_data(Data(name="fashion-mnist"))
    for name, content in zip(FILES["train"], (train.pixels[:, 0], train.labels.astype(np.uint8)), strict=True):
        (tmp_path / name).write_bytes(idx(np.ascontiguousarray(content)))
    again = open_data(Data(name=str(tmp_path)))
    assert again.name == "fashion-mnist train" and again.class_names == FASHION_MNIST.class_names
