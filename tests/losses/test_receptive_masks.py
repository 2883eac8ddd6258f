import math

import pytest
import torch

from crodino_lib.losses.receptive_masks import mask_overlap, masked_distillation, receptive_masks


def random(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


STUDENT, TEACHER, TOKENS = random(0, 2, 4, 3, 5), random(1, 2, 4, 3, 5), random(2, 3, 4)
MASKS = receptive_masks(TEACHER, TOKENS)
WEIGHT = random(3, 2, 3, 5).clamp(0, 1)  # about half of it is 0


class TestReceptiveMasks:
    def test_equal_their_definition(self):
        assert MASKS.shape == (2, 3, 3, 5)
        for n, t, y, x in torch.cartesian_prod(*map(torch.arange, MASKS.shape)).tolist():
            product = sum(TEACHER[n, c, y, x].item() * TOKENS[t, c].item() for c in range(4))
            assert MASKS[n, t, y, x].item() == pytest.approx(1 / (1 + math.exp(-product)), rel=1e-6)

    def test_are_learned_through_their_tokens(self):
        tokens = TOKENS.clone().requires_grad_()
        mask_overlap(receptive_masks(TEACHER, tokens)).backward()
        assert tokens.grad.all()


class TestMaskOverlap:
    @pytest.mark.parametrize("strength", [0.5, 1e-3, 1e-4])
    def test_equal_masks_overlap_wholly_however_faint(self, strength):
        assert mask_overlap(torch.full((1, 2, 4, 4), strength)).item() == pytest.approx(1, abs=1e-4)

    def test_equals_its_definition(self):
        dices = []
        for masks in MASKS:
            for i in range(3):
                for j in range(3):
                    if i != j:
                        pairs = list(zip(masks[i].flatten().tolist(), masks[j].flatten().tolist(), strict=True))
                        dices.append(2 * sum(a * b for a, b in pairs) / sum(a * a + b * b for a, b in pairs))
        assert mask_overlap(MASKS).item() == pytest.approx(sum(dices) / len(dices), rel=1e-6)

    def test_a_single_token_is_zero_with_zero_gradients(self):
        """The official code divides by no pairs."""
        masks = MASKS[:, :1].clone().requires_grad_()
        loss = mask_overlap(masks)
        loss.backward()
        assert loss.item() == 0
        assert not masks.grad.any()

    def test_disjoint_and_empty_masks_do_not_overlap(self):
        masks = torch.zeros(1, 3, 2, 2)
        masks[0, 0, 0], masks[0, 1, 1] = 1, 1
        assert mask_overlap(masks).item() == 0


class TestMaskedDistillation:
    @pytest.mark.parametrize("valid", [None, WEIGHT > 0, WEIGHT])
    def test_equals_its_definition(self, valid):
        masks = MASKS if valid is None else MASKS * valid[:, None]
        terms = []
        for n in range(2):
            for t in range(3):
                for c in range(4):
                    area = error = 0.0
                    for y in range(3):
                        for x in range(5):
                            mask = masks[n, t, y, x].item()
                            area += mask
                            error += (mask * (STUDENT[n, c, y, x] - TEACHER[n, c, y, x]).item()) ** 2
                    terms.append(error / (area + 1e-5))
        expected = 0.5 * sum(terms) / len(terms)
        assert masked_distillation(STUDENT, TEACHER, MASKS, valid).item() == pytest.approx(expected, rel=1e-6)

    def test_the_teacher_itself_scores_zero_and_a_nearer_student_lower(self):
        assert masked_distillation(TEACHER, TEACHER, MASKS).item() == 0
        halfway = (STUDENT + TEACHER) / 2
        assert masked_distillation(halfway, TEACHER, MASKS) < masked_distillation(STUDENT, TEACHER, MASKS)

    def test_gradient_flows_to_the_student_where_valid_and_not_to_teacher_or_masks(self):
        student, teacher, masks = (x.clone().requires_grad_() for x in (STUDENT, TEACHER, MASKS))
        masked_distillation(student, teacher, masks, WEIGHT).backward()
        assert teacher.grad is None
        assert masks.grad is None
        torch.testing.assert_close(student.grad.abs().sum(dim=1) > 0, WEIGHT > 0)

    def test_invalid_positions_have_no_influence(self):
        changed = torch.where(WEIGHT[:, None] > 0, STUDENT, 1e4)
        expected = masked_distillation(STUDENT, TEACHER, MASKS, WEIGHT)
        torch.testing.assert_close(masked_distillation(changed, TEACHER, MASKS, WEIGHT), expected)

    def test_nothing_valid_is_zero_with_zero_gradients(self):
        student = STUDENT.clone().requires_grad_()
        loss = masked_distillation(student, TEACHER, MASKS, torch.zeros(2, 3, 5, dtype=torch.bool))
        loss.backward()
        assert loss.item() == 0
        assert not student.grad.any()


def test_half_precision_is_computed_in_float32():
    student, teacher, tokens = STUDENT.half(), TEACHER.half(), TOKENS.half()
    masks = receptive_masks(teacher, tokens)
    expected = receptive_masks(teacher.float(), tokens.float())
    torch.testing.assert_close(masks, expected, rtol=0, atol=0)
    half = masks.half()
    torch.testing.assert_close(mask_overlap(half), mask_overlap(half.float()), rtol=0, atol=0)
    torch.testing.assert_close(
        masked_distillation(student, teacher, half),
        masked_distillation(student.float(), teacher.float(), half.float()),
        rtol=0,
        atol=0,
    )
