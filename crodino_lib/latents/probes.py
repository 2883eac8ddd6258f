"""What a fresh classifier can read from the latents, on images that it was not fitted on."""

from __future__ import annotations

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from crodino_lib.latents.extraction import Latents

FOLDS = 5


def sensor_probe(latents: Latents, half: str, sensors: tuple[str, str]) -> float:
    """How often a fresh linear probe tells from a region's vector which of two sensors saw it.

    Every region counts once for each sensor, so class, scene and area tell nothing; only the vectors do.

    Args:
        latents: paired regions, as ``extract_regions`` gives them.
        half: ``shared`` or ``private``.
        sensors: the two to tell apart, whose blocks have equally many channels.

    Returns:
        Accuracy in [0, 1], balanced; 0.5 is chance. A high value says that a linear direction gives the sensor away; a
        low one, that no linear direction was found with these images, not that none of another kind is.

    Raises:
        ValueError: fewer than two images, or no such block.

    Explained in notebook 06.
    """
    first, second = (f"{sensor}/{half}" for sensor in sensors)
    for name in (first, second):
        if name not in latents.blocks:
            raise ValueError(f"there is no block {name!r}; the blocks are {', '.join(latents.blocks)}")
    return modality_probe(latents.blocks[first], latents.blocks[second], latents.rows["image"].to_numpy())


def modality_probe(first: np.ndarray, second: np.ndarray, images: np.ndarray) -> float:
    """Accuracy of a linear classifier that says which sensor a vector is from, on images it has not seen.

    Args:
        first: (n, d) vectors of one sensor.
        second: (n, d) of the other.
        images: (n,) image of every vector; no image is both fitted and judged.

    Returns:
        0.5 where the sensors cannot be told apart, 1 where they always can. Both sensors count alike.

    Raises:
        ValueError: fewer than two images.
    """
    groups = np.concatenate([images, images])
    folds = min(FOLDS, len(np.unique(groups)))
    if folds < 2:
        raise ValueError(f"a probe needs regions of at least 2 images, found {folds}")
    vectors, sensor = np.concatenate([first, second]), np.repeat([0, 1], len(first))
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    guessed = cross_val_predict(model, vectors, sensor, groups=groups, cv=GroupKFold(folds))
    return float((guessed == sensor).mean())
