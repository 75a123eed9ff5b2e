"""The command verify: whether images say that they are synthetic."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

from modiste.cli.options import JsonFlag
from modiste.wording import counted

app = typer.Typer()


@app.command()
def verify(
    what: Annotated[Path, Argument(help="A picture, a folder of pictures or IDX files, an .npz or .parquet file.")],
    key: Annotated[
        str | None,
        Option(envvar="MODISTE_WATERMARK_KEY", help="The secret text of the watermark to look for in the pixels."),
    ] = None,
    trust: Annotated[
        Path | None, Option(help="Certificates (PEM) of authorities that you trust to vouch for who signed.")
    ] = None,
    each: Annotated[bool, Option("--each", help="Also a line per image; its p-value tells little on its own.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Tell synthetic images from real ones: their metadata, signed manifests (C2PA) and the watermark in their pixels.

    Example: modiste verify images --key "our secret"
    """
    from modiste.data import readers
    from modiste.provenance import verify as verification

    report = verification.verify(readers.expanded(what), key, each=each, trust=trust)
    if as_json:
        print(json.dumps(report, indent=2))
        return
    manifests = ", ".join(f"{count:,} {state}" for state, count in sorted(report["manifests"].items()))
    print(f"{report['path']}: {counted(report['images'])} in {counted(report['files'], 'file')}")
    part = f" ({report['in_part']:,} in part)" if report["in_part"] else ""
    print(f"  metadata   {report['metadata']:,} of {report['files']:,} files say that they are synthetic{part}")
    print(f"  manifests  {manifests}")
    for issuer in report["issuers"]:
        print(f"             self-made: the certificate calls itself {issuer or 'nothing'}, and nobody vouches for it")
    for code, count in report["claims"].items():
        print(f"  claims     {count:,} of {report['files']:,} files claim {code}, which proves nothing")
    for note in report["notes"]:
        print(f"             {note}")
    if mark := report.get("watermark"):
        print(f"  watermark  p at most {mark['p_value']:.2g}, statistic {mark['statistic']:.2f}")
    for row in report.get("each", []):
        parts = [row["image"]]
        if "manifest" in row:
            source = row["metadata"].get("DigitalSourceType", "").rpartition("/")[2]
            parts += [
                f"metadata {source}".rstrip() if row["metadata"] else "no metadata",
                f"manifest {row['manifest']}",
            ]
            parts += [f"{claim['where']}: {claim['code']}" for claim in row["claims"] if claim["where"] != "metadata"]
        if "p_value" in row:
            parts.append(f"p {row['p_value']:.2g}")
        print("  " + ", ".join(parts))
    print(report["conclusion"])
