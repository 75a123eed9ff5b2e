"""The command blind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from typer import Argument, Option

from modiste.cli.options import JsonFlag, TrustFlag, trust_code
from modiste.cli.tables import print_table
from modiste.errors import UsageError

if TYPE_CHECKING:
    from modiste.experiments.blind.trials import BlindTest

app = typer.Typer()
MAKING, SCORING = "Making a page", "Scoring answers"


@app.command()
def blind(
    what: Annotated[
        list[str],
        Argument(
            metavar="RUN...|ANSWERS...",
            help="Runs, `pretrained`, .npz files or folders of images; with --score files of answers.",
        ),
    ],
    against: Annotated[
        str | None,
        Option(
            help="real (which picture is generated?) or a run (which looks better?); default real for one source, and "
            "all pairs of several.",
            rich_help_panel=MAKING,
        ),
    ] = None,
    trials: Annotated[
        int, Option(help="Pairs of pictures in all; attention checks come on top.", rich_help_panel=MAKING)
    ] = 100,
    per_class: Annotated[
        bool,
        Option("--per-class", help="As many trials of every class, and a verdict on each.", rich_help_panel=MAKING),
    ] = False,
    seed: Annotated[int, Option(min=0, help="Which images, sides and order.", rich_help_panel=MAKING)] = 0,
    data: Annotated[
        str | None, Option(help="The data set of the real images; default the runs'.", rich_help_panel=MAKING)
    ] = None,
    checkpoint: Annotated[
        Literal["last", "best"], Option(help="Which of a run's generators.", rich_help_panel=MAKING)
    ] = "last",
    truncation: Annotated[
        float | None, Option(help="Cut the runs' noise at this value.", rich_help_panel=MAKING)
    ] = None,
    out: Annotated[
        Path | None, Option(help="The page; default blind.html. Its key is written beside it.", rich_help_panel=MAKING)
    ] = None,
    score: Annotated[
        bool, Option("--score", help="Score files of answers that the page saved.", rich_help_panel=SCORING)
    ] = False,
    key: Annotated[
        Path | None,
        Option(help="The page's key; default the one beside the answers or here.", rich_help_panel=SCORING),
    ] = None,
    trust: TrustFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Let people compare pictures blindly: a page to answer in five minutes, and the results with their uncertainty.

    The page shows two pictures of one class at a time and asks which is generated,
    or which looks better. It is one file that can be sent to anybody; the key
    NAME.key.json beside it is not for those who answer.

    Example: modiste blind pretrained --out blind.html

    Example: modiste blind runs/a runs/b --against real --per-class --trials 200

    Example: modiste blind --score answers*.json
    """
    trust_code(trust, [*what, *([against] if against else [])])
    if score:
        if against is not None or out is not None:
            raise UsageError(
                "--score reads answers and makes no page, so --against and --out do not fit; leave them out"
            )
        _score([Path(one) for one in what], key, as_json)
        return
    if key is not None:
        raise UsageError("--key is for scoring answers; add --score, or leave it out")
    from modiste import progress
    from modiste.experiments.blind import page
    from modiste.experiments.blind import trials as blind_trials

    out = out or Path("blind.html")
    page.check_places(out)
    options = blind_trials.BlindOptions(against, trials, per_class, seed, data, checkpoint, truncation)
    with progress.live_log("blind") as log:
        test = blind_trials.make_test(what, options)
        for note in test.notes:
            log(f"note: {note}")
    _print_test(test, *page.write(test, out), as_json)


def _print_test(test: BlindTest, html: Path, key_file: Path, as_json: bool) -> None:
    from modiste.experiments.blind import phrases
    from modiste.experiments.blind import trials as blind_trials

    found = blind_trials.giveaways(test)
    if as_json:
        facts = {"html": str(html), "key": str(key_file), "test": test.identity, "question": test.question}
        counts = {"trials": len(test.trials), "pairs": [test.pair_names(k) for k in range(len(test.pairs))]}
        alone = [{"pair": one.pair, "measure": one.measure, "share": one.share, "chance": one.chance} for one in found]
        print(json.dumps({**facts, **counts, "giveaways": alone, "notes": list(test.notes)}, indent=2))
        return
    for one in found:
        print(phrases.giveaway_sentence(one, test))
    print(f"wrote {key_file}, which says which picture is which: keep it, and give away the page alone")
    print(f"open {html}")


def _score(files: list[Path], key_file: Path | None, as_json: bool) -> None:
    from modiste.experiments.blind import answers, phrases, scores

    sheets = answers.read_sheets(files)
    result = scores.score(answers.find_key(sheets, key_file), sheets)
    lines = phrases.sentences(result)
    if as_json:
        print(json.dumps({**result.to_json(), "sentences": lines}, indent=2))
        return
    if len(result.pairs) > 1:
        print_table(*phrases.pair_table(result))
        print()
    if any(one.answers for one in result.classes):
        print_table(*phrases.class_table(result))
        print()
    print_table(*phrases.people_table(result))
    print()
    for line in lines:
        print(line)
