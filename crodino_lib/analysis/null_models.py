"""Make models that learnt no split: what every number and every embedding of a split is to be compared with."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from crodino_lib.analysis.extraction import Block, Latents, Unit

NULL_MODELS = {
    "untrained": "the network before this training (its encoder as loaded, from ImageNet by default), same split",
    "independent_baselines": "two baselines trained apart, their bottlenecks cut in arbitrary halves",
    "shuffled_channels": "the trained model, its channels randomly reassigned to the two halves",
    "shuffled_pairs": "the trained model, one sensor's rows shuffled: not even the class is paired",
}


def independent_baselines(first: Latents, second: Latents) -> Latents:
    """Join the blocks of two models of one sensor each that were trained apart; ValueError if their rows differ."""
    places = ["image", "class", "x", "y"]
    if len(first) != len(second) or not first.rows[places].equals(second.rows[places]):
        raise ValueError(
            f"the two models have {len(first)} and {len(second)} rows that are not the same places; extract both from "
            "the same scenes, with bottlenecks of one size"
        )
    return replace(first, blocks=first.blocks | second.blocks)


def shuffled_channels(latents: Latents, generator: np.random.Generator) -> Latents:
    """Reassign every sensor's channels, shared and private together, to two halves at random.

    The widths of the halves stay. Sensors of equal width are shuffled alike, so that what one channel means in both
    sensors stays in one half.
    """
    blocks: dict[Block, np.ndarray] = {}
    orders: dict[int, np.ndarray] = {}
    for sensor in latents.sensors:
        names = [Block(sensor, half) for half in latents.halves]
        channels = np.concatenate([latents.blocks[name] for name in names], axis=1)
        order = orders.setdefault(channels.shape[1], generator.permutation(channels.shape[1]))
        cuts = np.cumsum([latents.blocks[name].shape[1] for name in names])[:-1]
        blocks |= dict(zip(names, np.split(channels[:, order], cuts, axis=1), strict=True))
    return replace(latents, blocks=blocks)


def shuffled_pairs(latents: Latents, generator: np.random.Generator) -> Latents:
    """Shuffle the last sensor's rows, in both its halves alike; ``rows`` stays that of the first sensor."""
    order = generator.permutation(len(latents))
    last = latents.sensors[-1]
    moved = {block: vectors[order] for block, vectors in latents.blocks.items() if block.sensor == last}
    return replace(latents, blocks=latents.blocks | moved)


def shuffled(latents: Mapping[Unit, Latents], null: str, seed: int) -> dict[Unit, Latents]:
    """Return the latents of every unit with shuffled channels or pairs; unchanged for other null models."""
    if null == "shuffled_channels":  # the same channels in every unit, and in the ablation
        return {unit: shuffled_channels(part, np.random.default_rng(seed)) for unit, part in latents.items()}
    if null == "shuffled_pairs":
        return {unit: shuffled_pairs(part, np.random.default_rng([seed, 1])) for unit, part in latents.items()}
    return dict(latents)
