import numpy as np
import pandas as pd
import pytest

from crodino_lib.analysis import AnalysisConfig, collapse, mig_dci, probes
from crodino_lib.analysis.extraction import Block, Latents
from crodino_lib.analysis.suite import COLUMNS, KEYS, METRICS, run_metric, run_paired, run_suite, split_scores
from tests.analysis.factories import named, results

CONFIG = AnalysisConfig(rows=40, shuffles=2, scenes=4)
BLOCKS = [Block(sensor, half) for sensor in ("rgb", "depth") for half in ("shared", "private")]
TARGETS = pd.DataFrame({"width": np.arange(40.0)}, index=[f"s{i:02d}" for i in range(40)])


def latents(unit, images, per_image, seed=0):
    generator, n = np.random.default_rng(seed), images * per_image
    rows = {"image": np.repeat([f"s{i:02d}" for i in range(images)], per_image)}
    rows |= {"class": np.tile(np.arange(per_image), images), "name": "c", "cells": 1.0}
    return Latents({name: generator.normal(size=(n, 5)) for name in BLOCKS}, pd.DataFrame(rows), unit)


@pytest.fixture(scope="module")
def both():
    return {"image": latents("image", 40, 1), "region": latents("region", 12, 4)}


@pytest.fixture(scope="module")
def table(both):
    return run_suite(both, CONFIG, TARGETS)


def test_every_number_has_its_keys_and_counts(table):
    assert list(table) == COLUMNS
    assert set(table["metric"]) == {*METRICS, "split"}
    assert not table.duplicated(KEYS).any()
    assert (table["rows"] <= CONFIG.rows).all()
    for name, metric in METRICS.items():
        rows = table[table["metric"] == name]
        assert set(rows["unit"]) == set(metric.units), name
        assert set(metric.paired) <= set(rows["measure"]), name


def test_a_metric_gets_a_sample_of_the_rows(both):
    rows = run_metric("collapse", both, CONFIG, TARGETS)
    sample = both["region"].sample(40, np.random.default_rng(CONFIG.seed))
    expected = named(collapse.collapse(sample, None))
    rows = rows[rows["unit"] == "region"]
    assert rows["value"].tolist() == list(expected.values())
    assert (rows["rows"] == 40).all()
    assert (rows["images"] == len(np.unique(sample.images))).all()


def test_equal_settings_give_equal_results(both):
    first, again = (run_metric("retrieval", both, CONFIG, TARGETS) for _ in range(2))
    pd.testing.assert_frame_equal(first, again)


def test_units_that_a_model_has_not_are_left_out_and_empty_ones_an_error(both):
    assert set(run_metric("collapse", {"image": both["image"]}, CONFIG, TARGETS)["unit"]) == {"image"}
    assert run_metric("mixing", {"image": both["image"]}, CONFIG, TARGETS).empty
    with pytest.raises(ValueError, match="there is no region to compute mixing of"):
        run_metric("mixing", {"region": both["region"].take(np.zeros(0, int))}, CONFIG, TARGETS)


def test_shuffled_pairs_are_compared_only_by_measures_that_need_pairs(both):
    paired = run_paired(both, CONFIG, TARGETS)
    assert set(paired["measure"]) == {name for metric in METRICS.values() for name in metric.paired}
    assert (paired["sensor"] == "").all()


def test_factors_find_their_scene_by_its_id(both):
    first = both["image"].blocks["rgb", "shared"][:, 0]
    targets = pd.DataFrame({"hue": first}, index=both["image"].rows["image"]).sample(frac=1, random_state=0)
    rows = run_metric("factors", both, CONFIG, targets)
    skill = rows[rows["measure"] == "skill"].set_index(["sensor", "half"])["value"]
    assert skill["rgb", "shared"] > 0.95
    assert skill["depth", "shared"] < 0.5
    assert set(rows["target"]) == {"hue"}


def test_the_split_of_every_sensor_is_scored_from_the_skill_of_its_halves():
    skills = {"class": (0.8, 0.2), "modality": (0.1, 0.9), "width": (0.7, 0.1), "hue": (0.0, 0.6)}
    rows = [
        ("image", "factors", "skill", target, sensor, half, value)
        for sensor in ("rgb", "depth")
        for target, pair in skills.items()
        for half, value in zip(("shared", "private"), pair, strict=True)
    ]
    rows += [("image", "factors", "skill_chance", "hue", "rgb", "shared", 1.0)]
    split = split_scores(results(*rows).assign(rows=30, images=12))
    assert set(split["metric"]) == {"split"}
    assert (split[["rows", "images"]] == [30, 12]).all(axis=None)
    matrix = np.array(list(skills.values())).T
    expected = {"block_mig": mig_dci.block_mig(matrix)} | mig_dci.block_dci(matrix)
    for sensor in ("rgb", "depth"):
        values = split[split["sensor"] == sensor].set_index("measure")["value"].to_dict()
        assert values == pytest.approx(expected)
    assert expected["block_mig"] == pytest.approx((0.6 + 0.8 + 0.6 + 0.6) / 4)


def test_factors_need_numbers_and_names_of_their_own(both):
    for targets, problem in (
        (TARGETS.assign(width="wide"), "factor width must be a number in every row, found"),
        (TARGETS.assign(width=np.nan), "factor width must be a number in every row, found"),
        (pd.concat([TARGETS, TARGETS], axis=1), "factors have one name twice: width"),
    ):
        with pytest.raises(ValueError, match=problem):
            probes.factor_probes(both["image"], np.random.default_rng(0), targets, 1)
