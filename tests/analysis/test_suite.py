import numpy as np
import pandas as pd
import pytest

from crodino_lib.analysis import collapse, factors
from crodino_lib.analysis import mig_dci as blocks
from crodino_lib.analysis.extraction import Latents
from crodino_lib.analysis.null_comparison import beside_nulls
from crodino_lib.analysis.suite import (
    ROW_KEYS,
    ask,
    called_matrix,
    questions,
    skill_matrix,
    split_scores,
)
from crodino_lib.config import AnalysisConfig
from tests.analysis.factories import answers

BUDGET = AnalysisConfig(rows=40, shuffles=2, steps=1, scenes=4)
BLOCKS = [f"{sensor}/{half}" for sensor in ("rgb", "depth") for half in ("shared", "private")]
NO_FACTORS = pd.DataFrame()


def latents(unit, images, per_image, seed=0):
    generator, n = np.random.default_rng(seed), images * per_image
    rows = {"image": np.repeat([f"s{i:02d}" for i in range(images)], per_image)}
    rows |= {"class": np.tile(np.arange(per_image), images), "name": "c", "cells": 1.0}
    rows |= {"x": generator.random(n), "y": generator.random(n)}
    return Latents({name: generator.normal(size=(n, 5)) for name in BLOCKS}, pd.DataFrame(rows), unit)


@pytest.fixture
def seen():
    return {"image": latents("image", 40, 1), "region": latents("region", 12, 4), "pixel": latents("pixel", 10, 6)}


# -- asking ------------------------------------------------------------------------------------------------------------


def test_every_answer_has_its_unit_measure_place_and_count(seen):
    table = ask(seen, BUDGET, NO_FACTORS, "collapse")
    assert list(table) == [*ROW_KEYS, "value", "rows", "images"]
    assert set(table["unit"]) == {"image", "region", "pixel"}
    assert set(table["question"]) == {"collapse"}
    assert set(table["where"]) == {*BLOCKS, "rgb", "depth"}
    assert not table.duplicated(ROW_KEYS).any()
    found = collapse.compute(seen["region"], n=40, generator=np.random.default_rng(BUDGET.seed))
    rows = table[table["unit"] == "region"]
    assert (rows["rows"] == 40).all()
    assert (rows["images"] == found["images"]).all()
    for row in rows.itertuples():
        assert row.value == found[f"{row.measure} {row.where}"]


def test_equal_budgets_give_equal_answers(seen):
    first, again = (ask(seen, BUDGET, NO_FACTORS, "retrieval") for _ in range(2))
    pd.testing.assert_frame_equal(first, again)


def test_units_that_a_model_has_not_are_not_asked(seen):
    assert set(ask({"image": seen["image"]}, BUDGET, NO_FACTORS, "collapse")["unit"]) == {"image"}
    assert ask({"image": seen["image"]}, BUDGET, NO_FACTORS, "mixing").empty


def test_every_question_is_asked_of_the_units_it_is_for_and_answers_the_measures_that_need_pairs(seen):
    targets = pd.DataFrame({"width m": np.arange(40.0)}, index=[f"s{i:02d}" for i in range(40)])
    for name, question in questions(BUDGET, targets).items():
        table = ask(seen, BUDGET, targets, name)
        assert set(table["unit"]) == set(question.units), name
        assert set(question.paired) <= set(table["measure"]), name
        assert (table["rows"] <= BUDGET.rows).all(), name


def test_factors_find_their_scene_by_its_id_and_become_one_word(seen, monkeypatch):
    monkeypatch.setattr(factors, "perceptron_guesses", lambda vectors, targets, images, steps, seed: targets)
    first = seen["image"].blocks["rgb/shared"][:, 0]
    targets = pd.DataFrame({"rgb hue_x": first}, index=seen["image"].rows["image"]).sample(frac=1, random_state=0)
    table = ask(seen, BUDGET, targets, "factors").set_index(["measure", "where"])["value"]
    assert table["rgb_hue_x", "rgb/shared"] > 0.95
    assert table["rgb_hue_x", "depth/shared"] < 0.5
    assert set(table.index.get_level_values("measure")) == {"rgb_hue_x", "rgb_hue_x_mlp", "rgb_hue_x_chance"}


def test_the_place_of_a_cell_is_read_where_a_block_holds_it(seen):
    found = seen["pixel"]
    found.blocks["depth/private"][:, 1] = 8 * found.rows["x"]
    table = ask({"pixel": found}, AnalysisConfig(rows=60, shuffles=2), NO_FACTORS, "place").set_index(
        ["measure", "where"]
    )["value"]
    assert table["place_x", "depth/private"] > 0.9
    assert table["place_y", "depth/private"] < 0.3
    assert table["place_x", "rgb/private"] < 0.3


# -- the factor matrix -------------------------------------------------------------------------------------------------


def told(scale=1.0):
    """Answers whose skills are known: class 0.8 and 0.2 above chance, modality 0.1 and 0.9, two factors."""
    rows = [("region", "class", "class_chance", "", 0.25)]
    for sensor in ("rgb", "depth"):
        for half, accuracy in (("shared", 0.25 + 0.75 * 0.8 * scale), ("private", 0.25 + 0.75 * 0.2 * scale)):
            rows.append(("region", "class", "class", f"{sensor}/{half}", accuracy))
            rows.append(("region", "class", "class_mlp", f"{sensor}/{half}", 0.0))
    rows += [("region", "modality", "modality", "shared", 0.5 + 0.05 * scale)]
    rows += [("region", "modality", "modality", "private", 0.5 + 0.45 * scale)]
    rows += [("image", "modality", "modality", half, 1.0) for half in ("shared", "private")]
    for factor, shared, private in (("width", 0.7, 0.1), ("hue", 0.0, 0.6)):
        for sensor in ("rgb", "depth"):
            for half, skill in (("shared", shared), ("private", private)):
                rows.append(("image", "factors", factor, f"{sensor}/{half}", scale * skill))
                rows.append(("image", "factors", f"{factor}_mlp", f"{sensor}/{half}", 1.0))
                rows.append(("image", "factors", f"{factor}_chance", f"{sensor}/{half}", 0.05))
    return answers(*rows).assign(rows=30, images=12)


SKILLS = {"class": (0.8, 0.2), "modality": (0.1, 0.9), "width": (0.7, 0.1), "hue": (0.0, 0.6)}


def test_the_matrix_holds_skill_above_chance_of_linear_probes():
    matrix = skill_matrix(told())
    assert list(matrix.columns) == BLOCKS
    assert list(matrix.index) == list(SKILLS)
    for name, (shared, private) in SKILLS.items():
        np.testing.assert_allclose(matrix.loc[name], [shared, private, shared, private], atol=1e-9)


def test_accuracy_below_chance_is_no_skill():
    table = told()
    table.loc[table["measure"].isin(["class", "modality"]), "value"] = 0.1
    assert (skill_matrix(table).loc[["class", "modality"]] == 0).all(axis=None)


def test_the_matrix_of_a_null_is_made_of_its_own_answers():
    table = beside_nulls(told(), {"N1": told(0.5)}, {})
    np.testing.assert_allclose(skill_matrix(table, "N1"), 0.5 * skill_matrix(table), atol=1e-9)


def test_cells_above_the_nulls_are_called_and_others_are_not():
    theirs = told(0.5)
    theirs.loc[(theirs["measure"] == "width") & (theirs["where"] == "rgb/private"), "value"] = 0.3
    theirs.loc[(theirs["measure"] == "modality") & (theirs["where"] == "shared"), "value"] = 0.9
    table = beside_nulls(told(), dict.fromkeys(("N1", "N2", "N3"), theirs), {})
    above = called_matrix(table)
    assert above.shape == skill_matrix(table).shape
    assert above.loc["class"].tolist() == [True] * 4
    assert above.loc["width"].tolist() == [True, False, True, True]
    assert above.loc["modality"].tolist() == [False, True, False, True]
    assert above.loc["hue"].tolist() == [False, True, False, True]  # 0 is not above 0


def test_cells_that_shuffled_factors_reach_are_not_called():
    value = told()
    value.loc[(value["measure"] == "width_chance") & (value["where"] == "rgb/shared"), "value"] = 0.7
    value.loc[(value["measure"] == "width_chance") & (value["where"] == "depth/private"), "value"] = 0.09
    above = called_matrix(beside_nulls(value, dict.fromkeys(("N1", "N2", "N3"), told(0.5)), {}))
    assert above.loc["width"].tolist() == [False, True, True, True]
    assert above.loc["hue"].tolist() == [False, True, False, True]


def test_the_split_of_every_sensor_is_scored_from_its_halves():
    table = split_scores(told())
    assert set(table["unit"]) == {"all"}
    assert set(table["question"]) == {"split"}
    assert (table["rows"] == 30).all()
    assert (table["images"] == 12).all()
    matrix = np.array(list(SKILLS.values())).T
    expected = blocks.block_mig(matrix) | blocks.block_dci(matrix)
    for sensor in ("rgb", "depth"):
        found = table[table["where"] == sensor].set_index("measure")["value"].to_dict()
        assert found == pytest.approx(expected)
    assert expected["block_mig"] == pytest.approx((0.6 + 0.8 + 0.6 + 0.6) / 4)
