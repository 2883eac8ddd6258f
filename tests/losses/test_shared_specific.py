import math

import pytest
import torch

from crodino_lib.losses.shared_specific import modality_cross_entropy, shared_distance


def maps(count, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(2, 3, 2, 2, generator=generator, dtype=dtype) for _ in range(count)]


@pytest.mark.parametrize(
    ("count", "pairs"), [(1, []), (2, [(0, 1)]), (3, [(0, 1), (1, 2), (2, 0)]), (4, [(0, 1), (1, 2), (2, 3), (3, 0)])]
)
def test_distance_equals_its_definition_over_a_cycle_of_pairs(count, pairs):
    features = maps(count)
    expected = 0.0
    for one, other in pairs:
        expected += (
            sum(abs(a - b) for a, b in zip(features[one].flatten(), features[other].flatten(), strict=True)) / 24
        )
    assert shared_distance(features).item() == pytest.approx(float(expected), rel=1e-6)


def test_one_modality_alone_has_no_distance_and_no_gradient():
    (alone,) = maps(1)
    shared_distance([alone.requires_grad_()]).backward()
    assert not alone.grad.any()


def test_equal_features_have_no_distance_and_a_step_brings_unequal_ones_nearer():
    one, other = (m.requires_grad_() for m in maps(2))
    assert shared_distance([one, one, one]).item() == 0
    before = shared_distance([one, other])
    before.backward()
    assert shared_distance([one - 0.1 * one.grad, other]) < before
    assert shared_distance([one, other - 0.1 * other.grad]) < before


@pytest.mark.parametrize("modalities", [None, [2, 0, 1], [1, 1, 2]])
def test_modality_cross_entropy_equals_its_definition(modalities):
    logits = list(torch.randn(3, 4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64))
    total = 0.0
    for entry, m in zip(logits, modalities or [0, 1, 2], strict=True):
        for row in entry.tolist():
            total += (math.log(sum(map(math.exp, row))) - row[m]) / 12
    assert modality_cross_entropy(logits, modalities).item() == pytest.approx(total, rel=1e-6)


def test_golden_values_and_an_absent_modality():
    right, cannot_tell = torch.tensor([[-10.0, 10.0]]), torch.zeros(1, 2)
    assert modality_cross_entropy([cannot_tell, cannot_tell]).item() == pytest.approx(0.693147, rel=1e-6)
    assert modality_cross_entropy([right], [1]).item() == pytest.approx(0, abs=1e-6)
    assert modality_cross_entropy([right]).item() == pytest.approx(20, rel=1e-6)


def test_every_entry_needs_its_modality():
    with pytest.raises(ValueError, match="zip"):
        modality_cross_entropy([torch.zeros(1, 2)], [0, 1])


def test_half_precision_features_are_compared_in_float32():
    features = maps(3, torch.bfloat16)
    torch.testing.assert_close(shared_distance(features), shared_distance([f.float() for f in features]))
    logits = [f.flatten(1) for f in features]
    assert modality_cross_entropy(logits).dtype == torch.float32
