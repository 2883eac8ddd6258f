"""The contract of every method and variant, checked on pairs of sensors."""

import itertools

import pytest
import torch
from safetensors.torch import save_file

from crodino_lib.cost import inference_cost
from crodino_lib.methods.registry import METHODS, build_method, teachers
from crodino_lib.models.segnet import SegNet
from tests.methods.conftest import batch_for, images_of, run_of

SENSORS = ("rgb", "depth", "thermal")
PAIRS = [("rgb", "depth"), ("depth", "thermal")]  # three channels and one, one and one


KINDS = list({entry.path: name for name, entry in reversed(METHODS.items())}.values())  # one method of each class
OTHERS = [name for name in METHODS if name not in KINDS]


@pytest.fixture(scope="module", params=[*KINDS, *OTHERS])  # tests/golden trains every variant
def any_method(request, build):
    return build(request.param, PAIRS[0])


@pytest.fixture(
    scope="module",
    params=[*itertools.product(KINDS, PAIRS), *((name, PAIRS[0]) for name in ("acnet", "late", "discom-kd-1enc"))],
    ids=lambda case: f"{case[0]}-{'+'.join(case[1])}",
)
def method(request, build):
    return build(*request.param)


def test_steps_give_finite_terms_that_reach_every_trained_parameter(any_method, toy_scenes):
    method = any_method
    trained = [p for student in method.students.values() for p in student.parameters() if p.requires_grad]
    assert trained
    method.zero_grad()
    for step in range(12):  # a method may draw which sensors it sees; most need one step
        torch.manual_seed(step)
        terms = method.train()(batch_for(method, toy_scenes), 0.5)
        assert all(term.ndim == 0 and torch.isfinite(term) for term in terms.values())
        assert any(name.startswith("segmentation/") for name in terms)
        torch.stack(list(terms.values())).sum().backward()
        if all(p.grad is not None for p in trained):
            break
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in trained)


def test_its_teacher_stays_as_it_was(method, toy_scenes):
    if method.teacher is None:
        return
    before = {name: value.clone() for name, value in method.teacher.state_dict().items()}
    terms = method.train()(batch_for(method, toy_scenes), 0.5)
    torch.stack(list(terms.values())).sum().backward()
    assert not method.teacher.network.training
    assert all(p.grad is None for p in method.teacher.parameters())
    assert all(torch.equal(value, before[name]) for name, value in method.teacher.state_dict().items())


def test_it_predicts_what_it_serves_at_the_size_of_the_input(method, toy_scenes, toy_card):
    for served in method.serves:
        given = images_of(served, toy_scenes, toy_card)
        assert method.eval().predict(given).shape == (2, len(toy_card.classes), 48, 64)


def test_it_refuses_every_other_set_of_sensors(method, toy_scenes, toy_card):
    every = [set(c) for count in range(4) for c in itertools.combinations(SENSORS, count)]
    for sensors in [s for s in every if s not in [set(served) for served in method.serves]]:
        with pytest.raises(ValueError, match="serves"):
            method.eval().predict(images_of(tuple(sensors), toy_scenes, toy_card))


def test_saved_students_give_identical_logits_and_need_nothing_else(method, toy_scenes, toy_card, tmp_path):
    method.eval().export()
    for name, student in method.students.items():
        state = {key: value.contiguous().clone() for key, value in student.state_dict().items()}
        save_file(state, tmp_path / f"student-{name}.safetensors")
    again = build_method(method.config.model_copy(update={"seed": 7}), toy_card)
    again.load_students(tmp_path)
    for served in method.serves:
        given = images_of(served, toy_scenes, toy_card)
        torch.testing.assert_close(again.eval().predict(given), method.predict(given), rtol=0, atol=0)


def test_what_one_sensor_needs_when_deployed_costs_what_is_said(method, toy_card, build):
    for (sensor,) in [served for served in method.serves if len(served) == 1]:
        image = [torch.zeros(1, toy_card.sensors[sensor].channels, 48, 64)]
        found = inference_cost(method.students[sensor], image)
        baseline = inference_cost(build("baseline", (sensor,)).students[sensor], image)
        if isinstance(method.students[sensor], SegNet):
            assert found == baseline
        else:  # another network, which has to say what it costs beside the one that all others are
            assert all(baseline[quantity] < found[quantity] < 4 * baseline[quantity] for quantity in found)


def test_students_of_one_sensor_that_learn_by_themselves_start_where_the_baseline_starts(build, method):
    fresh = build_method(method.config, method.card)
    for name, student in fresh.students.items():
        baseline = build("baseline", (name.split("+")[0],)).students[name.split("+")[0]].state_dict()
        own = student.state_dict()
        if "+" not in name and own.keys() == baseline.keys() and next(student.parameters()).requires_grad:
            assert all(torch.equal(own[key], value) for key, value in baseline.items())


def test_latents_are_two_halves_of_every_bottleneck(method, toy_scenes, toy_card):
    blocks = method.eval().latents(images_of(method.sensors, toy_scenes, toy_card))
    assert list(blocks) == [f"{name}/{half}" for name in method.students for half in ("shared", "private")]
    for name in method.students:
        assert blocks[f"{name}/shared"].shape == blocks[f"{name}/private"].shape
        assert blocks[f"{name}/shared"].shape[2:] == (3, 4)


@pytest.mark.parametrize("name", KINDS)
def test_a_wrong_number_of_sensors_is_refused(name, toy_card):
    count = METHODS[name].build.sensor_count
    config = run_of(name, SENSORS[:2]).model_copy(update={"sensors": SENSORS[: 3 - count]})
    with pytest.raises(ValueError, match=f"method '{name}' trains with {count} sensor"):
        build_method(config, toy_card)


@pytest.mark.parametrize("name", KINDS)
def test_a_sensor_the_dataset_lacks_is_answered_with_the_nearest(name, toy_card):
    with pytest.raises(ValueError, match=r"'dept' does not exist.*'depth'"):
        build_method(run_of(name, ("dept", "rgb")), toy_card)


@pytest.mark.parametrize("name", KINDS)
def test_a_setting_the_method_lacks_is_refused(name, toy_card):
    with pytest.raises(ValueError, match="there is no parameter 'temperatur'"):
        build_method(run_of(name, SENSORS[:2], temperatur=1.0), toy_card)


@pytest.mark.parametrize("name", KINDS)
def test_a_teacher_is_there_where_one_is_needed_and_nowhere_else(name, toy_card):
    config = run_of(name, SENSORS[:2])
    other = {"teacher": "", "teacher_sensors": ()} if config.teacher else {"teacher": "early"}
    with pytest.raises(ValueError, match=r"learns from a teacher: name one|has no teacher, given 'early'"):
        build_method(config.model_copy(update=other), toy_card)


def test_a_method_that_cannot_teach_is_answered_with_those_that_can(toy_card):
    config = run_of("kd", SENSORS[:2]).model_copy(update={"teacher": "earl"})
    with pytest.raises(ValueError, match=r"teacher 'earl' does not exist.*Did you mean 'early'"):
        build_method(config, toy_card)
    assert set(teachers()) == {"baseline", "early", "acnet", "late", "cen"}
