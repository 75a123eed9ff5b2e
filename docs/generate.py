"""Write docs/cli.md and the tables of docs/recipes.md from the code.

    python docs/generate.py          # or `make docs`

tests/test_docs.py compares the files with what this script would write.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any, get_args, get_origin

import typer
from typer.testing import CliRunner

from modiste import config, schema
from modiste.cli import app

DOCS = Path(__file__).parent
METAVARS = {"str": "TEXT", "int": "N", "float": "X", "Path": "PATH"}
CLI_HEAD = """# Command line

Every command with its arguments, options and defaults. `make docs` writes this page from the code: do not edit it.

Every command has `--help`. Exit code 0 means success, 1 an error in the work, 2 wrong use; an error is one sentence on
standard error that names the value, the place and the remedy. `--json` prints the result for programs.

"""


def cli_page() -> str:
    """The page of commands."""
    root: Any = typer.main.get_command(app)
    named = [pair for name, command in root.commands.items() for pair in with_subcommands(name, command)]
    listed = [f"| [`{name}`](#modiste-{name.replace(' ', '-')}) | {first_line(command)} |" for name, command in named]
    table = "\n".join(["| command | what it does |", "|---|---|", *listed])
    return CLI_HEAD + table + "\n" + "".join(section(name, command) for name, command in named)


def with_subcommands(name: str, command: Any) -> list[tuple[str, Any]]:
    """A command and its subcommands by their full names; a mere group (`judge`) is left out."""
    inner = [(f"{name} {word}", below) for word, below in getattr(command, "commands", {}).items()]
    return inner if inner and not command.invoke_without_command else [(name, command), *inner]


def first_line(command: Any) -> str:
    """The first sentence of a command's help, in one line."""
    text: str = command.help.partition("\n\n")[0]
    return escaped(" ".join(text.split()))


def section(name: str, command: Any) -> str:
    """One command: its help, the table of arguments and options, and its examples."""
    text, *examples = command.help.split("Example: ")
    rows = [row(parameter) for parameter in command.params if not parameter.hidden]
    table = "\n".join(["| argument or option | default | meaning |", "|---|---|---|", *rows])
    lines = "\n".join(" ".join(example.split()) for example in examples)
    shown = f"\n```sh\n{lines}\n```\n" if examples else ""
    paragraphs = "\n\n".join(" ".join(part.split()) for part in text.strip().split("\n\n"))
    return f"\n## modiste {name}\n\n{paragraphs}\n{shown}" + (f"\n{table}\n" if rows else "")


def row(parameter: Any) -> str:
    """One argument or option as a row of a table."""
    if parameter.opts[0].startswith("-"):
        value = "" if parameter.is_flag else f" {metavar(parameter.type_descriptor.annotation)}"
        name = ", ".join(parameter.opts + parameter.secondary_opts) + value
    else:
        name = parameter.opts[0].upper() + ("..." if parameter.nargs == -1 else "")
    many = " (may be repeated)" if parameter.multiple else ""
    none = "required" if parameter.required else ""
    default = none if parameter.default in (None, False, [], ()) else f"`{parameter.default}`"
    return f"| `{escaped(name)}` | {escaped(default)} | {escaped(parameter.help or '')}{many} |"


def metavar(annotation: Any) -> str:
    """What stands for an option's value."""
    if get_origin(annotation) is list:
        return metavar(get_args(annotation)[0])
    if get_origin(annotation) is tuple:
        return " ".join(map(metavar, get_args(annotation)))
    if choices := get_args(annotation):
        return "/".join(map(str, choices))
    return METAVARS.get(annotation.__name__, annotation.__name__.upper())


def escaped(text: str) -> str:
    return text.replace("|", "\\|")


def recipes_table() -> str:
    """Every recipe in a sentence with its source, then what each is made of."""
    loaded = [config.load(name) for name in schema.shipped()]
    rows = [f"| `{recipe.name}` | {escaped(recipe.about)} | {escaped(recipe.source)} |" for recipe in loaded]
    parts = CliRunner().invoke(app, ["recipes", "--markdown"]).output.strip()
    return "\n".join(["| recipe | what it is | source |", "|---|---|---|", *rows]) + f"\n\n{parts}"


def keys_table() -> str:
    """Every key of a recipe with its default and meaning."""
    rows = [
        f"| `{row['key']}` | `{row['default']!r}` | {escaped(' '.join(row['meaning'].split()))} |"
        for row in config.describe_keys()
    ]
    return "\n".join(["| key | default | meaning |", "|---|---|---|", *rows])


def with_tables(page: str) -> str:
    """The page of recipes with its generated tables renewed; the text around them stays."""
    for name, table in {"recipes": recipes_table(), "keys": keys_table()}.items():
        block = rf"(<!-- {name}: written by docs/generate.py -->\n).*?(<!-- end -->)"
        assert re.search(block, page, re.DOTALL), name
        page = re.sub(block, lambda found, table=table: f"{found[1]}{table}\n{found[2]}", page, flags=re.DOTALL)
    return page


def pages() -> dict[Path, str]:
    """The files that this script writes, and their texts."""
    recipes = DOCS / "recipes.md"
    return {DOCS / "cli.md": cli_page(), recipes: with_tables(recipes.read_text(encoding="utf-8"))}


if __name__ == "__main__":
    argparse.ArgumentParser(description="Write docs/cli.md and the tables of docs/recipes.md.").parse_args()
    for path, text in pages().items():
        path.write_text(text, encoding="utf-8")
        print(f"wrote {path}")
