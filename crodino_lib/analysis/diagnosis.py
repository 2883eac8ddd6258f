"""What the numbers of a model say together: one row per model, its signature named by rules that are written down."""

from __future__ import annotations

import numpy as np
import pandas as pd

from crodino_lib.analysis.null_comparison import judge

COLLAPSED_RANK = 0.05  # effective rank of a private half, as a share of its channels
COLLAPSED_SPREAD = 0.05  # what of a private half's length varies
CANNOT_TELL = 0.6  # accuracy of a modality probe up to which it is as good as blind
TELLS = 0.9
ADDS = 0.01  # balanced accuracy that a half must add to count
FEWEST_SCENES = 30
READABLE = 2.0  # times chance: an accuracy of classes that is worth the name
FAR_ABOVE = 3.0  # times chance: a retrieval that is worth the name

READ = {  # column -> (unit, question, measure, where); where "*" is the mean over sensors
    "cka shared": ("region", "cka", "cka", "shared"),
    "cka private": ("region", "cka", "cka", "private"),
    "retrieval shared": ("region", "retrieval", "recall_1", "shared"),
    "retrieval private": ("region", "retrieval", "recall_1", "private"),
    "rotated shared": ("region", "retrieval", "rotated_recall_1", "shared"),
    "transfer shared": ("region", "class", "transfer", "shared"),
    "transfer private": ("region", "class", "transfer", "private"),
    "modality shared": ("region", "modality", "modality", "shared"),
    "modality private": ("region", "modality", "modality", "private"),
    "class shared": ("region", "class", "class", "*/shared"),
    "class private": ("region", "class", "class", "*/private"),
    "delta private": ("region", "class", "delta_private", "*"),
    "rank private": ("region", "collapse", "rank_fraction", "*/private"),
    "spread private": ("region", "collapse", "spread", "*/private"),
    "lost without shared": ("image", "ablation", "lost_mean_shared", "*"),
    "lost without private": ("image", "ablation", "lost_mean_private", "*"),
    "lost by swapping shared": ("image", "ablation", "lost_swap_shared", "*"),
    "lost by swapping private": ("image", "ablation", "lost_swap_private", "*"),
}
CHANCES = {
    "chance retrieval": ("region", "retrieval", "chance_recall_1", "shared"),
    "chance class": ("region", "class", "class_chance", ""),
}


def reading_table(table: pd.DataFrame) -> pd.DataFrame:
    """The numbers that tell the signatures apart, and the signature they tell.

    Args:
        table: from ``study.latents.Laboratory.examine``.

    Returns:
        One row per model and quantity: ``model``, ``row`` (the same for all its seeds), ``quantity``, ``value``, ``N1``
        to ``N4``, and what ``judge`` adds. Quantities of both sensors are their means, but rank and spread the smaller
        one's; so are their nulls.
    """
    records = []
    for model, found in table.groupby("model", sort=False):
        for quantity, key in READ.items():
            record = {"model": model, "row": found["row"].iloc[0], "quantity": quantity} | _mean_of(found, *key)
            records.append(record)
    return pd.DataFrame(records)


def _mean_of(found: pd.DataFrame, unit: str, question: str, measure: str, where: str) -> dict:
    rows = found[(found["unit"] == unit) & (found["question"] == question) & (found["measure"] == measure)]
    if where == "*":
        rows = rows[~rows["where"].str.contains("/") & ~rows["where"].isin(["shared", "private"])]
    elif where.startswith("*/"):
        rows = rows[rows["where"].str.endswith(where[1:])]
    else:
        rows = rows[rows["where"] == where]
    nulls = [f"N{number}" for number in range(1, 5)]
    if rows.empty:
        return dict.fromkeys(["value", *nulls, "low", "high"], np.nan) | {"nulls": 0, "called": ""}
    numbers = rows[["value", *nulls]]
    # one collapsed sensor is a collapse, and a block without rank is one
    means = numbers.fillna({"value": 0.0}).min() if measure in ("rank_fraction", "spread") else numbers.mean()
    return judge(means.to_frame().T.assign(measure=measure)).iloc[0].drop("measure").to_dict()


def diagnose(table: pd.DataFrame) -> pd.DataFrame:
    """The signature of every model, by the rules of ``signature``.

    Args:
        table: from ``study.latents.Laboratory.examine``.

    Returns:
        One row per model: ``model``, ``row``, ``method``, ``seed``, the quantities of ``READ`` and of ``CHANCES``, and
        ``diagnosis``.
    """
    read = reading_table(table)
    records = []
    for model, rows in read.groupby("model", sort=False):
        values = rows.set_index("quantity")["value"].to_dict()
        nulls = rows.set_index("quantity")["N2"].to_dict()
        found = table[table["model"] == model]
        values |= {name: _mean_of(found, *key)["value"] for name, key in CHANCES.items()}
        values["images"] = found["images"].max() if "images" in found else np.nan
        named = found[["row", "method", "seed"]].iloc[0].to_dict()
        records.append({"model": model} | named | values | {"diagnosis": signature(values, nulls)})
    return pd.DataFrame(records)


def signature(values: dict[str, float], strangers: dict[str, float]) -> str:
    """The name of what the numbers look like; the rules are coarse and are meant to be argued with.

    They compare with two baselines and with chance, not with all nulls: a name is a reading and no test.

    Args:
        values: quantity -> value, chances among them.
        strangers: quantity -> that of two baselines (N2), NaN where there are none.

    Returns:
        ``private collapse``, ``no sharing``, ``alignment by erasure``, ``leakage``, ``target``, or ``none of the
        five``, asked in this order; but for a collapse, undecided without baselines.

    Source: the reading table of our methods' list. Explained in notebook 07.
    """
    stranger, chance = strangers["cka shared"], values["chance retrieval"]
    shared_up = values["cka shared"] > stranger
    found = values["retrieval shared"] > min(FAR_ABOVE * chance, (1 + chance) / 2)
    read = {half: values[f"class {half}"] >= READABLE * values["chance class"] for half in ("shared", "private")}
    alive = values["rank private"] >= COLLAPSED_RANK and values["spread private"] >= COLLAPSED_SPREAD
    if read["shared"] and not read["private"] and not alive:
        return "private collapse"
    if np.isnan(stranger):
        return "undecided: no baselines"
    if values.get("images", np.inf) < FEWEST_SCENES:
        return f"undecided: fewer than {FEWEST_SCENES} scenes"
    if not shared_up and not found:
        return "no sharing"
    if shared_up and not found and read["private"] and values["class shared"] < values["class private"] - ADDS:
        return "alignment by erasure"
    adds = values["delta private"] > ADDS
    if shared_up and found and values["modality shared"] > CANNOT_TELL and not adds:
        return "leakage"
    blind = values["modality shared"] <= CANNOT_TELL and values["modality private"] >= TELLS
    return "target" if shared_up and found and blind and adds else "none of the five"


def over_seeds(diagnosis: pd.DataFrame) -> pd.DataFrame:
    """The reading table: mean and standard deviation over seeds of every row, ``0.52 ± 0.03``, and all its diagnoses.

    Args:
        diagnosis: from ``diagnose``.

    Returns:
        One row per ``row``: ``seeds``, ``scenes``, the quantities in words, ``diagnosis``; no deviation of one seed.
    """
    quantities = [name for name in diagnosis if name not in ("model", "row", "method", "seed", "images", "diagnosis")]
    records = {}
    for row, rows in diagnosis.groupby("row", sort=False):
        told = {"seeds": len(rows), "scenes": f"{rows['images'].min():.0f}"}
        for name in quantities:
            spread = f" ± {rows[name].std():.2f}" if len(rows) > 1 else ""
            told[name] = f"{rows[name].mean():.2f}{spread}"
        records[row] = told | {"diagnosis": ", ".join(dict.fromkeys(rows["diagnosis"]))}
    return pd.DataFrame(records).T
