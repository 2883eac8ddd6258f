"""Run a whole study: data, runs, notebooks, tables, report; whatever is finished is skipped."""

import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from joblib import Parallel, delayed

from crodino_lib.config import RunConfig, StudyConfig
from crodino_lib.data.sample import SensorSet
from crodino_lib.io import bar, say
from crodino_lib.methods.registry import METHODS, method_name, parse_method
from crodino_lib.settings import load_object
from crodino_lib.study.cluster import current_client, on_workers
from crodino_lib.study.dial_runs import plan
from crodino_lib.study.dials import DIALS, Dial
from crodino_lib.study.notebooks import Executed, execute, notebook_key, notebooks
from crodino_lib.study.runs import Run
from crodino_lib.study.study import Study
from crodino_lib.study.tables import save_tables

MOST_WORKERS = 4  # processes at a time: each holds a network and a kernel


def run_study(config: StudyConfig) -> Path:
    """Run a study, or continue it, and return the path of its report.

    Raises:
        NotebookFailed: a notebook's cell raised; everything finished before is kept and not done again.
    """
    started = time.monotonic()
    study = Study(config)
    notebooks()  # where there are none, that is an error before training, not after
    say(f"study {study.config.name} on {config.data.dataset}. {study.caveat()}")
    for split in study.card.splits:
        _ = study.scenes[split]  # rendered and decoded once, before several processes ask for them
    runs = train_grid(study)
    save_tables(runs, study.folder / "tables", study.caveat())
    execute_notebooks(study, runs)
    report = load_object("crodino_lib.report:write_report")(study, runs)
    say(f"done in {(time.monotonic() - started) / 60:.1f} minutes. The report: {report}")
    return report


def train_grid(study: Study) -> list[Run]:
    """Return every run of the study's grid, trained where missing, as are those of its dials: teachers first."""
    grid = study.grid()
    own = {config.model_dump_json(): config for config in [*(one.parent for one in grid if one.parent), *grid]}
    tasks = [(study, config) for config in own.values() if not study.is_finished(config)]
    turned = plan([DIALS[name].brief for name in study.config.dials], study)
    tasks += [(point, config) for point, config in turned if config.model_dump_json() not in own]
    taught = [config.parent for _, config in tasks if config.parent]
    tasks.sort(key=lambda task: (task[1] not in taught, -len(task[1].sensors)))  # long runs before short ones
    say(f"runs: {len(grid)} in all, {len(tasks)} to train")
    train_runs(tasks)
    return [study.fetch(config) for config in grid]


def turn(dials: list[Dial], base: Study, root: str = "") -> None:
    """Train the runs of dials that are missing, in the order of ``plan``."""
    missing = plan(dials, base, root)
    say(f"dials {', '.join(dial.name for dial in dials)}: {len(missing)} runs to train")
    train_runs(missing)


def train_runs(tasks: list[tuple[Study, RunConfig]]) -> None:
    """Train runs of studies, several at a time, and print a line about each."""
    places = {(study.folder, config.model_dump_json()): place for place, (study, config) in enumerate(tasks)}
    parents = [(study.folder, config.parent.model_dump_json() if config.parent else "") for study, config in tasks]
    after = {place: [places[parent]] for place, parent in enumerate(parents) if parent in places}
    calls = [(train_run, study.config, study.folder.parent, config) for study, config in tasks]
    for line in in_parallel(calls, after):
        say(f"  {line}")


def train_run(config: StudyConfig, results: Path, run_config: RunConfig) -> str:
    """Train one run of a study, and return a line about it."""
    say(f"training {describe_run(run_config)}")
    run = Study(config, results).fetch(run_config)
    mious = ", ".join(f"{row['sensors']} {row['split']} {100 * row['miou']:.1f}" for row in run.record["metrics"])
    return f"{describe_run(run_config)}: mIoU {mious} in {run.record['cost']['train_seconds']:.0f} s"


def execute_notebooks(study: Study, runs: list[Run]) -> None:
    """Execute every notebook of the series where it or what it shows has changed, several at a time."""
    folder, hashes = study.folder / "notebooks", [run.record["hash"] for run in runs]
    keys = {source: notebook_key(source, study.config, hashes) for source in notebooks()}
    changed = [source for source, key in keys.items() if not Executed(source, folder).is_current(key)]
    if changed:
        analyse_latents(study)
    say(f"notebooks: {len(keys)} in all, {len(changed)} to execute")
    longest_first = sorted(changed, key=lambda source: -source.stat().st_size)
    for line in in_parallel([(execute_one, source, folder, study.config, keys[source]) for source in longest_first]):
        say(f"  {line}")


def analyse_latents(study: Study) -> None:
    """Compute what notebooks show of the latents of methods that split them, several parts at a time."""
    split = [name for name in study.config.methods if METHODS[parse_method(name)[0]].build.split]
    parts = [(name, seed, "metrics") for name in split for seed in study.config.seed_list]
    parts += [(name, 0, part) for name in split for part in ("trained", "untrained")]
    say(f"latents: {', '.join(split) or 'no method splits them'}")
    for line in in_parallel([(analyse_part, study.config, study.folder.parent, *part) for part in parts]):
        say(f"  {line}")


def analyse_part(*arguments: Any) -> str:
    """Compute one part; see ``compute_part`` in the analysis, which is an optional package."""
    return load_object("crodino_lib.analysis.latent_analysis:compute_part")(*arguments)


def execute_one(source: Path, folder: Path, config: StudyConfig, key: str) -> str:
    """Execute one notebook, and return a line about it."""
    begun = time.monotonic()
    execute(source, folder, config, key, log=sys.stdout)
    return f"{source.stem}: {time.monotonic() - begun:.0f} s"


def in_parallel(calls: list[tuple[Callable, Any]], after: Mapping[int, list[int]] | None = None) -> Iterator[str]:
    """Yield the results of calls as they end, with the time left: on Dask's workers, or else in several processes.

    Two processes of one thread train faster than one of two. With a GPU there is one. ``after`` has, for a call, those
    whose results it needs; without Dask a call that needs another makes it itself, or waits for it.
    """
    workers = 1 if torch.cuda.is_available() else min(len(calls), os.cpu_count() or 1, MOST_WORKERS)
    if client := current_client():
        results = on_workers(client, calls, after or {})
    elif workers > 1:
        # a process whose memory has grown is replaced by a new one, and the job goes on
        warnings.filterwarnings("ignore", message="A worker stopped while some jobs", category=UserWarning)
        threads = max(1, (os.cpu_count() or 1) // workers)
        results = Parallel(n_jobs=workers, return_as="generator_unordered")(
            delayed(_in_worker)(threads, *call) for call in calls
        )
    else:
        results = (function(*arguments) for function, *arguments in calls)
    started = time.monotonic()
    for done, result in enumerate(bar(results, total=len(calls)), 1):
        left = (time.monotonic() - started) / done * (len(calls) - done) / 60
        yield f"{result} | {done} of {len(calls)}" + (f", about {left:.1f} min left" if left else "")


def _in_worker(threads: int, function: Callable, *arguments: Any) -> str:
    os.environ |= {"CRODINO_HEADLESS": "1", "OMP_NUM_THREADS": str(threads)}  # the kernels of notebooks inherit them
    torch.set_num_threads(threads)
    return function(*arguments)


def describe_run(config: RunConfig) -> str:
    """Return a run in words."""
    taught = f", taught by {config.teacher} of {SensorSet(config.teacher_sensors)}" if config.teacher else ""
    own = {"labelled": config.data.labelled} if config.data.labelled else {}
    shown = "".join(f", {name} {value}" for name, value in (config.data.encodings | config.data.options | own).items())
    name, train = method_name(config.method, config.settings), config.train
    budget = f"{train.steps} steps" if train.steps else f"{train.epochs} epochs"
    return f"{name} on {SensorSet(config.sensors)}{taught}{shown}, seed {config.seed}, {budget}"
