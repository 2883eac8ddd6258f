"""`crodino study`: data, runs, notebooks, report, each skipped where it is already there."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from crodino_lib.config import ENCODINGS, RunConfig, StudyConfig
from crodino_lib.io import bar, headless, say
from crodino_lib.study.notebooks import Executed, execute, notebook_key
from crodino_lib.study.parameters import notebooks
from crodino_lib.study.report import write_report
from crodino_lib.study.runs import Run
from crodino_lib.study.study import Study
from crodino_lib.study.tables import save_tables


def run_study(config: StudyConfig) -> Path:
    """Run a whole study, or go on with it, and return the path of its report.

    Raises:
        NotebookFailed: a notebook's cell raised; everything finished before is kept and not done again.
    """
    started = time.monotonic()
    study = Study(config)
    say(f"study {config.name} on {config.dataset}. {study.caveat()}")
    runs = train_grid(study)
    pages = execute_notebooks(study, runs)
    comparison = save_tables(runs, study.folder / "tables", study.caveat())
    report = write_report(study, runs, comparison, pages)
    say(f"done in {(time.monotonic() - started) / 60:.1f} minutes. The report: {report}")
    return report


def train_grid(study: Study) -> list[Run]:
    """Every run of the study's grid, trained where missing."""
    grid = study.grid()
    missing = [config for config in grid if not study.is_finished(config)]
    say(f"runs: {len(grid)} in all, {len(missing)} to train")
    for number, config in enumerate(bar(missing, label="runs", unit="run"), 1):
        say(f"run {number}/{len(missing)}: {describe_run(config)}")
        run = study.fetch(config)
        scores = ", ".join(f"{key} {100 * metric['miou']:.1f}" for key, metric in run.record["metrics"].items())
        say(f"  mIoU {scores} in {run.record['cost']['train_seconds']:.0f} s")
    return [study.fetch(config) for config in grid]


def execute_notebooks(study: Study, runs: list[Run]) -> list[Executed]:
    """Every notebook of the series, executed where it or what it shows has changed."""
    series = notebooks()
    folder = study.folder / "notebooks"
    hashes = [run.record["hash"] for run in runs]
    pages = []
    for number, source in enumerate(bar(series, label="notebooks", unit="notebook"), 1):
        key = notebook_key(source, study.config.model_dump(mode="json"), hashes)
        executed = Executed(source, folder)
        if executed.is_current(key):
            say(f"notebook {number}/{len(series)}: {source.stem} is up to date")
        else:
            begun = time.monotonic()
            say(f"notebook {number}/{len(series)}: {source.stem} ...")
            execute(source, folder, study.config, key, log=sys.stdout if headless() else None)
            say(f"  done in {time.monotonic() - begun:.0f} s")
        pages.append(executed)
    return pages


def describe_run(config: RunConfig) -> str:
    """A run in words."""
    taught = f", taught by {config.teacher} of {'+'.join(config.teacher_sensors)}" if config.teacher else ""
    data = config.data.model_dump(include=set(ENCODINGS))
    shown = "".join(f", {name} {value}" for name, value in data.items() if value not in ("raw", "none"))
    epochs = f"{config.train.epochs} epochs"
    return f"{config.method} on {'+'.join(config.sensors)}{taught}{shown}, seed {config.seed}, {epochs}"
