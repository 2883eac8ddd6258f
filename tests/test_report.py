"""The first page of a study: one sentence that answers, from the gains over both controls."""

import numpy as np
import pandas as pd
import pytest

from crodino_lib.report import MOST_ROWS, answer, as_html, shortest
from tests.figures.tables import gain_table as comparison


def gains(*rows, seeds=3):
    """Return a gain table of (method, control, gain, low, high)."""
    table = pd.DataFrame(rows, columns=["method", "control", "gain", "low", "high"])
    return table.assign(seeds=seeds)


SELF = ("self-training", "baseline", 1.5, 0.2, 2.8)


def test_a_method_helps_where_it_gains_over_every_control():
    rows = [("kd", "baseline", 3.2, 0.4, 6.0), ("kd", "self-training", 1.7, 0.7, 2.7)]
    rows += [("cen", "baseline", 1.2, 0.4, 2.0), ("cen", "self-training", 0.7, 0.2, 1.2), SELF]
    assert answer(gains(*rows), "rgb") == (
        "KD helps the RGB student: +3.2 points of mIoU [0.4, 6.0] over the baseline and +1.7 points of mIoU "
        "[0.7, 2.7] over self-training; so does CEN (3 seeds, 95 % intervals over paired seeds and test images)."
    )


def test_a_gain_that_self_training_has_too_is_no_help():
    rows = [("kd", "baseline", 3.2, 0.4, 6.0), ("kd", "self-training", 0.3, -0.7, 1.3), SELF]
    assert answer(gains(*rows), "depth") == (
        "No method helps the depth student over every control; KD comes nearest with +3.2 points of mIoU [0.4, 6.0] "
        "over the baseline (3 seeds, 95 % intervals over paired seeds and test images)."
    )


def test_without_a_gain_the_nearest_is_named_over_the_baseline():
    rows = [("kd", "baseline", -0.2, -1.0, 0.6), ("csk-net", "baseline", -4.0, -5.0, -3.0)]
    rows += [("csk-net", "self-training", 0.1, -2.0, 2.2), SELF]
    assert answer(gains(*rows, seeds=1), "rgb") == (
        "No method is shown to help the RGB student; KD comes nearest with -0.2 points of mIoU [-1.0, 0.6] over the "
        "baseline (1 seed, 95 % intervals over resampled test images, not over other seeds)."
    )


@pytest.mark.parametrize("rows", [(), (SELF,), (("kd", "baseline:x2", 1.0, 0.5, 1.5),)])
def test_without_a_method_or_its_baseline_nothing_is_known(rows):
    assert answer(gains(*rows), "rgb").startswith("Whether a method helps the RGB student is not known")


def test_the_short_table_has_single_sensors_first_and_largest_gains():
    table = pd.concat([comparison()] * 3, ignore_index=True).query("split == 'test'")
    for column in ("mIoU", "mIoU low", "mIoU high", "teacher mIoU"):
        table[column] = 50.0
    for column in ("cross-modal gain", "cross-modal gain low", "cross-modal gain high"):
        table[column] = np.nan
    table = table.assign(**{"dataset": "rooms", "training images": 30, "unlabelled images": 0, "verdict": "-"})
    table = table.assign(**{"cost of inference": 1.0, "cost of training": 1.0})
    short = shortest(table)
    assert len(short) == MOST_ROWS
    assert set(short["sensors at test"]) == {"rgb", "depth"}
    assert short.method.tolist().count("baseline") == 6  # all of them, before any method


def test_text_of_a_table_is_escaped_and_not_cut():
    page = as_html(pd.DataFrame({"name": ["<script>" + "x" * 90]}))
    assert "&lt;script&gt;" + "x" * 90 in page
