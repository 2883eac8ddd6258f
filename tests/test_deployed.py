"""What stands before and behind a deployed student is what the study does to its scenes, as a graph of tensors."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import nn

from crodino_lib.data.sample import RGB, Sensor
from crodino_lib.data.scene_cache import resize_sample
from crodino_lib.deployed import Deployed, nearest_pixels, resampling

SIDE = st.integers(1, 90)
DEPTH = Sensor(1, "m", (3.0,), (1.5,))


def by_pillow(pixels, size, name):
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling[name]))


def edges(source, target):
    """Whether the middle of a pixel lies on the edge of a box, where rounding errors decide for Pillow."""
    away = (2 * np.arange(source) + 1) * target - (2 * np.arange(target)[:, None] + 1) * source
    return (np.abs(away) == max(source, target)).any()


@settings(deadline=None, max_examples=60)
@given(SIDE, SIDE, SIDE, SIDE, st.integers(0, 99))
def test_pictures_are_resized_as_pillow_does_it(height, width, rows, columns, seed):
    generator = np.random.default_rng(seed)
    pixels = generator.integers(0, 256, (height, width), dtype=np.uint8)
    across, down = (resampling(*sides, box=False) for sides in ((width, columns), (height, rows)))
    found = (down @ (torch.from_numpy(pixels).float() @ across.T).round()).round()
    expected = by_pillow(pixels, (columns, rows), "BILINEAR").astype(int)
    assert np.abs(found.numpy() - expected).max() <= 2  # values of x.5, each time
    assume(not edges(height, rows) and not edges(width, columns))
    values = generator.normal(size=(height, width)).astype(np.float32)
    across, down = (resampling(*sides, box=True) for sides in ((width, columns), (height, rows)))
    found = down @ (torch.from_numpy(values) @ across.T)
    np.testing.assert_allclose(found.numpy(), by_pillow(values, (columns, rows), "BOX"), atol=1e-5)


@given(SIDE, SIDE)
def test_a_pixel_takes_the_class_of_the_pixel_that_its_middle_lies_in_as_pillow_does_it(count, source):
    found = nearest_pixels(count, source)
    between = [(2 * i + 1) * source % (2 * count) == 0 for i in range(count)]  # where Pillow's rounding errors decide
    by_number = by_pillow(np.arange(source, dtype=np.uint8)[:, None], (1, count), "NEAREST")[:, 0]
    assert (found.numpy() == by_number)[~np.array(between)].all()
    assert found.min() >= 0
    assert found.max() < source


class Shows(nn.Module):
    """A network whose two logits are what it sees of its first sensor, and nothing."""

    def forward(self, *images):
        self.seen = images
        logits = torch.cat([images[0][:, :1], torch.zeros_like(images[0][:, :1])], dim=1)
        return SimpleNamespace(logits=logits)


@pytest.mark.parametrize("size", [(41, 31), (13, 9), (64, 70)])
def test_a_network_sees_what_it_sees_of_a_scene_in_the_study(size):
    generator = np.random.default_rng(0)
    rgb = generator.integers(0, 256, (47, 61, 3), dtype=np.uint8)
    depth = generator.uniform(0.5, 6, (47, 61)).astype(np.float32)
    depth[5:20, 7:40], depth[30, :9] = 0, np.nan
    valid = np.isfinite(depth) & (depth != 0)
    scene = {"id": "a", "rgb": rgb.transpose(2, 0, 1), "label": np.zeros((47, 61), np.int64)}
    scene |= {"depth": np.where(valid, depth, 0)[None].astype(np.float32), "depth_valid": valid[None]}
    small, network = resize_sample(scene, size), Shows()
    classes = Deployed(network, {"rgb": RGB, "depth": DEPTH}, size)(torch.from_numpy(rgb), torch.from_numpy(depth))
    expected = (small["rgb"] - np.reshape(RGB.mean, (3, 1, 1))) / np.reshape(RGB.std, (3, 1, 1))
    np.testing.assert_allclose(network.seen[0][0].numpy(), expected, atol=1.01 / min(RGB.std))
    expected = (small["depth"] - 3.0) / 1.5 * small["depth_valid"]
    np.testing.assert_allclose(network.seen[1][0].numpy(), expected, atol=1e-5)
    assert (classes.shape, classes.dtype) == ((47, 61), torch.uint8)
    dark = (network.seen[0][0, 0] < 0).numpy()
    assert (classes.numpy() == dark[nearest_pixels(47, size[1])][:, nearest_pixels(61, size[0])]).all()
