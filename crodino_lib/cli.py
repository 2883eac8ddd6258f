"""Run the command line: `crodino --help`.

Commands import what they need when they run: help and errors about names come before torch is imported.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import crodino_lib
from crodino_lib.analysis import AnalysisConfig
from crodino_lib.command_options import (
    DESCRIPTION,
    add_settings,
    add_tracking,
    add_workers,
    chosen_models,
    named_value,
    study_config,
)
from crodino_lib.config import find_study, home
from crodino_lib.data.registry import DATASETS
from crodino_lib.listing import print_list
from crodino_lib.methods.registry import METHODS, parse_method
from crodino_lib.settings import choose, load_object, nearest
from crodino_lib.study.dials import BASE, choose_dials


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return 0, 1 (a notebook failed, a folder has problems), 2 (wrong input) or 130 (interrupted)."""
    options, unknown = _parser().parse_known_args(arguments)
    if unknown:
        hint = nearest(unknown[0], options.known) or f" See crodino {options.command or ''} --help."
        return _fail(f"there is no argument {unknown[0]!r} here.{hint}", 2)
    try:
        return options.act(options) or 0
    except BrokenPipeError:  # the reader of the output has closed it
        sys.stdout = None
        return 0
    except (ValueError, OSError, ImportError) as error:
        return _fail(error, 2)
    except KeyboardInterrupt:
        return _fail("Interrupted. Run the same command to resume.", 130)
    except RuntimeError as error:
        if "out of memory" in str(error):  # a GPU's; the class that says so is torch's
            return _fail(f"{error}\nLower batch_size or size", 1)
        if not isinstance(error, load_object("crodino_lib.study.notebooks:NotebookFailed")):
            raise
        return _fail(error, 1)


def _fail(error: Exception | str, status: int) -> int:
    print(f"crodino: {error}", file=sys.stderr)
    return status


def _parser() -> argparse.ArgumentParser:
    looks = {"formatter_class": argparse.RawDescriptionHelpFormatter, "allow_abbrev": False}
    parser = argparse.ArgumentParser(prog="crodino", description=DESCRIPTION, **looks)
    parser.set_defaults(act=lambda options: parser.print_help(), known=[])
    parser.add_argument("--version", action="version", version=crodino_lib.__version__)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")

    def command(name: str, act: Callable, help: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=help, description=help[0].upper() + help[1:] + ".", allow_abbrev=False)
        added.set_defaults(act=act, known=added._option_string_actions)
        return added

    study = command("study", _study, "run data, training, notebooks and report of a study; skip what is finished")
    study.add_argument("--status", action="store_true", help="only list which runs are finished")
    add_workers(study)
    add_settings(study)

    run = command("run", _run, "train and evaluate one run, or show it if it is finished")
    run.add_argument("--method", required=True, help="name of the method: crodino list methods")
    run.add_argument("--variant", default="", help="named settings of the method: crodino list methods NAME")
    run.add_argument("--seed", type=int, default=0, help="seed of weights, order and augmentation (default 0)")
    run.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting of the method")
    run.add_argument("--student", metavar="SENSOR", help="sensor of the student, for methods that train one")
    add_tracking(run)
    add_settings(run, without=("methods", "seeds"))

    dials = command("dials", _dials, "train methods at several values of a setting, and show their gains over controls")
    dials.add_argument("names", nargs="*", metavar="DIAL", help="crodino list dials (default all that need no copy)")
    dials.add_argument("--status", action="store_true", help="only count the missing runs, and show what is finished")
    dials.add_argument("--latents", action="store_true", help="also measure finished models for notebook 13; 20 s each")
    add_workers(dials)
    add_settings(dials, without=("teacher", "sensors", "dataset", "dials"))

    predict = command("predict", _predict, "segment a picture of your own with a student of a finished run")
    export = command("export", _export, "write a student of a finished run, so that it is used without this study")
    for added in (predict, export):
        added.add_argument("run", metavar="RUN", help="folder of a finished run, or its name, such as 0-54a0c64e")
    predict.add_argument(
        "picture", metavar="PICTURE", help="RGB: a picture; other sensors: an .npy in the sensor's unit"
    )
    predict.add_argument("--sensor", default="", help="the student's sensor, where the run has several students")
    predict.add_argument("--out", metavar="PNG", help="class ids with a palette (default PICTURE-classes.png)")
    export.add_argument("--format", choices=("onnx", "torch"), default="onnx", help="(default onnx)")
    export.add_argument("--sensors", default="", help="which student, where the run has several: rgb, rgb+depth")
    export.add_argument("--out", metavar="FOLDER", help="(default export/METHOD-RUN-SENSORS in the study's folder)")

    tables = command("tables", _tables, "compile the tables of a study's finished runs from their records")
    tables.add_argument("name", metavar="STUDY", help="its folder in results/local, or the path of a study's folder")
    figures = command("figures", _figures, "draw the figures of a study again from its records")
    figures.add_argument("name", metavar="STUDY", help="its folder in results/local, or the path of a study's folder")
    latents = command("latents", _latents, "measure shared and private latents of finished models, and null models")
    explore = command("explore", _explore, "write a page to explore a study's latents by hand; it needs no network")
    for added in (latents, explore):
        added.add_argument("name", metavar="STUDY", help="name of its folder in results/local, such as rooms-quick")
        added.add_argument("--methods", metavar="NAME,...", default="", help="methods (default all)")
        added.add_argument("--seeds", metavar="N,...", default="", help="seeds of runs (default all)")
        added.add_argument(
            "--split", default="test", help="scenes to use (default test; val has the film of the training)"
        )

    for added in (predict, export, latents, explore):
        added.add_argument("--root", default="", metavar="FOLDER", help="your copy of the study's dataset")
    takers = {"points": [explore], "fits": [explore], "seed": [latents, explore]}  # of other settings: latents alone
    for name, field in AnalysisConfig.model_fields.items():
        for added in takers.get(name, [latents]):
            added.add_argument(f"--{name}", type=int, metavar="N", help=f"{field.description} (default of the profile)")
    explore.add_argument("--out", metavar="HTML", help="the page (default explorer.html in the study's folder)")
    inspect = command("inspect", _inspect, "check a dataset folder, draw a contact sheet; status 1 if it has problems")
    inspect.add_argument("root", metavar="ROOT", help="the folder")
    inspect.add_argument("--dataset", default="", help="the dataset it should be (default: try all)")
    inspect.add_argument("--options", metavar="NAME=VALUE,...", default="", help="options of that dataset")
    inspect.add_argument("--all", action="store_true", help="check every scene, not the first of each split")
    inspect.add_argument("--draft", action="store_true", help="first write a dataset.toml from what the folder holds")
    inspect.add_argument("--sheet", metavar="PNG", help="contact sheet (default results/local/inspect/FOLDER.png)")

    listing = command(
        "list",
        lambda options: print_list(options.what, options.name),
        "list methods, datasets, profiles, dials, or parameters of studies and notebooks",
    )
    listing.add_argument("what", choices=("methods", "datasets", "profiles", "parameters", "dials"))
    listing.add_argument("name", nargs="?", default="", help="show the settings of one method or dataset")
    return parser


def _study(options: argparse.Namespace) -> None:
    config = study_config(options)
    _plain_warnings()
    from crodino_lib.study.cluster import connected
    from crodino_lib.study.pipeline import describe_run, run_study
    from crodino_lib.study.study import Study

    if not options.status:
        with connected(options.workers, options.scheduler):
            run_study(config)
        return
    finished, missing = Study(config).finished()
    print(*[f"finished  {describe_run(run.config)}" for run in finished], sep="\n")
    print(*[f"missing   {describe_run(one)}" for one in missing], sep="\n")


def _run(options: argparse.Namespace) -> None:
    name = f"{options.method}:{options.variant}" if options.variant else options.method
    method, _ = parse_method(name)
    settings = dict(named_value(pair) for pair in options.set)
    student = options.student
    alone = bool(student or options.sensors) and METHODS[method].build.sensor_count == 1
    if alone and options.sensors and "," not in options.sensors and not student:
        student, options.sensors = options.sensors, None  # a study names two sensors, this run one of them
    config = study_config(options)
    _plain_warnings()
    from crodino_lib.study.pipeline import describe_run
    from crodino_lib.study.study import Study
    from crodino_lib.study.tables import as_text, comparison_table

    if student and METHODS[method].build.taught_by and student not in config.sensors:
        raise ValueError(
            f"the student's sensor {student!r} is none of the study's {', '.join(config.sensors)}."
            f"{nearest(student, config.sensors)} For another pair name both: --sensors rgb,thermal --student thermal"
        )
    study = Study(config)
    sensors = (student,) if student else config.sensors[: METHODS[method].build.sensor_count]
    run_config = study.run_config(name, sensors, options.seed, settings)
    print(describe_run(run_config))
    run = study.fetch(run_config)
    print(as_text(comparison_table([run])).to_string(index=False))
    print(f"\n{run.folder}")


def _dials(options: argparse.Namespace) -> None:
    root, options.root = options.root or "", None  # of dials on a dataset of your own; the base is the built-in one
    dials = choose_dials(options.names, root)
    config = study_config(options, BASE)
    _plain_warnings()
    from crodino_lib.figures.dials import save_dials
    from crodino_lib.study.cluster import connected
    from crodino_lib.study.dial_runs import plan
    from crodino_lib.study.pipeline import turn
    from crodino_lib.study.study import Study

    base = Study(config)
    if options.status:
        print(f"{len(plan(dials, base, root))} runs are missing")
    else:
        with connected(options.workers, options.scheduler):
            turn(dials, base, root)
    print(save_dials(dials, base))
    if options.latents:
        from crodino_lib.analysis.gain_correlations import scores_of_studies
        from crodino_lib.study.dial_runs import started_studies

        base.save_table(scores_of_studies(started_studies(dials, base)), "latent_scores")


def _predict(options: argparse.Namespace) -> None:
    from crodino_lib.predict import segment_file

    segment_file(options.run, options.picture, options.sensor, options.out, options.root)


def _export(options: argparse.Namespace) -> None:
    from crodino_lib.export import export_run

    print(export_run(options.run, options.format, options.sensors, options.out, options.root))


def _tables(options: argparse.Namespace) -> None:
    find_study(options.name)  # a misspelt name is refused before seconds of imports
    from crodino_lib.study.pipeline import describe_run
    from crodino_lib.study.study import Study
    from crodino_lib.study.tables import save_tables

    study = Study.open(options.name)
    runs, missing = study.finished()
    save_tables(runs, study.folder / "tables", study.caveat(), map(describe_run, missing))
    print((study.folder / "tables" / "comparison.md").read_text(), study.folder / "tables", sep="\n")


def _figures(options: argparse.Namespace) -> None:
    find_study(options.name)
    from crodino_lib.figures.study_figures import save_study_figures
    from crodino_lib.study.study import Study

    study = Study.open(options.name)
    print(*sorted({file.stem for file in save_study_figures(study)}), study.figures, sep="\n")


def _latents(options: argparse.Namespace) -> None:
    analysis, models = chosen_models(options)
    from crodino_lib.analysis.diagnosis import diagnose, summary_table
    from crodino_lib.figures.latents import save_latent_figures

    table = save_latent_figures(analysis, models)
    for model, rows in summary_table(table).groupby("model", sort=False):
        shown = rows.drop(columns=["model", "variant", "low", "high"]).set_index("quantity")
        print(f"\n{model}\n{shown.round(3).to_string(na_rep='-')}")
    for row in diagnose(table).itertuples():
        print(f"\n{row.model}: {row.diagnosis}", end="")
    print(f"\n\n{analysis.caption(table)}\n{analysis.study.folder / 'tables'}\n{analysis.study.figures}")


def _explore(options: argparse.Namespace) -> None:
    analysis, models = chosen_models(options)
    from crodino_lib.explorer import explore, write_page

    explorer = explore(analysis, models)
    page = write_page(explorer, Path(options.out or analysis.study.folder / "explorer.html").expanduser())
    print(f"{len(explorer.points)} points, {page.stat().st_size / 1e6:.1f} MB: {page}")


def _inspect(options: argparse.Namespace) -> int:
    root = Path(options.root).expanduser().resolve()
    if options.dataset:
        choose(options.dataset, DATASETS, "dataset")
    if not root.is_dir():
        found = "a file; unpack it if it is an archive" if root.exists() else "missing"
        raise FileNotFoundError(f"{root} is {found}; expected a dataset's folder")
    from crodino_lib.datasets.draft import write_draft
    from crodino_lib.datasets.validate import describe, inspect_folder
    from crodino_lib.figures.image_grids import sample_sheet
    from crodino_lib.io import atomic_write

    if options.draft:
        print(f"{write_draft(root)}: a draft; check every line that says guess\n")
    chosen = dict(named_value(pair, "--options") for pair in options.options.split(",")) if options.options else {}
    found = inspect_folder(root, options.dataset, chosen, options.all)
    print(describe(found))
    if found.samples:
        sheet = Path(options.sheet or home() / "results" / "local" / "inspect" / f"{root.name}.png")
        with atomic_write(sheet) as path:
            sample_sheet(found.samples, found.dataset.card).savefig(path, dpi=144)
        print(f"\ncontact sheet: {sheet}")
    return 1 if found.problems else 0


def _plain_warnings() -> None:
    from crodino_lib.data.layouts import show_plainly  # warnings about data as sentences, not as places in our code

    show_plainly()


if __name__ == "__main__":
    sys.exit(main())
