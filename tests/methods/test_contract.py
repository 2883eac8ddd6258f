"""What every row of the table promises, checked for every row and every pair of sensors it admits."""

import itertools

import pytest
import torch
from safetensors.torch import save_file

from crodino_lib.augment import augment, plain
from crodino_lib.config import ModelConfig, RunConfig
from crodino_lib.methods.registry import METHODS, build_method
from crodino_lib.cost import inference_cost
from crodino_lib.train import seeded

SENSORS = ("rgb", "depth", "thermal")
SMALL = ModelConfig(block_channels=16, decoder_channels=16)


def cases():
    for name, entry in METHODS.items():
        for sensors in itertools.combinations(SENSORS, entry.build.sensor_count):
            yield pytest.param((name, sensors), id=f"{name}-{'+'.join(sensors)}")


def config_of(name, sensors, seed=0, **settings):
    return RunConfig(method=name, sensors=sensors, seed=seed, settings=settings, model=SMALL)


@pytest.fixture(params=cases())
def method(request, toy_card):
    return build_method(config_of(*request.param), toy_card)


def batch_for(method, scenes, card, count=8):
    generator = seeded(0, "test")
    return augment(
        scenes, list(range(count)), card, method.sensors, method.augmentation, generator, torch.device("cpu")
    )


def images_of(sensors, scenes, card, count=2):
    return plain(scenes, list(range(count)), card, sensors, torch.device("cpu")).images


def test_a_step_gives_finite_terms_that_reach_every_student(method, toy_scenes, toy_card):
    terms = method.train()(batch_for(method, toy_scenes, toy_card), 0.5)
    assert all(term.ndim == 0 and torch.isfinite(term) for term in terms.values())
    torch.stack(list(terms.values())).sum().backward()
    for student in method.students.values():
        assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in student.parameters())


def test_thirty_steps_on_one_batch_lower_its_segmentation_loss(method, toy_scenes, toy_card):
    batch = batch_for(method, toy_scenes, toy_card)
    optimiser = torch.optim.AdamW(method.parameters(), 1e-3)
    losses = []
    for step in range(30):
        terms = method.train()(batch, step / 30)
        losses.append(sum(term.item() for name, term in terms.items() if name.startswith("segmentation")))
        optimiser.zero_grad()
        torch.stack(list(terms.values())).sum().backward()
        optimiser.step()
    assert losses[-1] < 0.7 * losses[0]


def test_a_saved_student_gives_identical_logits(method, toy_scenes, toy_card, tmp_path):
    method.train()(batch_for(method, toy_scenes, toy_card), 0.0)  # moves the BatchNorm statistics
    for sensor, student in method.students.items():
        save_file(
            {k: v.contiguous() for k, v in student.state_dict().items()}, tmp_path / f"student-{sensor}.safetensors"
        )
    name = next(n for n, entry in METHODS.items() if isinstance(method, entry.build))
    again = build_method(config_of(name, method.sensors, seed=7), toy_card)
    again.load_students(tmp_path)
    for served in method.serves:
        images = images_of(served, toy_scenes, toy_card)
        torch.testing.assert_close(again.eval().predict(images), method.eval().predict(images), rtol=0, atol=0)


def test_it_answers_what_it_serves_at_the_size_of_the_input(method, toy_scenes, toy_card):
    for served in method.serves:
        images = images_of(served, toy_scenes, toy_card)
        assert method.eval().predict(images).shape == (2, len(toy_card.classes), 48, 64)


def test_it_refuses_every_other_set_of_sensors(method, toy_scenes, toy_card):
    every = [set(c) for count in range(4) for c in itertools.combinations(SENSORS, count)]
    for sensors in [s for s in every if s not in [set(served) for served in method.serves]]:
        with pytest.raises(ValueError, match="answers"):
            method.eval().predict(images_of(tuple(sensors), toy_scenes, toy_card))


def test_a_student_costs_exactly_what_the_baseline_costs(method, toy_card):
    for sensor in method.sensors:
        config = config_of("baseline", (sensor,))
        baseline = build_method(config, toy_card)
        assert inference_cost(method, sensor, config) == inference_cost(baseline, sensor, config)


def test_students_of_one_seed_start_where_the_baseline_starts(method, toy_card):
    for sensor in method.sensors:
        baseline = build_method(config_of("baseline", (sensor,)), toy_card)
        mine, theirs = method.students[sensor].state_dict(), baseline.students[sensor].state_dict()
        assert all(torch.equal(mine[name], theirs[name]) for name in theirs)


def test_latents_are_the_two_halves_of_every_bottleneck(method, toy_scenes, toy_card):
    blocks = method.eval().latents(images_of(method.sensors, toy_scenes, toy_card))
    assert list(blocks) == [f"{sensor}/{half}" for sensor in method.sensors for half in ("shared", "private")]
    assert all(block.shape == (2, 16, 3, 4) for block in blocks.values())


@pytest.mark.parametrize("name", METHODS)
def test_a_wrong_number_of_sensors_is_refused(name, toy_card):
    count = METHODS[name].build.sensor_count
    with pytest.raises(ValueError, match=f"method '{name}' trains with {count} sensor"):
        build_method(config_of(name, SENSORS[: 3 - count]), toy_card)


@pytest.mark.parametrize("name", METHODS)
def test_a_sensor_the_dataset_lacks_is_answered_with_the_nearest(name, toy_card):
    with pytest.raises(ValueError, match=r"'dept' does not exist.*'depth'"):
        build_method(config_of(name, ("dept", "rgb")[: METHODS[name].build.sensor_count]), toy_card)


@pytest.mark.parametrize("name", METHODS)
def test_a_setting_the_method_lacks_is_refused(name, toy_card):
    sensors = SENSORS[: METHODS[name].build.sensor_count]
    with pytest.raises(ValueError, match="there is no parameter 'temperatur'"):
        build_method(config_of(name, sensors, temperatur=1.0), toy_card)
