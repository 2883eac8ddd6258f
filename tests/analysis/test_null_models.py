import numpy as np
import pandas as pd
import pytest

from crodino_lib.analysis.extraction import Block, Latents
from crodino_lib.analysis.null_models import independent_baselines, shuffled_channels, shuffled_pairs
from crodino_lib.analysis.similarity import linear_cka

N = 60


def places(n=N):
    where = np.linspace(0.1, 0.9, n)
    return pd.DataFrame(
        {"image": [f"s{i // 3}" for i in range(n)], "class": np.arange(n) % 3, "name": "c", "cells": 1.0}
        | {"x": where, "y": 1 - where}
    )


def blocks(sensors, widths=(4, 4), seed=0):
    generator = np.random.default_rng(seed)
    return {
        Block(sensor, half): generator.normal(size=(N, width)).astype(np.float32)
        for sensor in sensors
        for half, width in zip(("shared", "private"), widths, strict=True)
    }


def numbered(widths):
    """Latents whose channels hold their own number, 100 added for the second sensor."""
    found, rows = {}, places()
    for index, (sensor, (shared, private)) in enumerate(widths.items()):
        channels = np.tile(np.arange(shared + private, dtype=np.float32) + 100 * index, (N, 1))
        found[Block(sensor, "shared")], found[Block(sensor, "private")] = channels[:, :shared], channels[:, shared:]
    return Latents(found, rows)


def channels(latents, sensor):
    return np.concatenate([latents.blocks[sensor, half][0] for half in ("shared", "private")])


def test_shuffling_keeps_every_channel_and_the_widths_of_the_halves():
    shuffled = shuffled_channels(numbered({"rgb": (3, 7), "depth": (3, 7)}), np.random.default_rng(0))
    assert list(shuffled.blocks) == [(s, half) for s in ("rgb", "depth") for half in ("shared", "private")]
    assert [block.shape[1] for block in shuffled.blocks.values()] == [3, 7, 3, 7]
    assert sorted(channels(shuffled, "rgb")) == list(range(10))
    assert sorted(channels(shuffled, "depth")) == list(range(100, 110))
    assert set(shuffled.blocks["rgb", "shared"][0]) != {0, 1, 2}


def test_both_sensors_are_shuffled_alike():
    shuffled = shuffled_channels(numbered({"rgb": (5, 5), "depth": (5, 5)}), np.random.default_rng(0))
    np.testing.assert_array_equal(channels(shuffled, "rgb") + 100, channels(shuffled, "depth"))


def test_sensors_of_other_widths_are_shuffled_each_for_itself():
    shuffled = shuffled_channels(numbered({"rgb": (5, 5), "depth": (2, 3)}), np.random.default_rng(0))
    assert sorted(channels(shuffled, "rgb")) == list(range(10))
    assert sorted(channels(shuffled, "depth")) == list(range(100, 105))


def test_shuffled_channels_move_no_row_and_changes_no_place():
    latents = Latents(blocks(("rgb", "depth")), places(), "pixel")
    shuffled = shuffled_channels(latents, np.random.default_rng(0))
    assert shuffled.unit == "pixel"
    pd.testing.assert_frame_equal(shuffled.rows, latents.rows)
    for sensor in latents.sensors:
        before, after = (
            np.concatenate([of.blocks[sensor, half] for half in of.halves], axis=1) for of in (latents, shuffled)
        )
        np.testing.assert_array_equal(np.sort(before, axis=1), np.sort(after, axis=1))


def test_a_trained_split_is_lost_where_channels_are_shuffled_channels():
    """64 channels hold the sensors' common code, 64 their own; shuffled, either half has as much in common."""
    generator = np.random.default_rng(0)
    common = generator.normal(size=(N, 64))
    latents = Latents(
        {
            Block(sensor, half): common if half == "shared" else generator.normal(size=(N, 64))
            for sensor in ("rgb", "depth")
            for half in ("shared", "private")
        },
        places(),
    )
    gaps = []
    for found in (latents, shuffled_channels(latents, generator)):
        shared, private = (linear_cka(found.blocks["rgb", h], found.blocks["depth", h]) for h in found.halves)
        gaps.append(shared - private)
    assert gaps[0] > 0.8
    assert abs(gaps[1]) < 0.3


def test_the_generator_decides_the_order():
    latents = numbered({"rgb": (8, 8), "depth": (8, 8)})
    orders = [channels(shuffled_channels(latents, np.random.default_rng(seed)), "rgb").tolist() for seed in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2]


def test_shuffling_breaks_pairs_and_nothing_else():
    latents = Latents(blocks(("rgb", "depth")), places(), "image")
    broken = shuffled_pairs(latents, np.random.default_rng(0))
    for half in ("shared", "private"):
        np.testing.assert_array_equal(broken.blocks["rgb", half], latents.blocks["rgb", half])
        before, after = latents.blocks["depth", half], broken.blocks["depth", half]
        assert sorted(map(tuple, before)) == sorted(map(tuple, after))  # the same rows
        assert (before == after).all(axis=1).mean() < 0.1  # elsewhere
    assert broken.unit == "image"
    pd.testing.assert_frame_equal(broken.rows, latents.rows)


def test_the_halves_of_the_shuffled_sensor_stay_together():
    vectors = np.arange(N, dtype=np.float32)[:, None]
    latents = Latents({Block(s, h): vectors for s in ("rgb", "depth") for h in ("shared", "private")}, places())
    broken = shuffled_pairs(latents, np.random.default_rng(0))
    np.testing.assert_array_equal(broken.blocks["depth", "shared"], broken.blocks["depth", "private"])
    assert (broken.blocks["depth", "shared"] != vectors).mean() > 0.9


def test_equal_blocks_have_nothing_in_common_once_shuffled_pairs():
    code = np.random.default_rng(0).normal(size=(N, 3))
    latents = Latents({Block(s, h): code for s in ("rgb", "depth") for h in ("shared", "private")}, places())
    broken = shuffled_pairs(latents, np.random.default_rng(1))
    assert linear_cka(latents.blocks["rgb", "shared"], latents.blocks["depth", "shared"]) == pytest.approx(1)
    assert abs(linear_cka(broken.blocks["rgb", "shared"], broken.blocks["depth", "shared"])) < 0.1
    assert linear_cka(broken.blocks["depth", "shared"], broken.blocks["depth", "private"]) == pytest.approx(1)


def test_independent_baselines_are_the_blocks_of_both_on_the_same_places():
    first, second = Latents(blocks(("rgb",)), places()), Latents(blocks(("depth",), seed=1), places())
    both = independent_baselines(first, second)
    assert both.sensors == ("rgb", "depth")
    for name, block in (first.blocks | second.blocks).items():
        np.testing.assert_array_equal(both.blocks[name], block)
    pd.testing.assert_frame_equal(both.rows, first.rows)
    assert list(first.blocks) == [("rgb", "shared"), ("rgb", "private")]  # theirs stay as they were


@pytest.mark.parametrize("column", ["image", "class", "x", "y"])
def test_models_of_other_places_are_refused(column):
    elsewhere = places()
    elsewhere.loc[5, column] = "s99" if column == "image" else 7
    first, second = Latents(blocks(("rgb",)), places()), Latents(blocks(("depth",)), elsewhere)
    with pytest.raises(ValueError, match="60 and 60 rows that are not the same places"):
        independent_baselines(first, second)


def test_models_with_other_numbers_of_rows_are_refused():
    first, second = Latents(blocks(("rgb",)), places()), Latents(blocks(("depth",)), places())
    with pytest.raises(ValueError, match="60 and 30 rows that are not the same places"):
        independent_baselines(first, second.take(np.arange(30)))
