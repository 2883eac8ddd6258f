import math

import pytest
import torch

from crodino_lib.losses.channel_distillation import channel_distillation


def maps(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


STUDENT, TEACHER = maps(0, 2, 4, 3, 5), maps(1, 2, 4, 3, 5)
VALID = maps(2, 2, 3, 5) > 0


def softmax(scores):
    powers = [math.exp(s) for s in scores]
    return [p / sum(powers) for p in powers]


def brute_force(student, teacher, temperature, valid):
    """The definition over the valid positions of each image, one channel at a time."""
    total = 0.0
    for n in range(len(student)):
        for c in range(student.shape[1]):
            p = softmax(teacher[n, c][valid[n]] / temperature)
            q = softmax(student[n, c][valid[n]] / temperature)
            total += sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    return temperature**2 * total / (len(student) * student.shape[1])


@pytest.mark.parametrize(("temperature", "golden"), [(1, 1.554885), (4, 2.172324)])
def test_golden_values(temperature, golden):
    student = torch.tensor([[0.0, 1, 2, 3], [1, 1, 1, 1]]).view(1, 2, 2, 2)
    teacher = torch.tensor([[3.0, 2, 1, 0], [0, 0, 0, 4]]).view(1, 2, 2, 2)
    assert channel_distillation(student, teacher, temperature).item() == pytest.approx(golden, abs=1e-6)


@pytest.mark.parametrize("temperature", [1, 4])
@pytest.mark.parametrize("valid", [None, VALID, VALID * 0.3])
def test_equals_its_definition(temperature, valid):
    kept = torch.ones(2, 3, 5, dtype=torch.bool) if valid is None else valid > 0
    expected = brute_force(STUDENT, TEACHER, temperature, kept)
    assert channel_distillation(STUDENT, TEACHER, temperature, valid).item() == pytest.approx(expected, rel=1e-6)


def test_an_image_without_a_valid_position_adds_nothing():
    """Its channel maps still count in the mean."""
    valid = VALID.clone()
    valid[1] = False
    student = STUDENT.clone().requires_grad_()
    loss = channel_distillation(student, TEACHER, valid=valid)
    loss.backward()
    alone = channel_distillation(STUDENT[:1], TEACHER[:1], valid=VALID[:1])
    assert loss.item() == pytest.approx(alone.item() / 2, rel=1e-9)
    assert not student.grad[1].any()


def test_agreement_up_to_a_constant_per_channel_scores_zero_and_a_nearer_student_lower():
    assert channel_distillation(TEACHER + maps(3, 2, 4, 1, 1), TEACHER).item() == pytest.approx(0, abs=1e-12)
    halfway = (STUDENT + TEACHER) / 2
    assert channel_distillation(halfway, TEACHER) < channel_distillation(STUDENT, TEACHER)


def test_every_image_counts_as_much_as_the_first():
    swapped = channel_distillation(STUDENT.flip(0), TEACHER.flip(0))
    torch.testing.assert_close(swapped, channel_distillation(STUDENT, TEACHER))


def test_gradient_flows_to_the_student_where_valid_and_not_to_the_teacher():
    student, teacher = STUDENT.clone().requires_grad_(), TEACHER.clone().requires_grad_()
    channel_distillation(student, teacher, valid=VALID).backward()
    assert teacher.grad is None
    torch.testing.assert_close(student.grad.abs().sum(dim=1) > 0, VALID)


def test_invalid_positions_have_no_influence():
    student = torch.where(VALID[:, None], STUDENT, 1e4)
    teacher = torch.where(VALID[:, None], TEACHER, -1e4)
    changed = channel_distillation(student.float(), teacher.float(), valid=VALID)
    torch.testing.assert_close(changed, channel_distillation(STUDENT.float(), TEACHER.float(), valid=VALID))


def test_half_precision_is_computed_in_float32():
    half = STUDENT.half(), TEACHER.half()
    found = channel_distillation(*half, valid=VALID)
    expected = channel_distillation(half[0].float(), half[1].float(), valid=VALID)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
