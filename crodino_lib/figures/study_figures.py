"""Draw every figure of a study that its records and kept tables suffice for, without data, weights or training."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd

from crodino_lib.figures.base import StudyFigure, save
from crodino_lib.figures.charts import class_differences, gains
from crodino_lib.figures.costs import cost_and_accuracy
from crodino_lib.figures.dials import drawings
from crodino_lib.figures.robustness import fault_curves
from crodino_lib.io import say
from crodino_lib.study.dial_runs import dial_table
from crodino_lib.study.dials import DIALS
from crodino_lib.study.study import Study
from crodino_lib.study.tables import class_table, comparison_table


def save_study_figures(study: Study) -> list[Path]:
    """Draw gains, costs, differences per class, dials, and kept faults of sensors into a study's ``figures``.

    Each is written as PDF, SVG, PNG, its caption and its numbers; a figure whose numbers are missing is named. Returns
    the files. Pictures and latents need data and weights: notebooks draw them.

    Raises:
        ValueError: the study has no finished run.
    """
    runs, _ = study.finished()
    if not runs:
        raise ValueError(f"{study.folder} has no finished run; crodino study trains the runs of a study")
    table, classes = comparison_table(runs), class_table(runs)
    figures: dict[str, tuple[pd.DataFrame, Callable[[pd.DataFrame], StudyFigure]]] = {
        "gains": (table, gains),
        "cost_and_accuracy": (table, cost_and_accuracy),
        "class_differences": (classes, class_differences),
    }
    for dial in DIALS.values():
        turned = dial.brief if dial.name in study.config.dials else dial
        asked = dial.name in study.config.dials or (study.folder / "tables" / f"dial-{dial.name}.csv").exists()
        if asked and len(gained := dial_table(turned, study)):
            figures |= drawings(gained, turned)
    for kept in sorted(study.figures.glob("faults_*.csv")):
        sensor = kept.stem.removeprefix("faults_")
        figures[kept.stem] = (pd.read_csv(kept), lambda table, sensor=sensor: fault_curves(table, sensor))
    files = []
    for stem, (numbers, draw) in figures.items():
        try:
            files += save(draw(numbers), study.figures, stem, numbers)
        except ValueError as error:  # such as a study without a baseline
            say(f"{stem}: not drawn, {error}")
    return files
