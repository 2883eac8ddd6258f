"""Controls: rows that have all of a method but what the method is said to work by."""

import pytest
import torch

from crodino_lib.methods.registry import build_method, check_run, method_name, parse_method, teacher_of, teachers
from crodino_lib.training import Training
from tests.methods.conftest import batch_for, learn, run_of

CPU = torch.device("cpu")


def built(name, card, sensors=("rgb", "depth"), **settings):
    return build_method(run_of(name, sensors, **settings), card)


def steps(name, card, scenes):
    config = run_of(name, ("rgb", "depth"))
    return Training(build_method(config, card), config, scenes, scenes, CPU, "fp32").total_steps


# -- baseline-aux: CroDiNo-KD's auxiliary decoder without the second sensor


def test_baseline_aux_starts_as_the_baseline_and_exports_its_network(toy_card):
    baseline, control = (built(name, toy_card).students["rgb"] for name in ("baseline", "baseline-aux"))
    assert type(control) is type(baseline)
    mine, theirs = control.state_dict(), baseline.state_dict()
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(value, theirs[name]) for name, value in mine.items())


def test_baseline_aux_has_the_decoder_of_crodino_kd_on_the_same_half(toy_card, toy_scenes):
    control, method = built("baseline-aux", toy_card), built("crodino-kd", toy_card)
    shapes = [[p.shape for p in it.auxiliary.parameters()] for it in (control, method)]
    assert shapes[0] == shapes[1]
    control.train()(batch_for(control, toy_scenes), 0.5)["auxiliary/rgb"].backward()
    first, second = control.students["rgb"].projection[0].weight.grad.split(16)
    assert first.any()
    assert not second.any()


def test_baseline_aux_computes_the_auxiliary_loss_of_crodino_kd(toy_card, toy_scenes):
    control, method = built("baseline-aux", toy_card).eval(), built("crodino-kd", toy_card).eval()
    control.auxiliary.load_state_dict(method.auxiliary.state_dict())
    batch = batch_for(control, toy_scenes)
    outputs = {"rgb": method.students["rgb"](batch.images["rgb"])}
    found, expected = control(batch, 0.5)["auxiliary/rgb"], method.auxiliary_loss(outputs, batch, "rgb")
    torch.testing.assert_close(found, expected)


def test_baseline_aux_predicts_without_its_decoder_and_teaches_no_one(toy_card, toy_scenes):
    control = built("baseline-aux", toy_card)
    learn(control, toy_scenes, steps=1)
    images = {"rgb": batch_for(control, toy_scenes).images["rgb"]}
    before = control.predict(images)
    del control.auxiliary
    torch.testing.assert_close(control.predict(images), before, rtol=0, atol=0)
    assert "baseline-aux" not in teachers()


# -- self-training: the loss of kd, without a second sensor


@pytest.mark.parametrize("sensor", ["rgb", "depth"])
def test_self_training_is_taught_by_the_student_s_own_baseline_alone(sensor, toy_card):
    config = run_of("self-training", (sensor,))
    assert teacher_of("self-training", (sensor,), ("rgb", "depth"), "acnet") == ("baseline", (sensor,))
    assert (config.parent.method, config.parent.sensors, config.parent.settings) == ("baseline", (sensor,), {})
    check_run(config, toy_card)
    assert build_method(config, toy_card).batch_sensors == (sensor,)
    other = {"teacher": "baseline", "teacher_sensors": ("thermal",)}
    with pytest.raises(ValueError, match=f"learns from the baseline of its first sensor, '{sensor}'"):
        check_run(config.model_copy(update=other), toy_card)


def test_self_training_computes_what_kd_computes_with_the_same_teacher(toy_card, toy_scenes):
    control = built("self-training", toy_card, ("rgb",)).eval()
    kd = run_of("kd", ("rgb",), teacher="baseline")
    method = build_method(kd.model_copy(update={"teacher_sensors": ("rgb",)}), toy_card).eval()
    assert control.settings == method.settings
    method.teacher.load_state_dict(control.teacher.state_dict())
    batch = batch_for(control, toy_scenes)
    found, expected = control(batch, 0.5), method(batch, 0.5)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[term], expected[term]) for term in found)


# -- baseline:x2 and x4: equal time


@pytest.mark.parametrize(("variant", "times"), [("x2", 2), ("x4", 4)])
def test_a_longer_baseline_takes_so_many_times_the_steps_of_the_others(variant, times, toy_card, toy_scenes):
    usual = steps("baseline", toy_card, toy_scenes)
    assert steps("crodino-kd", toy_card, toy_scenes) == usual
    assert steps(f"baseline:{variant}", toy_card, toy_scenes) == times * usual
    assert method_name(*parse_method(f"baseline:{variant}")) == f"baseline:{variant}"


def test_a_budget_of_nothing_is_refused(toy_card):
    with pytest.raises(ValueError, match=r"budget = 0.0: Input should be greater than 0"):
        built("baseline", toy_card, budget=0.0)
