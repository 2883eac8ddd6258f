import pytest
import torch

from crodino_lib.losses.masked_generation import alpha_for, masked_generation


def random(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


GENERATED, TEACHER = random(0, 2, 4, 3, 5), random(1, 2, 4, 3, 5)
WEIGHT = random(2, 2, 3, 5).clamp(0, 1)  # about half of it is 0


@pytest.mark.parametrize("valid", [None, WEIGHT > 0, WEIGHT])
def test_equals_its_definition(valid):
    weight = torch.ones(2, 3, 5) if valid is None else valid
    total = 0.0
    for n, y, x in torch.nonzero(weight).tolist():
        error = sum((GENERATED[n, c, y, x] - TEACHER[n, c, y, x]).item() ** 2 for c in range(4))
        total += float(weight[n, y, x]) * error
    found = masked_generation(GENERATED, TEACHER, alpha=0.3, valid=valid)
    assert found.item() == pytest.approx(0.3 * total / 2, rel=1e-6)


def test_alpha_keeps_the_weight_of_the_mean_squared_error():
    assert alpha_for(2048, 64, 64) == pytest.approx(2e-5)
    assert alpha_for(2048, 64, 64) * 2048 * 64 * 64 == pytest.approx(167.77, abs=0.005)
    assert alpha_for(512, 32, 32) == pytest.approx(3.2e-4)
    expected = 167.77216 * torch.nn.functional.mse_loss(GENERATED, TEACHER)
    torch.testing.assert_close(masked_generation(GENERATED, TEACHER, alpha_for(4, 3, 5)), expected)


def test_the_teacher_itself_scores_zero_and_a_nearer_map_lower():
    assert masked_generation(TEACHER, TEACHER).item() == 0
    halfway = (GENERATED + TEACHER) / 2
    assert masked_generation(halfway, TEACHER) < masked_generation(GENERATED, TEACHER)


def test_gradient_flows_to_the_generated_map_where_valid_and_not_to_the_teacher():
    generated, teacher = GENERATED.clone().requires_grad_(), TEACHER.clone().requires_grad_()
    masked_generation(generated, teacher, valid=WEIGHT).backward()
    assert teacher.grad is None
    torch.testing.assert_close(generated.grad.abs().sum(dim=1) > 0, WEIGHT > 0)


def test_invalid_positions_have_no_influence_and_none_valid_is_zero():
    changed = torch.where(WEIGHT[:, None] > 0, GENERATED, 1e4)
    expected = masked_generation(GENERATED, TEACHER, valid=WEIGHT)
    torch.testing.assert_close(masked_generation(changed, TEACHER, valid=WEIGHT), expected)
    assert masked_generation(GENERATED, TEACHER, valid=torch.zeros(2, 3, 5)).item() == 0


def test_half_precision_is_computed_in_float32():
    half = 100 * GENERATED.half(), TEACHER.half()  # the sum of squares is beyond the range of float16
    found = masked_generation(*half)
    torch.testing.assert_close(found, masked_generation(half[0].float(), half[1].float()), rtol=0, atol=0)
