import numpy as np
import pytest
import torch
import torchvision.transforms.v2.functional as oracle
from scipy.ndimage import gaussian_filter

from crodino_lib.augment import (
    AugmentConfig,
    Draws,
    augment,
    blur,
    jitter_depth,
    jitter_rgb,
    jitter_thermal,
    plain,
)
from crodino_lib.data.sample import IGNORE, RGB, Scenes

CPU = torch.device("cpu")
SENSORS = ("rgb", "depth", "thermal")
REGIMES = ("paired", "decoupled")
HEIGHT, WIDTH, COUNT = 32, 48, 24
GEOMETRY_ONLY = AugmentConfig(
    rgb_jitter=0, rgb_hue=0, blur_sigma=0, depth_gain=0, depth_noise=0, depth_holes=0, thermal_offset=0, thermal_gain=0
)
PHOTOMETRY_ONLY = AugmentConfig(scale_min=1, scale_max=1, flip=0)


@pytest.fixture(scope="module")
def maps() -> Scenes:
    """Scenes whose content says where it is: x and y in rgb, the pixel's number in depth, a slope in thermal."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    label = (x // 8 + y // 8) % 4
    label[:3, :7] = IGNORE

    def every(picture, dtype):
        return np.broadcast_to(picture, (COUNT, *picture.shape)).astype(dtype)

    return Scenes(
        images={
            "rgb": every(np.stack([x, y, 0 * x]), np.uint8),
            "depth": every((1 + y * WIDTH + x)[None], np.float16),  # exact in half precision up to 2048
            "thermal": every((2 * x + 3 * y)[None], np.float16),
        },
        valid={sensor: every(np.ones((1, HEIGHT, WIDTH)), bool) for sensor in ("depth", "thermal")},
        labels=every(label, np.uint8),
        ids=[str(i) for i in range(COUNT)],
    )


def augmented(scenes, card, sensors=SENSORS, regime="decoupled", seed=0, config=GEOMETRY_ONLY):
    generator = torch.Generator().manual_seed(seed)
    return augment(scenes, list(range(len(scenes))), card, sensors, regime, generator, CPU, config)


def in_unit(batch, card, sensor):
    mean, std = (np.reshape(part, (-1, 1, 1)) for part in (card.sensors[sensor].mean, card.sensors[sensor].std))
    return batch.images[sensor].numpy() * std + mean


def scene_pixels(warp):
    """Where every output pixel lies in the scene, in pixels: (B, H, W) each of x and y, from the warp's definition."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    output = np.stack([(2 * x + 1) / WIDTH - 1, (2 * y + 1) / HEIGHT - 1, np.ones_like(x)])
    scene = np.einsum("bij,jhw->ibhw", warp.numpy().astype(np.float64), output)
    return ((scene[0] + 1) * WIDTH - 1) / 2, ((scene[1] + 1) * HEIGHT - 1) / 2


def clear_of_ties(*coordinates):
    """Pixels whose nearest neighbour does not hang on the last bit."""
    return np.all([np.abs(c - np.floor(c) - 0.5) > 1e-3 for c in coordinates], axis=0)


@pytest.mark.parametrize("regime", REGIMES)
@pytest.mark.parametrize("sensor", SENSORS)
def test_validity_and_labels_are_those_of_the_pixel_the_warp_points_at(maps, toy_card, sensor, regime):
    batch = augmented(maps, toy_card, regime=regime)
    x, y = scene_pixels(batch.warps[sensor])
    clear = clear_of_ties(x, y)
    column, row = np.rint(x).astype(int), np.rint(y).astype(int)
    inside = (column >= 0) & (column < WIDTH) & (row >= 0) & (row < HEIGHT)
    assert 0.5 < inside[clear].mean() < 0.95  # both kinds are there to be told apart
    np.testing.assert_array_equal(batch.valid[sensor][:, 0].numpy()[clear], inside[clear])
    np.testing.assert_array_equal(batch.inside[sensor].numpy()[clear], inside[clear])
    expected = np.where(inside, maps.labels[0][row.clip(0, HEIGHT - 1), column.clip(0, WIDTH - 1)], IGNORE)
    np.testing.assert_array_equal(batch.labels[sensor].numpy()[clear], expected[clear])


@pytest.mark.parametrize("regime", REGIMES)
def test_depth_is_that_of_the_pixel_the_warp_points_at(maps, toy_card, regime):
    batch = augmented(maps, toy_card, regime=regime)
    x, y = scene_pixels(batch.warps["depth"])
    shown = batch.valid["depth"][:, 0].numpy() & clear_of_ties(x, y)
    expected = 1 + np.rint(y) * WIDTH + np.rint(x)
    np.testing.assert_allclose(in_unit(batch, toy_card, "depth")[:, 0][shown], expected[shown], atol=1e-3)


@pytest.mark.parametrize("regime", REGIMES)
@pytest.mark.parametrize("sensor", ["rgb", "thermal"])
def test_smooth_sensors_show_exactly_the_place_the_warp_points_at(maps, toy_card, sensor, regime):
    batch = augmented(maps, toy_card, regime=regime)
    x, y = scene_pixels(batch.warps[sensor])
    x, y = x.clip(0, WIDTH - 1), y.clip(0, HEIGHT - 1)  # half a pixel of the rim has one neighbour only
    found, shown = in_unit(batch, toy_card, sensor), batch.valid[sensor][:, 0].numpy()
    for channel, expected in zip(found.swapaxes(0, 1), [x, y] if sensor == "rgb" else [2 * x + 3 * y], strict=False):
        np.testing.assert_allclose(channel[shown], expected[shown], atol=2e-3)


def test_what_is_outside_or_invalid_is_zero_after_normalisation(toy_scenes, toy_card):
    batch = augmented(toy_scenes, toy_card, config=AugmentConfig())
    for sensor in SENSORS:
        hidden = ~batch.valid[sensor].expand_as(batch.images[sensor])
        assert hidden.any()
        assert (batch.images[sensor][hidden] == 0).all()


def test_a_depth_hole_stays_a_hole_and_its_value_reaches_no_other_pixel(toy_scenes, toy_card):
    poisoned = Scenes(
        {"depth": np.where(toy_scenes.valid["depth"], toy_scenes.images["depth"], 9999).astype(np.float16)},
        toy_scenes.valid,
        toy_scenes.labels,
        toy_scenes.ids,
    )
    for config in (GEOMETRY_ONLY, AugmentConfig()):
        clean = augmented(toy_scenes, toy_card, ("depth",), config=config)
        found = augmented(poisoned, toy_card, ("depth",), config=config)
        torch.testing.assert_close(found.images, clean.images)
        assert torch.equal(found.valid["depth"], clean.valid["depth"])


def test_thermal_is_never_mixed_with_invalid_pixels(toy_card):
    generator = np.random.default_rng(0)
    valid = generator.random((COUNT, 1, HEIGHT, WIDTH)) < 0.7
    values = np.where(valid, 20, 6000).astype(np.float16)
    label = np.zeros((COUNT, HEIGHT, WIDTH), np.uint8)
    scenes = Scenes({"thermal": values}, {"thermal": valid}, label, [str(i) for i in range(COUNT)])
    batch = augmented(scenes, toy_card, ("thermal",), config=AugmentConfig(thermal_offset=0))
    np.testing.assert_allclose(in_unit(batch, toy_card, "thermal")[batch.valid["thermal"].numpy()], 20, atol=1e-3)


def test_labels_hold_only_what_the_scene_holds_or_ignore(toy_scenes, toy_card):
    batch = augmented(toy_scenes, toy_card, config=AugmentConfig())
    for sensor in SENSORS:
        for warped, scene in zip(batch.labels[sensor], toy_scenes.labels, strict=True):
            assert set(warped.unique().tolist()) <= {*np.unique(scene).tolist(), IGNORE}
        assert batch.labels[sensor].dtype == torch.int64


def test_plain_is_the_scene_normalised_by_hand(toy_scenes, toy_card):
    batch = plain(toy_scenes, [5, 2], toy_card, SENSORS, CPU)
    rgb = toy_scenes.images["rgb"][[5, 2]].astype(np.float64)
    for channel in range(3):
        expected = (rgb[:, channel] - RGB.mean[channel]) / RGB.std[channel]
        np.testing.assert_allclose(batch.images["rgb"][:, channel], expected, atol=1e-5)
    valid = toy_scenes.valid["depth"][[5, 2]]
    expected = np.where(valid, toy_scenes.images["depth"][[5, 2]].astype(np.float64) - 3.0, 0)
    np.testing.assert_allclose(batch.images["depth"], expected, atol=1e-5)
    np.testing.assert_array_equal(batch.valid["depth"], valid)
    assert batch.valid["rgb"].all()
    assert batch.ids == [toy_scenes.ids[5], toy_scenes.ids[2]]
    for sensor in SENSORS:
        np.testing.assert_array_equal(batch.labels[sensor], toy_scenes.labels[[5, 2]])
        assert torch.equal(batch.warps[sensor], torch.eye(2, 3).expand(2, 2, 3))


def test_without_zoom_and_flip_geometry_does_nothing(toy_scenes, toy_card):
    config = GEOMETRY_ONLY.model_copy(update={"scale_min": 1.0, "scale_max": 1.0, "flip": 0.0})
    found = augmented(toy_scenes, toy_card, config=config)
    expected = plain(toy_scenes, list(range(len(toy_scenes))), toy_card, SENSORS, CPU)
    for sensor in SENSORS:
        torch.testing.assert_close(found.images[sensor], expected.images[sensor], atol=1e-4, rtol=0)
        assert torch.equal(found.labels[sensor], expected.labels[sensor])
        assert torch.equal(found.valid[sensor], expected.valid[sensor])


def test_a_flip_mirrors_left_and_right(toy_scenes, toy_card):
    config = GEOMETRY_ONLY.model_copy(update={"scale_min": 1.0, "scale_max": 1.0, "flip": 1.0})
    found = augmented(toy_scenes, toy_card, config=config)
    expected = plain(toy_scenes, list(range(len(toy_scenes))), toy_card, SENSORS, CPU)
    for sensor in SENSORS:
        torch.testing.assert_close(found.images[sensor], expected.images[sensor].flip(-1), atol=1e-4, rtol=0)
        assert torch.equal(found.labels[sensor], expected.labels[sensor].flip(-1))
        assert torch.equal(found.valid[sensor], expected.valid[sensor].flip(-1))


def test_geometry_is_one_per_scene_when_paired_and_one_per_sensor_when_decoupled(maps, toy_card):
    paired, decoupled = (augmented(maps, toy_card, regime=regime).warps for regime in REGIMES)
    assert torch.equal(paired["rgb"], paired["depth"])
    assert torch.equal(paired["rgb"], paired["thermal"])
    for one, other in (("rgb", "depth"), ("depth", "thermal"), ("rgb", "thermal")):
        assert (decoupled[one] - decoupled[other]).abs().amax(dim=(1, 2)).min() > 1e-3
    assert len({tuple(warp.flatten().tolist()) for warp in paired["rgb"]}) == COUNT


def test_zooms_flips_and_positions_cover_the_whole_range(maps, toy_card):
    batches = [augmented(maps, toy_card, ("rgb",), seed=seed).warps["rgb"] for seed in range(40)]
    warp = torch.cat(batches)
    window, flip = warp[:, 1, 1], warp[:, 0, 0] / warp[:, 1, 1]
    assert 0.5 <= window.min() < 0.52
    assert 1.9 < window.max() <= 2
    assert (window < 1).float().mean() == pytest.approx(0.5, abs=0.06)
    assert (flip == -1).float().mean() == pytest.approx(0.5, abs=0.06)
    assert set(flip.tolist()) == {-1.0, 1.0}
    place = warp[:, :, 2] / (1 - window).abs()[:, None]  # -1 and 1: the window touches the scene's rim from within
    assert place.abs().max() <= 1 + 1e-5
    assert place.std(dim=0).numpy() == pytest.approx(np.full(2, 3**-0.5), abs=0.03)


def test_equal_generators_give_equal_batches_and_others_do_not(toy_scenes, toy_card):
    first, again, other = (augmented(toy_scenes, toy_card, seed=seed, config=AugmentConfig()) for seed in (3, 3, 4))
    for sensor in SENSORS:
        assert torch.equal(first.images[sensor], again.images[sensor])
        assert torch.equal(first.labels[sensor], again.labels[sensor])
        assert not torch.equal(first.images[sensor], other.images[sensor])
        assert not torch.equal(first.warps[sensor], other.warps[sensor])


@pytest.mark.parametrize("regime", REGIMES)
def test_neither_the_order_of_sensors_nor_another_sensor_changes_a_draw(toy_scenes, toy_card, regime):
    together = augmented(toy_scenes, toy_card, SENSORS, regime, config=AugmentConfig())
    for sensors in (SENSORS[::-1], ("depth",), ("thermal", "rgb")):
        found = augmented(toy_scenes, toy_card, sensors, regime, config=AugmentConfig())
        for sensor in sensors:
            assert torch.equal(found.images[sensor], together.images[sensor])
            assert torch.equal(found.warps[sensor], together.warps[sensor])


@pytest.mark.parametrize("regime", REGIMES)
def test_photometry_leaves_geometry_alone(toy_scenes, toy_card, regime):
    without = augmented(toy_scenes, toy_card, regime=regime)
    with_it = augmented(toy_scenes, toy_card, regime=regime, config=AugmentConfig())
    for sensor in SENSORS:
        assert torch.equal(without.warps[sensor], with_it.warps[sensor])
        assert torch.equal(without.labels[sensor], with_it.labels[sensor])
        changed = (without.images[sensor] - with_it.images[sensor]).abs().mean(dim=(1, 2, 3))
        assert (changed > 1e-3).all()
    assert torch.equal(without.valid["rgb"], with_it.valid["rgb"])
    lost = without.valid["depth"] & ~with_it.valid["depth"]
    assert 0.01 < lost.float().mean() < 0.1
    assert not (with_it.valid["depth"] & ~without.valid["depth"]).any()


def test_no_sensor_shares_photometry_with_another_even_when_paired(maps, toy_card):
    """Two thermal cameras of one scene, seen by equal pixels: only their own draws can tell them apart."""
    card = type(toy_card)(**{**vars(toy_card), "sensors": {**toy_card.sensors, "near": toy_card.sensors["thermal"]}})
    scenes = Scenes(
        {"thermal": maps.images["thermal"], "near": maps.images["thermal"]},
        {"thermal": maps.valid["thermal"], "near": maps.valid["thermal"]},
        maps.labels,
        maps.ids,
    )
    batch = augmented(scenes, card, ("thermal", "near"), "paired", config=PHOTOMETRY_ONLY)
    difference = (batch.images["thermal"] - batch.images["near"]).abs().amax(dim=(1, 2, 3))
    assert (difference > 1e-3).all()


def turned(*knobs):
    """Draws of one scene whose knobs are given."""
    values = torch.zeros(5, 1, 1, 1, 1)
    values[: len(knobs)] = torch.tensor(knobs).view(-1, 1, 1, 1, 1)
    return Draws(torch.eye(2, 3)[None], values, torch.Generator().manual_seed(0))


def everywhere(values):
    return torch.ones_like(values[:, :1], dtype=torch.bool)


@pytest.fixture
def picture():
    """Colours clear of black and white, so that nothing is clamped."""
    return 100 + 50 * torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("knobs", [(0.5, 0.0, 0.0), (0.0, -0.7, 0.0), (0.0, 0.0, 0.9), (0.3, -0.4, 0.8)])
def test_colour_jitter_equals_torchvisions(picture, knobs):
    brightness, contrast, saturation = (1 + 0.4 * knob for knob in knobs)
    expected = oracle.adjust_brightness(picture / 255, brightness)
    expected = oracle.adjust_contrast(expected, contrast)
    expected = 255 * oracle.adjust_saturation(expected, saturation)
    found, _ = jitter_rgb(picture, everywhere(picture), RGB, turned(*knobs), AugmentConfig())
    torch.testing.assert_close(found, expected, atol=0.1, rtol=0)  # its weights of luma have four digits, ours three


def test_the_hue_turns_about_grey_and_half_a_turn_gives_the_complement(picture):
    config = AugmentConfig(rgb_hue=0.5)
    luma = (picture * torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(dim=1, keepdim=True)
    found, _ = jitter_rgb(picture, everywhere(picture), RGB, turned(0, 0, 0, 1), config)
    torch.testing.assert_close(found, 2 * luma - picture, atol=1e-2, rtol=0)
    grey = luma.expand_as(picture)
    found, _ = jitter_rgb(grey, everywhere(grey), RGB, turned(0, 0, 0, 0.37), config)
    torch.testing.assert_close(found, grey, atol=1e-2, rtol=0)


def test_a_hue_turned_there_and_back_is_the_same(picture):
    there, _ = jitter_rgb(picture, everywhere(picture), RGB, turned(0, 0, 0, 1), AugmentConfig())
    assert (there - picture).abs().mean() > 1
    back, _ = jitter_rgb(there, everywhere(picture), RGB, turned(0, 0, 0, -1), AugmentConfig())
    torch.testing.assert_close(back, picture, atol=1e-2, rtol=0)


def test_colours_stay_within_what_a_camera_gives():
    picture = 255 * torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    found, _ = jitter_rgb(picture, everywhere(picture), RGB, turned(1, 1, 1, 1), AugmentConfig())
    assert found.min() >= 0
    assert found.max() <= 255.001


def test_each_scene_of_a_batch_is_jittered_as_if_it_were_alone(picture):
    pictures = torch.cat([picture, picture.flip(1), picture / 2])
    knobs = 2 * torch.rand(5, 3, 1, 1, 1, generator=torch.Generator().manual_seed(1)) - 1
    config, valid = AugmentConfig(), everywhere(pictures)
    draws = Draws(torch.eye(2, 3).repeat(3, 1, 1), knobs, torch.Generator())
    together, _ = jitter_rgb(pictures, valid, RGB, draws, config)
    for i in range(3):
        one = Draws(torch.eye(2, 3)[None], knobs[:, i : i + 1], torch.Generator())
        alone, _ = jitter_rgb(pictures[i : i + 1], valid[i : i + 1], RGB, one, config)
        torch.testing.assert_close(together[i : i + 1], alone, atol=1e-3, rtol=0)


def test_depth_noise_grows_with_the_square_of_the_distance(toy_card):
    deviations = []
    for metres in (1.0, 2.0, 4.0):
        depth = torch.full((1, 1, 100, 100), metres)
        found, _ = jitter_depth(depth, everywhere(depth), toy_card.sensors["depth"], turned(0, 1), AugmentConfig())
        assert found.mean().item() == pytest.approx(metres, rel=1e-3)
        deviations.append(found.std().item())
    assert deviations == pytest.approx([0.002, 0.008, 0.032], rel=0.05)


def test_depth_gain_multiplies_every_pixel(toy_card):
    depth = torch.linspace(0.5, 8, 64).view(1, 1, 8, 8)
    for knob, factor in ((1.0, 1.1), (-1.0, 0.9)):
        found, _ = jitter_depth(depth, everywhere(depth), toy_card.sensors["depth"], turned(knob), AugmentConfig())
        torch.testing.assert_close(found, factor * depth)


def test_holes_are_squares_of_four_pixels_and_as_many_as_drawn(toy_card):
    depth = torch.ones(1, 1, 398, 402)
    _, valid = jitter_depth(depth, everywhere(depth), toy_card.sensors["depth"], turned(0, 0, 0.5), AugmentConfig())
    assert (~valid).float().mean().item() == pytest.approx(0.05, abs=0.01)
    squares = valid[0, 0, :396, :400].view(99, 4, 100, 4).float().mean(dim=(1, 3))
    assert set(squares.unique().tolist()) == {0.0, 1.0}


def test_thermal_is_shifted_in_deviations_and_stretched_about_the_mean(toy_card):
    thermal = torch.linspace(5, 45, 64).view(1, 1, 8, 8)
    found, _ = jitter_thermal(
        thermal, everywhere(thermal), toy_card.sensors["thermal"], turned(-1, 0.5), AugmentConfig()
    )
    torch.testing.assert_close(found, 20 + 0.9 * (thermal - 20) + 0.5 * 0.5 * 5)


def test_blur_equals_scipys_at_each_scenes_own_width():
    values = torch.rand(3, 2, 20, 24, generator=torch.Generator().manual_seed(0))
    sigma = torch.tensor([0.5, 0.9, 0.0]).view(3, 1, 1, 1)
    found = blur(values, everywhere(values), sigma)
    inner = (..., slice(2, -2), slice(2, -2))
    for i, width in enumerate((0.5, 0.9)):
        expected = gaussian_filter(values[i].numpy(), width, axes=(1, 2), radius=2)
        np.testing.assert_allclose(found[i][inner], expected[inner], atol=1e-5)
    torch.testing.assert_close(found[2], values[2])


def test_an_unknown_regime_or_sensor_is_answered_with_the_nearest(toy_scenes, toy_card):
    with pytest.raises(ValueError, match=r"regime 'coupled' does not exist.*'decoupled'"):
        augmented(toy_scenes, toy_card, regime="coupled")
    with pytest.raises(ValueError, match=r"sensor of toy 'thermals' does not exist.*'thermal'"):
        augmented(toy_scenes, toy_card, ("thermals",))
