import math

import pytest
import torch

from crodino_lib.losses.pixel_contrast import pixel_contrast, sample_pixels

E1, E2 = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])


def brute_force(anchors, anchor_classes, keys, key_classes, temperature, base_temperature, comparable, hardest):
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


@pytest.mark.parametrize("hardest", [1.0, 0.5, 0.3, 0.01])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(("temperature", "base"), [(0.1, 0.07), (0.5, 0.5)])
def test_equals_its_definition(temperature, base, masked, hardest):
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
    assert found.item() == pytest.approx(brute_force(*arguments, comparable, hardest), rel=1e-6)


def test_golden_values():
    """One positive at similarity 10, or 0, against one negative at 0, or 10."""
    keys, classes = torch.stack([E1, E2]).double(), torch.tensor([0, 1])
    right = pixel_contrast(keys[:1], classes[:1], keys, classes)
    wrong = pixel_contrast(keys[:1], classes[1:], keys, classes)
    assert right.item() == pytest.approx(math.log1p(math.exp(-10)) / 0.7, rel=1e-6)
    assert wrong.item() == pytest.approx(10.0000454 / 0.7, rel=1e-6)


def test_the_hardest_pairs_of_one_anchor_are_kept():
    """Half of four negatives and of two positives: those an anchor finds nearest, and farthest."""
    angles = torch.tensor([0.1, 0.6, 0.2, 0.9, 1.2, 1.5])
    keys = torch.stack([angles.cos(), angles.sin()], dim=1)
    classes, anchor = torch.tensor([0, 0, 1, 1, 1, 1]), (E1[None], torch.tensor([0]))
    half = pixel_contrast(*anchor, keys, classes, hardest=0.5)
    torch.testing.assert_close(half, pixel_contrast(*anchor, keys[1:4], classes[1:4]))


def test_other_positives_are_not_in_the_denominator():
    keys, classes = torch.stack([E1, E1, E1, E2]), torch.tensor([0, 0, 0, 1])
    many = pixel_contrast(E1[None], classes[:1], keys, classes)
    torch.testing.assert_close(many, pixel_contrast(E1[None], classes[:1], keys[2:], classes[2:]))


def test_gradients_reach_anchors_and_keys_and_a_step_lowers_the_loss():
    generator = torch.Generator().manual_seed(1)
    anchors, keys = (torch.randn(12, 5, generator=generator).requires_grad_() for _ in range(2))
    classes = torch.arange(12) % 3
    before = pixel_contrast(anchors, classes, keys, classes, hardest=0.5)
    before.backward()
    assert anchors.grad.any()
    assert keys.grad.any()
    assert pixel_contrast(anchors - 0.1 * anchors.grad, classes, keys - 0.1 * keys.grad, classes, hardest=0.5) < before


@pytest.mark.parametrize("hardest", [1.0, 0.5])
@pytest.mark.parametrize(
    ("anchor_classes", "key_classes", "allowed"),
    [([], [0, 1], True), ([0, 1], [], True), ([], [], True), ([0], [1, 2], True), ([0], [0, 0], True), ([0], [0], 0)],
    ids=["no anchors", "no keys", "nothing", "no positives", "no negatives", "nothing comparable"],
)
def test_without_positives_or_without_negatives_it_is_zero_with_zero_gradients(
    anchor_classes, key_classes, allowed, hardest
):
    anchors, keys = (torch.rand(len(c), 4).requires_grad_() for c in (anchor_classes, key_classes))
    classes = [torch.tensor(c, dtype=torch.int64) for c in (anchor_classes, key_classes)]
    comparable = torch.full((len(anchors), len(keys)), bool(allowed))
    loss = pixel_contrast(anchors, classes[0], keys, classes[1], comparable=comparable, hardest=hardest)
    loss.backward()
    assert loss.item() == 0
    assert not anchors.grad.any()
    assert not keys.grad.any()


def test_a_class_of_one_vector_leaves_every_gradient_finite():
    vectors, classes = torch.rand(5, 4).requires_grad_(), torch.tensor([0, 0, 1, 1, 2])
    others = ~torch.eye(5, dtype=torch.bool)
    loss = pixel_contrast(vectors, classes, vectors, classes, comparable=others, temperature=0.001)
    loss.backward()
    assert loss.isfinite()
    assert vectors.grad.isfinite().all()


def labelled_positions():
    """Features that say where they are and what lies there."""
    labels = torch.randint(3, (2, 6, 8), generator=torch.Generator().manual_seed(2))
    labels[0, :2], labels[1, labels[1] == 0] = 255, 255
    labels[1, 0, 0] = 0
    features = torch.stack([torch.arange(96.0).view(2, 6, 8), labels.float()], dim=1)
    return features, labels


@pytest.mark.parametrize("per_class", [1, 5, 1000])
def test_sampled_pixels_are_distinct_and_at_most_so_many_of_each_class_and_image(per_class):
    features, labels = labelled_positions()
    vectors, classes, images = sample_pixels(features, labels, per_class)
    assert vectors[:, 1].tolist() == classes.tolist()
    assert (vectors[:, 0] // 48).tolist() == images.tolist()
    assert len(vectors[:, 0].unique()) == len(vectors)
    for n in range(2):
        for k in (0, 1, 2, 255):
            here = ((classes == k) & (images == n)).sum()
            assert here == (0 if k == 255 else min(per_class, (labels[n] == k).sum()))


def test_every_position_of_a_class_is_drawn_equally_often():
    labels = torch.zeros(1, 2, 3, dtype=torch.int64)
    generator = torch.Generator().manual_seed(0)
    draws = [sample_pixels(torch.arange(6.0).view(1, 1, 2, 3), labels, 2, generator)[0] for _ in range(600)]
    assert torch.cat(draws).flatten().int().bincount() == pytest.approx([200] * 6, abs=50)


def test_equal_generators_and_equal_global_seeds_draw_equal_pixels():
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


def test_a_position_has_the_label_at_its_centre_and_passes_gradients_on():
    labels = torch.full((1, 4, 8), 7)
    labels[0, 2, 2], labels[0, 2, 6] = 1, 255
    features = torch.rand(1, 3, 1, 2).requires_grad_()
    vectors, classes, images = sample_pixels(features, labels, 10)
    assert (classes.tolist(), images.tolist()) == ([1], [0])
    vectors.sum().backward()
    assert features.grad[0, :, 0].tolist() == [[1, 0]] * 3


def test_a_batch_without_labels_has_no_pixels():
    vectors, classes, images = sample_pixels(torch.rand(2, 3, 2, 2), torch.full((2, 8, 8), 255), 4)
    assert (vectors.shape, classes.shape, images.shape) == ((0, 3), (0,), (0,))
