import numpy as np
import pandas as pd
import pytest

from crodino_lib.analysis.hsic import (
    compute,
    permutation_p,
    rbf_cka,
    rbf_kernel,
    shuffled_images,
    smallest_p,
    u_centred,
    unbiased_hsic,
)
from tests.analysis.factories import made, normal


def test_hsic_is_what_its_equation_says():
    x, y = normal(0, n=9, d=3)[:2]
    k, l = rbf_kernel(x), rbf_kernel(x + y)  # noqa: E741
    n = 9
    pairs = [(i, j) for i in range(n) for j in range(n) if i != j]
    trace = sum(k[i, j] * l[i, j] for i, j in pairs)
    sums = sum(k[i, j] for i, j in pairs) * sum(l[i, j] for i, j in pairs)
    chain = sum(k[i, j] * l[j, q] for i, j in pairs for q in range(n) if q != j)
    expected = (trace + sums / ((n - 1) * (n - 2)) - 2 / (n - 2) * chain) / (n * (n - 3))
    assert unbiased_hsic(k, l) == pytest.approx(expected)
    largest = np.sqrt(unbiased_hsic(k, k) * unbiased_hsic(l, l))
    assert rbf_cka(k, l) == pytest.approx(expected / largest)


def test_the_kernel_is_what_its_equation_says():
    x = normal(0, n=7, d=3)[0]
    squared = {(i, j): sum((x[i, c] - x[j, c]) ** 2 for c in range(3)) for i in range(7) for j in range(7)}
    median = np.median([squared[i, j] for i in range(7) for j in range(i)])
    expected = [[np.exp(-squared[i, j] / (2 * median)) for j in range(7)] for i in range(7)]
    np.testing.assert_allclose(rbf_kernel(x), expected)
    np.testing.assert_allclose(rbf_kernel(3 * x + 1000), expected, rtol=1e-6)  # shift and scale are of no account


def test_u_centred_rows_sum_to_zero():
    k = u_centred(rbf_kernel(normal(0)[0]))
    np.testing.assert_allclose(k.sum(axis=1), 0, atol=1e-10)
    np.testing.assert_array_equal(np.diag(k), 0)


def test_shuffled_images_keep_their_rows_together_and_are_exchanged_for_images_of_equal_size():
    images = np.array([0, 0, 1, 2, 2, 3])
    orders = [tuple(rows) for rows in shuffled_images(images, 200, np.random.default_rng(0))]
    assert set(orders) == {
        (0, 1, 2, 3, 4, 5), (3, 4, 2, 0, 1, 5), (0, 1, 5, 3, 4, 2), (3, 4, 5, 0, 1, 2),
    }  # fmt: skip


def test_independent_features_with_effects_of_the_image_are_not_called_dependent_where_sizes_differ():
    """Shuffling images of unequal size would call two in three of these dependent."""
    generator, called = np.random.default_rng(0), 0
    for _ in range(20):
        images = np.repeat(np.arange(30), generator.integers(2, 6, size=30))
        x, y = (
            generator.normal(size=(30, 3))[images] + 0.3 * generator.normal(size=(len(images), 3)) for _ in range(2)
        )
        called += permutation_p(rbf_kernel(x), rbf_kernel(y), images, 39, generator) <= 0.05
    assert called <= 4


def test_the_p_value_counts_shuffles_of_all_terms():
    x, y = normal(1, n=24, d=3)[:2]
    images = np.repeat(np.arange(8), 3)
    k, l = rbf_kernel(x), rbf_kernel(y + 0.5 * x)  # noqa: E741
    reached = 0
    for rows in shuffled_images(images, 99, np.random.default_rng(5)):
        reached += unbiased_hsic(k, rbf_kernel((y + 0.5 * x)[rows])) >= unbiased_hsic(k, l)
    assert 0 < reached < 50
    assert permutation_p(k, l, images, 99, np.random.default_rng(5)) == pytest.approx((1 + reached) / 100)


def test_an_order_that_changes_nothing_counts_as_reached():
    k = rbf_kernel(normal(0)[0])
    p = permutation_p(k, k, np.repeat([0, 1], 40), 99, np.random.default_rng(0))
    assert 0.3 < p < 0.7  # half of the orders of two images are the true one


def test_images_need_not_lie_together():
    x, y = normal(1, n=24, d=3)[:2]
    images, order = np.repeat(np.arange(8), 3), np.arange(24).reshape(8, 3).T.ravel()
    y = y + 0.5 * x
    straight = permutation_p(rbf_kernel(x), rbf_kernel(y), images, 99, np.random.default_rng(0))
    mixed = permutation_p(rbf_kernel(x[order]), rbf_kernel(y[order]), images[order], 99, np.random.default_rng(0))
    assert mixed == straight


def test_dependent_blocks_have_the_least_possible_p():
    a, _, b, c = normal(0)
    square = a**2  # uncorrelated with a, but decided by it
    found = compute(made([a, square, b, c]), 80, np.random.default_rng(0), permutations=99)
    assert found["hsic_p shared"] == 0.01
    assert found["hsic shared"] > 0
    assert found["rbf_cka shared"] > 0.05
    assert min(found[f"hsic_p {where}"] for where in ("private", "rgb", "thermal")) > 0.01


def test_independent_blocks_have_p_values_of_every_size():
    def scene(generator):  # rows of an image are alike, as in truth: they are no independent draws
        return np.repeat(generator.normal(size=(20, 3)), 4, axis=0) + 0.3 * generator.normal(size=(80, 3))

    p = []
    for seed in range(60):
        generator = np.random.default_rng(seed)
        k, l = rbf_kernel(scene(generator)), rbf_kernel(scene(generator))  # noqa: E741
        p.append(permutation_p(k, l, np.repeat(np.arange(20), 4), 99, generator))
    assert 0.4 < np.mean(p) < 0.6
    assert np.mean(np.array(p) <= 0.1) < 0.2
    singly = permutation_p(k, l, np.arange(80), 99, generator)
    assert singly <= p[-1]  # rows shuffled one by one would see dependence everywhere


def test_equal_halves_have_all_the_dependence_there_can_be():
    a, _, b, _ = normal(0)
    found = compute(made([a, a, b, b + 7]), 80, np.random.default_rng(0), permutations=19)
    for half in ("shared", "private"):
        assert found[f"rbf_cka {half}"] == pytest.approx(1, abs=1e-5)
        assert found[f"hsic_p {half}"] == 0.05


def test_independent_halves_have_no_dependence_in_the_mean():
    found = [compute(made(normal(seed)), 80, np.random.default_rng(0), permutations=1) for seed in range(20)]
    mean = pd.DataFrame(found).mean()
    assert max(abs(mean[f"rbf_cka {where}"]) for where in ("shared", "private", "rgb", "thermal")) < 0.02
    assert pd.DataFrame(found)["hsic shared"].min() < 0  # unbiased, so negative about half the time


@pytest.mark.parametrize("value", [0.0, 0.1])
def test_a_constant_half_has_no_dependence_to_tell(value):
    blocks = normal(0)
    blocks[2] = np.full_like(blocks[2], value)
    found = compute(made(blocks), 80, np.random.default_rng(0), permutations=9)
    missing = {name for name, result in found.items() if np.isnan(result)}
    measures = ("hsic", "rbf_cka", "hsic_p")
    assert missing == {f"{measure} {where}" for measure in measures for where in ("private", "rgb")}


def test_mostly_equal_rows_leave_no_bandwidth():
    x = np.zeros((20, 3))
    x[:4] = normal(0, n=4, d=3)[0]
    assert np.isnan(rbf_kernel(x)).all()


def test_one_image_has_no_p_value_and_three_rows_no_dependence():
    latents = made(normal(0), per_image=80)
    found = compute(latents, 80, np.random.default_rng(0), permutations=9)
    assert {name.split()[0] for name, value in found.items() if np.isnan(value)} == {"hsic_p"}
    x = rbf_kernel(normal(0)[0][:3])
    assert np.isnan(unbiased_hsic(x, x))
    assert np.isnan(rbf_cka(x, x))


def test_no_permutations_are_an_error():
    with pytest.raises(ValueError, match="permutations must be at least 1, got 0"):
        compute(made(normal(0)), 80, np.random.default_rng(0), permutations=0)


def test_images_of_different_sizes_cannot_be_exchanged_and_few_alike_leave_large_p():
    images = np.repeat(np.arange(8), np.arange(1, 9))  # 1, 2, ..., 8 rows
    k = rbf_kernel(np.random.default_rng(0).normal(size=(36, 4)))
    assert smallest_p(images, 199) == 1
    assert np.isnan(permutation_p(k, k, images, 199, np.random.default_rng(0)))
    alike = np.repeat(np.arange(9), [*range(1, 9), 8])
    assert smallest_p(alike, 199) == pytest.approx(1 / 2)
    assert smallest_p(np.repeat(np.arange(5), 3), 199) == pytest.approx(1 / 120)
    assert smallest_p(np.repeat(np.arange(50), 3), 199) == 1 / 200
