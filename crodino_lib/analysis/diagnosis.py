"""Summarise the results of a model in one row, and name its signature by rules that are written down."""

import numpy as np
import pandas as pd

from crodino_lib.analysis.null_models import NULL_MODELS, add_flags

COLLAPSED_RANK = 0.05  # effective rank of a private half, as a share of its channels
COLLAPSED_SPREAD = 0.05  # share of a private half's length that varies
INVARIANT = 0.6  # accuracy of a modality probe up to which it is about at chance
SPECIFIC = 0.9  # accuracy of a modality probe from which a half clearly depends on the sensor
ADDS = 0.01  # balanced accuracy that a half must add to count
FEWEST_SCENES = 30
READABLE = 2.0  # times chance: from here on a class accuracy counts
FAR_ABOVE = 3.0  # times chance: from here on a retrieval counts

HALVES = ("shared", "private")
QUANTITIES = {  # name -> (unit, metric, measure, half)
    f"{name} {half}": (unit, metric, measure, half)
    for name, unit, metric, measure, halves in (
        ("cka", "region", "cka", "cka", HALVES),
        ("retrieval", "region", "retrieval", "recall_1", HALVES),
        ("rotated", "region", "retrieval", "rotated_recall_1", HALVES[:1]),
        ("transfer", "region", "class", "transfer", HALVES),
        ("modality", "region", "modality", "modality", HALVES),
        ("class", "region", "class", "class", HALVES),
        ("delta", "region", "class", "delta", HALVES[1:]),
        ("rank", "region", "collapse", "rank_fraction", HALVES[1:]),
        ("spread", "region", "collapse", "spread", HALVES[1:]),
        ("lost without", "image", "ablation", "lost_mean", HALVES),
        ("lost by swapping", "image", "ablation", "lost_swap", HALVES),
    )
    for half in halves
}
CHANCES = {
    "chance retrieval": ("region", "retrieval", "chance_recall_1", "shared"),
    "chance class": ("region", "class", "class_chance", ""),
}
MODEL = ["model", "variant", "method", "seed"]


def summary_table(table: pd.DataFrame) -> pd.DataFrame:
    """Select the quantities that distinguish the signatures, from a table of ``LatentAnalysis.compare``.

    Returns a row per model and quantity: ``model``, ``variant`` (the same for all its seeds), ``quantity``, ``value``,
    a column per null model, and the columns of ``add_flags``. Quantities of both sensors are their means, but rank and
    spread those of the sensor with the smaller one; so are those of the null models.
    """
    records = []
    for (model, variant), rows in table.groupby(["model", "variant"], sort=False):
        for quantity, key in QUANTITIES.items():
            records.append({"model": model, "variant": variant, "quantity": quantity} | _over_sensors(rows, *key))
    return add_flags(pd.DataFrame(records)).drop(columns="measure")


def _over_sensors(table: pd.DataFrame, unit: str, metric: str, measure: str, half: str) -> dict[str, float | str]:
    """Return value and null models of one quantity; NaN where it was not measured."""
    wanted = {"unit": unit, "metric": metric, "measure": measure, "half": half}
    numbers = table.loc[(table[list(wanted)] == list(wanted.values())).all(axis=1), ["value", *NULL_MODELS]]
    worst = measure in ("rank_fraction", "spread") and len(numbers)  # one collapsed sensor is a collapse
    numbers = numbers.fillna({"value": 0.0}).min() if worst else numbers.mean()  # no rank is rank 0
    return numbers.to_dict() | {"measure": measure}


def diagnose(table: pd.DataFrame) -> pd.DataFrame:
    """Name the signature of every model of ``LatentAnalysis.compare``, by the rules of ``signature``.

    Returns a row per model: ``MODEL``, the quantities of ``QUANTITIES`` and of ``CHANCES``, ``images``, ``diagnosis``.
    """
    summary, records = summary_table(table).set_index("quantity"), []
    for keys, rows in table.groupby(MODEL, sort=False):
        quantities = summary[summary["model"] == keys[0]]
        values = quantities["value"].to_dict() | {"images": rows["images"].max()}
        values |= {name: _over_sensors(rows, *key)["value"] for name, key in CHANCES.items()}
        baseline_cka = quantities.loc["cka shared", "independent_baselines"]
        records.append(dict(zip(MODEL, keys, strict=True)) | values | {"diagnosis": signature(values, baseline_cka)})
    return pd.DataFrame(records)


def signature(values: dict[str, float], baseline_cka: float) -> str:
    """Name what the numbers look like; the rules are coarse and are meant to be argued with.

    They compare with two independent baselines and with chance, not with all null models: a name is no test. ``values``
    has by quantity its value, chances and number of images among them; ``baseline_cka`` is ``cka shared`` of two
    independent baselines: NaN, and so undecided, where there are none.

    Explained in notebook 15.
    """
    chance = values["chance retrieval"]
    shared_up = values["cka shared"] > baseline_cka
    retrieved = values["retrieval shared"] > min(FAR_ABOVE * chance, (1 + chance) / 2)
    shared, private = (values[f"class {half}"] >= READABLE * values["chance class"] for half in HALVES)  # readable
    alive = values["rank private"] >= COLLAPSED_RANK and values["spread private"] >= COLLAPSED_SPREAD
    erased = private and values["class shared"] < values["class private"] - ADDS
    adds = values["delta private"] > ADDS
    sorted_by_sensor = values["modality shared"] <= INVARIANT and values["modality private"] >= SPECIFIC
    rules = {  # the first that holds
        "private collapse": shared and not private and not alive,
        "undecided: no baselines": np.isnan(baseline_cka),
        f"undecided: fewer than {FEWEST_SCENES} scenes": values["images"] < FEWEST_SCENES,
        "no sharing": not shared_up and not retrieved,
        "alignment by erasure": shared_up and not retrieved and erased,
        "leakage": shared_up and retrieved and values["modality shared"] > INVARIANT and not adds,
        "target": shared_up and retrieved and sorted_by_sensor and adds,
    }
    return next((name for name, holds in rules.items() if holds), "none of the five")


def over_seeds(diagnosis: pd.DataFrame) -> pd.DataFrame:
    """Return what ``diagnose`` found as text, a row per variant: mean ± deviation over its seeds, and all diagnoses."""
    records = {}
    for variant, rows in diagnosis.groupby("variant", sort=False):
        record = {"seeds": len(rows), "scenes": f"{rows['images'].min():.0f}"}
        for name in [*QUANTITIES, *CHANCES]:
            deviation = f" ± {rows[name].std():.2f}" if len(rows) > 1 else ""
            record[name] = f"{rows[name].mean():.2f}{deviation}"
        records[variant] = record | {"diagnosis": ", ".join(dict.fromkeys(rows["diagnosis"]))}
    return pd.DataFrame(records).T
