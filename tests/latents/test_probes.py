import numpy as np
import pandas as pd
import pytest

from crodino_lib.latents.extraction import Latents
from crodino_lib.latents.probes import sensor_probe

IMAGES, REGIONS, CHANNELS = 40, 6, 16
SENSORS = ("rgb", "depth")


def latents(rgb, depth):
    images = np.repeat([f"scene-{i}" for i in range(IMAGES)], REGIONS)
    rows = pd.DataFrame({"image": images, "class": 0, "name": "wall", "cells": 1.0})
    return Latents({"rgb/shared": rgb, "depth/shared": depth}, rows)


def noise(seed, channels=CHANNELS):
    return np.random.default_rng(seed).normal(size=(IMAGES * REGIONS, channels))


def test_sensors_that_a_direction_separates_are_always_told():
    shift = 10 * np.eye(CHANNELS)[3]
    assert sensor_probe(latents(noise(0) + shift, noise(1) - shift), "shared", SENSORS) == 1.0


def test_sensors_of_one_distribution_are_told_half_of_the_time():
    assert sensor_probe(latents(noise(0), noise(1)), "shared", SENSORS) == pytest.approx(0.5, abs=0.06)


def test_what_is_learned_of_an_image_does_not_help_with_another():
    """Each image gives its sensors away by a sign of its own: a probe that had seen the image would always be right."""
    signs = np.random.default_rng(0).choice([-1.0, 1.0], size=IMAGES)
    codes = np.repeat(np.eye(IMAGES) * 5 * signs[:, None], REGIONS, axis=0)
    found = latents(codes + 0.01 * noise(1, IMAGES), -codes + 0.01 * noise(2, IMAGES))
    assert sensor_probe(found, "shared", SENSORS) == pytest.approx(0.5, abs=0.1)


def test_the_scale_of_a_channel_decides_nothing():
    scale = 10.0 ** np.linspace(-4, 4, CHANNELS)
    shift = 0.5 * np.eye(CHANNELS)[3]
    plain = sensor_probe(latents(noise(0) + shift, noise(1)), "shared", SENSORS)
    scaled = sensor_probe(latents((noise(0) + shift) * scale, noise(1) * scale), "shared", SENSORS)
    assert scaled == pytest.approx(plain, abs=0.01)
    assert 0.55 < plain < 0.95


def test_errors_name_the_blocks_and_the_images():
    with pytest.raises(ValueError, match=r"no block 'rgb/private'; the blocks are rgb/shared, depth/shared"):
        sensor_probe(latents(noise(0), noise(1)), "private", SENSORS)
    with pytest.raises(ValueError, match="at least 2 images, found 1"):
        sensor_probe(latents(noise(0), noise(1)).take(np.arange(REGIONS)), "shared", SENSORS)
