import pytest
import torch

from crodino_lib.losses.prototype_maps import prototype_map_distance


def random(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


STUDENT, TEACHER = random(0, 2, 4, 3, 4), random(1, 2, 6, 3, 4)
SMALL = torch.randint(4, (2, 3, 4), generator=torch.Generator().manual_seed(2))
SMALL[:, 0, :3] = 255
SMALL[0] = SMALL[0].where(SMALL[0] != 3, 0)  # class 3 is in the second image only
LARGE = torch.randint(4, (2, 12, 16), generator=torch.Generator().manual_seed(3))
LARGE[:, :6] = 255  # one row of cells and half of the next
LARGE[0] = LARGE[0].where(LARGE[0] != 3, 0)


def brute_force(student, teacher, labels, num_classes):
    """The definition, one class, one position and one pixel at a time; a pixel has the feature of its cell."""
    cell = labels.shape[1] // student.shape[2]
    pixels = [(n, y, x) for n, y, x in torch.nonzero(labels != 255).tolist()]
    total = weight = 0.0
    for n in range(len(student)):
        for k in range(num_classes):
            of_class = [(y // cell, x // cell) for m, y, x in pixels if m == n and labels[n, y, x] == k]
            if not of_class:
                continue
            maps = []
            for features in (student[n], teacher[n]):
                prototype = sum(features[:, y, x] for y, x in of_class) / len(of_class)
                maps.append(lambda y, x, f=features, p=prototype: torch.cosine_similarity(f[:, y, x], p, dim=0).item())
            for m, y, x in pixels:
                if m == n:
                    total += (maps[0](y // cell, x // cell) - maps[1](y // cell, x // cell)) ** 2
                    weight += 1
    return total / weight


@pytest.mark.parametrize("labels", [SMALL, LARGE], ids=["labels per cell", "labels per pixel"])
def test_equals_its_definition_with_a_class_that_one_image_lacks(labels):
    """The official code takes volumes only, and only the classes that every image has."""
    expected = brute_force(STUDENT, TEACHER, labels, 5)  # and no image has class 4
    assert prototype_map_distance(STUDENT, TEACHER, labels, 5).item() == pytest.approx(expected, rel=1e-6)


def test_a_class_present_in_one_image_only_counts():
    without = LARGE.where(LARGE != 3, 0)
    assert prototype_map_distance(STUDENT, TEACHER, LARGE, 4) != prototype_map_distance(STUDENT, TEACHER, without, 4)


def test_ignored_positions_have_no_influence():
    student, teacher = STUDENT.clone(), TEACHER.clone()
    student[:, :, 0], teacher[:, :, 0] = 1e3, -1e3
    changed = prototype_map_distance(student, teacher, LARGE, 4)
    torch.testing.assert_close(changed, prototype_map_distance(STUDENT, TEACHER, LARGE, 4))


def test_a_rotation_of_the_teachers_channels_scores_zero_and_a_nearer_student_lower():
    rotation = torch.linalg.qr(random(4, 8, 6))[0]
    rotated = torch.einsum("dc,bchw->bdhw", rotation, TEACHER)
    assert prototype_map_distance(rotated, TEACHER, LARGE, 4).item() == pytest.approx(0, abs=1e-12)
    far, near = random(5, 2, 6, 3, 4), TEACHER + 0.1 * random(5, 2, 6, 3, 4)
    assert prototype_map_distance(near, TEACHER, LARGE, 4) < prototype_map_distance(far, TEACHER, LARGE, 4)


def test_gradient_flows_to_the_student_and_not_to_the_teacher():
    student, teacher = STUDENT.clone().requires_grad_(), TEACHER.clone().requires_grad_()
    prototype_map_distance(student, teacher, LARGE, 5).backward()
    assert teacher.grad is None
    assert student.grad.isfinite().all()
    assert not student.grad[:, :, 0].any()
    assert student.grad[:, :, 1:].all()


def test_nothing_labelled_is_zero_with_zero_gradients():
    student = STUDENT.clone().requires_grad_()
    loss = prototype_map_distance(student, TEACHER, torch.full((2, 12, 16), 255), 4)
    loss.backward()
    assert loss.item() == 0
    assert not student.grad.any()


def test_half_precision_is_computed_in_float32():
    half = STUDENT.bfloat16(), TEACHER.bfloat16()
    found = prototype_map_distance(*half, LARGE, 4)
    expected = prototype_map_distance(half[0].float(), half[1].float(), LARGE, 4)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
