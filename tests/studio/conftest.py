"""A folder of runs, a client that has the cookie, and a studio that a browser can open."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from starlette.testclient import TestClient

from modiste.config import Data, Network, Recipe, Train
from modiste.evaluation.evaluate import evaluate
from modiste.studio import access, server
from modiste.training import trainer


@pytest.fixture(scope="session")
def trained(closet: Path, closet_judge: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two runs on the closet, `small` and `quick`, with classes, four ticks and scores of 50 images."""
    folder = tmp_path_factory.mktemp("shelf")
    for name, rate in (("small", 2e-4), ("quick", 1e-3)):
        recipe = Recipe(
            name=name,
            data=Data(name=str(closet)),
            network=Network(z_dim=8, generator_widths=(8, 4), discriminator_widths=(4, 8), conditioning="one-hot"),
            train=Train(
                images=320, batch_size=16, tick_images=80, lr_generator=rate, precision="float32", threads=1
            ),
        )  # fmt: skip
        trainer.train(recipe, folder / name)
        evaluate(folder / name, count=50)
    return folder


@pytest.fixture
def folder(trained: Path, tmp_path: Path) -> Path:
    """The two runs, to be changed by a test."""
    return shutil.copytree(trained, tmp_path / "runs")


@pytest.fixture
def entry() -> access.Access:
    return access.Access("127.0.0.1", 8765, lambda address: None)


@pytest.fixture
def client(folder: Path, entry: access.Access) -> Iterator[TestClient]:
    """A browser that the studio has let in, without the browser."""
    with TestClient(server.make_app(folder, entry), "http://127.0.0.1:8765") as opened:
        assert opened.get(f"/?token={entry.token}").status_code == 200
        opened.headers["Origin"] = "http://127.0.0.1:8765"
        yield opened


@pytest.fixture
def ids(client: TestClient) -> dict[str, str]:
    return {run["name"]: run["id"] for run in client.get("/api/runs").json()}


@pytest.fixture
def address(folder: Path) -> Iterator[str]:
    """The address, with its token, of a studio that listens."""
    with server.listen("127.0.0.1", None) as listening:
        entry = access.Access("127.0.0.1", listening.getsockname()[1], lambda address: None)
        config = uvicorn.Config(server.make_app(folder, entry, lambda: app.should_exit), log_level="error")
        app = uvicorn.Server(config)
        thread = threading.Thread(target=app.run, args=([listening],))
        thread.start()
        while not app.started:
            time.sleep(0.01)
        yield entry.address
        app.should_exit = True
        thread.join()


@pytest.fixture
def page(browser: Any, address: str) -> Iterator[Any]:
    """The studio in Chromium; an error in the console or a request to elsewhere fails the test."""
    context = browser.new_context()
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    opened = context.new_page()
    wrong: list[str] = []
    origin = address.partition("/?")[0]
    opened.on("console", lambda message: wrong.append(message.text) if message.type in ("error", "warning") else None)
    opened.on("pageerror", lambda error: wrong.append(str(error)))
    opened.on("request", lambda request: None if request.url.startswith(origin) else wrong.append(request.url))
    opened.goto(address)
    yield opened
    context.close()
    assert wrong == []
