"""Compare a model's results with those of its null models, and flag the values outside their range.

A number by itself proves nothing about a split: an untrained network has clean islands, too.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from crodino_lib.analysis.null_models import NULL_MODELS
from crodino_lib.analysis.suite import KEYS, probe_skills

FEWEST_NULLS = 3


def compare_to_nulls(results: pd.DataFrame, nulls: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Return a model's results with a column per null model, and the columns of ``add_flags``.

    ``nulls`` has the results of each null model by its name; what it does not apply to is left out there.
    """
    table, index = results.copy(), pd.MultiIndex.from_frame(results[KEYS])
    for name in NULL_MODELS:
        table[name] = np.nan
        if name in nulls and len(nulls[name]):
            table[name] = nulls[name].set_index(KEYS)["value"].reindex(index).to_numpy()
    return add_flags(table)


def add_flags(table: pd.DataFrame) -> pd.DataFrame:
    """Flag the values that leave the range of their null models.

    Shuffled pairs bound similarity from above only: were they the lower bound as well, no private half could be
    flagged as less alike across sensors than random pairs. Where low values mean similarity, as of losses, they bound
    from below only.

    A flag is no test: an additional null model would itself be flagged in about half of the cases, 45 of 100 beside
    four null models, 50 to 59 beside three.

    Returns:
        ``table``, of ``measure``, ``value`` and a column per null model, with ``nulls``, how many have a value; ``low``
        and ``high``, their range; and ``flag``: ``above``, ``below`` or ``within``, empty for chance levels and where
        fewer than three null models have a value, as where a half is set to its mean.
    """
    nulls = table[list(NULL_MODELS)]
    low_is_alike = table["measure"] == "lost_swap"
    pairs, others = nulls["shuffled_pairs"], nulls.drop(columns="shuffled_pairs")
    low = others.assign(pairs=pairs.where(low_is_alike)).min(axis=1)
    high = others.assign(pairs=pairs.where(~low_is_alike)).max(axis=1)
    table = table.assign(nulls=nulls.notna().sum(axis=1), low=low, high=high)
    flag = np.select([table["value"] > high, table["value"] < low], ["above", "below"], "within")
    flagged = ~table["measure"].str.contains("chance") & (table["nulls"] >= FEWEST_NULLS) & table["value"].notna()
    return table.assign(flag=np.where(flagged, flag, ""))


def factor_table(table: pd.DataFrame, truth: pd.DataFrame | None = None) -> pd.DataFrame:
    """Collect what is read from which half: of every variant, and of the null models of the first variant.

    Args:
        table: from ``LatentAnalysis.compare``.
        truth: R² of a supervised regressor per factor (rows) and sensor (columns), which becomes the first group.

    Returns:
        One row per ``group`` (``sensors``, variants, null models), ``target`` (class, modality, factors), ``sensor``
        and ``half`` (empty for ``sensors``): ``skill`` in [0, 1], the mean over seeds, and ``flag``: above every null
        model and above the chance of shuffled factors, in every seed.
    """
    cell = ["target", "sensor", "half"]
    chance = table.loc[table["measure"] == "skill_chance", ["model", *cell, "value"]]
    skills = probe_skills(table).merge(chance.rename(columns={"value": "chance"}), "left", ["model", *cell])
    skills["flag"] = (skills["flag"] == "above") & ~(skills["value"] <= skills["chance"])
    variants = skills.groupby(["variant", *cell], sort=False).agg(skill=("value", "mean"), flag=("flag", "all"))
    parts = [variants.reset_index(names=["group", *cell])]
    first = skills[skills["variant"] == skills["variant"].iloc[0]]
    for null in [name for name in NULL_MODELS if first[name].notna().any()]:
        mean = first.groupby(cell, sort=False)[null].mean().rename("skill").reset_index()
        parts.append(mean.assign(group=null, flag=False))
    if truth is not None:
        parts.insert(0, truth_cells(truth))
    return pd.concat(parts, ignore_index=True)[["group", *cell, "skill", "flag"]]


def truth_cells(truth: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of ``factor_table`` for the sensors themselves, from ``sensor_truth``; R² below 0 becomes 0."""
    cells = truth.clip(lower=0).rename_axis("target").reset_index().melt("target", None, "sensor", "skill")
    return cells.assign(group="sensors", half="", flag=False)
