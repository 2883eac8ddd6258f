"""The command line: `crodino --help`."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from typing import Any

DESCRIPTION = """\
An open study of cross-modal knowledge distillation: train with two sensors, deploy with one.

  crodino study                                     the tour on the built-in dataset, 30 to 85 minutes on two cores
  crodino study --profile cpu                       evidence, over hours; interrupt it, call it again, it goes on
  crodino study --dataset nyu13 --root FOLDER       the same on your copy of NYU Depth v2
  crodino run --method crodino-kd --seed 1          one run
  crodino latents rooms-quick                       what its models share and keep apart, beside null models
  crodino explore rooms-quick                       a page to explore their latents by hand
  crodino inspect FOLDER                            what is in your copy, and whether training on it would go wrong
  crodino lab                                       the notebooks in JupyterLab
"""
INTEGERS = ("seeds", "epochs", "batch_size", "output_stride", "frames")  # settings that are whole numbers


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; errors a user can mend are one paragraph and status 2, a failed notebook is status 1."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.command is None:
        parser.print_help()
        return 0
    from crodino_lib.data.layouts import show_plainly
    from crodino_lib.study.notebooks import NotebookFailed

    show_plainly()
    try:
        return options.act(options) or 0
    except NotebookFailed as error:
        return _fail(error, 1)
    except BrokenPipeError:  # whoever read what is printed has read enough
        sys.stdout = None
        return 0
    except (ValueError, OSError, ImportError) as error:
        return _fail(error, 2)
    except KeyboardInterrupt:
        return _fail("interrupted; the same command goes on from here", 130)


def _fail(error: Exception | str, status: int) -> int:
    print(f"crodino: {error}", file=sys.stderr)
    return status


def _parser() -> argparse.ArgumentParser:
    from crodino_lib.config import AnalysisConfig

    parser = argparse.ArgumentParser(
        prog="crodino",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")

    study = _command(commands, "study", _study, "data, every run, every notebook, the report; skips what is done")
    _add_settings(study)

    run = _command(commands, "run", _run, "train and evaluate one run, or show it if it is finished")
    run.add_argument("--method", required=True, help="row of the table: crodino list methods")
    run.add_argument("--seed", type=int, default=0, help="seed of weights, order and augmentation (default 0)")
    run.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a setting of the method, such as temperature=0.2",
    )
    run.add_argument(
        "--student", metavar="SENSOR", help="which sensor's student, for rows that train one (default first)"
    )
    _add_settings(run, without=("methods", "seeds"))

    render = _command(commands, "render", _render, "render scenes of the built-in dataset")
    render.add_argument("--scenes", type=int, default=200, metavar="N", help="training scenes (default 200)")
    render.add_argument("--size", default="128x96", metavar="WxH", help="pixels, multiples of 16 (default 128x96)")
    render.add_argument("--seed", type=int, default=0, help="seed of the scenes (default 0)")

    inspect = _command(
        commands,
        "inspect",
        _inspect,
        "say what a folder is, look at its scenes, draw a contact sheet; status 1 where training on it would go wrong",
    )
    inspect.add_argument("root", metavar="ROOT", help="the folder")
    inspect.add_argument(
        "--dataset", default="", help="what it is meant to be: crodino list datasets (default: try all)"
    )
    inspect.add_argument("--options", metavar="NAME=VALUE,...", help="options of that dataset")
    inspect.add_argument("--all", action="store_true", help="look at every scene, not at the first of each split")
    inspect.add_argument("--sheet", metavar="PNG", help="the contact sheet (default results/local/inspect/FOLDER.png)")

    listing = _command(commands, "list", _list, "what can be named: methods, datasets, profiles")
    listing.add_argument("what", choices=("methods", "datasets", "profiles"))

    params = _command(commands, "params", _params, "parameters of a notebook: type, default, allowed values")
    params.add_argument("notebook", metavar="NN", help="its number, such as 04")

    status = _command(commands, "status", _status, "what of a study is finished")
    _add_settings(status)

    tables = _command(
        commands, "tables", _tables, "compile the tables of a study's finished runs; list the missing ones"
    )
    _add_settings(tables)

    latents = _command(
        commands,
        "latents",
        _latents,
        "ask what a study's finished models share and keep apart, beside models that learnt no split",
    )
    _add_subjects(latents)
    for name, field in AnalysisConfig.model_fields.items():
        latents.add_argument(f"--{name}", type=int, metavar="N", help=f"{field.description} (default {field.default})")

    explore = _command(
        commands, "explore", _explore, "write a page to explore a study's latents by hand; it needs no network"
    )
    _add_subjects(explore)
    explore.add_argument("--points", type=int, default=4000, metavar="N", help="most points a picture (default 4000)")
    explore.add_argument("--out", metavar="HTML", help="the page (default explorer.html in the study's folder)")

    sweep = _command(
        commands, "sweep", _sweep, "fit UMAP over settings and seeds, to see what of a picture is the setting's doing"
    )
    _add_subjects(sweep)
    sweep.add_argument("--half", choices=("shared", "private"), default="shared", help="which half (default shared)")
    sweep.add_argument("--points", type=int, default=2000, metavar="N", help="most points a picture (default 2000)")

    _command(commands, "lab", _lab, "open the notebooks in JupyterLab")
    return parser


def _command(commands: Any, name: str, act: Any, help: str) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=help, description=help[0].upper() + help[1:] + ".", allow_abbrev=False)
    command.set_defaults(act=act)
    return command


def _add_settings(command: argparse.ArgumentParser, without: tuple[str, ...] = ()) -> None:
    """One option per setting of a study, so that notebooks, papermill and the command line say the same."""
    from crodino_lib.config import StudyConfig

    for name, field in StudyConfig.model_fields.items():
        if name not in without:
            command.add_argument(f"--{name.replace('_', '-')}", dest=name, metavar=name.upper(), help=field.description)


def _add_subjects(command: argparse.ArgumentParser) -> None:
    """Which finished models of which study."""
    command.add_argument("name", metavar="STUDY", help="name of its folder in results/local, such as rooms-quick")
    command.add_argument("--methods", metavar="ROW,...", default="", help="rows (default all that have both sensors)")
    command.add_argument("--seeds", metavar="N,...", default="", help="seeds of runs (default all)")
    command.add_argument("--split", default="test", help="scenes to look at (default test)")
    command.add_argument("--root", default="", metavar="FOLDER", help="your copy of the study's dataset")


def _subjects(options: argparse.Namespace, **budget: int) -> tuple[Any, list]:
    """The laboratory of a study, and the models asked for."""
    from crodino_lib.analysis.latent_analysis import Laboratory
    from crodino_lib.analysis.manifold import FEWEST_POINTS
    from crodino_lib.analysis.trained_models import find_models
    from crodino_lib.study.study import Study

    if "points" in options and options.points < FEWEST_POINTS:
        raise ValueError(f"--points {options.points}: a picture needs at least {FEWEST_POINTS}")
    study = Study.open(options.name, options.root)
    laboratory = Laboratory(study, options.split, study.config.budget(**budget))
    methods = [name for name in options.methods.split(",") if name]
    if wrong := [seed for seed in options.seeds.split(",") if seed and not seed.isdigit()]:
        raise ValueError(f"--seeds {options.seeds!r}: {wrong[0]!r} is not a number")
    seeds = [int(seed) for seed in options.seeds.split(",") if seed]
    subjects = find_models(laboratory.study, methods, seeds)
    if not subjects:
        raise ValueError(
            f"study {options.name} has no finished model with a network of each of its sensors"
            + (f" and a seed among {options.seeds}" if seeds else "")
            + f": crodino study --study {options.name} trains them"
        )
    for subject in subjects:
        if not subject.is_current:
            print(f"note: {subject.name} was trained by another version of the code")
    return laboratory, subjects


def _latents(options: argparse.Namespace) -> None:
    from crodino_lib.analysis.diagnosis import diagnose, reading_table
    from crodino_lib.analysis.findings import save_findings
    from crodino_lib.config import AnalysisConfig

    given = {name: getattr(options, name) for name in AnalysisConfig.model_fields}
    laboratory, subjects = _subjects(options, **{name: value for name, value in given.items() if value is not None})
    table = save_findings(laboratory, subjects)
    for model, rows in reading_table(table).groupby("model", sort=False):
        shown = rows.drop(columns=["model", "row", "low", "high"]).set_index("quantity")
        print(f"\n{model}\n{shown.round(3).to_string(na_rep='-')}")
    for row in diagnose(table).itertuples():
        print(f"\n{row.model}: {row.diagnosis}", end="")
    print(f"\n\n{laboratory.caption(table)}\n{laboratory.study.folder / 'tables'}\n{laboratory.study.figures}")


def _explore(options: argparse.Namespace) -> None:
    from pathlib import Path

    from crodino_lib.explorer.explore import explored
    from crodino_lib.explorer.page import write_page
    from crodino_lib.explorer.payload import payload

    laboratory, subjects = _subjects(options)
    study = laboratory.study
    page = Path(options.out or study.folder / "explorer.html").expanduser()
    if page.is_dir() or not os.access(next(p for p in page.absolute().parents if p.exists()), os.W_OK):
        raise ValueError(f"--out {str(page)!r} cannot be written: name a file in a folder of yours")
    runs, pictures = explored(laboratory, subjects, n=options.points)
    pictures.save(study.folder / "figures", "explorer_manifolds")
    data = payload(f"{study.config.name}, {laboratory.split}", study.card, study.scenes[laboratory.split], runs)
    page = write_page(data, page)
    print(f"{sum(len(run.rows) * len(run.sensors) for run in runs)} points, {page.stat().st_size / 1e6:.1f} MB: {page}")


def _sweep(options: argparse.Namespace) -> None:
    from crodino_lib.analysis.pictures import swept

    laboratory, subjects = _subjects(options)
    table = swept(laboratory, subjects, options.half, options.points)
    stem = f"sweep_{options.half}{laboratory.suffix}"
    laboratory.study.save_table(table, stem)
    print(table.round(3).to_string(index=False))
    print(laboratory.study.folder / "tables" / f"{stem}.csv")


def _study_config(options: argparse.Namespace) -> Any:
    """The study that the options describe; text becomes what the setting's type asks for."""
    from crodino_lib.config import StudyConfig

    given = {name: getattr(options, name, None) for name in StudyConfig.model_fields}
    return StudyConfig.parse({name: _literal(name, text) for name, text in given.items() if text is not None})


def _literal(name: str, text: str) -> Any:
    if name in ("sensors", "methods"):
        return tuple(text.split(","))
    if name == "options":
        return dict(_setting(pair, "--options") for pair in text.split(","))
    if name == "scenes":
        return tuple(int(part) if part.isdigit() else part for part in text.split(","))
    return int(text) if name in INTEGERS and text.isdigit() else text


def _study(options: argparse.Namespace) -> None:
    from crodino_lib.study.pipeline import run_study

    run_study(_study_config(options))


def _run(options: argparse.Namespace) -> None:
    from crodino_lib.config import choose
    from crodino_lib.methods.registry import METHODS
    from crodino_lib.study.pipeline import describe_run
    from crodino_lib.study.study import Study
    from crodino_lib.study.tables import as_text, comparison_table, run_table

    method = METHODS[choose(options.method, METHODS, "method")].build
    settings = dict(_setting(pair) for pair in options.set)
    student = options.student
    if method.sensor_count == 1 and options.sensors and "," not in options.sensors and not student:
        student, options.sensors = options.sensors, None  # a study names two sensors, this run one of them
    study = Study(_study_config(options))
    sensors = (student,) if student else study.config.sensors[: method.sensor_count]
    if student and method.taught_by and student not in study.config.sensors:
        raise ValueError(
            f"the student's sensor {student!r} is none of the study's {', '.join(study.config.sensors)}; name the pair "
            f"its teacher sees: --sensors rgb,{student} --student {student}"
        )
    config = study.run_config(options.method, sensors, options.seed, settings)
    print(describe_run(config))
    run = study.fetch(config)
    print(as_text(comparison_table(run_table([run]))).to_string(index=False))
    print(f"\n{run.folder}")


def _setting(pair: str, option: str = "--set") -> tuple[str, Any]:
    name, separator, value = pair.partition("=")
    if not separator:
        raise ValueError(f"{option} {pair!r} must be NAME=VALUE")
    try:
        return name, json.loads(value)
    except ValueError:  # a word
        return name, value


def _render(options: argparse.Namespace) -> None:
    from crodino_lib.config import DataConfig
    from crodino_lib.rooms.dataset import render_rooms

    counts = (options.scenes, max(1, options.scenes // 6), max(1, options.scenes // 3))
    config = DataConfig.parse({"size": options.size, "seed": options.seed, "scenes": counts})
    print(render_rooms(config))


def _inspect(options: argparse.Namespace) -> int:
    from pathlib import Path

    from crodino_lib.config import home
    from crodino_lib.datasets.validate import inspect_folder
    from crodino_lib.figures.image_grids import sample_sheet
    from crodino_lib.io import atomic_write

    root = Path(options.root).expanduser().resolve()
    chosen = _literal("options", options.options) if options.options else {}
    found = inspect_folder(root, options.dataset, chosen, options.all)
    print(found.files.to_string(index=False), end="\n\n")
    for name, error in found.readings.items():
        print(f"{name:28} {'yes' if not error else textwrap.shorten('no: ' + error, 150, placeholder=' ...')}")
    if found.dataset:
        print(f"\nlooked at as {found.dataset.card.title}")
    for table in (found.splits, found.sensors, found.classes):
        print("", table.to_string(), sep="\n") if len(table) else None
    if found.samples:
        sheet = Path(options.sheet or home() / "results" / "local" / "inspect" / f"{root.name}.png")
        with atomic_write(sheet) as path:
            sample_sheet(found.samples, found.dataset.card).savefig(path, dpi=144)
        print(f"\ncontact sheet: {sheet}")
    for kind, lines in (("warning", found.warnings), ("PROBLEM", found.problems)):
        for line in lines:
            print(f"{kind}: {line}")
    looked = f"in the {found.splits['looked at'].sum()} scenes looked at, " if len(found.splits) else ""
    print("\ndo not train on this" if found.problems else f"\n{looked}nothing stands against training on it")
    return 1 if found.problems else 0


def _list(options: argparse.Namespace) -> None:
    from crodino_lib.config import profiles
    from crodino_lib.data.registry import DATASETS
    from crodino_lib.methods.registry import METHODS

    if options.what == "profiles":
        for name, profile in profiles().items():
            settings = ", ".join(f"{key} {value}" for key, value in profile.items() if key != "description")
            print(f"{name:8} {profile['description']}\n{'':8} {settings}")
        return
    for name, entry in (METHODS if options.what == "methods" else DATASETS).items():
        print(f"{name:16} {entry.description}")
        settings, chosen = (entry.build.Settings, entry.settings) if options.what == "methods" else (entry.options, {})
        allowed = settings.model_json_schema().get("properties", {})
        for setting, field in settings.model_fields.items():
            choice = " (" + ", ".join(map(str, allowed[setting]["enum"])) + ")" if "enum" in allowed[setting] else ""
            print(f"{'':16}   {setting} = {chosen.get(setting, field.default)!r}{choice}: {field.description}")


def _params(options: argparse.Namespace) -> None:
    from crodino_lib.study.parameters import describe_parameters, find_notebook

    path = find_notebook(options.notebook)
    print(f"{path.name}: papermill {path.name} out.ipynb -p NAME VALUE\n")
    for row in describe_parameters(path):
        allowed = f"; allowed: {row['allowed']}" if row["allowed"] else ""
        print(f"{row['parameter']:14} {row['type']}, default {row['default']}{allowed}\n{'':14} {row['meaning']}")


def _status(options: argparse.Namespace) -> None:
    from crodino_lib.config import home
    from crodino_lib.study.pipeline import describe_run
    from crodino_lib.study.study import Study

    config = _study_config(options)
    if not (home() / "results" / "local" / config.name / "study.json").exists():
        print(f"study {config.name} has not been started")
        return
    study = Study(config)
    for config in study.grid():
        print(f"{'finished' if study.is_finished(config) else 'missing '}  {describe_run(config)}")
    report = study.folder / "index.html"
    print(f"report: {report if report.exists() else 'not written yet'}")


def _tables(options: argparse.Namespace) -> None:
    from crodino_lib.study.pipeline import describe_run
    from crodino_lib.study.study import Study
    from crodino_lib.study.tables import save_tables

    study = Study(_study_config(options))
    runs, missing = study.finished()
    if not runs:
        raise ValueError(f"study {study.config.name} has no finished run: crodino study trains them")
    save_tables(runs, study.folder / "tables", study.caveat(), map(describe_run, missing))
    print((study.folder / "tables" / "comparison.md").read_text())
    print(study.folder / "tables")


def _lab(options: argparse.Namespace) -> None:
    from crodino_lib.config import home

    environment = {name: value for name, value in os.environ.items() if name != "CRODINO_HEADLESS"}
    subprocess.run([sys.executable, "-m", "jupyter", "lab", str(home() / "notebooks")], check=False, env=environment)


if __name__ == "__main__":
    sys.exit(main())
