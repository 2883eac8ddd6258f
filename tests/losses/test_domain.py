"""The domain loss as intended and as released, and the reversal of gradients."""

import math

import pytest
import torch

from crodino_lib.losses import domain_cross_entropy, reverse_gradient

CORRECT = torch.tensor([[10.0, -10.0], [-10.0, 10.0]], dtype=torch.float64)  # a sample of each modality


def both(logits, as_released):
    """Mean of the losses of a sample of modality 0 and of one of modality 1."""
    return sum(domain_cross_entropy(logits[m : m + 1], m, as_released) for m in (0, 1)) / 2


@pytest.mark.parametrize(
    ("logits", "released", "fixed"),
    [(CORRECT, 10.0, 2.0612e-9), (-CORRECT, 10.0, 20.0), (0 * CORRECT, 0.693147, 0.693147)],
    ids=["correct", "inverted", "zeros"],
)
def test_golden_values_are_means_over_the_two_modalities(logits, released, fixed):
    assert both(logits, as_released=True).item() == pytest.approx(released, rel=1e-6)
    assert both(logits, as_released=False).item() == pytest.approx(fixed, rel=1e-4)


@pytest.mark.parametrize("modality", [0, 1, 2])
def test_equals_its_definition(modality):
    logits = torch.randn(5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    fixed, released = 0.0, 0.0
    for row in logits.tolist():
        log_probabilities = [z - math.log(sum(map(math.exp, row))) for z in row]
        fixed -= log_probabilities[modality] / 5
        released -= sum(log_probabilities) / 5 if modality == 0 else 0
    assert domain_cross_entropy(logits, modality).item() == pytest.approx(fixed, rel=1e-6)
    assert domain_cross_entropy(logits, modality, as_released=True).item() == pytest.approx(released, rel=1e-6)


def test_as_released_the_second_modality_has_exactly_no_gradient():
    logits = torch.randn(4, 2, generator=torch.Generator().manual_seed(0)).requires_grad_()
    domain_cross_entropy(logits, 1, as_released=True).backward()
    assert not logits.grad.any()
    domain_cross_entropy(logits, 1).backward()
    assert logits.grad.any()


def accuracy_after_training(as_released, mirrored):
    """Accuracy of a linear discriminator on features that a line separates."""
    generator = torch.Generator().manual_seed(0)
    features = [torch.randn(64, 3, generator=generator) + shift for shift in (-3.0, 3.0)]
    weight, bias = torch.randn(3, 2, generator=generator), torch.randn(2, generator=generator)
    if mirrored:
        weight, bias = weight.flip(1), bias.flip(0)
    parameters = [weight.requires_grad_(), bias.requires_grad_()]
    optimiser = torch.optim.SGD(parameters, lr=0.1)
    for _ in range(60):
        optimiser.zero_grad()
        sum(domain_cross_entropy(f @ weight + bias, m, as_released) for m, f in enumerate(features)).backward()
        optimiser.step()
    right = [((f @ weight + bias).argmax(dim=1) == m).float().mean().item() for m, f in enumerate(features)]
    return sum(right) / 2


def test_a_discriminator_learns_from_the_fixed_loss_and_not_from_the_released_one():
    """The released loss cannot tell a discriminator from its mirror image, so over both starts it stays at chance."""
    fixed, released = (
        [accuracy_after_training(as_released, mirrored) for mirrored in (False, True)] for as_released in (False, True)
    )
    assert min(fixed) > 0.98
    assert sum(released) / 2 == pytest.approx(0.5, abs=0.02)


def test_reversal_keeps_features_and_turns_their_gradient():
    features = torch.randn(3, 4).requires_grad_()
    reversed_features = reverse_gradient(features, 0.3)
    assert reversed_features.equal(features)
    (reversed_features**2).sum().backward()
    torch.testing.assert_close(features.grad, -0.3 * 2 * features.detach())


def test_below_a_reversal_the_loss_rises_while_the_discriminator_lowers_it():
    features, weight = torch.randn(8, 3).requires_grad_(), torch.randn(3, 2).requires_grad_()
    before = domain_cross_entropy(reverse_gradient(features, 1.0) @ weight, 1)
    before.backward()
    assert domain_cross_entropy((features - features.grad) @ weight, 1) > before
    assert domain_cross_entropy(features @ (weight - 0.1 * weight.grad), 1) < before
