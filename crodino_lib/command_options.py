"""Turn the options of a command into settings: notebooks, papermill and the command line have the same names."""

import argparse
import json
import os
import typing
from collections.abc import Mapping
from typing import Any

from pydantic.fields import FieldInfo

from crodino_lib.analysis import AnalysisConfig
from crodino_lib.config import StudyConfig, find_study
from crodino_lib.data.registry import check_data
from crodino_lib.methods.registry import check_methods, parse_method
from crodino_lib.study.dials import check_dials

DESCRIPTION = """\
An open study of cross-modal knowledge distillation: train with two sensors, deploy with one.

  crodino study                                     the tour on the built-in dataset, some minutes on two cores
  crodino study --profile cpu                       evidence, over hours; interrupt it, run it again to resume
  crodino study --dataset nyu13 --root FOLDER       the same on your copy of NYU Depth v2
  crodino run --method crodino-kd --seed 1          one run
  crodino dials evidence labels                     when does the second sensor help? turn a setting
  crodino predict RUN PICTURE                       segment a picture with a student of a finished run
  crodino export RUN --sensors rgb                  that student as an ONNX file, with a model card
  crodino tables rooms-quick                        tables of what is finished, and a list of what is missing
  crodino figures rooms-quick                       its figures, drawn again from the records
  crodino latents rooms-quick                       shared and private latents of its models, beside null models
  crodino explore rooms-quick                       a page to explore the latents by hand
  crodino inspect FOLDER                            check a dataset folder before training on it
  crodino list methods | datasets | profiles | parameters | dials
"""


def add_settings(command: argparse.ArgumentParser, without: tuple[str, ...] = ()) -> None:
    """Add one option per setting of a study."""
    for name, field in StudyConfig.settings().items():
        if name not in without:
            text = field.description.replace("%", "%%")
            command.add_argument(f"--{name.replace('_', '-')}", dest=name, metavar=name.upper(), help=text)


def add_workers(command: argparse.ArgumentParser) -> None:
    """Add where runs and notebooks are computed (``study.cluster.connected``), and how they are watched."""
    command.add_argument("--workers", type=int, default=0, metavar="N", help="N processes of this machine, by Dask")
    command.add_argument("--scheduler", default="", metavar="ADDRESS", help="a Dask cluster: docs/clusters.md")
    add_tracking(command)


def add_tracking(command: argparse.ArgumentParser) -> None:
    """Add how trainings are shown while they run; an environment variable, which every process inherits."""

    def track(name: str) -> str:
        os.environ["CRODINO_TRACK"] = name
        return name

    command.add_argument(
        "--track", type=track, choices=("tensorboard",), help="watch: tensorboard --logdir results/local"
    )


def given_settings(options: argparse.Namespace) -> dict[str, Any]:
    """Return the settings of a study that the options give; text becomes what the setting's type needs."""
    fields = StudyConfig.settings()
    texts = {name: text for name in fields if (text := getattr(options, name, None)) is not None}
    return {name: value_of(text, fields[name]) for name, text in texts.items()}


def study_config(options: argparse.Namespace, base: Mapping[str, Any] | None = None) -> StudyConfig:
    """Return the study that the options describe, its names checked; ``base`` has what they do not give."""
    config = StudyConfig.parse({**(base or {}), **given_settings(options)})
    check_methods(config.methods, config.teacher)
    check_dials(config.dials)
    student = [options.student] if getattr(options, "student", None) else []
    check_data(config.data, [*config.sensors, *student], opening=not getattr(options, "status", False))
    return config


def value_of(text: str, field: FieldInfo) -> Any:
    """Return the value that the text of an option means."""
    kind = typing.get_origin(field.annotation) or field.annotation
    if kind is str:
        return text
    if kind is dict:
        return dict(named_value(pair, "--options") for pair in text.split(","))
    if kind is tuple:
        return tuple(_literal(part.strip()) for part in text.split(","))
    return _literal(text)


def named_value(pair: str, option: str = "--set") -> tuple[str, Any]:
    """Return name and value of ``NAME=VALUE``; ValueError where it is nothing of the kind."""
    name, separator, value = pair.partition("=")
    if not separator:
        raise ValueError(f"{option} {pair!r} must be NAME=VALUE")
    return name, _literal(value)


def _literal(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:  # a word
        return text


def chosen_models(options: argparse.Namespace) -> tuple[Any, list]:
    """Return the analysis of a study, and the finished models that the options name."""
    if wrong := [seed for seed in options.seeds.split(",") if seed and not seed.isdigit()]:
        raise ValueError(f"--seeds {options.seeds!r}: {wrong[0]!r} is not a number")
    find_study(options.name)
    methods = [name for name in options.methods.split(",") if name]
    for name in methods:
        parse_method(name)
    from crodino_lib.analysis.latent_analysis import LatentAnalysis
    from crodino_lib.analysis.trained_models import find_models
    from crodino_lib.study.study import Study

    study = Study.open(options.name, options.root)
    given = {name: value for name in AnalysisConfig.model_fields if (value := getattr(options, name, None)) is not None}
    analysis = LatentAnalysis(study, options.split, AnalysisConfig.of(study.config, **given))
    seeds = [int(seed) for seed in filter(None, options.seeds.split(","))]
    models = find_models(study, methods, seeds)
    if not models:
        raise ValueError(
            f"study {options.name} has no finished model with a network of each of its sensors"
            + (f" and a seed among {options.seeds}" if seeds else "")
            + f": crodino study --study {options.name} trains them"
        )
    return analysis, models
