import numpy as np
import pandas as pd
import pytest

from crodino_lib.analysis.diagnosis import CHANCES, READ, diagnose, over_seeds, reading_table, signature
from crodino_lib.analysis.suite import ROW_KEYS

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
}
STRANGERS = {"cka shared": 0.3}
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
    assert signature(TARGET | SIGNATURES[name], STRANGERS) == name


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
    assert signature(TARGET | departure, STRANGERS) == "none of the five"


def test_a_collapsed_private_half_is_named_whatever_else_there_is():
    for name in SIGNATURES:
        assert (
            signature(TARGET | SIGNATURES[name] | {"rank private": 0.02, "class private": 0.3}, STRANGERS)
            == "private collapse"
        )


def test_a_half_that_shrank_to_a_point_has_collapsed_whatever_its_rank():
    assert signature(TARGET | {"spread private": 0.01, "class private": 0.3}, STRANGERS) == "private collapse"


def test_without_baselines_nothing_but_a_collapse_is_decided():
    assert signature(TARGET, {"cka shared": np.nan}) == "undecided: no baselines"
    collapsed = TARGET | SIGNATURES["private collapse"]
    assert signature(collapsed, {"cka shared": np.nan}) == "private collapse"


def test_a_retrieval_counts_from_three_times_chance_on():
    for factor, name in ((2.9, "none of the five"), (3.1, "target")):
        assert signature(TARGET | {"retrieval shared": factor * 0.05}, STRANGERS) == name


def answers(values, model="kd", nulls=()):
    """A table as the laboratory makes it, whose quantities are ``values``; both sensors have 0.1 more and less."""
    records = []
    keys = READ | CHANCES
    for quantity, value in values.items():
        unit, question, measure, where = keys[quantity]
        places = {where: 0.0}
        if "*" in where:
            places = {where.replace("*", "rgb"): 0.1, where.replace("*", "depth"): -0.1}
        for place, more in places.items():
            row = dict(zip(ROW_KEYS, (unit, question, measure, place), strict=True)) | {"value": value + more}
            row |= {null: np.nan for null in ("N1", "N2", "N3", "N4")}
            row |= {null: found[quantity] + more for null, found in dict(nulls).items() if quantity in found}
            records.append({"model": model, "row": model, "method": model, "seed": 3} | row)
    return pd.DataFrame(records)


def test_quantities_of_both_sensors_are_their_means_but_rank_and_spread_the_smaller_one_and_so_are_their_nulls():
    nulls = {
        "N1": {"class shared": 0.3, "rank private": 0.5},
        "N2": {"class shared": 0.7, "cka shared": 0.3, "rank private": 0.6},
        "N3": {"class shared": 0.5, "rank private": 0.6},
    }
    read = reading_table(answers(TARGET, nulls=nulls)).set_index("quantity")
    for quantity in set(TARGET) - {"chance retrieval", "chance class"}:
        smaller = quantity in ("rank private", "spread private")
        assert read.loc[quantity, "value"] == pytest.approx(TARGET[quantity] - 0.1 * smaller)
    assert read.loc["class shared", ["N1", "N2", "low", "high"]].tolist() == pytest.approx([0.3, 0.7, 0.3, 0.7])
    assert read.loc["class shared", "called"] == "above"
    assert read.loc["rank private", "called"] == "below"
    assert read.loc["cka shared", ["low", "high"]].tolist() == pytest.approx([0.3, 0.3])
    assert read.loc["modality shared", "called"] == ""  # no null has a value


def test_a_value_in_the_range_is_called_within():
    nulls = {"N1": {"cka shared": 0.7}, "N2": {"cka shared": 0.75}, "N3": {"cka shared": 0.9}}
    assert reading_table(answers(TARGET, nulls=nulls)).set_index("quantity").loc["cka shared", "called"] == "within"


def test_only_the_asked_measure_unit_and_place_are_read():
    others = answers({"cka shared": 0.8, "class shared": 0.9, "delta private": 0.04})
    for column, wrong in (("unit", "pixel"), ("measure", "other"), ("question", "other")):
        others = pd.concat([others, others.assign(**{column: wrong}, value=77.0)])
    others = pd.concat([others, answers({"cka private": 77.0, "class private": 77.0})])
    others = pd.concat([others, answers({"class shared": 77.0}).assign(where="shared")])
    others = pd.concat([others, answers({"delta private": 77.0}).assign(where="rgb/private")])
    read = reading_table(others).set_index("quantity")["value"]
    assert read[["cka shared", "class shared", "delta private"]].tolist() == pytest.approx([0.8, 0.9, 0.04])


def test_every_quantity_is_in_the_table_though_nobody_measured_it():
    read = reading_table(answers({"cka shared": 0.8}))
    assert read["quantity"].tolist() == list(READ)
    missing = read[read["quantity"] != "cka shared"]
    assert missing["value"].isna().all()
    assert (missing["called"] == "").all()


def test_every_model_is_diagnosed_by_its_own_numbers_and_its_own_baselines():
    tables = [answers(TARGET | departure, name, {"N2": STRANGERS}) for name, departure in SIGNATURES.items()]
    found = diagnose(pd.concat(tables, ignore_index=True))
    assert found["model"].tolist() == list(SIGNATURES)
    assert found["diagnosis"].tolist() == list(SIGNATURES)
    assert found["method"].tolist() == list(SIGNATURES)
    assert set(found["seed"]) == {3}
    assert found["chance retrieval"].tolist() == pytest.approx([0.05] * 5)
    assert found.set_index("model").loc["leakage", "modality shared"] == 0.95


def test_a_half_of_low_rank_that_tells_classes_has_not_collapsed():
    assert signature(TARGET | {"rank private": 0.02}, STRANGERS) == "target"


def test_seeds_are_told_as_mean_and_deviation_with_all_their_diagnoses():
    tables = [answers(TARGET | {"cka shared": value}, "kd", {"N2": STRANGERS}) for value in (0.7, 0.9)]
    seeds = [table.assign(model=f"kd seed {seed}", images=250) for seed, table in enumerate(tables)]
    told = over_seeds(diagnose(pd.concat(seeds, ignore_index=True))).loc["kd"]
    assert (told["seeds"], told["scenes"]) == (2, "250")
    assert told["cka shared"] == "0.80 ± 0.14"
    assert told["diagnosis"] == "target"
