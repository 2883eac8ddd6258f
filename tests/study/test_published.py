"""Published numbers stand beside ours where dataset, method and sensors are the same, and nowhere else."""

import numpy as np
import pandas as pd

from crodino_lib.methods.registry import METHODS
from crodino_lib.study.published import PUBLISHED, published_caption, published_of, published_text


def comparison(*rows):
    return pd.DataFrame(rows, columns=["dataset", "method", "sensors at test", "split"])


def test_every_published_number_has_a_source_and_a_method_of_ours():
    assert set(PUBLISHED.method) <= set(METHODS)
    assert PUBLISHED.source.str.len().gt(5).all()
    assert PUBLISHED.miou.between(1, 100).all()
    assert not PUBLISHED.duplicated(["data", "method", "sensors"]).any()


def test_a_number_stands_beside_its_method_sensors_and_dataset_alone():
    table = comparison(
        ("nyu13", "crodino-kd", "rgb", "test"),
        ("nyu13", "crodino-kd", "depth", "test"),
        ("nyu40", "baseline", "depth", "test"),
        ("rooms", "crodino-kd", "rgb", "test"),
        ("nyu13", "crodino-kd:c2", "rgb", "test"),
        ("nyu13", "crodino-kd", "rgb", "test_night"),
    ).set_index(pd.Index([3, 1, 4, 5, 9, 2]))
    np.testing.assert_equal(published_of(table).miou.to_numpy(), [44.85, np.nan, 36.01, np.nan, np.nan, np.nan])
    assert list(published_text(table)) == ["44.9 (42.6)", "-", "36.0", "-", "-", "-"]
    assert list(published_text(table).index) == list(table.index)
    caption = published_caption(table)
    assert "README of rogerferrod/CroDiNo-KD (crodino-kd, baseline)" in caption
    assert "neither comparable with ours nor ranked" in caption


def test_where_nothing_was_published_there_is_no_column_and_no_caption():
    table = comparison(("rooms", "crodino-kd", "rgb", "test"))
    assert published_text(table) is None
    assert published_caption(table) == ""
