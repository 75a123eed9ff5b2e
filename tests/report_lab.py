"""Studies made from one run, and the text and pictures of a page."""

from __future__ import annotations

import base64
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from modiste import config, runs
from modiste import files as safe_files
from modiste.evaluation import records
from modiste.experiments import results


def study_of(
    measured_run: Path, folder: Path, effects: dict[str, tuple[float, ...]], failed: tuple[str, int] | None
) -> Path:
    """A study folder of copies of one run, whose Fréchet distance is 5 % of noise's times each seed's effect."""
    seeds = len(next(iter(effects.values())))
    rows: list[dict[str, Any]] = []
    recipe = config.to_toml(runs.Run(measured_run).read_recipe())
    for name in effects:
        safe_files.write_text(folder_of(folder, "") / f"{name}.toml", recipe)
    names = json.dumps([f"{name}.toml" for name in effects])
    safe_files.write_text(
        folder / "study.toml", f'name = "fake"\nabout = "Which?"\nrecipes = {names}\nseeds = {seeds}\n'
    )
    for name, factors in effects.items():
        for seed, factor in enumerate(factors):
            row: dict[str, Any] = dict.fromkeys(results.COLUMNS)
            row |= {"study": "fake", "configuration": name, "seed": seed, "reason": "", "status": "finished"}
            if failed == (name, seed):
                rows.append({**row, "status": "failed", "reason": "the loss is not finite"})
                continue
            copy = folder_of(folder, "runs") / f"{name}-seed{seed}"
            shutil.copytree(measured_run, copy)
            record = records.read(copy / "metrics.json")
            scores = dict(record.scores)
            for metric, score in scores.items():
                if score.kind in ("frechet", "frechet_infinite"):  # such short a training has learned nothing
                    scores[metric] = replace(score, value=0.05 * (score.trivial or 0.0) * factor)
                rows.append({**row, "score": metric, "value": scores[metric].value, "better": score.better})
            records.write(copy / "metrics.json", replace(record, scores=scores))
    safe_files.write_text(folder / "records.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    return folder


def folder_of(base: Path, name: str) -> Path:
    (base / name).mkdir(parents=True, exist_ok=True)
    return base / name


def shown(page: Path) -> str:
    """The page's text without pictures and styles."""
    text = re.sub(r"<style>.*?</style>|data:image/[^\"']+", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", text))


def images(page: Path) -> list[bytes]:
    return [base64.b64decode(found) for found in re.findall(r"base64,([A-Za-z0-9+/=]+)", page.read_text())]
