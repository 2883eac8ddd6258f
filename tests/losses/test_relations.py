"""Relations across images, to a memory and to prototypes, against loops over positions."""

import pytest
import torch

from crodino_lib.losses import cross_image_similarity, memory_similarity, prototype_map_distance
from tests.losses.helpers import divergence, normal, softmax


def row_divergence(student, teacher, student_keys, teacher_keys, temperature):
    """KL(teacher || student) of one row's similarities to the keys, one exponential at a time."""
    p = softmax([torch.cosine_similarity(teacher, key, dim=0).item() / temperature for key in teacher_keys])
    q = softmax([torch.cosine_similarity(student, key, dim=0).item() / temperature for key in student_keys])
    return divergence(p, q)


class TestCrossImageSimilarity:
    student, teacher = normal(3, 4, 2, 3), normal(3, 6, 2, 3, seed=1)

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
                for row in zip(students[i], teachers[i], strict=True):
                    total += row_divergence(*row, students[j], teachers[j], temperature) / 6
        found = cross_image_similarity(self.student, self.teacher, temperature)
        assert found.item() == pytest.approx(total / 9, rel=1e-6)

    def test_a_rotation_of_the_teacher_into_more_channels_scores_zero(self):
        rotation = torch.linalg.qr(normal(8, 6, seed=2))[0]  # six channels turned into eight
        rotated = torch.einsum("dc,bchw->bdhw", rotation, self.teacher)
        assert cross_image_similarity(rotated, self.teacher).item() == pytest.approx(0, abs=1e-12)

    def test_the_length_of_features_does_not_count(self):
        found = cross_image_similarity(5 * self.student, self.teacher)
        torch.testing.assert_close(found, cross_image_similarity(self.student, self.teacher))

    @pytest.mark.parametrize(("max_cells", "factor"), [(35, 1), (34, 2), (12, 2), (11, 3), (4, 4), (1, 7)])
    def test_maps_are_averaged_until_they_have_few_enough_cells(self, max_cells, factor):
        """By blocks of one size; at the right and lower border of a map that they do not fill, by what is left."""
        student, teacher = normal(2, 3, 5, 7, seed=4), normal(2, 3, 5, 7, seed=5)
        pooled = []
        for features in (student, teacher):
            rows = [block.mean(dim=2) for block in features.split(factor, dim=2)]
            columns = torch.stack(rows, dim=2).split(factor, dim=3)
            pooled.append(torch.stack([block.mean(dim=3) for block in columns], dim=3))
        found = cross_image_similarity(student, teacher, max_cells=max_cells)
        torch.testing.assert_close(found, cross_image_similarity(*pooled))


@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_memory_similarity_equals_its_definition_and_its_keys_get_no_gradient(temperature):
    student, teacher, keys = normal(5, 4).requires_grad_(), normal(5, 4, seed=1), normal(7, 4, seed=2).requires_grad_()
    expected = sum(row_divergence(s, t, keys, keys, temperature) for s, t in zip(student, teacher, strict=True)) / 5
    found = memory_similarity(student, teacher, keys, temperature)
    assert found.item() == pytest.approx(expected, rel=1e-6)
    found.backward()
    assert student.grad.any()
    assert keys.grad is None


class TestPrototypeMapDistance:
    student, teacher = normal(2, 4, 3, 4), normal(2, 6, 3, 4, seed=1)
    small = torch.randint(4, (2, 3, 4), generator=torch.Generator().manual_seed(2))
    small[:, 0, :3] = 255
    small[0] = small[0].where(small[0] != 3, 0)  # class 3 is in the second image only
    large = torch.randint(4, (2, 12, 16), generator=torch.Generator().manual_seed(3))
    large[:, :6] = 255  # one row of cells and half of the next
    large[0] = large[0].where(large[0] != 3, 0)

    def brute_force(self, labels, num_classes):
        """The definition, one class, one position and one pixel at a time; a pixel has the feature of its cell."""
        cell = labels.shape[1] // 3
        errors = []
        for n in range(2):
            cells = [(y // cell, x // cell) for y, x in torch.nonzero(labels[n] != 255).tolist()]
            for k in range(num_classes):
                of_class = [(y // cell, x // cell) for y, x in torch.nonzero(labels[n] == k).tolist()]
                if not of_class:
                    continue
                maps = []
                for features in (self.student[n], self.teacher[n]):
                    prototype = sum(features[:, y, x] for y, x in of_class) / len(of_class)
                    maps.append(torch.cosine_similarity(features, prototype[:, None, None], dim=0))
                errors += [(maps[0][place] - maps[1][place]).item() ** 2 for place in cells]
        return sum(errors) / len(errors)

    @pytest.mark.parametrize("labels", [small, large], ids=["labels per cell", "labels per pixel"])
    def test_equals_its_definition_with_a_class_that_one_image_lacks(self, labels):
        """The official code takes volumes only, and only the classes that every image has."""
        expected = self.brute_force(labels, 5)  # and no image has class 4
        found = prototype_map_distance(self.student, self.teacher, labels, 5)
        assert found.item() == pytest.approx(expected, rel=1e-6)

    def test_a_class_present_in_one_image_only_counts(self):
        without = self.large.where(self.large != 3, 0)
        found = prototype_map_distance(self.student, self.teacher, self.large, 4)
        assert found != prototype_map_distance(self.student, self.teacher, without, 4)

    def test_ignored_positions_have_no_influence(self):
        student, teacher = self.student.clone(), self.teacher.clone()
        student[:, :, 0], teacher[:, :, 0] = 1e3, -1e3
        changed = prototype_map_distance(student, teacher, self.large, 4)
        torch.testing.assert_close(changed, prototype_map_distance(self.student, self.teacher, self.large, 4))
