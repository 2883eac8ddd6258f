"""What every question asked of latents starts with: the rows drawn, the blocks compared."""

from __future__ import annotations

import numpy as np
from sklearn.preprocessing import normalize

from crodino_lib.analysis.extraction import Latents


def drawn(latents: Latents, n: int, generator: np.random.Generator) -> Latents:
    """At most ``n`` rows of latents of exactly two sensors.

    Raises:
        ValueError: not two sensors with a shared and a private half each, no rows, or ``n`` below 1.
    """
    if len(latents.sensors) != 2:
        raise ValueError(f"latents must have blocks of exactly two sensors, found {', '.join(latents.sensors)}")
    for name in (f"{sensor}/{half}" for sensor in latents.sensors for half in ("shared", "private")):
        if name not in latents.blocks:
            raise ValueError(f"latents have no block {name}, only {', '.join(latents.blocks)}")
    if n < 1 or not len(latents):
        raise ValueError(f"n = {n} of {len(latents)} rows leaves nothing to compute; give n and rows of at least 1")
    return latents.sample(n, generator)


def counts(latents: Latents) -> dict[str, float]:
    """How much a result rests on: ``rows`` and ``images``."""
    return {"rows": float(len(latents)), "images": float(len(np.unique(latents.images)))}


def across(latents: Latents) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Half -> its blocks of the one and the other sensor."""
    one, other = latents.sensors
    return {half: (latents.blocks[f"{one}/{half}"], latents.blocks[f"{other}/{half}"]) for half in latents.halves}


def share_channels(u: np.ndarray, v: np.ndarray) -> bool:
    """Whether rows of two blocks (n, d) can be laid beside each other: both have as many channels."""
    return u.shape[1] == v.shape[1]


def within(latents: Latents) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Sensor -> its shared and its private block."""
    return {name: (latents.blocks[f"{name}/shared"], latents.blocks[f"{name}/private"]) for name in latents.sensors}


def directions(x: np.ndarray) -> np.ndarray:
    """Rows (n, d) at length one, float64; zeros stay zeros."""
    return normalize(np.asarray(x, float))


def is_constant(x: np.ndarray) -> bool:
    """Whether all rows (n, d) are equal, up to the rounding of float32; always so for a single row."""
    x = np.asarray(x, float)
    return bool(np.linalg.norm(x - x.mean(axis=0)) <= 1e-6 * np.linalg.norm(x))
