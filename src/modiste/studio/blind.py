"""The blind test in the studio: made of a run, taken in a page of its own, scored as soon as it is sent.

Page, key and answers lie in the folder `blind` beside the runs, where `modiste blind --score` reads them too.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from modiste import files, subprocesses
from modiste.errors import ModisteError, UsageError
from modiste.experiments.blind import answers, phrases, scores, trials
from modiste.experiments.blind import page as pages
from modiste.studio import library
from modiste.studio.queries import entry_of, folder_of, posting, text_of
from modiste.wording import quoted

FOLDER = "blind"
MOST_TRIALS = 500
NAME_DIGITS = 12


def make(request: Request, asked: dict[str, Any]) -> Response:
    """Make a test of a run against real images or another run; its address and the command that makes the like."""
    entry, folder = entry_of(request), folder_of(request)
    against, what = text_of(asked, "against"), _word(entry)
    other = trials.REAL if against == trials.REAL else _word(library.find(folder, against))
    count, seed, per_class = asked.get("trials"), asked.get("seed", 0), bool(asked.get("per_class"))
    if type(count) is not int or not 1 <= count <= MOST_TRIALS:
        raise UsageError(f"a test has 1 to {MOST_TRIALS} trials, not {quoted(count)}")
    if type(seed) is not int:
        raise UsageError(f"the seed {quoted(seed)} is no whole number; use one from 0 to {trials.SEEDS - 1}")
    options = trials.BlindOptions(against=other, trials=count, per_class=per_class, seed=seed)
    test = library.compute(trials.make_test, [what], options)
    place = folder / FOLDER / f"{test.identity}.html"
    place.parent.mkdir(exist_ok=True)
    pages.check_places(place)
    files.write_json(pages.key_place(place), pages.key(test))
    files.write_text(place, pages.render(test, save_to=f"/blind/{test.identity}"))
    words = ["blind", what, "--against", other, "--trials", str(count), "--seed", str(seed)]
    words += ["--per-class"] if per_class else []
    command = subprocesses.printable([*words, "--out", "blind.html"])
    notes = [*test.notes, *(phrases.giveaway_sentence(one, test) for one in trials.giveaways(test))]
    return JSONResponse({"address": f"/blind/{test.identity}", "command": command, "notes": notes})


def _word(entry: library.Entry) -> str:
    """The run as `modiste blind` takes it, which means real images by `real`."""
    word = entry.run.word
    return f"./{word}" if word == trials.REAL else word


def take(request: Request) -> Response:
    """The page of a test."""
    place = _place(request)
    headers = {"Content-Security-Policy": f"{pages.content_security_policy(str(place))}; frame-ancestors 'none'"}
    return HTMLResponse(place.read_text(encoding="utf-8"), headers=headers)


def answer(request: Request, asked: dict[str, Any]) -> Response:
    """Keep a person's answers to a test, and tell their result."""
    place = _place(request)
    sheet = answers.parse_answers(asked, "this page")
    score = scores.score(answers.find_key([sheet], pages.key_place(place)), [sheet])
    person = hashlib.sha256(sheet.person.encode()).hexdigest()[:NAME_DIGITS]
    files.write_json(place.with_suffix(f".answers-{person}.json"), asked)
    return JSONResponse({"sentences": phrases.sentences(score)})


def results(request: Request) -> Response:
    """The result of every test that was answered, over all who answered it; of one that cannot be read, why."""
    folder, found = folder_of(request) / FOLDER, []
    for key_file in sorted(folder.glob("*.key.json")):
        identity = key_file.name.removesuffix(".key.json")
        kept = sorted(folder.glob(f"{identity}.answers-*.json"))
        if not kept or any(place.is_symlink() for place in (key_file, *kept)):
            continue
        about, sentences = identity, []
        try:
            sheets = answers.read_sheets(kept)
            key = answers.find_key(sheets, key_file)
            about = ", ".join(f"{first} against {second}" for first, second in key.pairs)
            sentences = phrases.sentences(scores.score(key, sheets))
        except ModisteError as error:
            sentences = [str(error)]
        command = subprocesses.printable(["blind", "--score", *map(str, kept)])
        found.append({"about": about, "people": len(kept), "sentences": sentences, "command": command})
    return JSONResponse(found)


def _place(request: Request) -> Path:
    """The page of the test that the address names; UsageError where there is none."""
    identity = request.path_params["identity"]
    known = {place.stem: place for place in (folder_of(request) / FOLDER).glob("*.html") if not place.is_symlink()}
    if identity not in known:
        raise UsageError("there is no blind test at this address; make one in the studio")
    return known[identity]


ROUTES = [
    Route("/api/runs/{id}/blind", posting(make), methods=["POST"]),
    Route("/api/blind", results),
    Route("/blind/{identity}", take),
    Route("/blind/{identity}", posting(answer), methods=["POST"]),
]
