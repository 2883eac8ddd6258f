import math

import pytest
import torch

from crodino_lib.losses.decoupled_distillation import decoupled_distillation
from crodino_lib.losses.pixel_distillation import pixel_distillation


def maps(seed=0, classes=4):
    generator = torch.Generator().manual_seed(seed)
    student, teacher = (3 * torch.randn(2, classes, 3, 5, generator=generator, dtype=torch.float64) for _ in range(2))
    labels = torch.randint(classes, (2, 3, 5), generator=generator)
    labels[:, 0] = 255
    return student, teacher, labels


def test_equals_loops_over_labelled_positions():
    student, teacher, labels = maps()
    total, count = 0.0, 0
    for n in range(2):
        for y in range(3):
            for x in range(5):
                k = labels[n, y, x].item()
                if k == 255:
                    continue
                p, q = ((m[n, :, y, x] / 4).softmax(0).tolist() for m in (teacher, student))
                binary = p[k] * math.log(p[k] / q[k]) + (1 - p[k]) * math.log((1 - p[k]) / (1 - q[k]))
                wrong = [(p[c] / (1 - p[k]), q[c] / (1 - q[k])) for c in range(4) if c != k]
                total += binary + 8 * sum(a * math.log(a / b) for a, b in wrong)
                count += 1
    assert decoupled_distillation(student, teacher, labels).item() == pytest.approx(16 * total / count, rel=1e-9)


def test_the_parts_make_up_plain_distillation_where_the_teacher_is_equally_sure_everywhere():
    student, teacher, labels = maps()
    labels = torch.zeros_like(labels)
    teacher = teacher - teacher.logsumexp(dim=1, keepdim=True)
    sure = 0.7
    wrong = teacher[:, 1:] - teacher[:, 1:].logsumexp(dim=1, keepdim=True) + math.log(1 - sure)
    teacher = torch.cat([torch.full_like(wrong[:, :1], math.log(sure)), wrong], dim=1)
    decoupled = decoupled_distillation(student, teacher, labels, temperature=1, target=1, others=1 - sure)
    torch.testing.assert_close(decoupled, pixel_distillation(student, teacher, 1.0))


def test_gradients_reach_the_student_at_labelled_positions_and_never_the_teacher():
    student, teacher, labels = (m.requires_grad_() if m.is_floating_point() else m for m in maps())
    decoupled_distillation(student, teacher, labels).backward()
    assert teacher.grad is None
    assert not student.grad[:, :, 0].any()
    assert student.grad[:, :, 1:].abs().sum(dim=1).min() > 0


def test_agreement_and_a_picture_without_labels_score_zero():
    student, teacher, labels = maps()
    assert decoupled_distillation(teacher + 3, teacher, labels).item() == pytest.approx(0, abs=1e-12)
    loss = decoupled_distillation(student.requires_grad_(), teacher, torch.full_like(labels, 255))
    loss.backward()
    assert loss.item() == 0
    assert not student.grad.any()


def test_two_classes_and_a_sure_teacher_are_finite():
    student, teacher, labels = maps(classes=2)
    loss = decoupled_distillation(student.float().requires_grad_(), 1000 * teacher.float(), labels % 2)
    loss.backward()
    assert loss.isfinite()
