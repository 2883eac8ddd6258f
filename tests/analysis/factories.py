"""Make latents of two sensors from noise, for the tests of every metric."""

import numpy as np
import pandas as pd

from crodino_lib.analysis.extraction import Block, Latents
from crodino_lib.analysis.suite import KEYS

MEMORISED = 4.0  # length of a vector that identifies the image of a row
BLOCKS = [Block(sensor, half) for half in ("shared", "private") for sensor in ("rgb", "thermal")]


def made(blocks, per_image=4, classes=None, unit="region"):
    """Latents of two sensors: rgb/shared, thermal/shared, rgb/private, thermal/private; ``per_image`` rows an image."""
    n = len(blocks[0])
    classes = np.arange(n) % per_image if classes is None else classes
    rows = pd.DataFrame({"image": [f"scene{i // per_image}" for i in range(n)], "class": classes})
    rows = rows.assign(name="x", cells=1.0)
    return Latents({name: np.float32(block) for name, block in zip(BLOCKS, blocks, strict=True)}, rows, unit)


def named(results):
    """Values of results by measure, target and block: ``recall_1 shared``, ``skill width rgb/private``."""
    values = {}
    for result in results:
        block = "/".join(filter(None, (result.sensor, result.half)))
        values[" ".join(filter(None, (result.measure, result.target, block)))] = result.value
    assert len(values) == len(results)
    return values


def normal(seed, n=80, d=6, blocks=4):
    """So many independent blocks."""
    return list(np.random.default_rng(seed).normal(size=(blocks, n, d)))


def rows_of(images, classes):
    """Rows of these images and classes."""
    return pd.DataFrame({"image": [f"scene-{i}" for i in images], "class": classes, "name": "thing", "cells": 1.0})


def four_blocks(*vectors, images, classes):
    """Latents of rgb and depth: vectors in order of sensor, then half."""
    names = [Block(sensor, half) for sensor in ("rgb", "depth") for half in ("shared", "private")]
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
    offsets = {("rgb", "shared"): 0, ("rgb", "private"): far, ("depth", "shared"): 0, ("depth", "private"): -far}
    return Latents({Block(*name): block(offset) for name, offset in offsets.items()}, rows)


def results(*rows):
    """Results as ``run_suite`` returns them: (unit, metric, measure, target, sensor, half, value) each."""
    return pd.DataFrame(rows, columns=[*KEYS, "value"])
