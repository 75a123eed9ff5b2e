"""The studio as a process: its address, its end, and what it says about --host."""

from __future__ import annotations

import http.cookiejar
import json
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from modiste import runs, subprocesses


@contextmanager
def studio(folder, *words) -> Iterator[tuple[subprocess.Popen, list[str], str]]:
    """A studio in a process, the lines that it printed up to its address, and the address."""
    command = subprocesses.command(["studio", str(folder), *map(str, words)])
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        lines = []
        for line in process.stderr:
            lines.append(line)
            if line.startswith("open "):
                break
        try:
            yield process, lines, lines[-1].split()[1]
        finally:
            process.kill()


def browser() -> urllib.request.OpenerDirector:
    return urllib.request.build_opener(urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar()))


def test_it_shows_its_address_and_ends_cleanly_with_its_training(folder):
    with studio(folder) as (process, lines, address):
        assert not [line for line in lines if "whoever reaches" in line]
        opened, home = browser(), address.partition("?")[0]
        assert b"Modiste studio" in opened.open(address).read()
        form = {"recipe": "swift", "name": "mine", "data": "toy", "budget": "1000000 images",
                "settings": {"data.count": "64", "train.threads": "1", "evaluate.every_images": "0",
                             "train.tick_images": "64"}}  # fmt: skip
        headers = {"Origin": home.rstrip("/")}
        ask = urllib.request.Request(f"{home}api/train/start", json.dumps(form).encode(), headers)
        assert json.load(opened.open(ask))["running"]
        deadline = time.monotonic() + 300
        while not runs.states(runs.Run(folder / "mine")):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
        assert process.stderr.read().splitlines()[-1] == "the studio has ended"
    run = runs.Run(folder / "mine")
    assert run.read_manifest().status == "interrupted" and runs.states(run)


def test_beyond_loopback_it_says_what_that_means(tmp_path):
    with studio(tmp_path, "--host", "0.0.0.0") as (_, lines, _):
        assert [
            line for line in lines if line.startswith("the studio listens on 0.0.0.0: whoever reaches this machine")
        ]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["nowhere"], "nowhere is no folder; give the folder that holds your runs"),
        ([".", "--host", "no such host"], "no such host with ports 8765 to 8784 cannot be listened at"),
    ],
)
def test_what_cannot_be_served_is_one_sentence(call, tmp_path, monkeypatch, words, sentence):
    monkeypatch.chdir(tmp_path)
    code, _, errors = call("studio", *words)
    assert code == 2 and sentence in errors and len(errors.strip().splitlines()) == 1


def test_a_port_in_use_is_one_sentence(call, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, _, errors = call("studio", tmp_path, "--port", port)
    assert code == 2 and f"127.0.0.1 with port {port} cannot be listened at" in errors
