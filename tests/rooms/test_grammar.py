"""What the scene grammar promises, checked on the scenes it composes, without rendering."""

import dataclasses

import numpy as np
import pytest

from crodino_lib.rooms import furniture
from crodino_lib.rooms.grammar import compose
from crodino_lib.rooms.scene import CLASSES, FACTORS, PAIRS, SPLITS


@pytest.fixture(scope="module")
def scenes():
    return [compose(0, "train", i) for i in range(200)]


def summary(scene):
    return [dataclasses.astuple(part) for part in scene.parts], scene.factors, [ball.label for ball in scene.balls]


def test_a_scene_is_decided_by_its_seed_split_and_number():
    same, again = compose(3, "val", 5), compose(3, "val", 5)
    assert summary(same) == summary(again)
    for other in (compose(4, "val", 5), compose(3, "test", 5), compose(3, "val", 6)):
        assert other.factors["room_width_m"] != same.factors["room_width_m"]


def test_every_class_is_composed(scenes):
    labels = {thing.label for scene in scenes for thing in (*scene.parts, *scene.balls)}
    assert labels == set(CLASSES)
    assert {label for _, *pair in PAIRS.values() for label in pair} <= labels


def test_recorded_factors_are_the_listed_ones_in_order(scenes):
    assert all(list(scene.factors) == list(FACTORS) for scene in scenes)


def test_some_scenes_are_at_night_and_all_of_test_night(scenes):
    share = np.mean([scene.factors["night"] for scene in scenes])
    assert 0.1 < share < 0.3
    nights = [compose(0, SPLITS[-1], i) for i in range(20)]
    assert all(scene.factors["night"] and scene.light.mean() < 0.11 for scene in nights)


@pytest.mark.parametrize(("flat", "ground"), [("picture", "wall"), ("rug", "floor")])
def test_flat_things_have_the_temperature_of_their_ground_and_no_height(scenes, flat, ground):
    found = 0
    for scene in scenes:
        warmth = {part.celsius for part in scene.parts if part.label == ground}
        for part in scene.parts:
            if part.label == flat:
                found += 1
                assert {part.celsius} == warmth
                assert min(part.b) <= 0.002
    assert found > 50
    blanks = sum(blank.label == ground for scene in scenes for blank in scene.blanks)
    assert 0.6 < found / blanks < 1.7, "a place is left blank by the toss of a coin"


@pytest.mark.parametrize("build", [furniture.figure, furniture.box_furniture])
def test_warm_and_cold_twins_differ_in_temperature_only(build):
    palette = furniture.Palette(np.random.default_rng(1), 0.3, 0.8)
    warm, cold = (build(np.random.default_rng(2), palette, *heat) for heat in ((34.0, 29.0), (20.0, 20.0)))
    assert [dataclasses.replace(part, celsius=20.0) for part in warm] == cold
    assert warm != cold


@pytest.mark.parametrize(("warm", "cold"), [("person", "statue"), ("appliance", "cabinet")])
def test_warm_twins_are_warmer_than_the_room_and_cold_ones_are_not(scenes, warm, cold):
    excess = {label: [] for label in (warm, cold)}
    for scene in scenes:
        for label in excess:
            parts = [part.celsius for part in scene.parts if part.label == label]
            if parts:
                excess[label].append(max(parts) - scene.factors["ambient_c"])
    assert min(excess[warm]) > 3
    assert abs(np.mean(excess[cold])) < 0.5


def test_near_small_and_far_large_balls_look_equally_large_and_hang_clear(scenes):
    angles, places = {"small ball": [], "large ball": []}, {"small ball": [], "large ball": []}
    for scene in scenes:
        for ball in scene.balls:
            way = ball.centre - scene.camera.position
            angles[ball.label].append(ball.radius / np.linalg.norm(way))
            places[ball.label].append(way @ scene.camera.down / (way @ scene.camera.forward))
            assert np.all(ball.centre > ball.radius + 0.25)
            assert np.all(ball.centre < np.array(scene.size) - ball.radius - 0.25)
    small, large = angles.values()
    assert min(len(small), len(large)) > 50
    assert abs(np.mean(small) - np.mean(large)) < 0.003
    assert abs(np.mean(places["small ball"]) - np.mean(places["large ball"])) < 0.05


def test_the_heat_of_a_lamp_says_nothing_about_light(scenes):
    shades = [
        (max(part.celsius for part in scene.parts if part.label == "lamp"), scene.factors["light_level"], part.glow)
        for scene in scenes
        for part in scene.parts
        if part.label == "lamp" and part.radius > 0.2 and part.celsius > 31
    ]
    heat, level = np.array([shade[:2] for shade in shades]).T
    assert len(shades) > 30
    assert abs(np.corrcoef(heat, level)[0, 1]) < 0.3
    assert {any(glow) for *_, glow in shades} == {True, False}


def test_colour_alone_does_not_give_the_class(scenes):
    """The paints of tables and seats come from one distribution."""
    bright = {"table": [], "seat": []}
    for scene in scenes:
        for part in scene.parts:
            if part.label in bright:
                bright[part.label].append(np.mean(part.paint.colour))
    assert abs(np.mean(bright["table"]) - np.mean(bright["seat"])) < 0.06


def test_everything_stands_inside_the_room(scenes):
    for scene in scenes:
        for part in scene.parts:
            if part.label not in ("wall", "floor", "ceiling"):
                assert -0.3 < part.a[0] < scene.size[0] + 0.3
                assert 0.5 < part.a[1] < scene.size[1] + 0.3
                assert 0 <= part.a[2] < scene.size[2]
