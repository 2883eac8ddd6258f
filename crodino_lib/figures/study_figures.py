"""Draw every figure of a study that its records and kept tables suffice for, without data, weights or training."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd

from crodino_lib.analysis.umap_embedding import Embeddings
from crodino_lib.figures.base import StudyFigure, save
from crodino_lib.figures.charts import class_differences, gains
from crodino_lib.figures.costs import cost_and_accuracy
from crodino_lib.figures.dials import drawings
from crodino_lib.figures.latents import factor_matrix, null_comparison
from crodino_lib.figures.manifolds import one_or_two
from crodino_lib.figures.robustness import fault_curves
from crodino_lib.io import say
from crodino_lib.study.dial_runs import dial_table
from crodino_lib.study.dials import DIALS
from crodino_lib.study.study import Study
from crodino_lib.study.tables import class_table, comparison_table

UNTRAINED = ", untrained"  # what the name of a model's start ends with


def save_study_figures(study: Study) -> list[Path]:
    """Draw gains, costs, differences per class, dials, and what is kept of faults and latents into ``figures``.

    Each is written as PDF, SVG, PNG, its caption and its numbers; a figure whose numbers are missing is named. Returns
    the files. What shows pictures or classes in colour needs the data: notebooks draw it.

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
    for stem, draw in {"factor_matrix": factor_matrix, "null_comparison": null_comparison}.items():
        kept = study.figures / f"{stem}.csv"
        if kept.exists():
            caption = kept.with_suffix(".txt").read_text().strip()
            table = pd.read_csv(kept)
            words = dict.fromkeys(table.select_dtypes(exclude=["number", "bool"]), "")
            figures[stem] = (table.fillna(words), lambda table, draw=draw, caption=caption: draw(table, caption))
    if (kept := study.figures / "latent_manifolds.npz").exists():
        points, fits = Embeddings.load(kept)
        for start in [name for name in fits["model"].unique() if name.endswith(UNTRAINED)]:
            names = start.removesuffix(UNTRAINED), start
            figures["one_or_two"] = (fits, lambda table, names=names: one_or_two(points, table, *names))
    files = []
    for stem, (numbers, draw) in figures.items():
        try:
            files += save(draw(numbers), study.figures, stem, numbers)
        except ValueError as error:  # such as a study without a baseline
            say(f"{stem}: not drawn, {error}")
    return files
