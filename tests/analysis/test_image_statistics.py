import colorsys

import numpy as np
import pytest

from crodino_lib.analysis.image_statistics import image_statistics
from crodino_lib.data.sample import Scenes

SIZE = (8, 10)


def coloured(*colours):
    """One scene of one colour each, 0..255."""
    images = np.stack([np.broadcast_to(np.array(c)[:, None, None], (3, *SIZE)) for c in colours]).astype(np.uint8)
    return scenes(rgb=images)


def scenes(valid=None, **images):
    count = len(next(iter(images.values())))
    valid = valid or {s: np.ones((count, 1, *SIZE), bool) for s in images if s != "rgb"}
    return Scenes(images, valid, np.zeros((count, *SIZE), np.uint8), [f"s{i}" for i in range(count)])


def depth(plane, valid=None):
    held = None if valid is None else {"depth": valid[None, None]}
    stack = scenes(held, depth=np.asarray(plane, np.float16)[None, None])
    return image_statistics(stack, ("depth",)).iloc[0].to_dict()


def of_rgb(image):
    return image_statistics(scenes(rgb=image[None]), ("rgb",)).iloc[0].to_dict()


def checkerboard():
    y, x = np.indices(SIZE)
    return (x + y) % 2


def test_there_is_a_row_for_every_scene_and_a_column_for_every_statistic(toy_scenes):
    table = image_statistics(toy_scenes, ("rgb", "thermal"))
    assert table.index.tolist() == toy_scenes.ids
    assert table.index.name == "id"
    colour = ["brightness", "contrast", "saturation", "hue_x", "hue_y", "edges", "fine"]
    other = ["level", "spread", "edges", "fine", "holes"]
    assert list(table) == [f"rgb {name}" for name in colour] + [f"thermal {name}" for name in other]
    assert table.notna().all(axis=None)


def test_a_picture_of_one_grey_has_brightness_and_nothing_else():
    found = of_rgb(np.full((3, *SIZE), 51, np.uint8))
    assert found["rgb brightness"] == pytest.approx(0.2)
    for name in ("contrast", "saturation", "edges", "fine"):
        assert found[f"rgb {name}"] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("turn", [0, 1 / 6, 1 / 3, 1 / 2, 2 / 3, 5 / 6])
def test_pure_colours_have_their_hue_and_full_saturation(turn):
    """Red, yellow, green, cyan, blue, magenta, as the standard library names them."""
    colour = [round(255 * value) for value in colorsys.hsv_to_rgb(turn, 1, 1)]
    found = image_statistics(coloured(colour), ("rgb",)).iloc[0]
    assert found["rgb saturation"] == pytest.approx(1)
    assert found["rgb hue_x"] == pytest.approx(np.cos(2 * np.pi * turn), abs=1e-6)
    assert found["rgb hue_y"] == pytest.approx(np.sin(2 * np.pi * turn), abs=1e-6)
    assert found["rgb brightness"] == pytest.approx(sum(colour) / 3 / 255)


def test_hue_does_not_depend_on_brightness_and_saturation_is_the_range_of_channels():
    strong, weak = image_statistics(coloured((255, 0, 0), (100, 60, 60)), ("rgb",)).to_dict("records")
    assert strong["rgb hue_x"] == pytest.approx(weak["rgb hue_x"])
    assert weak["rgb saturation"] == pytest.approx(40 / 255)


def test_the_mean_hue_weighs_pixels_by_their_saturation():
    """A quarter of strong red, three quarters of a green a third as strong: the mean lies half way."""
    image = np.zeros((3, *SIZE), np.uint8)
    image[0, :2], image[1, 2:] = 240, 80
    found = of_rgb(image)
    assert found["rgb hue_x"] == pytest.approx((1 + np.cos(2 * np.pi / 3)) / 2, abs=1e-6)
    assert found["rgb hue_y"] == pytest.approx(np.sin(2 * np.pi / 3) / 2, abs=1e-6)


def test_contrast_is_the_deviation_of_the_grey_picture():
    image = np.broadcast_to(255 * checkerboard(), (3, *SIZE)).astype(np.uint8)
    assert of_rgb(image)["rgb contrast"] == pytest.approx(0.5)
    assert of_rgb(image)["rgb brightness"] == pytest.approx(0.5)


def test_a_checkerboard_is_all_fine_and_has_no_gradient():
    """Sobel's filter smooths across its difference, so that fields of one pixel cancel, but in the four corners."""
    found = depth(checkerboard())
    assert found["depth fine"] == pytest.approx(2)  # |0 + 0 - 2| or |1 + 1 - 0|
    assert found["depth edges"] == pytest.approx(4 * np.hypot(2, 2) / 8 / checkerboard().size)
    assert found["depth level"] == found["depth spread"] == 0.5


def test_a_ramp_has_its_slope_and_nothing_fine():
    x = np.indices(SIZE)[1]
    found = depth(0.25 * x)
    inside, border = (SIZE[1] - 2) * 0.25, 2 * 0.125  # a border pixel is its own neighbour: half the slope
    assert found["depth edges"] == pytest.approx((inside + border) / SIZE[1])
    assert found["depth fine"] == pytest.approx(0)


def test_slopes_in_both_directions_count_alike():
    y, x = np.indices(SIZE).astype(float)
    assert depth(y * (SIZE[1] / SIZE[0]))["depth edges"] > 0.5
    both, one = depth(0.5 * (x + y)), depth(0.5 * x)
    assert both["depth edges"] > 1.3 * one["depth edges"]


def test_edges_and_fine_are_what_their_filters_say():
    """Oracle: loops over pixels whose neighbours are inside."""
    plane = np.random.default_rng(0).integers(0, 64, SIZE) / 8.0
    padded = np.pad(plane, 1, mode="edge")
    slopes, seconds = [], []
    for i in range(SIZE[0]):
        for j in range(SIZE[1]):
            near = padded[i : i + 3, j : j + 3]
            across = sum(w * (near[a, 2] - near[a, 0]) for a, w in enumerate((1, 2, 1)))
            down = sum(w * (near[2, a] - near[0, a]) for a, w in enumerate((1, 2, 1)))
            slopes.append(np.sqrt(across**2 + down**2) / 8)
            if 0 < j < SIZE[1] - 1:
                seconds.append(abs(plane[i, j - 1] + plane[i, j + 1] - 2 * plane[i, j]))
    found = depth(plane)
    assert found["depth edges"] == pytest.approx(np.mean(slopes))
    assert found["depth fine"] == pytest.approx(np.mean(seconds))


@pytest.mark.parametrize("fill", [0.0, 1000.0, np.nan])
def test_what_stands_in_a_hole_counts_nowhere(fill):
    valid = np.ones(SIZE, bool)
    valid[2:4, 3:6] = False
    y, x = np.indices(SIZE)
    found = depth(np.where(valid, 0.5 * x + y, fill), valid)
    whole = depth(0.5 * x + y, valid)
    assert found == pytest.approx(whole)
    assert found["depth holes"] == pytest.approx(6 / 80)
    assert found["depth level"] == pytest.approx((0.5 * x + y)[valid].mean())
    assert found["depth spread"] == pytest.approx((0.5 * x + y)[valid].std())


def test_a_constant_picture_with_holes_has_no_edges():
    valid = np.random.default_rng(0).random(SIZE) > 0.1
    found = depth(np.where(valid, 3.0, 0.0), valid)
    assert (found["depth edges"], found["depth fine"], found["depth spread"]) == (0, 0, 0)
    assert found["depth level"] == 3


def test_a_picture_of_holes_alone_is_all_zeros():
    found = depth(np.full(SIZE, np.nan), np.zeros(SIZE, bool))
    assert found.pop("depth holes") == 1
    assert set(found.values()) == {0}


def test_levels_are_in_the_unit_of_the_sensor(toy_scenes):
    table = image_statistics(toy_scenes, ("depth", "thermal"))
    for index in range(len(toy_scenes)):
        plane = toy_scenes.images["thermal"][index, 0].astype(float)
        assert table["thermal level"].iloc[index] == pytest.approx(plane.mean())
        valid = toy_scenes.valid["depth"][index, 0]
        assert table["depth level"].iloc[index] == pytest.approx(
            toy_scenes.images["depth"][index, 0].astype(float)[valid].mean()
        )
        assert table["depth holes"].iloc[index] == pytest.approx((~valid).mean())
    assert (table["thermal holes"] == 0).all()
