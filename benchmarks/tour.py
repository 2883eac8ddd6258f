"""Print where the time of `make study` goes: rendering, each run, notebooks, with a cache and a study of their own.

python benchmarks/tour.py [--profile quick] [--keep FOLDER]
"""

import argparse
import contextlib
import os
import tempfile
import time
from pathlib import Path


def main() -> None:
    """Run a study in a new folder and print the seconds of its parts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--profile", default="quick")
    parser.add_argument(
        "--keep",
        default="",
        metavar="FOLDER",
        help="folder of the cache, whose name is the study's (default temporary)",
    )
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = Path(options.keep or stack.enter_context(tempfile.TemporaryDirectory())).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        os.environ["CRODINO_CACHE"] = str(folder / "cache")
        measure(options.profile, folder)


def measure(profile: str, folder: Path) -> None:
    """Run the parts of a study one after the other, as ``run_study`` does, and print their seconds."""
    from crodino_lib.config import StudyConfig
    from crodino_lib.device import describe, pick_device, resolve_precision
    from crodino_lib.report import write_report
    from crodino_lib.study.pipeline import execute_notebooks, train_grid
    from crodino_lib.study.study import Study
    from crodino_lib.study.tables import save_tables

    device, started = pick_device(), time.monotonic()
    print(f"{os.cpu_count()} cores, {describe(device)}, {resolve_precision('auto', device)}", flush=True)
    study = Study(StudyConfig.parse({"profile": profile, "study": folder.name}))  # where notebooks look for runs
    for split in study.card.splits:
        _ = study.scenes[split]
    seconds = {"render and decode": time.monotonic() - started}
    runs = train_grid(study)
    seconds["train and evaluate"] = time.monotonic() - started - sum(seconds.values())
    save_tables(runs, study.folder / "tables", study.caveat())
    execute_notebooks(study, runs)
    write_report(study, runs)
    seconds["notebooks and report"] = time.monotonic() - started - sum(seconds.values())
    rows = [(name, value) for name, value in seconds.items()] + [("all", time.monotonic() - started)]
    rows += [(f"  run {run.name} {'+'.join(run.config.sensors)}", run.record["cost"]["train_seconds"]) for run in runs]
    print("\n".join(f"{name:40} {value:7.0f} s" for name, value in rows))


if __name__ == "__main__":
    main()
