import math

import pytest
import torch

from crodino_lib.losses.pixel_distillation import pixel_distillation
from crodino_lib.losses.segmentation import segmentation_cross_entropy


def maps(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


STUDENT, TEACHER = maps(0, 2, 4, 3, 5), maps(1, 2, 4, 3, 5)
WEIGHT = maps(2, 2, 3, 5).clamp(0, 1)  # about half of it is 0
ONE_STUDENT, ONE_TEACHER = torch.tensor([1.0, 2, 0]).view(1, 3, 1, 1), torch.tensor([2.0, 1, 0]).view(1, 3, 1, 1)


def softmax(scores):
    powers = [math.exp(s) for s in scores]
    return [p / sum(powers) for p in powers]


def brute_force(student, teacher, temperature, weight):
    """The definition, one position and one class at a time."""
    total = 0.0
    for n, y, x in torch.nonzero(weight).tolist():
        p, q = softmax(teacher[n, :, y, x] / temperature), softmax(student[n, :, y, x] / temperature)
        total += weight[n, y, x].item() * sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    return temperature**2 * total / weight.sum().item()


@pytest.mark.parametrize(("temperature", "golden"), [(1, 0.420512), (4, 0.370932)])
def test_golden_values(temperature, golden):
    assert pixel_distillation(ONE_STUDENT, ONE_TEACHER, temperature).item() == pytest.approx(golden, abs=1e-6)


def test_golden_value_of_half_cross_entropy_and_half_distillation():
    cross_entropy = segmentation_cross_entropy(ONE_STUDENT, torch.zeros(1, 1, 1, dtype=torch.int64))
    total = 0.5 * cross_entropy + 0.5 * pixel_distillation(ONE_STUDENT, ONE_TEACHER, temperature=4)
    assert total.item() == pytest.approx(0.889269, abs=1e-6)


@pytest.mark.parametrize("temperature", [1, 4])
@pytest.mark.parametrize("valid", [None, WEIGHT > 0, WEIGHT])
def test_equals_its_definition(temperature, valid):
    weight = torch.ones(2, 3, 5) if valid is None else valid.double()
    expected = brute_force(STUDENT, TEACHER, temperature, weight)
    assert pixel_distillation(STUDENT, TEACHER, temperature, valid).item() == pytest.approx(expected, rel=1e-6)


def test_agreement_up_to_a_constant_per_position_scores_zero_and_a_nearer_student_lower():
    assert pixel_distillation(TEACHER + maps(3, 2, 1, 3, 5), TEACHER).item() == pytest.approx(0, abs=1e-12)
    halfway = (STUDENT + TEACHER) / 2
    assert pixel_distillation(halfway, TEACHER) < pixel_distillation(STUDENT, TEACHER)


def test_gradient_flows_to_the_student_where_valid_and_not_to_the_teacher():
    student, teacher = STUDENT.clone().requires_grad_(), TEACHER.clone().requires_grad_()
    pixel_distillation(student, teacher, valid=WEIGHT).backward()
    assert teacher.grad is None
    torch.testing.assert_close(student.grad.abs().sum(dim=1) > 0, WEIGHT > 0)


def test_invalid_positions_have_no_influence():
    changed = torch.where(WEIGHT[:, None] > 0, STUDENT, 1e4)
    assert pixel_distillation(changed, TEACHER, valid=WEIGHT) == pixel_distillation(STUDENT, TEACHER, valid=WEIGHT)


def test_nothing_valid_is_zero_with_zero_gradients():
    student = STUDENT.clone().requires_grad_()
    loss = pixel_distillation(student, TEACHER, valid=torch.zeros(2, 3, 5, dtype=torch.bool))
    loss.backward()
    assert loss.item() == 0
    assert not student.grad.any()


def test_half_precision_is_computed_in_float32():
    half = STUDENT.bfloat16(), TEACHER.bfloat16()
    torch.testing.assert_close(
        pixel_distillation(*half), pixel_distillation(half[0].float(), half[1].float()), rtol=0, atol=0
    )
