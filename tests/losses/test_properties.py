"""Properties that many losses share: who gets gradients, what counts, what scores zero, float32."""

import pytest
import torch

from crodino_lib.losses import (
    channel_distillation,
    cosine_overlap,
    cross_image_similarity,
    decoupled_distillation,
    feature_imitation,
    frobenius_overlap,
    info_nce,
    mask_overlap,
    masked_distillation,
    masked_generation,
    masked_l1,
    memory_similarity,
    pixel_contrast,
    pixel_distillation,
    prototype_map_distance,
    receptive_masks,
    region_vectors,
    segmentation_cross_entropy,
    selected_distillation,
    shared_distance,
    supervised_contrast,
)
from tests.losses.helpers import labels_with_holes, normal, uniform

STUDENT, TEACHER = normal(2, 4, 3, 5), normal(2, 4, 3, 5, seed=1)
VALID = normal(2, 3, 5, seed=2).clamp(0, 1)  # about half of it is 0
LABELS = torch.randint(4, (2, 3, 5), generator=torch.Generator().manual_seed(3))
LABELS[:, 0] = 255
MASKS = uniform(2, 3, 3, 5, seed=4).bfloat16().double()  # so that half precision is exact
KEYS = normal(7, 4, seed=5).bfloat16().double()
ROTATION = torch.linalg.qr(normal(4, 4, seed=6))[0]


def masked(student, teacher, valid=None):
    return masked_distillation(student, teacher, MASKS.to(student.dtype), valid)


def memory(student, teacher):
    return memory_similarity(student[:, :, 0, 0], teacher[:, :, 0, 0], KEYS.to(student.dtype))


def decoupled(student, teacher):
    return decoupled_distillation(student, teacher, LABELS)


def prototypes(student, teacher):
    return prototype_map_distance(student, teacher, LABELS, 5)


def rotated(teacher):
    return torch.einsum("dc,bchw->bdhw", ROTATION, teacher)


AGREEING = {  # loss of a student and a teacher -> the teacher changed in a way that the loss ignores
    pixel_distillation: lambda teacher: teacher + normal(2, 1, 3, 5, seed=7),
    channel_distillation: lambda teacher: teacher + normal(2, 4, 1, 1, seed=7),
    feature_imitation: lambda teacher: 3 * teacher,
    masked_generation: lambda teacher: teacher,
    masked: lambda teacher: teacher,
    decoupled: lambda teacher: teacher + 3,
    cross_image_similarity: rotated,
    memory: lambda teacher: 3 * teacher,
    prototypes: rotated,
}
WITH_VALID = [pixel_distillation, channel_distillation, feature_imitation, masked_generation, masked]
taught = pytest.mark.parametrize("loss", AGREEING, ids=lambda loss: loss.__name__)
with_valid = pytest.mark.parametrize("loss", WITH_VALID, ids=lambda loss: loss.__name__)


@taught
def test_a_student_that_agrees_scores_zero_and_a_nearer_one_lower(loss):
    assert loss(AGREEING[loss](TEACHER), TEACHER).item() == pytest.approx(0, abs=1e-12)
    assert loss(0.2 * STUDENT + 0.8 * TEACHER, TEACHER) < loss(STUDENT, TEACHER)


@taught
def test_gradient_flows_to_the_student_and_not_to_the_teacher(loss):
    student, teacher = STUDENT.clone().requires_grad_(), TEACHER.clone().requires_grad_()
    loss(student, teacher).backward()
    assert student.grad.any()
    assert student.grad.isfinite().all()
    assert teacher.grad is None
    if loss in (decoupled, prototypes):
        assert torch.equal(student.grad.abs().sum(dim=1) > 0, LABELS != 255)


@with_valid
def test_only_valid_positions_count_and_get_gradients(loss):
    student = STUDENT.clone().requires_grad_()
    loss(student, TEACHER, valid=VALID).backward()
    assert torch.equal(student.grad.abs().sum(dim=1) > 0, VALID > 0)
    changed = [torch.where(VALID[:, None] > 0, x, value) for x, value in ((STUDENT, 1e4), (TEACHER, -1e4))]
    torch.testing.assert_close(loss(*changed, valid=VALID), loss(STUDENT, TEACHER, valid=VALID))
    torch.testing.assert_close(loss(STUDENT, TEACHER, valid=torch.ones_like(VALID)), loss(STUDENT, TEACHER))


HALVES = normal(8, 4), normal(8, 4, seed=1)
CLASSES = torch.arange(8) % 3


@pytest.mark.parametrize(
    ("loss", "tensors"),
    [
        *[(loss, (STUDENT, TEACHER)) for loss in AGREEING],
        (lambda s: segmentation_cross_entropy(s, LABELS), (STUDENT,)),
        (lambda s, t: selected_distillation(s, t, LABELS), (STUDENT, TEACHER)),
        (receptive_masks, (TEACHER, KEYS)),
        (mask_overlap, (MASKS,)),
        (lambda s: region_vectors(s, labels_with_holes(), 4).vectors, (STUDENT,)),
        (lambda a, b: shared_distance([a, b]), (STUDENT, TEACHER)),
        (cosine_overlap, (STUDENT, TEACHER)),
        (info_nce, HALVES),
        (lambda v: supervised_contrast(v, CLASSES), HALVES[:1]),
        (lambda a, k: pixel_contrast(a, CLASSES, k, CLASSES), HALVES),
    ],
)
def test_half_precision_is_computed_in_float32(loss, tensors):
    half = [tensor.bfloat16() for tensor in tensors]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = loss(*half)
    torch.testing.assert_close(found, loss(*(tensor.float() for tensor in half)), rtol=0, atol=0)


NOTHING = torch.full((2, 3, 5), 255)


@pytest.mark.parametrize(
    ("loss", "tensors"),
    [
        *[(lambda s, f=f: f(s, TEACHER, valid=torch.zeros(2, 3, 5, dtype=torch.bool)), (STUDENT,)) for f in WITH_VALID],
        (lambda s: segmentation_cross_entropy(s, NOTHING), (STUDENT,)),
        (lambda s: decoupled_distillation(s, TEACHER, NOTHING), (STUDENT,)),
        (lambda s: selected_distillation(s, TEACHER, NOTHING), (STUDENT,)),
        (lambda s: selected_distillation(s, -STUDENT, LABELS), (STUDENT,)),  # no position ranks the classes alike
        (lambda s: prototype_map_distance(s, TEACHER, NOTHING, 4), (STUDENT,)),
        (lambda s: masked_l1(s, TEACHER, torch.zeros(2, 1, 3, 5)), (STUDENT,)),
        (lambda s: memory_similarity(s, s.detach(), KEYS), (KEYS[:0],)),
        (lambda s: memory_similarity(s, s.detach(), KEYS[:0]), (KEYS,)),
        (lambda s: memory_similarity(s, s.detach(), KEYS[:0]), (KEYS[:0],)),
        (mask_overlap, (MASKS[:, :1],)),  # the official code divides by no pairs
        (lambda s: shared_distance([s]), (STUDENT,)),
        *[(info_nce, (KEYS[:rows], KEYS[:rows])) for rows in (0, 1)],
        *[(lambda v, n=n: supervised_contrast(v, torch.arange(n)), (KEYS[:n],)) for n in (0, 1, 3)],
    ],
)
def test_where_nothing_counts_it_is_zero_with_zero_gradients(loss, tensors):
    given = [tensor.clone().requires_grad_() for tensor in tensors]
    value = loss(*given)
    value.backward()
    assert value.item() == 0
    assert not any(tensor.grad.any() for tensor in given)


@pytest.mark.parametrize(
    ("loss", "pair", "rate"),
    [
        (cosine_overlap, (uniform(1, 4, 2, 2), uniform(1, 4, 2, 2, seed=1)), 0.1),
        (frobenius_overlap, HALVES, 1),
        (info_nce, HALVES, 0.1),
        (lambda a, b: shared_distance([a, b]), (STUDENT, TEACHER), 0.1),
        (lambda a, k: pixel_contrast(a, CLASSES, k, CLASSES, hardest=0.5), HALVES, 0.1),
    ],
)
def test_gradients_reach_both_sides_and_a_step_of_either_lowers_the_loss(loss, pair, rate):
    one, other = (tensor.clone().requires_grad_() for tensor in pair)
    before = loss(one, other)
    before.backward()
    assert loss(one - rate * one.grad, other) < before
    assert loss(one, other - rate * other.grad) < before
