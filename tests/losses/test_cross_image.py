import math

import pytest
import torch

from crodino_lib.losses.cross_image import cross_image_similarity, memory_similarity


def random(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def softmax(scores):
    powers = [math.exp(s) for s in scores]
    return [p / sum(powers) for p in powers]


def divergence(student, teacher, student_keys, teacher_keys, temperature):
    """KL(teacher || student) of one row's similarities to the keys, one exponential at a time."""
    p = softmax([torch.cosine_similarity(teacher, key, dim=0).item() / temperature for key in teacher_keys])
    q = softmax([torch.cosine_similarity(student, key, dim=0).item() / temperature for key in student_keys])
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


class TestCrossImageSimilarity:
    student, teacher = random(0, 3, 4, 2, 3), random(1, 3, 6, 2, 3)

    def test_golden_value(self):
        student = torch.tensor([[1.0, 0], [0, 1]]).T.reshape(1, 2, 1, 2)
        teacher = torch.tensor([[1.0, 0], [1, 0]]).T.reshape(1, 2, 1, 2)
        assert cross_image_similarity(student, teacher, 0.1).item() == pytest.approx(4.306898, abs=1e-6)

    @pytest.mark.parametrize("temperature", [0.1, 1.0])
    def test_equals_its_definition_over_all_ordered_pairs(self, temperature):
        students = [list(image.flatten(1).T) for image in self.student]
        teachers = [list(image.flatten(1).T) for image in self.teacher]
        total = 0.0
        for i in range(3):
            for j in range(3):
                for u in range(6):
                    row = students[i][u], teachers[i][u]
                    total += divergence(*row, students[j], teachers[j], temperature) / 6
        found = cross_image_similarity(self.student, self.teacher, temperature)
        assert found.item() == pytest.approx(total / 9, rel=1e-6)

    def test_a_rotation_of_the_teachers_channels_scores_zero(self):
        rotation = torch.linalg.qr(random(2, 8, 6))[0]  # six channels turned into eight
        rotated = torch.einsum("dc,bchw->bdhw", rotation, self.teacher)
        assert cross_image_similarity(rotated, self.teacher).item() == pytest.approx(0, abs=1e-12)

    def test_a_nearer_student_scores_lower_whatever_its_length(self):
        far, near = random(3, 3, 6, 2, 3), self.teacher + 0.1 * random(3, 3, 6, 2, 3)
        assert cross_image_similarity(near, self.teacher) < cross_image_similarity(far, self.teacher)
        torch.testing.assert_close(
            cross_image_similarity(5 * far, self.teacher), cross_image_similarity(far, self.teacher)
        )

    @pytest.mark.parametrize(("max_cells", "factor"), [(35, 1), (34, 2), (12, 2), (11, 3), (4, 4), (1, 7)])
    def test_maps_are_averaged_until_they_have_few_enough_cells(self, max_cells, factor):
        """By blocks of one size; at the right and lower border of a map that they do not fill, by what is left."""
        student, teacher = random(4, 2, 3, 5, 7), random(5, 2, 3, 5, 7)
        pooled = []
        for features in (student, teacher):
            rows = [block.mean(dim=2) for block in features.split(factor, dim=2)]
            columns = torch.stack(rows, dim=2).split(factor, dim=3)
            pooled.append(torch.stack([block.mean(dim=3) for block in columns], dim=3))
        found = cross_image_similarity(student, teacher, max_cells=max_cells)
        torch.testing.assert_close(found, cross_image_similarity(*pooled))

    def test_gradient_flows_to_the_student_and_not_to_the_teacher(self):
        student, teacher = self.student.clone().requires_grad_(), self.teacher.clone().requires_grad_()
        cross_image_similarity(student, teacher).backward()
        assert student.grad.any()
        assert teacher.grad is None

    def test_half_precision_is_computed_in_float32(self):
        student, teacher = self.student.bfloat16(), self.teacher.bfloat16()
        expected = cross_image_similarity(student.float(), teacher.float(), max_cells=4)
        found = cross_image_similarity(student, teacher, max_cells=4)
        torch.testing.assert_close(found, expected, rtol=0, atol=0)


class TestMemorySimilarity:
    student, teacher, keys = random(0, 5, 4), random(1, 5, 4), random(2, 7, 4)

    @pytest.mark.parametrize("temperature", [0.1, 1.0])
    def test_equals_its_definition(self, temperature):
        rows = zip(self.student, self.teacher, strict=True)
        expected = sum(divergence(s, t, self.keys, self.keys, temperature) for s, t in rows) / 5
        found = memory_similarity(self.student, self.teacher, self.keys, temperature)
        assert found.item() == pytest.approx(expected, rel=1e-6)

    def test_the_teachers_directions_score_zero_and_nearer_ones_lower(self):
        assert memory_similarity(3 * self.teacher, self.teacher, self.keys).item() == pytest.approx(0, abs=1e-12)
        near = self.teacher + 0.1 * self.student
        far = memory_similarity(self.student, self.teacher, self.keys)
        assert memory_similarity(near, self.teacher, self.keys) < far

    @pytest.mark.parametrize(("rows", "keys"), [(0, 7), (5, 0), (0, 0)])
    def test_without_rows_or_keys_it_is_zero_with_zero_gradients(self, rows, keys):
        student = self.student[:rows].clone().requires_grad_()
        loss = memory_similarity(student, self.teacher[:rows], self.keys[:keys])
        loss.backward()
        assert loss.item() == 0
        assert not student.grad.any()

    def test_gradient_flows_to_the_student_alone(self):
        student, teacher, keys = (x.clone().requires_grad_() for x in (self.student, self.teacher, self.keys))
        memory_similarity(student, teacher, keys).backward()
        assert student.grad.any()
        assert teacher.grad is None
        assert keys.grad is None

    def test_half_precision_is_computed_in_float32(self):
        half = self.student.half(), self.teacher.half(), self.keys.half()
        expected = memory_similarity(*(x.float() for x in half))
        torch.testing.assert_close(memory_similarity(*half), expected, rtol=0, atol=0)
