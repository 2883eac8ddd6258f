"""Latents of two sensors made of noise, for the tests of every metric."""

import numpy as np
import pandas as pd

from crodino_lib.latents.extraction import Latents


def made(blocks, per_image=4, classes=None, unit="region"):
    """Latents of two sensors: rgb/shared, thermal/shared, rgb/private, thermal/private; ``per_image`` rows an image."""
    names = ("rgb/shared", "thermal/shared", "rgb/private", "thermal/private")
    n = len(blocks[0])
    classes = np.arange(n) % per_image if classes is None else classes
    rows = pd.DataFrame({"image": [f"scene{i // per_image}" for i in range(n)], "class": classes})
    rows = rows.assign(name="x", cells=1.0)
    return Latents({name: np.float32(block) for name, block in zip(names, blocks, strict=True)}, rows, unit)


def normal(seed, n=80, d=6, blocks=4):
    """So many independent blocks."""
    return list(np.random.default_rng(seed).normal(size=(blocks, n, d)))
