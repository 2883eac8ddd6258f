"""Gains over controls: paired by seed and image, in families of tests, and in words that the numbers allow."""

import numpy as np
import pandas as pd
import pytest

from crodino_lib.study.gains import (
    CONTROLS,
    GAIN_COLUMNS,
    HEADLINE,
    Row,
    decide,
    gain_table,
    rows_of,
    scores_of,
    verdict,
)
from tests.study.finished import Finished, runs


def gain_of(table, method, control):
    (row,) = table[(table.method == method) & (table.control == control)].to_dict("records")
    return row


def test_a_gain_is_the_mean_difference_to_the_control_of_the_same_seed():
    table = gain_table(scores_of(runs(baseline=[10, 20, 60], self_training=[11, 22, 63], kd=[15, 24, 66])))
    row = gain_of(table, "kd", "baseline")
    assert (row["gain"], row["miou"], row["control miou"], row["seeds"]) == pytest.approx((5, 35, 30, 3))
    half = 4.302653 * 1 / 3**0.5  # of 5, 4 and 6; equal images add nothing
    assert (row["low"], row["high"]) == pytest.approx((5 - half, 5 + half))
    assert row["effect size"] == pytest.approx(5)
    assert gain_of(table, "kd", "self-training")["gain"] == pytest.approx(3)
    assert list(table.columns) == GAIN_COLUMNS


def test_only_seeds_that_both_have_are_compared():
    table = gain_table(scores_of(runs(baseline=[10, 20, 30, 40], kd=[None, 22, 33, None])))
    row = gain_of(table, "kd", "baseline")
    assert (row["gain"], row["control miou"], row["seeds"]) == pytest.approx((2.5, 25, 2))
    assert row["verdict"] == "-"
    assert gain_table(scores_of(runs(baseline=[10, None], kd=[None, 20]))).empty


def test_images_are_paired_so_one_that_is_hard_for_both_makes_no_interval():
    hard = np.array([20.0, 40, 60, 80])
    table = gain_table(scores_of(runs(baseline=[hard], kd=[hard])))
    row = gain_of(table, "kd", "baseline")
    assert (row["low"], row["gain"], row["high"]) == (0, 0, 0)
    own = scores_of(runs(kd=[hard]))["test", "rgb"]
    low, high = own.estimate(Row("kd", "-", "rgb", "")).interval()
    assert high - low > 20


def test_of_two_controls_the_later_one_is_compared_with_the_earlier_alone():
    values = {name.replace(":", "__").replace("-", "_"): [1.0, 2, 3] for name in CONTROLS}
    table, order = gain_table(scores_of(runs(**values))), list(CONTROLS)
    pairs = set(zip(table.method, table.control, strict=True))
    assert pairs == {(later, earlier) for i, earlier in enumerate(order) for later in order[i + 1 :]}


def test_every_sensor_has_its_own_gains_and_sensors_together_the_better_baseline():
    alone = [Finished("baseline", seed, {one: miou}, trained_on=(one,)) for one, mious in
             {"rgb": (30, 50), "depth": (40, 45)}.items() for seed, miou in enumerate(mious)]  # fmt: skip
    both = [Finished("acnet", seed, {"rgb+depth": 60}, trained_on=("rgb", "depth")) for seed in (0, 1)]
    table = gain_table(scores_of([*alone, *both]))
    assert gain_of(table, "acnet", "baseline")["gain"] == pytest.approx((60 - 40 + 60 - 50) / 2)
    assert gain_table(scores_of([*alone[:2], *both])).empty  # the baseline of one sensor is no measure for two


def test_rows_of_other_teachers_sensors_or_settings_are_apart():
    acnet, own = {"method": "acnet", "sensors": "rgb+depth"}, {"method": "baseline", "sensors": "rgb"}
    found = [Finished("kd", 0, {"rgb": 10}, teacher) for teacher in (acnet, own)]
    found += [Finished("kd", 0, {"rgb": 10}, own, steps=200), Finished("baseline", 0, {"rgb": 5})]
    names = [(row.name, row.teacher) for row in rows_of(found)]
    assert names == [
        ("kd [steps 100]", "acnet rgb+depth"),
        ("kd [steps 100]", "baseline rgb"),
        ("kd [steps 200]", "baseline rgb"),
        ("baseline [steps 100]", "-"),
    ]
    table = gain_table(scores_of(found))
    assert sorted(table.teacher) == ["acnet rgb+depth", "baseline rgb"]  # the longer run has no baseline of its steps


def test_pairs_of_sensors_and_datasets_are_rows_of_their_own():
    baselines = [Finished("baseline", seed, {"rgb": 50}) for seed in range(3)]
    pairs = [
        Finished("crodino-kd", seed, {"rgb": 51}, trained_on=("rgb", other))
        for other in ("depth", "thermal")
        for seed in range(3)
    ]
    table = gain_table(scores_of([*baselines, *pairs]))
    assert table[["trained on", "seeds"]].to_numpy().tolist() == [["rgb+depth", 3], ["rgb+thermal", 3]]
    datasets = [Finished("baseline", 0, {"rgb": 50}, dataset=name) for name in ("rooms", "nyu13")]
    assert [row.name for row in rows_of(datasets)] == ["baseline [dataset rooms]", "baseline [dataset nyu13]"]
    assert len(scores_of(datasets)["test", "rgb"].counts) == 2


def test_the_same_row_twice_is_refused():
    with pytest.raises(ValueError, match="kd-0, kd-0 of kd have the same seed"):
        scores_of([*runs(kd=[1]), *runs(kd=[2])])


def test_a_verdict_is_what_interval_and_tests_allow_to_say():
    assert verdict(0.1, 3.0, 3) == "gain"
    assert verdict(-3.0, -0.1, 3) == "loss"
    assert verdict(-0.1, 0.1, 3) == verdict(0.0, 1.0, 3) == verdict(-1.0, 0.0, 3) == "undecided"
    assert verdict(0.1, 3.0, 2) == "-"
    assert verdict(0.1, 3.0, 8, p=0.04, p_equivalent=0.9) == "significant gain"
    assert verdict(-3.0, -0.1, 8, p=0.04, p_equivalent=0.9) == "significant loss"
    assert verdict(0.1, 3.0, 8, p=0.06, p_equivalent=0.9) == "gain"
    assert verdict(-0.2, 0.2, 8, p=0.6, p_equivalent=0.01) == "equivalent"
    assert verdict(-0.2, 0.2, 7, p=np.nan, p_equivalent=np.nan) == "undecided"
    assert verdict(0.1, 0.5, 8, p=0.06, p_equivalent=0.01) == "gain"


def test_comparisons_named_before_the_runs_are_a_family_of_their_own():
    named, control = HEADLINE["methods"][:2], HEADLINE["control"]
    rows = [(name, control, 0.01) for name in named]
    rows += [("cen", control, 0.01), ("cen", "baseline", 0.02), (named[0] + " [steps 9]", "baseline", 0.03)]
    rows[0] = (named[0] + " [steps 9]", *rows[0][1:])
    table = pd.DataFrame(rows, columns=["method", "control", "p"])
    decided = decide(table.assign(**{"low": 0.1, "high": 1.0, "seeds": 8, "p equivalent": 1.0}))
    assert decided.headline.tolist() == [True, True, False, False, False]
    assert decided["p holm"].tolist() == pytest.approx([0.02, 0.02, 0.03, 0.04, 0.04])


def test_what_cannot_be_told_from_the_best_shares_its_place():
    found = scores_of(runs(good=[60, 61, 62], close=[59, 62, 60], worse=[50, 51, 52], last=[40, 41, 42]))
    places = {row.method: place for row, place in found["test", "rgb"].places().items()}
    assert places == {"good": 1, "close": 1, "worse": 2}


def test_the_files_of_a_run_are_read_once():
    found = runs(baseline=[10, 20, 30], kd=[11, 21, 31])
    gain_table(scores_of(found))
    assert all(len(run.read) == 1 for run in found)
