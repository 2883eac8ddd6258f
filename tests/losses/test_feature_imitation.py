import pytest
import torch
import torch.nn.functional as F

from crodino_lib.losses.feature_imitation import feature_imitation


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_equals_its_definition():
    student, teacher = random(2, 5, 3, 4), random(2, 5, 3, 4, seed=1)
    distances = []
    for n in range(2):
        for y in range(3):
            for x in range(4):
                s, t = student[n, :, y, x].tolist(), teacher[n, :, y, x].tolist()
                s_length, t_length = (sum(v * v for v in vector) ** 0.5 for vector in (s, t))
                distances.append(sum((a / t_length - b / s_length) ** 2 for a, b in zip(t, s, strict=True)))
    assert feature_imitation(student, teacher).item() == pytest.approx(sum(distances) / 24, rel=1e-6)


def test_is_two_less_twice_the_cosine():
    student, teacher = random(2, 5, 3, 4), random(2, 5, 3, 4, seed=1)
    cosine = F.cosine_similarity(student, teacher, dim=1).mean()
    assert feature_imitation(student, teacher).item() == pytest.approx(2 - 2 * cosine.item())


@pytest.mark.parametrize(("factor", "golden"), [(3.0, 0.0), (-0.5, 4.0)])
def test_equal_directions_score_zero_and_opposite_ones_four(factor, golden):
    features = random(1, 4, 2, 2)
    assert feature_imitation(features, factor * features).item() == pytest.approx(golden, abs=1e-12)


def test_gradients_reach_the_student_and_not_the_teacher():
    student, teacher = random(1, 4, 2, 2).requires_grad_(), random(1, 4, 2, 2, seed=1).requires_grad_()
    before = feature_imitation(student, teacher)
    before.backward()
    assert teacher.grad is None
    assert feature_imitation(student - 0.1 * student.grad, teacher) < before


def test_positions_without_features_leave_gradients_finite():
    student = torch.zeros(1, 4, 2, 2).requires_grad_()
    loss = feature_imitation(student, torch.rand(1, 4, 2, 2))
    loss.backward()
    assert loss.item() == pytest.approx(1)  # no direction: the teacher's unit length
    assert student.grad.isfinite().all()


def test_positions_that_are_not_valid_do_not_count():
    generator = torch.Generator().manual_seed(5)
    student, teacher = (torch.randn(2, 3, 4, 5, generator=generator) for _ in range(2))
    valid = torch.zeros(2, 4, 5)
    valid[:, 1] = 1
    expected = feature_imitation(student[:, :, 1:2], teacher[:, :, 1:2])
    torch.testing.assert_close(feature_imitation(student, teacher, valid), expected)
    assert feature_imitation(student, teacher, 0 * valid).item() == 0
