"""Distillation losses against loops over positions, golden values and what their official code gets wrong."""

import math

import pytest
import torch
import torch.nn.functional as F
from scipy.stats import kendalltau

from crodino_lib.losses import (
    alpha_for,
    channel_distillation,
    decoupled_distillation,
    feature_imitation,
    mask_overlap,
    masked_distillation,
    masked_generation,
    pixel_distillation,
    rank_correlation,
    receptive_masks,
    segmentation_cross_entropy,
    selected_distillation,
)
from tests.losses.helpers import divergence, normal, softmax

STUDENT, TEACHER = normal(2, 4, 3, 5), normal(2, 4, 3, 5, seed=1)
WEIGHT = normal(2, 3, 5, seed=2).clamp(0, 1)  # about half of it is 0
POSITIONS = torch.nonzero(torch.ones(2, 3, 5)).tolist()
ways_of_validity = pytest.mark.parametrize("valid", [None, WEIGHT > 0, WEIGHT], ids=["all", "bool", "weights"])


def weight_at(valid, n, y, x):
    return 1.0 if valid is None else float(valid[n, y, x])


class TestPixelDistillation:
    student, teacher = torch.tensor([1.0, 2, 0]).view(1, 3, 1, 1), torch.tensor([2.0, 1, 0]).view(1, 3, 1, 1)

    @pytest.mark.parametrize(("temperature", "golden"), [(1, 0.420512), (4, 0.370932)])
    def test_golden_values(self, temperature, golden):
        assert pixel_distillation(self.student, self.teacher, temperature).item() == pytest.approx(golden, abs=1e-6)

    def test_golden_value_of_half_cross_entropy_and_half_distillation(self):
        cross_entropy = segmentation_cross_entropy(self.student, torch.zeros(1, 1, 1, dtype=torch.int64))
        total = 0.5 * cross_entropy + 0.5 * pixel_distillation(self.student, self.teacher, temperature=4)
        assert total.item() == pytest.approx(0.889269, abs=1e-6)

    @pytest.mark.parametrize("temperature", [1, 4])
    @ways_of_validity
    def test_equals_its_definition(self, temperature, valid):
        total = weight = 0.0
        for n, y, x in POSITIONS:
            p, q = (softmax(scores[n, :, y, x] / temperature) for scores in (TEACHER, STUDENT))
            total += weight_at(valid, n, y, x) * divergence(p, q)
            weight += weight_at(valid, n, y, x)
        found = pixel_distillation(STUDENT, TEACHER, temperature, valid)
        assert found.item() == pytest.approx(temperature**2 * total / weight, rel=1e-6)


class TestChannelDistillation:
    @pytest.mark.parametrize(("temperature", "golden"), [(1, 1.554885), (4, 2.172324)])
    def test_golden_values(self, temperature, golden):
        student = torch.tensor([[0.0, 1, 2, 3], [1, 1, 1, 1]]).view(1, 2, 2, 2)
        teacher = torch.tensor([[3.0, 2, 1, 0], [0, 0, 0, 4]]).view(1, 2, 2, 2)
        assert channel_distillation(student, teacher, temperature).item() == pytest.approx(golden, abs=1e-6)

    @pytest.mark.parametrize("temperature", [1, 4])
    @ways_of_validity
    def test_equals_its_definition_over_valid_positions(self, temperature, valid):
        kept = torch.ones(2, 3, 5, dtype=torch.bool) if valid is None else valid > 0
        terms = []
        for n in range(2):
            for c in range(4):
                p, q = (softmax(scores[n, c][kept[n]] / temperature) for scores in (TEACHER, STUDENT))
                terms.append(divergence(p, q))
        found = channel_distillation(STUDENT, TEACHER, temperature, valid)
        assert found.item() == pytest.approx(temperature**2 * sum(terms) / len(terms), rel=1e-6)

    def test_an_image_without_a_valid_position_adds_nothing(self):
        """Its channel maps still count in the mean."""
        valid, student = WEIGHT > 0, STUDENT.clone().requires_grad_()
        valid[1] = False
        loss = channel_distillation(student, TEACHER, valid=valid)
        loss.backward()
        alone = channel_distillation(STUDENT[:1], TEACHER[:1], valid=valid[:1])
        assert loss.item() == pytest.approx(alone.item() / 2, rel=1e-9)
        assert not student.grad[1].any()

    def test_every_image_counts_as_much_as_the_first(self):
        swapped = channel_distillation(STUDENT.flip(0), TEACHER.flip(0))
        torch.testing.assert_close(swapped, channel_distillation(STUDENT, TEACHER))


class TestDecoupledDistillation:
    def maps(self, classes=4):
        generator = torch.Generator().manual_seed(0)
        student, teacher = (3 * torch.randn(2, classes, 3, 5, generator=generator).double() for _ in range(2))
        labels = torch.randint(classes, (2, 3, 5), generator=generator)
        labels[:, 0] = 255
        return student, teacher, labels

    def test_equals_loops_over_labelled_positions(self):
        student, teacher, labels = self.maps()
        terms = []
        for n, y, x in torch.nonzero(labels != 255).tolist():
            k = labels[n, y, x].item()
            p, q = (softmax(scores[n, :, y, x] / 4) for scores in (teacher, student))
            binary = divergence((p[k], 1 - p[k]), (q[k], 1 - q[k]))
            wrong = [[r[c] / (1 - r[k]) for c in range(4) if c != k] for r in (p, q)]
            terms.append(binary + 8 * divergence(*wrong))
        found = decoupled_distillation(student, teacher, labels)
        assert found.item() == pytest.approx(16 * sum(terms) / len(terms), rel=1e-9)

    def test_the_parts_make_up_plain_distillation_where_the_teacher_is_equally_sure_everywhere(self):
        student, teacher, labels = self.maps()
        sure = 0.7
        wrong = teacher[:, 1:] - teacher[:, 1:].logsumexp(dim=1, keepdim=True) + math.log(1 - sure)
        teacher = torch.cat([torch.full_like(wrong[:, :1], math.log(sure)), wrong], dim=1)
        zeros = torch.zeros_like(labels)
        decoupled = decoupled_distillation(student, teacher, zeros, temperature=1, target=1, others=1 - sure)
        torch.testing.assert_close(decoupled, pixel_distillation(student, teacher, 1.0))

    def test_two_classes_and_a_sure_teacher_are_finite(self):
        student, teacher, labels = self.maps(classes=2)
        student = student.float().requires_grad_()
        loss = decoupled_distillation(student, 1000 * teacher.float(), labels.where(labels == 255, labels % 2))
        loss.backward()
        assert loss.isfinite()
        assert student.grad.isfinite().all()


def ranked_maps():
    """Three positions of four classes, of which two agree, and the third is in reverse order."""
    student = torch.tensor([[2.0, 1, 0, -1], [0.5, -0.5, 1.5, 0], [0, 1, 2, 3]])
    teacher = torch.tensor([[3.0, 0, 1, -2], [1, -1, 0.5, 0.5], [3, 2, 1, 0.5]])
    student, teacher = (rows.T.reshape(1, 4, 1, 3) for rows in (student, teacher))
    return student, teacher, torch.tensor([0, 2, 1]).view(1, 1, 3)


class TestRankCorrelation:
    def test_golden_values(self):
        found = rank_correlation(*ranked_maps()[:2]).flatten().tolist()
        assert found == pytest.approx([0.666667, 0.547723, -1], abs=1e-6)

    def test_equals_loops_over_pairs_and_scipy_also_with_ties(self):
        one, other = ((2 * maps).round() for maps in (STUDENT, TEACHER))  # many ties
        found = rank_correlation(one, other)
        for n, y, x in POSITIONS:
            a, b = one[n, :, y, x].tolist(), other[n, :, y, x].tolist()
            same = untied_a = untied_b = 0
            for i in range(4):
                for j in range(i):
                    product = (a[i] - a[j]) * (b[i] - b[j])
                    same += (product > 0) - (product < 0)
                    untied_a, untied_b = untied_a + (a[i] != a[j]), untied_b + (b[i] != b[j])
            expected = same / math.sqrt(untied_a * untied_b) if untied_a and untied_b else 0
            assert found[n, y, x].item() == pytest.approx(expected, abs=1e-6)
            if untied_a and untied_b:
                assert expected == pytest.approx(kendalltau(a, b).statistic, abs=1e-12)

    def test_where_all_classes_are_tied_it_is_zero(self):
        assert not rank_correlation(torch.zeros_like(TEACHER), TEACHER).any()

    def test_the_ranking_counts_alone(self):
        assert torch.equal(rank_correlation(STUDENT.exp(), 3 * TEACHER + 1), rank_correlation(STUDENT, TEACHER))


with_and_without_target = pytest.mark.parametrize("remove_target", [False, True], ids=["released", "removed"])


class TestSelectedDistillation:
    labels = torch.randint(4, (2, 3, 5), generator=torch.Generator().manual_seed(3))
    labels[:, 0] = 255

    @pytest.mark.parametrize(("remove_target", "golden"), [(False, 0.141063), (True, 0.172327)])
    def test_golden_values(self, remove_target, golden):
        found = selected_distillation(*ranked_maps(), remove_target=remove_target)
        assert found.item() == pytest.approx(golden, abs=1e-6)

    @with_and_without_target
    @pytest.mark.parametrize("threshold", [-0.4, 0.0, 0.4])
    def test_equals_loops_over_labelled_positions(self, remove_target, threshold):
        terms = []
        for n, y, x in torch.nonzero(self.labels != 255).tolist():
            k = self.labels[n, y, x].item()
            s, t = (maps[n, :, y, x].tolist() for maps in (STUDENT, TEACHER))
            if kendalltau(s, t).statistic <= threshold:
                terms.append(0.0)  # counts in the mean
                continue
            s, t = ([0.0 if i == k else v for i, v in enumerate(row)] for row in (s, t))
            if remove_target:
                del s[k], t[k]
            terms.append(divergence(softmax(t), softmax(s)))
        assert 0 < terms.count(0.0) < len(terms)
        found = selected_distillation(STUDENT, TEACHER, self.labels, threshold, remove_target)
        assert found.item() == pytest.approx(sum(terms) / len(terms), rel=1e-6)

    @with_and_without_target
    def test_gradient_flows_to_the_wrong_classes_of_selected_positions_of_the_student_alone(self, remove_target):
        student, teacher = STUDENT.clone().requires_grad_(), TEACHER.clone().requires_grad_()
        selected_distillation(student, teacher, self.labels, remove_target=remove_target).backward()
        chosen = (self.labels != 255) & (rank_correlation(STUDENT, TEACHER) > 0)
        assert 0 < chosen.sum() < (self.labels != 255).sum()
        assert torch.equal(student.grad.abs().sum(dim=1) > 0, chosen)
        assert not student.grad.gather(1, self.labels.where(self.labels != 255, 0).unsqueeze(1)).any()
        assert teacher.grad is None

    def test_a_constant_per_position_counts_unless_the_right_class_is_removed(self):
        same, shifted = (selected_distillation(TEACHER + c, TEACHER, self.labels).item() for c in (0, 3))
        assert same == pytest.approx(0, abs=1e-12)
        assert shifted > 0.01
        removed = selected_distillation(TEACHER + 3, TEACHER, self.labels, remove_target=True)
        assert removed.item() == pytest.approx(0, abs=1e-12)

    @with_and_without_target
    def test_two_classes_and_large_logits_are_finite(self, remove_target):
        student, teacher = (1000 * maps[:, :2].float() for maps in (STUDENT, TEACHER))
        student.requires_grad_()
        labels = self.labels.where(self.labels == 255, self.labels % 2)
        loss = selected_distillation(student, teacher, labels, remove_target=remove_target)
        loss.backward()
        assert loss.isfinite()
        assert student.grad.isfinite().all()


class TestFeatureImitation:
    @ways_of_validity
    def test_equals_its_definition_and_two_less_twice_the_cosine(self, valid):
        total = cosines = weight = 0.0
        for n, y, x in POSITIONS:
            s, t = STUDENT[n, :, y, x].tolist(), TEACHER[n, :, y, x].tolist()
            s_length, t_length = (sum(v * v for v in vector) ** 0.5 for vector in (s, t))
            here = weight_at(valid, n, y, x)
            total += here * sum((a / t_length - b / s_length) ** 2 for a, b in zip(t, s, strict=True))
            cosines += here * F.cosine_similarity(STUDENT[n, :, y, x], TEACHER[n, :, y, x], dim=0).item()
            weight += here
        assert feature_imitation(STUDENT, TEACHER, valid).item() == pytest.approx(total / weight, rel=1e-6)
        assert total / weight == pytest.approx(2 - 2 * cosines / weight)

    def test_opposite_directions_score_four(self):
        assert feature_imitation(STUDENT, -0.5 * STUDENT).item() == pytest.approx(4, abs=1e-12)

    def test_positions_without_features_leave_gradients_finite(self):
        student = torch.zeros(1, 4, 2, 2).requires_grad_()
        loss = feature_imitation(student, torch.rand(1, 4, 2, 2))
        loss.backward()
        assert loss.item() == pytest.approx(1)  # no direction: the teacher's unit length
        assert student.grad.isfinite().all()


class TestMaskedGeneration:
    @ways_of_validity
    def test_equals_its_definition(self, valid):
        total = 0.0
        for n, y, x in POSITIONS:
            error = sum((STUDENT[n, c, y, x] - TEACHER[n, c, y, x]).item() ** 2 for c in range(4))
            total += weight_at(valid, n, y, x) * error
        found = masked_generation(STUDENT, TEACHER, alpha=0.3, valid=valid)
        assert found.item() == pytest.approx(0.3 * total / 2, rel=1e-6)

    def test_alpha_keeps_the_weight_of_the_mean_squared_error(self):
        assert alpha_for(2048, 64, 64) == pytest.approx(2e-5)
        assert alpha_for(2048, 64, 64) * 2048 * 64 * 64 == pytest.approx(167.77, abs=0.005)
        assert alpha_for(512, 32, 32) == pytest.approx(3.2e-4)
        expected = 167.77216 * F.mse_loss(STUDENT, TEACHER)
        torch.testing.assert_close(masked_generation(STUDENT, TEACHER, alpha_for(4, 3, 5)), expected)

    def test_a_sum_beyond_the_range_of_float16_is_finite(self):
        assert masked_generation(100 * STUDENT.half(), TEACHER.half(), alpha=1.0).isfinite()


class TestReceptiveMasks:
    tokens = normal(3, 4, seed=2)
    masks = receptive_masks(TEACHER, tokens)

    def test_equal_their_definition(self):
        assert self.masks.shape == (2, 3, 3, 5)
        for n, y, x in POSITIONS:
            for t in range(3):
                product = sum(TEACHER[n, c, y, x].item() * self.tokens[t, c].item() for c in range(4))
                assert self.masks[n, t, y, x].item() == pytest.approx(1 / (1 + math.exp(-product)), rel=1e-6)

    def test_are_learned_through_their_tokens(self):
        tokens = self.tokens.clone().requires_grad_()
        mask_overlap(receptive_masks(TEACHER, tokens)).backward()
        assert tokens.grad.all()

    @pytest.mark.parametrize("strength", [0.5, 1e-3, 1e-4])
    def test_equal_masks_overlap_wholly_however_faint(self, strength):
        assert mask_overlap(torch.full((1, 2, 4, 4), strength)).item() == pytest.approx(1, abs=1e-4)

    def test_overlap_equals_its_definition(self):
        dices = []
        for masks in self.masks:
            for i, j in ((0, 1), (0, 2), (1, 2)):
                pairs = list(zip(masks[i].flatten().tolist(), masks[j].flatten().tolist(), strict=True))
                dices.append(2 * sum(a * b for a, b in pairs) / sum(a * a + b * b for a, b in pairs))
        assert mask_overlap(self.masks).item() == pytest.approx(sum(dices) / len(dices), rel=1e-6)

    def test_disjoint_and_empty_masks_do_not_overlap(self):
        masks = torch.zeros(1, 3, 2, 2)
        masks[0, 0, 0], masks[0, 1, 1] = 1, 1
        assert mask_overlap(masks).item() == 0

    @ways_of_validity
    def test_masked_distillation_equals_its_definition(self, valid):
        terms = []
        for n in range(2):
            for t in range(3):
                for c in range(4):
                    area = error = 0.0
                    for _, y, x in [place for place in POSITIONS if place[0] == n]:
                        mask = self.masks[n, t, y, x].item() * weight_at(valid, n, y, x)
                        area += mask
                        error += (mask * (STUDENT[n, c, y, x] - TEACHER[n, c, y, x]).item()) ** 2
                    terms.append(error / (area + 1e-5))
        found = masked_distillation(STUDENT, TEACHER, self.masks, valid)
        assert found.item() == pytest.approx(0.5 * sum(terms) / len(terms), rel=1e-6)

    def test_masked_distillation_gives_its_masks_no_gradient(self):
        masks = self.masks.clone().requires_grad_()
        masked_distillation(STUDENT.clone().requires_grad_(), TEACHER, masks).backward()
        assert masks.grad is None
