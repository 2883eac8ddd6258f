"""Contrasts against their definitions, one exponential at a time, and the sampling of pixels and shared points."""

import math

import pytest
import torch
import torch.nn.functional as F

from crodino_lib.augment import AugmentConfig, random_warp
from crodino_lib.losses import info_nce, pixel_contrast, sample_pixels, sample_shared_points, supervised_contrast
from tests.losses.helpers import normal

E1, E2 = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])


def supervised_by_loops(vectors, classes, temperature, negatives, memory=(), memory_classes=()):
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


class TestSupervisedContrast:
    @pytest.mark.parametrize(("labels", "golden"), [((0, 0, 1, 1), 10.000091), ((0, 1, 0, 1), 9.0796e-05)])
    def test_golden_values(self, labels, golden):
        loss = supervised_contrast(torch.stack([E1, E2, E1, E2]).double(), torch.tensor(labels), temperature=0.1)
        assert loss.item() == pytest.approx(golden, rel=1e-4, abs=1e-9)

    @pytest.mark.parametrize("negatives", [0, 5])
    @pytest.mark.parametrize("temperature", [0.1, 1.0])
    def test_equals_its_definition(self, negatives, temperature):
        generator = torch.Generator().manual_seed(0)
        vectors = torch.randn(12, 6, generator=generator, dtype=torch.float64)
        keys = torch.randn(negatives, 6, generator=generator, dtype=torch.float64)
        classes = torch.tensor([0, 0, 1, 1, 1, 2, 3, 3, 0, 2, 4, 5])  # classes 4 and 5 have no positive
        found = supervised_contrast(vectors, classes, temperature, negatives=keys if negatives else None)
        assert found.item() == pytest.approx(supervised_by_loops(vectors, classes, temperature, keys), rel=1e-9)

    @pytest.mark.parametrize("negatives", [0, 5])
    def test_with_a_memory_it_equals_its_definition(self, negatives):
        generator = torch.Generator().manual_seed(1)
        vectors = torch.randn(7, 6, generator=generator, dtype=torch.float64)
        memory = torch.randn(6, 6, generator=generator, dtype=torch.float64)
        keys = torch.randn(negatives, 6, generator=generator, dtype=torch.float64)
        classes = torch.tensor([0, 0, 1, 2, 3, 0, 4])  # 1 and 2 have a positive in the memory alone, 3 and 4 none
        memory_classes = torch.tensor([1, 1, 2, 0, 5, 5])
        found = supervised_contrast(
            vectors, classes, 0.5, keys if negatives else None, memory=memory, memory_classes=memory_classes
        )
        expected = supervised_by_loops(vectors, classes, 0.5, keys, memory, memory_classes.tolist())
        assert found.item() == pytest.approx(expected, rel=1e-9)

    def test_an_empty_memory_changes_nothing(self):
        vectors, labels = torch.stack([E1, E2, E1, E2]), torch.tensor([0, 1, 1, 0])
        empty = supervised_contrast(vectors, labels, memory=vectors[:0], memory_classes=labels[:0])
        torch.testing.assert_close(empty, supervised_contrast(vectors, labels), rtol=0, atol=0)

    @pytest.mark.parametrize("given", [{"memory": torch.ones(3, 2)}, {"memory_classes": torch.arange(3)}])
    def test_a_memory_without_its_classes_is_refused(self, given):
        with pytest.raises(ValueError, match=r"memory holds .*memory_classes"):
            supervised_contrast(torch.stack([E1, E1]), torch.tensor([0, 0]), **given)

    def test_vectors_of_one_class_together_score_lower_than_apart(self):
        labels = torch.tensor([0, 0, 1, 1])
        together = supervised_contrast(torch.stack([E1, E1, E2, E2]), labels)
        apart = supervised_contrast(torch.stack([E1, E2, E1, E2]), labels)
        assert together < apart

    def test_a_negative_near_an_anchor_raises_the_loss_and_is_pushed_away(self):
        vectors, labels = torch.stack([E1, E1, E2, E2]), torch.tensor([0, 0, 1, 1])
        near = torch.tensor([[1.0, 0.1]], requires_grad=True)
        loss = supervised_contrast(vectors, labels, negatives=near)
        assert loss > supervised_contrast(vectors, labels)
        loss.backward()
        moved = (near - 0.1 * near.grad).detach()
        assert supervised_contrast(vectors, labels, negatives=moved) < loss

    def test_negatives_are_never_anchors(self):
        """Any number of negatives equal to each other adds no anchor term of its own."""
        vectors, labels = torch.stack([E1, E1]), torch.tensor([0, 0])
        far = torch.stack([-E1] * 8)
        expected = math.log(1 + 8 * math.exp(-20))
        assert supervised_contrast(vectors, labels, negatives=far).item() == pytest.approx(expected, abs=1e-6)


def random_warps(count=16):
    generator = torch.Generator().manual_seed(3)
    return [random_warp(count, generator, AugmentConfig()) for _ in range(2)]


class TestInfoNCE:
    @pytest.mark.parametrize("temperature", [0.1, 1.0])
    def test_equals_its_definition(self, temperature):
        queries, keys = normal(7, 5), normal(7, 5, seed=1)
        total = 0.0
        for one, other in ((queries, keys), (keys, queries)):
            for i in range(7):
                s = [(one[i] @ other[k] / (one[i].norm() * other[k].norm())).item() / temperature for k in range(7)]
                total -= math.log(math.exp(s[i]) / sum(map(math.exp, s))) / 14
        assert info_nce(queries, keys, temperature).item() == pytest.approx(total, rel=1e-6)

    def test_golden_values_of_matched_swapped_and_equal_rows(self):
        unit = torch.eye(2, dtype=torch.float64)
        assert info_nce(unit, 3 * unit).item() == pytest.approx(4.53989e-05, rel=1e-5)
        assert info_nce(unit, unit.flip(0)).item() == pytest.approx(10.0000454, rel=1e-8)
        assert info_nce(unit[:1].expand(5, 2), unit[:1].expand(5, 2)).item() == pytest.approx(math.log(5))

    def test_exchanging_the_sides_changes_nothing(self):
        assert info_nce(normal(6, 4), normal(6, 4, seed=1)).item() == pytest.approx(
            info_nce(normal(6, 4, seed=1), normal(6, 4)).item()
        )

    def test_both_views_show_the_same_scene_point_at_every_visible_point(self):
        """Maps that say where in the scene they look agree exactly, but for the half cell at the edge of a view."""
        warps = random_warps()
        *grids, visible = sample_shared_points(*warps, 500, torch.Generator().manual_seed(0))
        samples = []
        for warp, grid in zip(warps, grids, strict=True):
            where = F.affine_grid(warp, [len(warp), 2, 32, 48], align_corners=False).permute(0, 3, 1, 2)
            samples.append(F.grid_sample(where, grid, align_corners=False, padding_mode="border").squeeze(-1).mT)
        inner = visible & torch.stack([(grid.abs() <= 1 - 1 / 32).all(dim=-1)[..., 0] for grid in grids]).all(dim=0)
        assert inner.sum() > 500
        torch.testing.assert_close(samples[0][inner], samples[1][inner], atol=1e-5, rtol=0)
        torch.testing.assert_close(samples[0][visible], samples[1][visible], atol=0.15, rtol=0)

    def test_visible_means_inside_the_scene_and_the_other_view(self):
        """Loops over points of warps that flip, zoom and shift."""
        warp_a, warp_b = random_warps()
        grid_a, grid_b, visible = sample_shared_points(warp_a, warp_b, 40)
        assert grid_a.shape == grid_b.shape == (16, 40, 1, 2)
        for n in range(16):
            for p in range(40):
                scene = warp_a[n, :, :2] @ grid_a[n, p, 0] + warp_a[n, :, 2]
                assert warp_b[n, :, :2] @ grid_b[n, p, 0] + warp_b[n, :, 2] == pytest.approx(scene, abs=1e-5)
                assert visible[n, p] == (max(*scene.abs(), *grid_b[n, p, 0].abs()) <= 1)
        assert visible.any()
        assert not visible.all()

    def test_equal_views_share_every_point_of_the_scene_and_views_apart_share_none(self):
        whole = torch.eye(2, 3).expand(2, 2, 3)
        grid_a, grid_b, visible = sample_shared_points(whole, whole, 50)
        torch.testing.assert_close(grid_a, grid_b)
        assert visible.all()
        left, right = (torch.tensor([[[0.4, 0, x], [0, 0.4, 0]]]) for x in (-0.5, 0.5))
        assert not sample_shared_points(left, right, 50)[2].any()

    def test_points_are_even_over_the_view_and_repeat_with_the_generator(self):
        whole = torch.eye(2, 3)[None]
        grid, _, _ = sample_shared_points(whole, whole, 20_000, torch.Generator().manual_seed(5))
        assert (grid > 0).float().mean(dim=(0, 1, 2)) == pytest.approx([0.5, 0.5], abs=0.02)
        assert (grid.abs() < 0.5).float().mean(dim=(0, 1, 2)) == pytest.approx([0.5, 0.5], abs=0.02)
        assert grid.equal(sample_shared_points(whole, whole, 20_000, torch.Generator().manual_seed(5))[0])


def pixels_by_loops(anchors, anchor_classes, keys, key_classes, temperature, base_temperature, comparable, hardest):
    """The definition, one exponential at a time."""
    per_anchor = []
    for i, anchor in enumerate(anchors):
        s = [(anchor @ key / (anchor.norm() * key.norm())).item() / temperature for key in keys]
        pairs = [j for j in range(len(keys)) if comparable[i, j]]
        positives = sorted((j for j in pairs if key_classes[j] == anchor_classes[i]), key=lambda j: s[j])
        negatives = sorted((j for j in pairs if key_classes[j] != anchor_classes[i]), key=lambda j: -s[j])
        positives = positives[: math.ceil(round(hardest * len(positives), 6))]
        against = sum(math.exp(s[k]) for k in negatives[: math.ceil(round(hardest * len(negatives), 6))])
        terms = [-math.log(math.exp(s[j]) / (math.exp(s[j]) + against)) for j in positives]
        if terms:
            per_anchor.append(sum(terms) / len(terms))
    return sum(per_anchor) / len(per_anchor) * temperature / base_temperature


def labelled_positions():
    """Features that say where they are and what lies there."""
    labels = torch.randint(3, (2, 6, 8), generator=torch.Generator().manual_seed(2))
    labels[0, :2], labels[1, labels[1] == 0] = 255, 255
    labels[1, 0, 0] = 0
    features = torch.stack([torch.arange(96.0).view(2, 6, 8), labels.float()], dim=1)
    return features, labels


class TestPixelContrast:
    @pytest.mark.parametrize("hardest", [1.0, 0.5, 0.3, 0.01])
    @pytest.mark.parametrize("masked", [False, True])
    @pytest.mark.parametrize(("temperature", "base"), [(0.1, 0.07), (0.5, 0.5)])
    def test_equals_its_definition(self, temperature, base, masked, hardest):
        generator = torch.Generator().manual_seed(0)
        anchors, keys = (torch.randn(n, 4, generator=generator, dtype=torch.float64) for n in (9, 30))
        anchor_classes = torch.tensor([0, 0, 1, 1, 2, 2, 3, 4, 9])  # 9 has no positive
        key_classes = torch.randint(5, (30,), generator=generator)
        comparable = torch.rand(9, 30, generator=generator) > 0.4 * masked
        comparable[5], comparable[6] = key_classes == 2, key_classes != 3  # no negative; no positive
        if not masked:
            comparable[:] = True
        arguments = (anchors, anchor_classes, keys, key_classes, temperature, base)
        found = pixel_contrast(*arguments, comparable if masked else None, hardest)
        assert found.item() == pytest.approx(pixels_by_loops(*arguments, comparable, hardest), rel=1e-6)

    def test_golden_values(self):
        """One positive at similarity 10, or 0, against one negative at 0, or 10."""
        keys, classes = torch.stack([E1, E2]).double(), torch.tensor([0, 1])
        right = pixel_contrast(keys[:1], classes[:1], keys, classes)
        wrong = pixel_contrast(keys[:1], classes[1:], keys, classes)
        assert right.item() == pytest.approx(math.log1p(math.exp(-10)) / 0.7, rel=1e-6)
        assert wrong.item() == pytest.approx(10.0000454 / 0.7, rel=1e-6)

    def test_the_hardest_pairs_of_one_anchor_are_kept(self):
        """Half of four negatives and of two positives: those an anchor finds nearest, and farthest."""
        angles = torch.tensor([0.1, 0.6, 0.2, 0.9, 1.2, 1.5])
        keys = torch.stack([angles.cos(), angles.sin()], dim=1)
        classes, anchor = torch.tensor([0, 0, 1, 1, 1, 1]), (E1[None], torch.tensor([0]))
        half = pixel_contrast(*anchor, keys, classes, hardest=0.5)
        torch.testing.assert_close(half, pixel_contrast(*anchor, keys[1:4], classes[1:4]))

    def test_other_positives_are_not_in_the_denominator(self):
        keys, classes = torch.stack([E1, E1, E1, E2]), torch.tensor([0, 0, 0, 1])
        many = pixel_contrast(E1[None], classes[:1], keys, classes)
        torch.testing.assert_close(many, pixel_contrast(E1[None], classes[:1], keys[2:], classes[2:]))

    @pytest.mark.parametrize("hardest", [1.0, 0.5])
    @pytest.mark.parametrize(
        ("anchor_classes", "key_classes", "allowed"),
        [
            ([], [0, 1], True),
            ([0, 1], [], True),
            ([], [], True),
            ([0], [1, 2], True),
            ([0], [0, 0], True),
            ([0], [0], 0),
        ],
        ids=["no anchors", "no keys", "nothing", "no positives", "no negatives", "nothing comparable"],
    )
    def test_without_positives_or_without_negatives_it_is_zero_with_zero_gradients(
        self, anchor_classes, key_classes, allowed, hardest
    ):
        anchors, keys = (torch.rand(len(c), 4).requires_grad_() for c in (anchor_classes, key_classes))
        classes = [torch.tensor(c, dtype=torch.int64) for c in (anchor_classes, key_classes)]
        comparable = torch.full((len(anchors), len(keys)), bool(allowed))
        loss = pixel_contrast(anchors, classes[0], keys, classes[1], comparable=comparable, hardest=hardest)
        loss.backward()
        assert loss.item() == 0
        assert not anchors.grad.any()
        assert not keys.grad.any()

    def test_a_class_of_one_vector_leaves_every_gradient_finite(self):
        vectors, classes = torch.rand(5, 4).requires_grad_(), torch.tensor([0, 0, 1, 1, 2])
        others = ~torch.eye(5, dtype=torch.bool)
        loss = pixel_contrast(vectors, classes, vectors, classes, comparable=others, temperature=0.001)
        loss.backward()
        assert loss.isfinite()
        assert vectors.grad.isfinite().all()

    @pytest.mark.parametrize("per_class", [1, 5, 1000])
    def test_sampled_pixels_are_distinct_and_at_most_so_many_of_each_class_and_image(self, per_class):
        features, labels = labelled_positions()
        vectors, classes, images = sample_pixels(features, labels, per_class)
        assert vectors[:, 1].tolist() == classes.tolist()
        assert (vectors[:, 0] // 48).tolist() == images.tolist()
        assert len(vectors[:, 0].unique()) == len(vectors)
        for n in range(2):
            for k in (0, 1, 2, 255):
                here = ((classes == k) & (images == n)).sum()
                assert here == (0 if k == 255 else min(per_class, (labels[n] == k).sum()))

    def test_every_position_of_a_class_is_drawn_equally_often(self):
        labels = torch.zeros(1, 2, 3, dtype=torch.int64)
        generator = torch.Generator().manual_seed(0)
        draws = [sample_pixels(torch.arange(6.0).view(1, 1, 2, 3), labels, 2, generator)[0] for _ in range(600)]
        assert torch.cat(draws).flatten().int().bincount() == pytest.approx([200] * 6, abs=50)

    def test_equal_generators_and_equal_global_seeds_draw_equal_pixels(self):
        features, labels = labelled_positions()
        seeds = (3, 3, 4)
        own = [sample_pixels(features, labels, 4, torch.Generator().manual_seed(seed))[0] for seed in seeds]
        shared = []
        for seed in seeds:
            torch.manual_seed(seed)
            shared.append(sample_pixels(features, labels, 4)[0])
        for first, second, third in (own, shared):
            assert first.equal(second)
            assert not first.equal(third)

    def test_a_position_has_the_label_at_its_centre_and_passes_gradients_on(self):
        labels = torch.full((1, 4, 8), 7)
        labels[0, 2, 2], labels[0, 2, 6] = 1, 255
        features = torch.rand(1, 3, 1, 2).requires_grad_()
        vectors, classes, images = sample_pixels(features, labels, 10)
        assert (classes.tolist(), images.tolist()) == ([1], [0])
        vectors.sum().backward()
        assert features.grad[0, :, 0].tolist() == [[1, 0]] * 3

    def test_a_batch_without_labels_has_no_pixels(self):
        vectors, classes, images = sample_pixels(torch.rand(2, 3, 2, 2), torch.full((2, 8, 8), 255), 4)
        assert (vectors.shape, classes.shape, images.shape) == ((0, 3), (0,), (0,))
