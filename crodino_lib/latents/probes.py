"""What a fresh classifier can read from the latents, on images that it was not fitted on."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from crodino_lib.latents.extraction import Latents

FOLDS = 5


def sensor_probe(latents: Latents, half: str, sensors: Iterable[str]) -> float:
    """How often a fresh linear probe tells from a region's vector which sensor saw it.

    A logistic regression on standardised vectors, scored on images that it was not fitted on. Every region counts once
    for each sensor, so class, scene and area tell nothing; only the vectors do.

    Args:
        latents: paired regions, as ``extract_regions`` gives them.
        half: ``shared`` or ``private``.
        sensors: the sensors to tell apart, whose blocks have equally many channels.

    Returns:
        Balanced accuracy in [0, 1]; with M sensors 1 / M is chance. A high value says that a linear direction gives the
        sensor away; a low one, that no linear direction was found with these images, not that none of another kind is.

    Raises:
        ValueError: fewer than two images, or no such block.

    Explained in notebook 06.
    """
    sensors = tuple(sensors)
    names = [f"{sensor}/{half}" for sensor in sensors]
    if missing := [name for name in names if name not in latents.blocks]:
        raise ValueError(f"there is no block {missing[0]!r}; the blocks are {', '.join(latents.blocks)}")
    images = latents.rows["image"].to_numpy()
    if (count := len(set(images))) < 2:
        raise ValueError(f"a probe is scored on other images than it is fitted on; it needs two, found {count}")
    vectors = np.concatenate([latents.blocks[name] for name in names])
    truth = np.repeat(np.arange(len(sensors)), len(images))
    told = cross_val_predict(
        make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)),
        vectors,
        truth,
        groups=np.tile(images, len(sensors)),
        cv=GroupKFold(min(FOLDS, count)),
    )
    return balanced_accuracy_score(truth, told)
