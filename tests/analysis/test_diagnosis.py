import numpy as np
import pandas as pd
import pytest

from crodino_lib.analysis.diagnosis import CHANCES, QUANTITIES, diagnose, over_seeds, signature, summary_table
from crodino_lib.analysis.null_models import NULL_MODELS
from crodino_lib.analysis.suite import KEYS

TARGET = {
    "cka shared": 0.8,
    "retrieval shared": 0.5,
    "chance retrieval": 0.05,
    "chance class": 0.2,
    "modality shared": 0.52,
    "modality private": 0.99,
    "class shared": 0.9,
    "class private": 0.6,
    "delta private": 0.04,
    "rank private": 0.4,
    "spread private": 0.7,
    "images": 250,
}
BASELINES = {"cka shared": 0.3}
# the table of the five signatures: what differs from the target
SIGNATURES = {
    "target": {},
    "private collapse": {"class private": 0.25, "delta private": 0.0, "rank private": 0.02},
    "leakage": {"modality shared": 0.95, "class private": 0.9, "delta private": 0.0},
    "alignment by erasure": {
        "retrieval shared": 0.06,
        "class shared": 0.4,
        "class private": 0.9,
        "delta private": 0.5,
    },
    "no sharing": {
        "cka shared": 0.29,
        "retrieval shared": 0.05,
        "modality shared": 0.99,
        "class private": 0.9,
        "delta private": 0.0,
    },
}


@pytest.mark.parametrize("name", SIGNATURES)
def test_every_signature_of_the_table_has_its_name(name):
    assert signature(TARGET | SIGNATURES[name], 0.3) == name


@pytest.mark.parametrize(
    "departure",
    [
        {"modality private": 0.7},
        {"modality shared": 0.7},
        {"delta private": 0.0},
        {"cka shared": 0.2},
        {"retrieval shared": 0.1},
    ],
)
def test_what_misses_one_mark_of_the_target_is_not_it(departure):
    assert signature(TARGET | departure, 0.3) == "none of the five"


def test_a_collapsed_private_half_is_named_whatever_else_there_is():
    for name in SIGNATURES:
        assert (
            signature(TARGET | SIGNATURES[name] | {"rank private": 0.02, "class private": 0.3}, 0.3)
            == "private collapse"
        )


def test_a_half_that_shrank_to_a_point_has_collapsed_whatever_its_rank():
    assert signature(TARGET | {"spread private": 0.01, "class private": 0.3}, 0.3) == "private collapse"


def test_without_baselines_nothing_but_a_collapse_is_decided():
    assert signature(TARGET, np.nan) == "undecided: no baselines"
    collapsed = TARGET | SIGNATURES["private collapse"]
    assert signature(collapsed, np.nan) == "private collapse"


def test_a_retrieval_counts_from_three_times_chance_on():
    for factor, name in ((2.9, "none of the five"), (3.1, "target")):
        assert signature(TARGET | {"retrieval shared": factor * 0.05}, 0.3) == name


def table(values, model="kd", nulls=()):
    """A table as ``LatentAnalysis.compare`` returns it, with these quantities; the sensors are 0.1 above and below."""
    records, keys = [], QUANTITIES | CHANCES
    for quantity, value in values.items():
        if quantity == "images":
            continue
        unit, metric, measure, half = keys[quantity]
        across = measure in ("cka", "recall_1", "rotated_recall_1", "transfer", "modality") or quantity in CHANCES
        for sensor, more in {"": 0.0}.items() if across else {"rgb": 0.1, "depth": -0.1}.items():
            row = dict(zip(KEYS, (unit, metric, measure, "", sensor, half), strict=True)) | {"value": value + more}
            row |= dict.fromkeys(NULL_MODELS, np.nan) | {"images": 250}
            row |= {null: numbers[quantity] + more for null, numbers in dict(nulls).items() if quantity in numbers}
            records.append({"model": model, "variant": model, "method": model, "seed": 3} | row)
    return pd.DataFrame(records)


def test_quantities_of_both_sensors_are_their_means_but_rank_and_spread_the_smaller_one_and_so_are_their_nulls():
    nulls = {
        "untrained": {"class shared": 0.3, "rank private": 0.5},
        "independent_baselines": {"class shared": 0.7, "cka shared": 0.3, "rank private": 0.6},
        "shuffled_channels": {"class shared": 0.5, "rank private": 0.6},
    }
    read = summary_table(table(TARGET, nulls=nulls)).set_index("quantity")
    for quantity in set(TARGET) - {"chance retrieval", "chance class", "images"}:
        smaller = quantity in ("rank private", "spread private")
        assert read.loc[quantity, "value"] == pytest.approx(TARGET[quantity] - 0.1 * smaller)
    assert read.loc["class shared", ["untrained", "independent_baselines", "low", "high"]].tolist() == pytest.approx(
        [0.3, 0.7, 0.3, 0.7]
    )
    assert read.loc["class shared", "flag"] == "above"
    assert read.loc["rank private", "flag"] == "below"
    assert read.loc["cka shared", ["low", "high"]].tolist() == pytest.approx([0.3, 0.3])
    assert read.loc["modality shared", "flag"] == ""  # no null has a value


def test_a_value_in_the_range_is_called_within():
    nulls = {
        "untrained": {"cka shared": 0.7},
        "independent_baselines": {"cka shared": 0.75},
        "shuffled_channels": {"cka shared": 0.9},
    }
    assert summary_table(table(TARGET, nulls=nulls)).set_index("quantity").loc["cka shared", "flag"] == "within"


def test_only_the_measure_unit_and_half_of_a_quantity_count():
    values = {"cka shared": 0.8, "class shared": 0.9, "delta private": 0.04}
    others = table(values)
    for column, wrong in (("unit", "image"), ("measure", "other"), ("metric", "other"), ("half", "")):
        others = pd.concat([others, table(values).assign(**{column: wrong}, value=77.0)])
    summary = summary_table(others).set_index("quantity")["value"]
    assert summary[list(values)].tolist() == pytest.approx(list(values.values()))


def test_every_quantity_is_in_the_table_even_if_it_was_not_measured():
    read = summary_table(table({"cka shared": 0.8}))
    assert read["quantity"].tolist() == list(QUANTITIES)
    missing = read[read["quantity"] != "cka shared"]
    assert missing["value"].isna().all()
    assert (missing["flag"] == "").all()


def test_every_model_is_diagnosed_by_its_own_numbers_and_its_own_baselines():
    tables = [
        table(TARGET | departure, name, {"independent_baselines": BASELINES}) for name, departure in SIGNATURES.items()
    ]
    found = diagnose(pd.concat(tables, ignore_index=True))
    assert found["model"].tolist() == list(SIGNATURES)
    assert found["diagnosis"].tolist() == list(SIGNATURES)
    assert found["method"].tolist() == list(SIGNATURES)
    assert set(found["seed"]) == {3}
    assert found["chance retrieval"].tolist() == pytest.approx([0.05] * 5)
    assert found.set_index("model").loc["leakage", "modality shared"] == 0.95


def test_a_half_of_low_rank_from_which_classes_are_read_has_not_collapsed():
    assert signature(TARGET | {"rank private": 0.02}, 0.3) == "target"


def test_seeds_are_summarised_as_mean_and_deviation_with_all_their_diagnoses():
    tables = [table(TARGET | {"cka shared": value}, "kd", {"independent_baselines": BASELINES}) for value in (0.7, 0.9)]
    seeds = [part.assign(model=f"kd seed {seed}") for seed, part in enumerate(tables)]
    row = over_seeds(diagnose(pd.concat(seeds, ignore_index=True))).loc["kd"]
    assert (row["seeds"], row["scenes"]) == (2, "250")
    assert row["cka shared"] == "0.80 ± 0.14"
    assert row["diagnosis"] == "target"
