"""What the numbers of a model say together: one row per model, its signature named by rules that are written down."""

from __future__ import annotations

import numpy as np
import pandas as pd

COLLAPSED_RANK = 0.05  # effective rank of a private half, as a share of its channels
CANNOT_TELL = 0.6  # accuracy of a modality probe up to which it is as good as blind
TELLS = 0.9
ADDS = 0.01  # balanced accuracy that a half must add to count
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
    "without shared": ("image", "ablation", "miou_mean_shared", "*"),
    "without private": ("image", "ablation", "miou_mean_private", "*"),
    "swapped shared": ("image", "ablation", "miou_swap_shared", "*"),
    "swapped private": ("image", "ablation", "miou_swap_private", "*"),
}
CHANCE = ("region", "retrieval", "chance_recall_1", "shared")


def reading_table(table: pd.DataFrame) -> pd.DataFrame:
    """The numbers that tell the signatures apart, and the signature they tell.

    Args:
        table: from ``study.latents.Laboratory.examine``.

    Returns:
        One row per model and quantity: ``model``, ``quantity``, ``value``, ``low`` and ``high`` (range of the nulls),
        ``N1`` to ``N4``, ``called``. Quantities of both sensors are their means, but the rank the smaller one's; so
        are their nulls.
    """
    records = []
    for model, found in table.groupby("model", sort=False):
        for quantity, key in READ.items():
            record = {"model": model, "quantity": quantity} | _mean_of(found, *key)
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
        return dict.fromkeys(["value", *nulls, "low", "high"], np.nan) | {"called": ""}
    numbers = rows[["value", *nulls]]
    # one collapsed sensor is a collapse, and a block without rank is one
    means = numbers.fillna({"value": 0.0}).min() if measure == "rank_fraction" else numbers.mean()
    low, high = means[nulls].min(), means[nulls].max()
    told = "above" if means["value"] > high else "below" if means["value"] < low else "within"
    judged = np.isfinite([means["value"], low, high]).all()
    return means.to_dict() | {"low": low, "high": high, "called": told if judged else ""}


def diagnose(table: pd.DataFrame) -> pd.DataFrame:
    """The signature of every model, by the rules of ``signature``.

    Args:
        table: from ``study.latents.Laboratory.examine``.

    Returns:
        One row per model: ``model``, ``method``, ``seed``, the quantities of ``READ``, ``chance retrieval`` and
        ``diagnosis``.
    """
    read = reading_table(table)
    records = []
    for model, rows in read.groupby("model", sort=False):
        values = rows.set_index("quantity")["value"].to_dict()
        nulls = rows.set_index("quantity")["N2"].to_dict()
        found = table[table["model"] == model]
        values["chance retrieval"] = _mean_of(found, *CHANCE)["value"]
        named = {"model": model, "method": found["method"].iloc[0], "seed": found["seed"].iloc[0]}
        records.append(named | values | {"diagnosis": signature(values, nulls)})
    return pd.DataFrame(records)


def signature(values: dict[str, float], strangers: dict[str, float]) -> str:
    """The name of what the numbers look like; the rules are coarse and are meant to be argued with.

    Args:
        values: quantity -> value, with ``chance retrieval``.
        strangers: quantity -> that of two baselines (N2), NaN where there are none.

    Returns:
        ``private collapse``, ``no sharing``, ``alignment by erasure``, ``leakage``, ``target``, or ``none of the
        five``, asked in this order.

    Source: the reading table of our methods' list. Explained in notebook 07.
    """
    stranger, chance = strangers["cka shared"], values["chance retrieval"]
    shared_up = values["cka shared"] > (-np.inf if np.isnan(stranger) else stranger)
    found = values["retrieval shared"] > min(FAR_ABOVE * chance, (1 + chance) / 2)
    if not values["rank private"] >= COLLAPSED_RANK:
        return "private collapse"
    if not shared_up and not found:
        return "no sharing"
    if shared_up and not found and values["class shared"] < values["class private"] - ADDS:
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
        One row per method: ``seeds``, the quantities in words, ``diagnosis``; no deviation where there is one seed.
    """
    quantities = [name for name in diagnosis if name not in ("model", "method", "seed", "diagnosis")]
    records = {}
    for method, rows in diagnosis.groupby("method", sort=False):
        told = {"seeds": len(rows)}
        for name in quantities:
            spread = f" ± {rows[name].std():.2f}" if len(rows) > 1 else ""
            told[name] = f"{rows[name].mean():.2f}{spread}"
        records[method] = told | {"diagnosis": ", ".join(dict.fromkeys(rows["diagnosis"]))}
    return pd.DataFrame(records).T
