import math

import pytest
import torch

from crodino_lib.losses.supervised_contrast import supervised_contrast

E1, E2 = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])


def brute_force(vectors, classes, temperature, negatives, memory=(), memory_classes=()):
    """The definition, one exponential at a time."""
    unit = [v / v.norm() for v in [*vectors.double(), *memory]]
    others = [v / v.norm() for v in negatives.double()]
    labels = [*classes.tolist(), *memory_classes]
    total, anchors = 0.0, 0
    for i in range(len(vectors)):
        anchor = unit[i]
        positives = [j for j in range(len(unit)) if j != i and labels[j] == labels[i]]
        if not positives:
            continue
        denominator = sum(math.exp(anchor @ unit[k] / temperature) for k in range(len(unit)) if k != i)
        denominator += sum(math.exp(anchor @ other / temperature) for other in others)
        total -= sum(math.log(math.exp(anchor @ unit[j] / temperature) / denominator) for j in positives) / len(
            positives
        )
        anchors += 1
    return total / max(anchors, 1)


@pytest.mark.parametrize(("labels", "golden"), [((0, 0, 1, 1), 10.000091), ((0, 1, 0, 1), 9.0796e-05)])
def test_golden_values(labels, golden):
    loss = supervised_contrast(torch.stack([E1, E2, E1, E2]).double(), torch.tensor(labels), temperature=0.1)
    assert loss.item() == pytest.approx(golden, rel=1e-4, abs=1e-9)


@pytest.mark.parametrize("negatives", [0, 5])
@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_equals_its_definition(negatives, temperature):
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(12, 6, generator=generator, dtype=torch.float64)
    keys = torch.randn(negatives, 6, generator=generator, dtype=torch.float64)
    classes = torch.tensor([0, 0, 1, 1, 1, 2, 3, 3, 0, 2, 4, 5])  # classes 4 and 5 have no positive
    found = supervised_contrast(vectors, classes, temperature, negatives=keys if negatives else None)
    assert found.item() == pytest.approx(brute_force(vectors, classes, temperature, keys), rel=1e-9)


@pytest.mark.parametrize("negatives", [0, 5])
def test_with_a_memory_it_equals_its_definition(negatives):
    generator = torch.Generator().manual_seed(1)
    vectors = torch.randn(7, 6, generator=generator, dtype=torch.float64)
    memory = torch.randn(6, 6, generator=generator, dtype=torch.float64)
    keys = torch.randn(negatives, 6, generator=generator, dtype=torch.float64)
    classes = torch.tensor([0, 0, 1, 2, 3, 0, 4])  # 1 and 2 have a positive in the memory alone, 3 and 4 none
    memory_classes = torch.tensor([1, 1, 2, 0, 5, 5])
    found = supervised_contrast(
        vectors, classes, 0.5, keys if negatives else None, memory=memory, memory_classes=memory_classes
    )
    expected = brute_force(vectors, classes, 0.5, keys, memory, memory_classes.tolist())
    assert found.item() == pytest.approx(expected, rel=1e-9)


def test_an_empty_memory_changes_nothing():
    vectors, labels = torch.stack([E1, E2, E1, E2]), torch.tensor([0, 1, 1, 0])
    empty = supervised_contrast(vectors, labels, memory=vectors[:0], memory_classes=labels[:0])
    torch.testing.assert_close(empty, supervised_contrast(vectors, labels), rtol=0, atol=0)


@pytest.mark.parametrize("given", [{"memory": torch.ones(3, 2)}, {"memory_classes": torch.arange(3)}])
def test_a_memory_without_its_classes_is_refused(given):
    with pytest.raises(ValueError, match=r"memory holds .*memory_classes"):
        supervised_contrast(torch.stack([E1, E1]), torch.tensor([0, 0]), **given)


def test_vectors_of_one_class_together_score_lower_than_apart():
    labels = torch.tensor([0, 0, 1, 1])
    together = supervised_contrast(torch.stack([E1, E1, E2, E2]), labels)
    apart = supervised_contrast(torch.stack([E1, E2, E1, E2]), labels)
    assert together < apart


def test_a_negative_near_an_anchor_raises_the_loss_and_is_pushed_away():
    vectors, labels = torch.stack([E1, E1, E2, E2]), torch.tensor([0, 0, 1, 1])
    near = torch.tensor([[1.0, 0.1]], requires_grad=True)
    loss = supervised_contrast(vectors, labels, negatives=near)
    assert loss > supervised_contrast(vectors, labels)
    loss.backward()
    moved = (near - 0.1 * near.grad).detach()
    assert supervised_contrast(vectors, labels, negatives=moved) < loss


def test_negatives_are_never_anchors():
    """Any number of negatives equal to each other adds no anchor term of its own."""
    vectors, labels = torch.stack([E1, E1]), torch.tensor([0, 0])
    far = torch.stack([-E1] * 8)
    expected = math.log(1 + 8 * math.exp(-20))
    assert supervised_contrast(vectors, labels, negatives=far).item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("labels", [[], [0], [0, 1, 2]])
def test_without_positives_it_is_zero_with_zero_gradients(labels):
    vectors = torch.rand(len(labels), 4, requires_grad=True)
    loss = supervised_contrast(vectors, torch.tensor(labels, dtype=torch.int64))
    loss.backward()
    assert loss.item() == 0
    assert not vectors.grad.any()


def test_is_computed_in_float32_under_autocast():
    vectors = torch.rand(8, 16)
    labels = torch.arange(8) % 3
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = supervised_contrast(vectors, labels)
    torch.testing.assert_close(inside, supervised_contrast(vectors, labels), rtol=0, atol=0)
