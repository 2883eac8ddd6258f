"""Latents of two sensors made of noise, for the tests of every metric."""

import numpy as np
import pandas as pd

from crodino_lib.analysis.extraction import Latents
from crodino_lib.analysis.suite import ROW_KEYS

MEMORISED = 4.0  # length of a vector that says which image a row is of


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


def rows_of(images, classes):
    """Rows of these images and classes."""
    return pd.DataFrame({"image": [f"scene-{i}" for i in images], "class": classes, "name": "thing", "cells": 1.0})


def four_blocks(*vectors, images, classes):
    """Latents of rgb and depth: vectors in order of sensor, then half."""
    names = ("rgb/shared", "rgb/private", "depth/shared", "depth/private")
    return Latents(dict(zip(names, vectors, strict=True)), rows_of(images, classes))


def jitter(generator, *shape):
    """Little noise."""
    return 0.1 * generator.normal(size=shape)


def clustered(per_class=20, classes=5, seed=0):
    """Classes are clusters; shared halves of both sensors lie together, private ones far apart."""
    generator = np.random.default_rng(seed)
    index = np.repeat(np.arange(classes), per_class)
    centres = 6 * generator.normal(size=(classes, 20))

    def block(offset):
        return (centres[index] + generator.normal(size=(len(index), 20)) + offset).astype(np.float32)

    rows = pd.DataFrame(
        {"image": [f"{i}" for i in range(len(index))], "class": index, "name": [f"c{k}" for k in index], "cells": 1.0}
    )
    far = 40 * generator.normal(size=20)
    blocks = {"rgb/shared": block(0), "rgb/private": block(far), "depth/shared": block(0), "depth/private": block(-far)}
    return Latents(blocks, rows)


def answers(*rows):
    """Answers of the laboratory: (unit, question, measure, place, value) each."""
    return pd.DataFrame(rows, columns=[*ROW_KEYS, "value"])
