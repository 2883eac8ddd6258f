"""Whether the directions of classes agree between sensors, even where the sensors' clouds lie apart."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
from sklearn.preprocessing import normalize

from crodino_lib.analysis.extraction import Latents


def class_alignment(latents: Latents) -> pd.DataFrame:
    """Mean cosine between regions: of the same and of other classes, within one sensor and across two.

    Args:
        latents: every region counts, so frequent classes weigh more; give a balanced sample to weigh them alike.

    Returns:
        One row per half; ``across, same class`` is 1 where a class has one direction in both sensors.
    """
    classes = latents.rows["class"].to_numpy()
    same = classes[:, None] == classes[None, :]
    itself = np.eye(len(classes), dtype=bool)
    rows = {}
    for half in latents.halves:
        unit = {sensor: normalize(latents.blocks[f"{sensor}/{half}"]) for sensor in latents.sensors}
        across = np.mean([a @ b.T for a, b in itertools.combinations(unit.values(), 2)], axis=0)
        within = np.mean([a @ a.T for a in unit.values()], axis=0)
        rows[half] = {
            "across, same class": across[same].mean(),
            "across, other class": across[~same].mean(),
            "within, same class": within[same & ~itself].mean(),
            "within, other class": within[~same].mean(),
        }
    return pd.DataFrame(rows).T.rename_axis("half")
