"""A model's answers beside those of models that learnt no split, and which of them stand out.

A number by itself proves nothing about a split: an untrained network has clean islands, too. So each stands beside the
nulls' (``nulls.NULLS``), and is called out only where it leaves their range.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from crodino_lib.analysis.null_models import NULLS
from crodino_lib.analysis.suite import ROW_KEYS

FEWEST_NULLS = 3
UNJUDGED = "_p$|^chance_|_chance$|_floor$|_shuffled$|^classes$|^factors$|_biased$|^cross_covariance$"  # judge others
LOW_IS_ALIKE = "^alignment$|^median_rank$|^lost_swap_"  # distances, ranks and losses: small where sensors agree


def beside_nulls(value: pd.DataFrame, nulls: Mapping[str, pd.DataFrame], paired: Mapping[str, tuple[str, ...]]):
    """The answers about a model with the nulls' beside them.

    Args:
        value: answers about the model.
        nulls: name of the null -> the same about it.
        paired: question -> measures that need pairs; of N4 only these count, and only across sensors, as it shuffles
            nothing else.

    Returns:
        ``value`` with a column per null, judged by ``judge``.
    """
    table = value.copy()
    for name in NULLS:
        if name not in nulls or nulls[name].empty:
            table[name] = np.nan
            continue
        theirs = nulls[name].set_index(ROW_KEYS)["value"]
        table[name] = theirs.reindex(pd.MultiIndex.from_frame(table[ROW_KEYS])).to_numpy()
    counts = [
        measure in paired.get(question, ()) and (where in ("shared", "private") or question == "ablation")
        for question, measure, where in table[["question", "measure", "where"]].itertuples(index=False)
    ]
    table["N4"] = table["N4"].where(counts)
    return judge(table)


def judge(table: pd.DataFrame) -> pd.DataFrame:
    """Call out the values that leave the range of their nulls.

    N4 pairs nothing, so it bounds from the side of likeness alone: from above, or from below where low is alike. Were
    it the other bound, no private half could be called less alike across sensors than chance leaves it.

    A call is no test: one more null would itself be called in about half of the cases, 45 of 100 beside four, 50 to 59
    beside three.

    Args:
        table: ``measure``, ``value`` and a column per null.

    Returns:
        ``table`` with ``nulls``, how many have a value; ``low`` and ``high`` of N1 to N3, and of N4 on its side; and
        ``called``: ``above``, ``below`` or ``within``, empty where the measure judges others, or for fewer than three
        nulls, as where half a bottleneck is set to its mean.
    """
    table = table.copy()
    table["nulls"] = table[list(NULLS)].notna().sum(axis=1)
    low_is_alike = table["measure"].str.contains(LOW_IS_ALIKE)
    split = table[list(NULLS)[:3]]
    table["low"] = split.assign(N4=table["N4"].where(low_is_alike)).min(axis=1)
    table["high"] = split.assign(N4=table["N4"].where(~low_is_alike)).max(axis=1)
    told = np.select([table["value"] > table["high"], table["value"] < table["low"]], ["above", "below"], "within")
    judged = ~table["measure"].str.contains(UNJUDGED) & (table["nulls"] >= FEWEST_NULLS) & table["value"].notna()
    return table.assign(called=np.where(judged, told, ""))
