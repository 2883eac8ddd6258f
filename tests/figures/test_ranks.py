"""Ranks over settings: against a count by hand, and the test against scipy's."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from crodino_lib.figures.ranks import mious_by_setting, rank_diagram

NAMES = ["baseline", "self-training", "kd"]


def dial(gains):
    """A dial's table: mIoU of the baseline 50, of self-training 51, and of kd with these gains, by value."""
    rows = []
    for value, gain in gains.items():
        row = {"value": value, "student": "rgb", "control": "baseline", "control miou": 50.0 + len(rows)}
        rows += [row | {"method": "self-training", "miou": 51.0}, row | {"method": "kd", "miou": 50 + gain}]
    return pd.DataFrame(rows)


def test_a_setting_counts_once_and_only_with_all_methods():
    first = dial({"a": 3.0, "b": 0.5})
    lacking = dial({"c": 1.0})[:1]
    wide = mious_by_setting({"one": first, "again": first, "lacking": lacking}, NAMES)
    assert wide.index.tolist() == [("one a", "rgb"), ("one b", "rgb")]
    assert mious_by_setting({}, NAMES).empty
    assert wide.loc[("one a", "rgb")].to_dict() == {"baseline": 50, "self-training": 51, "kd": 53}


def scores(settings, seed=0):
    noise = np.random.default_rng(seed).normal(size=(settings, 3))
    return pd.DataFrame(noise + np.array([0, 1, 4]), columns=NAMES)


def test_ranks_and_bars_are_those_of_the_test():
    wide = scores(12)
    figure = rank_diagram(wide)
    told = " ".join(text.get_text() for text in figure.axes[0].texts)
    order = wide.to_numpy().argsort(axis=1)[:, ::-1]
    for place, name in enumerate(("baseline", "self-training", "KD")):
        mean = (order == place).argmax(axis=1).mean() + 1
        assert f"{name} ({mean:.1f})" in told or f"({mean:.1f}) {name}" in told
    assert stats.friedmanchisquare(*wide.to_numpy().T).pvalue < 0.01
    assert "12 settings" in figure.caption


def test_few_settings_or_methods_are_refused():
    for wide in (scores(4), scores(9)[NAMES[:2]]):
        with pytest.raises(ValueError, match=rf"needs 5 settings and 3 methods, not {len(wide)} settings"):
            rank_diagram(wide)
