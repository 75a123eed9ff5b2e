"""The page of a blind test, the key that stays with whoever gives it, and the files of both.

The page holds pictures and names of classes and nothing else: not which picture is which, not where they come from, not
the seed. Every picture is an uncompressed PNG of the same header, so that all have one size in bytes whatever they
show. The key lies in a file of its own, and answers can be scored only with it.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image

from modiste import files
from modiste.environment import __version__
from modiste.errors import UsageError
from modiste.experiments.blind.trials import BlindTest

SECONDS_PER_TRIAL = 3
FOLDER = Path(__file__).parent
ASK = {"generated": "Which picture is generated?", "better": "Which picture looks better?"}
EXPLANATIONS = {
    "generated": "Two pictures stand beside each other. One is real, the other was made by a generator. "
    "Choose the generated one.",
    "better": "Two pictures stand beside each other. Choose the one that looks more like a real one.",
}


def render(test: BlindTest, save_to: str = "") -> str:
    """The whole page. With `save_to`, an address on the page's own server, answers are sent there by POST as JSON, and
    the page shows the `sentences` of the JSON that comes back; else they are saved as a file."""
    import jinja2

    loader = jinja2.FileSystemLoader(FOLDER)
    environment = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True, undefined=jinja2.StrictUndefined)
    data = {
        "id": test.identity,
        "side": test.trials[0].left.shape[1],
        "save_to": save_to,
        "trials": [
            {"class": trial.class_name, "left": encoded(trial.left), "right": encoded(trial.right)}
            for trial in test.trials
        ],
    }
    return environment.get_template("page.html").render(
        ask=ASK[test.question],
        explanation=EXPLANATIONS[test.question],
        count=len(test.trials),
        minutes=max(1, round(len(test.trials) * SECONDS_PER_TRIAL / 60)),
        save_to=save_to,
        mark=files.MARK,
        version=__version__,
        policy=content_security_policy(save_to),
        style=Markup(_text("page.css")),
        script=Markup(_text("page.js")),
        data=Markup(json.dumps(data).replace("<", "\\u003c")),  # no class name ends the element
    )


def content_security_policy(save_to: str = "") -> str:
    """What the page may load and run: its own style and script, its pictures, and where answers are sent."""
    hashes = [
        base64.b64encode(hashlib.sha256(_text(name).encode()).digest()).decode() for name in ("page.css", "page.js")
    ]
    send = "; connect-src 'self'" if save_to else ""
    return (
        f"default-src 'none'; img-src data:; style-src 'sha256-{hashes[0]}'; script-src 'sha256-{hashes[1]}'{send}; "
        "base-uri 'none'; form-action 'none'"
    )


def encoded(picture: NDArray[np.uint8]) -> str:
    """The picture [C, H, W] as an uncompressed PNG in Base64: its length follows from the shape alone."""
    dots = picture[0] if len(picture) == 1 else np.ascontiguousarray(picture.transpose(1, 2, 0))
    buffer = io.BytesIO()
    Image.fromarray(dots).save(buffer, format="PNG", compress_level=0)
    return base64.b64encode(buffer.getvalue()).decode()


def key(test: BlindTest) -> dict[str, Any]:
    """What turns answers into results, as JSON: which picture was which, and where each comes from."""
    return {
        "modiste": __version__,
        "format": "modiste blind key 1",
        "test": test.identity,
        "question": test.question,
        "per_class": test.per_class,
        "pairs": [list(test.pair_names(k)) for k in range(len(test.pairs))],
        "trials": [
            {"pair": trial.pair, "class": trial.class_name, "first": trial.first, "images": list(trial.images)}
            for trial in test.trials
        ],
        **test.facts,
    }


def key_place(page: Path) -> Path:
    """Where the key of a page lies: blind.key.json for blind.html."""
    return page.with_suffix(".key.json")


def check_places(page: Path) -> None:
    """UsageError where the page or its key would replace what is not Modiste's; called before long work."""
    if page.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"--out {page} does not end in .html, and a blind test is a page; name it so")
    for place in (page, key_place(page)):
        files.refuse_foreign_file(place)
    files.check_writable(page)


def write(test: BlindTest, page: Path) -> tuple[Path, Path]:
    """Write the page and its key, which are also returned.

    UsageError where the key of another test lies there: answers to that one could not be scored any more.
    """
    check_places(page)
    place = key_place(page)
    tree = key(test)
    if place.exists() and json.loads(place.read_text(encoding="utf-8")).get("test") != tree["test"]:
        raise UsageError(
            f"{place} is the key of another blind test, whose answers need it; choose another place, or remove it"
        )
    files.write_json(place, tree)  # first: answers to a page without a key are lost
    files.write_text(page, render(test))
    return page, place


def _text(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")
