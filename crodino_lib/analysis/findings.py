"""What the laboratory found, as tables and figures in the study's folder."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

import pandas as pd

from crodino_lib.analysis.diagnosis import diagnose, reading_table
from crodino_lib.analysis.latent_analysis import Laboratory
from crodino_lib.analysis.suite import called_matrix, skill_matrix
from crodino_lib.analysis.trained_models import TrainedModel
from crodino_lib.figures.base import save
from crodino_lib.figures.latents import FACTOR_CAPTION, NULL_CAPTION, factor_matrix, null_comparison
from crodino_lib.io import read_table
from crodino_lib.study.study import Study


def factor_groups(
    table: pd.DataFrame, truth: pd.DataFrame | None = None
) -> tuple[dict[str, pd.DataFrame], dict[str, pd.DataFrame]]:
    """The columns of the factor matrix: what sensors hold, then every row of models, then the nulls of the first.

    Of several seeds it is their mean; a cell is above the nulls where it is so for every seed.

    Args:
        table: from ``Laboratory.examine``.
        truth: R² of a supervised regressor per factor (rows) and sensor (columns), where the dataset has a truth table.

    Returns:
        Title -> skill, and title -> which cells are above the nulls, for ``figures.latents.factor_matrix``.
    """
    groups, called = {}, {}
    for row, found in table.groupby("row", sort=False):
        groups[row] = _over_seeds(found, skill_matrix)
        called[row] = _over_seeds(found, called_matrix) == 1
    first = next(iter(groups))
    found = table[table["row"] == first]
    for null, title in {"N1": "N1 untrained", "N2": "N2 baselines", "N3": "N3 dealt anew"}.items():
        if found[null].notna().any():
            groups[title] = _over_seeds(found, partial(skill_matrix, column=null))
    rows = groups[first].index
    if truth is not None:
        groups = {"sensors": truth.clip(lower=0).reindex(rows), **groups}
    return {title: group.reindex(rows) for title, group in groups.items()}, called


def _over_seeds(found: pd.DataFrame, matrix: Callable[[pd.DataFrame], pd.DataFrame]) -> pd.DataFrame:
    """The mean over models of a matrix of each."""
    parts = [matrix(part).astype(float) for _, part in found.groupby("model", sort=False)]
    return sum(parts) / len(parts)


def sensor_truth(study: Study) -> pd.DataFrame | None:
    """R² of a regressor per recorded factor and sensor of the study, kept in its folder; None without factors."""
    from crodino_lib.rooms.validation import truth_table

    if study.dataset.factors("test") is None:
        return None
    file = study.folder / "tables" / "truth.csv"
    if not file.exists():
        study.save_table(truth_table(study.dataset), "truth")
    wide = read_table(file, ("factor", "sensor", "r2")).pivot_table(
        index="factor", columns="sensor", values="r2", sort=False
    )
    return wide[list(study.config.sensors)]


def save_findings(laboratory: Laboratory, subjects: Iterable[TrainedModel]) -> pd.DataFrame:
    """Examine the models, and write tables and figures of what was found into the study's folder.

    Figures show these models; the tables keep those that were examined before, too.

    Returns:
        The table of these models, as ``Laboratory.examine``.
    """
    study, subjects = laboratory.study, list(subjects)
    table = laboratory.examine(subjects)
    groups, called = factor_groups(table, sensor_truth(study))
    read = reading_table(table)
    whole = laboratory.examine(laboratory.examined())
    study.save_table(whole, f"latents_{laboratory.split}")
    study.save_table(reading_table(whole), f"latents_{laboratory.split}_reading")
    study.save_table(diagnose(whole), f"latents_{laboratory.split}_diagnosis")
    caption, end = laboratory.caption(table), laboratory.suffix
    flat = pd.concat(groups, names=["group"]).reset_index()
    save(factor_matrix(groups, called, f"{FACTOR_CAPTION} {caption}"), study.figures, f"factor_matrix{end}", flat)
    save(null_comparison(read, f"{NULL_CAPTION} {caption}"), study.figures, f"null_comparison{end}", read)
    return table
