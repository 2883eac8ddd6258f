"""Make null models, which learnt no split, and flag the results of a model that leave their range.

A number by itself proves nothing about a split: an untrained network has clean islands, too.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pandas as pd

from crodino_lib.analysis.extraction import Block, Latents, Unit
from crodino_lib.analysis.suite import KEYS

NULL_MODELS = {
    "untrained": "the network before this training (its encoder as loaded, from ImageNet by default), same split",
    "independent_baselines": "two baselines trained apart, their bottlenecks cut in arbitrary halves",
    "shuffled_channels": "the trained model, its channels randomly reassigned to the two halves",
    "shuffled_pairs": "the trained model, one sensor's rows shuffled: not even the class is paired",
}
FEWEST_NULLS = 3


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
    """Reassign every sensor's channels, shared and private together, to two halves of the same widths at random.

    Sensors of equal width are shuffled alike, so that what one channel means in both sensors stays in one half.
    """
    blocks, orders = {}, {}
    for sensor in latents.sensors:
        parts = {Block(sensor, half): latents.blocks[sensor, half] for half in latents.halves}
        channels = np.concatenate(list(parts.values()), axis=1)
        order = orders.setdefault(channels.shape[1], generator.permutation(channels.shape[1]))
        cuts = np.cumsum([part.shape[1] for part in parts.values()])[:-1]
        blocks |= zip(parts, np.split(channels[:, order], cuts, axis=1), strict=True)
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


def compare_to_nulls(results: pd.DataFrame, nulls: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Return a model's results with a column per null model, and the columns of ``add_flags``.

    ``nulls`` has the results of each null model by its name; what it does not apply to is left out there.
    """
    empty = pd.Series(dtype=float)
    values = {name: nulls[name].set_index(KEYS)["value"] for name in nulls if len(nulls[name])}
    index = pd.MultiIndex.from_frame(results[KEYS])
    columns = {name: values.get(name, empty).reindex(index).to_numpy() for name in NULL_MODELS}
    return add_flags(results.assign(**columns))


def add_flags(table: pd.DataFrame) -> pd.DataFrame:
    """Flag the values that leave the range of their null models.

    Shuffled pairs bound similarity from above only: were they the lower bound as well, no private half could be
    flagged as less alike across sensors than random pairs. Where low values mean similarity, as of losses, they bound
    from below only.

    A flag is no test: an additional null model would itself be flagged in about half of the cases, 45 of 100 beside
    four null models, 50 to 59 beside three.

    Returns ``table``, of ``measure``, ``value`` and a column per null model, with ``nulls``, how many have a value;
    ``low`` and ``high``, their range; and ``flag``: ``above``, ``below`` or ``within``, empty for chance levels and
    where fewer than three null models have a value, as where a half is set to its mean.
    """
    nulls = table[list(NULL_MODELS)]
    low_is_alike = table["measure"] == "lost_swap"
    low = nulls.assign(shuffled_pairs=nulls["shuffled_pairs"].where(low_is_alike)).min(axis=1)
    high = nulls.assign(shuffled_pairs=nulls["shuffled_pairs"].where(~low_is_alike)).max(axis=1)
    table = table.assign(nulls=nulls.notna().sum(axis=1), low=low, high=high)
    flag = np.select([table["value"] > high, table["value"] < low], ["above", "below"], "within")
    flagged = ~table["measure"].str.contains("chance") & (table["nulls"] >= FEWEST_NULLS) & table["value"].notna()
    return table.assign(flag=np.where(flagged, flag, ""))


def factor_table(table: pd.DataFrame, truth: pd.DataFrame | None = None) -> pd.DataFrame:
    """Collect what is read from which half: of every variant, and of the null models of the first variant.

    ``table`` is from ``LatentAnalysis.compare``, ``truth`` from ``sensor_truth``, which becomes the first group.
    Returns a row per ``group`` (``sensors``, variants, null models), ``target`` (class, modality, factors), ``sensor``
    and ``half`` (empty for ``sensors``): ``skill`` in [0, 1], the mean over seeds, and ``flag``: above every null model
    and above the chance of shuffled factors, in every seed.
    """
    cell = ["target", "sensor", "half"]
    chance = table.loc[table["measure"] == "skill_chance", ["model", *cell, "value"]]
    skills = table[table["measure"] == "skill"]
    skills = skills.merge(chance.rename(columns={"value": "chance"}), "left", ["model", *cell])
    skills["flag"] = (skills["flag"] == "above") & ~(skills["value"] <= skills["chance"])
    variants = skills.groupby(["variant", *cell], sort=False).agg(skill=("value", "mean"), flag=("flag", "all"))
    parts = [truth_cells(truth)] if truth is not None else []
    parts.append(variants.reset_index(names=["group", *cell]))
    first = skills[skills["variant"] == skills["variant"].iloc[0]]
    for null in [name for name in NULL_MODELS if first[name].notna().any()]:
        mean = first.groupby(cell, sort=False)[null].mean().rename("skill").reset_index()
        parts.append(mean.assign(group=null, flag=False))
    return pd.concat(parts, ignore_index=True)[["group", *cell, "skill", "flag"]]


def truth_cells(truth: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of ``factor_table`` for the sensors themselves, from ``sensor_truth``; R² below 0 becomes 0."""
    cells = truth.clip(lower=0).rename_axis("target").reset_index().melt("target", None, "sensor", "skill")
    return cells.assign(group="sensors", half="", flag=False)
