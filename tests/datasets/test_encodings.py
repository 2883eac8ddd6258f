import math

import numpy as np
import pytest
import torch
from torch import Tensor

from crodino_lib.augment import augment, plain
from crodino_lib.config import DataConfig
from crodino_lib.data.folder import open_folder
from crodino_lib.data.sample import RGB, DatasetCard, Scenes, Sensor
from crodino_lib.data.scene_cache import load_scenes
from crodino_lib.datasets.encodings import EncodedSensor, encoded, nearest_valid, surface_normals

DEPTH = Sensor(1, "m", (4.0,), (1.0,), focal=0.7)
CARD = DatasetCard(
    "x",
    "X",
    {"rgb": RGB, "depth": DEPTH, "thermal": Sensor(1, "degrees C", (20.0,), (5.0,))},
    ("a", "b"),
    ((0, 0, 0), (9, 9, 9)),
    ("train", "val", "test"),
    (64, 48),
)


def sensor(**settings) -> EncodedSensor:
    name = next(iter(settings)).split("_")[0]
    return encoded(CARD, DataConfig(**settings)).sensors[name]


def plane(normal: tuple[float, float, float], width: int = 32, height: int = 24) -> Tensor:
    """Depth of the plane ``normal . p = -4 * nz`` seen by a camera of 4:3, pixel by pixel from the equation."""
    depth = torch.zeros(1, 1, height, width)
    for row in range(height):
        for column in range(width):
            x = ((column + 0.5) / width - 0.5) / DEPTH.focal
            y = ((row + 0.5) / height - 0.5) * 0.75 / DEPTH.focal
            depth[0, 0, row, column] = 4 * normal[2] / (normal[2] - normal[0] * x - normal[1] * y)
    return depth


NORMALS = [(0, 0, 1), (0.3, 0, 1), (0, -0.4, 1), (0.2, 0.3, 0.8)]


def normals_of(depth: Tensor, valid: Tensor | None = None) -> tuple[Tensor, Tensor]:
    return surface_normals(depth, torch.ones_like(depth, dtype=torch.bool) if valid is None else valid, 0.7, 0.75)


@pytest.mark.parametrize("normal", NORMALS)
@pytest.mark.parametrize("size", [(32, 24), (40, 24), (32, 32)])
def test_normals_of_a_plane_are_its_normal_at_any_size(normal, size):
    unit = np.array(normal) / np.linalg.norm(normal)
    normals, known = normals_of(plane(normal, *size))
    inner = normals[0, :, 1:-1, 1:-1].flatten(1)
    np.testing.assert_allclose(inner, np.tile(unit[:, None], inner.shape[1]), atol=2e-3)
    assert known[..., 1:-1, 1:-1].all()
    assert not known[..., 0, :].any()


@pytest.mark.parametrize("normal", NORMALS)
def test_augmented_normals_are_those_of_the_scene_or_of_its_mirror(normal):
    card = encoded(CARD, DataConfig(depth_encoding="normals"))
    depth = plane(normal, 64, 48).numpy().astype(np.float16).repeat(8, axis=0)
    labels = np.zeros((8, 48, 64), np.uint8)
    scenes = Scenes({"depth": depth}, {"depth": np.ones_like(depth, bool)}, labels, [str(i) for i in range(8)])
    generator = torch.Generator().manual_seed(0)
    batch = augment(scenes, list(range(8)), card, ["depth"], "paired", generator, torch.device("cpu"))
    unit = torch.tensor(normal, dtype=torch.float32)
    unit = unit / unit.norm()
    for image, valid, warp in zip(batch.images["depth"], batch.valid["depth"], batch.warps["depth"], strict=True):
        shown = image[:, valid[0]] * 0.5 + torch.tensor([0, 0, 0.5]).view(3, 1)
        expected = unit * torch.tensor([warp[0, 0].sign(), 1, 1])
        assert valid.any()
        assert (shown.T @ expected).clamp(-1, 1).arccos().rad2deg().mean() < 3  # what half precision leaves of depth
    assert {float(sign) for sign in batch.warps["depth"][:, 0, 0].sign()} == {-1.0, 1.0}


def test_normals_are_unknown_beside_a_hole():
    valid = torch.ones(1, 1, 24, 32, dtype=torch.bool)
    valid[0, 0, 10, 10] = False
    normals, known = normals_of(plane((0, 0, 1)), valid)
    unknown = {tuple(place) for place in torch.nonzero(~known[0, 0, 1:-1, 1:-1]).add(1).tolist()}
    assert unknown == {(10, 10), (9, 10), (11, 10), (10, 9), (10, 11)}
    assert not normals[(~known).expand_as(normals)].any()


@pytest.mark.parametrize(("encoding", "function"), [("inverse", lambda d: 1 / d), ("log", math.log)])
def test_depth_is_shown_as_a_function_of_metres(encoding, function):
    metres = torch.tensor([0.01, 0.5, 2.0, 9.0]).view(1, 1, 1, 4)
    shown, valid = sensor(depth_encoding=encoding).encode(metres, metres > 0)
    assert shown.flatten().tolist() == pytest.approx([function(max(d, 0.1)) for d in metres.flatten().tolist()])
    assert valid.all()


@pytest.mark.parametrize(("encoding", "function"), [("inverse", lambda d: 1 / d), ("log", np.log)])
def test_statistics_of_an_encoding_fit_depth_of_the_stated_mean_and_spread(encoding, function):
    values = function(np.random.default_rng(0).normal(4, 1, 100_000).clip(1.5))
    chosen = sensor(depth_encoding=encoding)
    assert values.mean() == pytest.approx(chosen.mean[0], abs=0.5 * chosen.std[0])
    assert values.std() == pytest.approx(chosen.std[0], rel=0.5)


def test_a_hole_takes_the_nearest_value():
    generator = np.random.default_rng(0)
    values = torch.from_numpy(generator.random((2, 1, 9, 12), dtype=np.float32))
    valid = torch.from_numpy(generator.random((2, 1, 9, 12)) < 0.3)
    filled = nearest_valid(values, valid)
    for scene in range(2):
        known = torch.nonzero(valid[scene, 0]).double()
        for row in range(9):
            for column in range(12):
                distance = (known - torch.tensor([row, column])).square().sum(1)
                nearest = known[distance == distance.min()].long()
                assert filled[scene, 0, row, column] in values[scene, 0][nearest[:, 0], nearest[:, 1]]


def test_a_picture_without_any_value_is_filled_with_zeros():
    valid = torch.zeros(1, 1, 4, 4, dtype=torch.bool)
    assert not nearest_valid(torch.ones(1, 1, 4, 4), valid).any()


def test_holes_are_shown_as_the_mean_the_nearest_value_or_0_m_and_stay_known_as_holes():
    card = {name: encoded(CARD, DataConfig(depth_holes=name)) for name in ("none", "nearest", "constant")}
    metres, valid = torch.full((1, 1, 2, 2), 5.0), torch.tensor([[[[True, False], [True, True]]]])
    shown = {name: c.sensors["depth"].encode(metres * valid, valid) for name, c in card.items()}
    assert [shown[name][1].all().item() for name in shown] == [False, True, True]
    assert [shown[name][0][0, 0, 0, 1].item() for name in ("nearest", "constant")] == [5.0, 0.0]


def test_contrast_is_blind_to_drift_and_range():
    temperatures = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 3 + 20
    valid = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(1)) < 0.8
    chosen = sensor(thermal_encoding="contrast")
    one, _ = chosen.encode(temperatures, valid)
    other, _ = chosen.encode(1.7 * temperatures - 30, valid)
    torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)
    assert one[0][valid[0]].std(correction=0).item() == pytest.approx(1, abs=1e-4)


def test_an_empty_or_even_picture_has_no_contrast():
    chosen = sensor(thermal_encoding="contrast")
    for valid in (torch.zeros(1, 1, 4, 4, dtype=torch.bool), torch.ones(1, 1, 4, 4, dtype=torch.bool)):
        shown, _ = chosen.encode(torch.full((1, 1, 4, 4), 20.0), valid)
        assert not (shown * valid).any()


def test_nothing_is_encoded_unless_asked_for():
    assert encoded(CARD, DataConfig()).sensors == CARD.sensors


def test_the_card_says_what_networks_see_and_what_was_measured():
    card = encoded(CARD, DataConfig(depth_encoding="normals", thermal_encoding="contrast"))
    assert (card.sensors["depth"].channels, card.sensors["depth"].unit) == (3, "unit vector")
    assert {name: sensor.measured for name, sensor in card.sensors.items()} == CARD.sensors


@pytest.mark.parametrize(
    ("settings", "sensors", "message"),
    [
        ({"thermal_encoding": "contrast"}, ("rgb", "depth"), "'thermal' does not exist.*rgb, depth"),
        ({"depth_encoding": "log"}, ("rgb", "thermal"), "'depth' does not exist.*rgb, thermal"),
        ({"depth_encoding": "log"}, ("rgb", "hha"), r"depth of x is in 'HHA'.*needs m"),
    ],
)
def test_an_encoding_for_what_is_not_there_is_refused(settings, sensors, message):
    known = {**CARD.sensors, "hha": Sensor(3, "HHA", (0,) * 3, (1,) * 3)}
    chosen = {("depth" if name == "hha" else name): known[name] for name in sensors}
    card = DatasetCard("x", "X", chosen, ("a", "b"), CARD.palette, CARD.splits, (64, 48))
    with pytest.raises(ValueError, match=message):
        encoded(card, DataConfig(**settings))


@pytest.mark.parametrize(
    "settings",
    [{"depth_encoding": e} for e in ("inverse", "log", "normals")]
    + [{"depth_holes": h} for h in ("nearest", "constant")],
)
def test_batches_hold_what_the_card_promises_and_the_cache_holds_metres(mini, settings):
    config = DataConfig(dataset="folder", root=str(mini), size="32x32", **settings)
    dataset = open_folder(config)
    card = encoded(dataset.card, config)
    scenes = load_scenes(dataset, "train", config, ("rgb", "depth"))
    assert scenes.images["depth"].shape[1] == 1
    device, generator = torch.device("cpu"), torch.Generator().manual_seed(0)
    augmented = augment(scenes, [0, 1], card, ("rgb", "depth"), "paired", generator, device)
    for batch in (plain(scenes, [0, 1], card, ("rgb", "depth"), device), augmented):
        assert batch.images["depth"].shape == (2, card.sensors["depth"].channels, 32, 32)
        assert batch.images["depth"].isfinite().all()
        holes = ~batch.valid["depth"].expand_as(batch.images["depth"])
        assert not batch.images["depth"][holes].any()
    shown = plain(scenes, [0, 1], card, ("rgb", "depth"), device).valid["depth"]
    assert shown.all() == ("depth_holes" in settings)
    assert not scenes.valid["depth"].all()  # what was measured is still known


@pytest.mark.parametrize(
    ("mean", "settings", "message"),
    [
        (0.0, {"depth_encoding": "log"}, r"depth of x has the mean 0\.0 m; expected a distance above 0"),
        (4.0, {"depth_encoding": "normals", "depth_holes": "constant"}, "'constant' has no normals"),
    ],
)
def test_what_cannot_be_encoded_is_refused(mean, settings, message):
    sensors = {"rgb": RGB, "depth": Sensor(1, "m", (mean,), (1.0,))}
    card = DatasetCard("x", "X", sensors, ("a", "b"), CARD.palette, CARD.splits, (64, 48))
    with pytest.raises(ValueError, match=message):
        encoded(card, DataConfig(**settings))


@pytest.mark.parametrize("mean", [0.0, -3.0])
def test_contrast_needs_no_positive_mean(mean):
    sensors = {"rgb": RGB, "thermal": Sensor(1, "degrees C", (mean,), (5.0,))}
    card = DatasetCard("x", "X", sensors, ("a", "b"), CARD.palette, CARD.splits, (64, 48))
    assert encoded(card, DataConfig(thermal_encoding="contrast")).sensors["thermal"].mean == (0.0,)
