"""Models that learnt no split: what every number and every picture of a split is to be compared with.

N1  the same network before training, cut alike. Called untrained, but its encoder is as it was loaded, from ImageNet by
    default: it excludes what this training did, and not what any pretrained encoder knows.
N2  two baselines that were trained apart, their bottlenecks cut in arbitrary halves.
N3  the trained model, its channels dealt anew to two halves.
N4  the trained model, one sensor's rows shuffled: nothing is paired any more, not even the class.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from crodino_lib.analysis.extraction import Latents

NULLS = {
    "N1": "the network before this training (ImageNet's encoder by default), same split",
    "N2": "two baselines, arbitrary halves",
    "N3": "channels dealt anew to the halves",
    "N4": "one sensor's rows shuffled",
}


def strangers(first: Latents, second: Latents) -> Latents:
    """N2: the blocks of two models that never met, row by row the same places.

    Raises:
        ValueError: the rows differ.
    """
    if both := set(first.sensors) & set(second.sensors):
        raise ValueError(f"both models see {', '.join(sorted(both))}; strangers see different sensors")
    same = len(first) == len(second) and all(
        (first.rows[name].to_numpy() == second.rows[name].to_numpy()).all() for name in ("image", "class", "x", "y")
    )
    if not same:
        raise ValueError(
            f"the models were not seen on the same places: {len(first)} and {len(second)} rows, of which images, "
            "classes or positions differ"
        )
    return replace(first, blocks=first.blocks | second.blocks)


def dealt_anew(latents: Latents, generator: np.random.Generator) -> Latents:
    """N3: every sensor's channels, shared and private together, in two halves at random; both sensors' alike.

    The widths of the halves stay. Sensors of equal width are dealt alike, so that what one channel means in both
    sensors stays in one half.
    """
    blocks: dict[str, np.ndarray] = {}
    deals: dict[int, np.ndarray] = {}
    for sensor in latents.sensors:
        names = [f"{sensor}/{half}" for half in latents.halves]
        channels = np.concatenate([latents.blocks[name] for name in names], axis=1)
        order = deals.setdefault(channels.shape[1], generator.permutation(channels.shape[1]))
        cuts = np.cumsum([latents.blocks[name].shape[1] for name in names])[:-1]
        blocks |= dict(zip(names, np.split(channels[:, order], cuts, axis=1), strict=True))
    return replace(latents, blocks=blocks)


def unpaired(latents: Latents, generator: np.random.Generator) -> Latents:
    """N4: the last sensor's rows shuffled, those of both its halves alike; ``rows`` stays the first sensor's."""
    order = generator.permutation(len(latents))
    last = latents.sensors[-1]
    moved = {name: block[order] for name, block in latents.blocks.items() if name.split("/")[0] == last}
    return replace(latents, blocks=latents.blocks | moved)
