"""Intervals and tests: against scipy, and on simulated studies whose truth is known."""

import numpy as np
import pytest
from scipy import stats

from crodino_lib.evaluate import class_iou, mean_present
from crodino_lib.study.statistics import (
    ENOUGH_SEEDS,
    MARGIN,
    Estimate,
    holm,
    interval,
    interval_over,
    paired_interval,
    resampled_mious,
)

CLASSES, IMAGES, DRAWS = 4, 40, 100


def estimate(values, spread=0.0):
    """Return an estimate whose resampled images have a standard deviation."""
    values = np.array(values, float)
    return Estimate(values, values.mean() + spread * np.tile([-1.0, 1.0], 50), IMAGES)


@pytest.mark.parametrize("seeds", [3, 8])
def test_the_interval_of_paired_seeds_is_that_of_scipy(seeds):
    first, second = np.random.default_rng(0).normal(size=(2, seeds))
    expected = stats.ttest_rel(first, second).confidence_interval(0.9)
    assert paired_interval(first - second, 0.9) == pytest.approx(tuple(expected))
    assert estimate(first - second).interval(0.9) == pytest.approx(tuple(expected))  # images add nothing here


@pytest.mark.parametrize("seeds", [1, 2])
def test_fewer_than_three_seeds_have_the_interval_of_images(seeds):
    assert np.isnan(paired_interval(np.ones(seeds))).all()
    draws = np.random.default_rng(0).normal(size=200)
    assert Estimate(np.ones(seeds), draws, IMAGES).interval() == interval(draws)
    assert np.isnan(Estimate(np.ones(seeds), draws, IMAGES).effect_size)
    assert "not over other seeds" in interval_over(seeds)


def test_seeds_and_images_add_with_satterthwaites_degrees_of_freedom():
    values, spread = np.array([1.0, 2.0, 3.0, 4.0]), 2.0
    by_seed, by_image = 5 / 3 / 4, spread**2 * IMAGES / (IMAGES - 1)
    df = (by_seed + by_image) ** 2 / (by_seed**2 / 3 + by_image**2 / (IMAGES - 1))
    half = stats.t.ppf(0.975, df) * (by_seed + by_image) ** 0.5
    assert estimate(values, spread).interval() == pytest.approx((2.5 - half, 2.5 + half))


def test_the_interval_is_never_narrower_than_that_of_seeds():
    values = np.array([1.0, 2.0, 4.0])
    for spread in (0.0, 0.1, 0.5, 1.0):
        assert np.diff(estimate(values, spread).interval()) >= np.diff(paired_interval(values)) - 1e-12


def test_seeds_that_agree_exactly_have_the_interval_of_images_alone():
    assert estimate([1.0, 1, 1]).interval() == (1, 1)
    half = stats.t.ppf(0.975, IMAGES - 1) * 0.5 * (IMAGES / (IMAGES - 1)) ** 0.5
    assert estimate([1.0, 1, 1], 0.5).interval() == pytest.approx((1 - half, 1 + half))


def test_the_effect_size_is_in_standard_deviations_over_seeds():
    assert estimate([1.0, 2, 3]).effect_size == pytest.approx(2)
    assert np.isnan(estimate([1.0, 1, 1]).effect_size)


@pytest.mark.parametrize("seeds", [3, ENOUGH_SEEDS - 1])
def test_fewer_than_eight_seeds_are_not_tested(seeds):
    few = estimate(np.arange(1.0, seeds + 1))
    assert np.isnan(few.p_difference())
    assert np.isnan(few.p_equivalence())


def test_the_tests_are_those_of_scipy_where_images_add_nothing():
    values = np.random.default_rng(1).normal(0.4, 0.8, 9)
    exact, student = stats.wilcoxon(values, method="exact").pvalue, stats.ttest_1samp(values, 0).pvalue
    assert estimate(values).p_difference() == pytest.approx(max(exact, student))
    sides = [
        stats.ttest_1samp(values, -MARGIN, alternative="greater").pvalue,
        stats.ttest_1samp(values, MARGIN, alternative="less").pvalue,
    ]
    assert estimate(values).p_equivalence() == pytest.approx(max(sides))
    assert estimate(values, 0.5).p_equivalence() > max(sides)
    assert estimate(values, 0.5).p_difference() > max(exact, student)


def test_no_difference_at_all_is_equivalent_and_no_difference():
    nothing = estimate(np.zeros(8))
    assert (nothing.p_difference(), nothing.p_equivalence()) == (1, 0)
    assert estimate(np.full(8, 2.0)).p_equivalence() == 1
    assert estimate(np.full(8, 2.0)).p_difference() == 2 / 2**8  # no chance at all is no crash


def test_holm_multiplies_the_smallest_p_most_and_leaves_what_was_not_tested():
    np.testing.assert_allclose(holm([0.01, np.nan, 0.04, 0.02]), [0.03, np.nan, 0.04, 0.04])
    assert np.isnan(holm([np.nan, np.nan])).all()


# -- simulated studies


def study(rng, seeds, gain, by_seed, by_image):
    """Return the counts (seeds, images, classes, classes) of a method, and of its control, tested on the same images.

    The share of pixels that are right depends on class, image, seed, and how well the image suits the method.
    """
    pixels = rng.poisson(300 * rng.dirichlet(np.full(CLASSES, 0.7), size=IMAGES))
    image, found = rng.normal(0, 0.8, (IMAGES, 1)), []
    for better in (gain, 0.0):
        seed, suits = rng.normal(0, by_seed, (seeds, 1, 1)), rng.normal(0, by_image, (IMAGES, 1))
        right = rng.binomial(
            pixels, 1 / (1 + np.exp(-(np.linspace(-0.5, 1.5, CLASSES) + image + suits + seed + better)))
        )
        counts, own = np.zeros((seeds, IMAGES, CLASSES, CLASSES)), np.arange(CLASSES)
        counts[..., own, own] = right
        counts[..., own, (own + 1) % CLASSES] = pixels - right
        found.append(counts)
    return found


def measured(rng, *args):
    """Return the estimate of the gain of a simulated study, as the library makes it."""
    method, control = study(rng, *args)

    def mious(counts):
        return 100 * mean_present(class_iou(counts.sum(axis=-3)))

    draws = [resampled_mious(a, 0, DRAWS) - resampled_mious(b, 0, DRAWS) for a, b in zip(method, control, strict=True)]
    return Estimate(mious(method) - mious(control), 100 * np.mean(draws, axis=0), IMAGES)


@pytest.fixture(scope="module", params=[(0.12, 0.1), (0.02, 0.4)], ids=["seeds matter more", "images matter more"])
def simulated(request):
    """Return 200 estimates of three and of eight seeds of a true gain of zero: two methods of equal chances."""
    rng = np.random.default_rng(7)
    return {seeds: [measured(rng, seeds, 0.0, *request.param) for _ in range(200)] for seeds in (3, 8)}


@pytest.mark.parametrize("seeds", [3, 8])
def test_intervals_hold_the_truth_as_often_as_they_promise(simulated, seeds):
    held = np.mean([low < 0 < high for low, high in (one.interval() for one in simulated[seeds])])
    assert 0.92 <= held <= 0.99  # of 200: 0.95 less two standard errors; they may be a little wide


def test_other_intervals_would_hold_it_too_seldom(simulated, request):
    """The hierarchical bootstrap and images alone fail where seeds matter more, seeds alone where images do."""
    rng, held, alone, few = np.random.default_rng(0), [], [], []
    for one in simulated[3]:
        images = one.draws - one.draws.mean()
        seeds = rng.choice(one.values, (DRAWS, 3)).mean(axis=1)
        low, high = interval(seeds + images)
        held.append(low < 0 < high)
        low, high = paired_interval(one.values)
        alone.append(low < 0 < high)
        low, high = interval(one.draws)
        few.append(low < 0 < high)
    if "seeds matter more" in request.node.callspec.id:
        assert np.mean(held) < 0.92
        assert np.mean(few) < 0.92
    else:
        assert np.mean(alone) < 0.92


def test_few_true_zeros_are_called_a_difference(simulated):
    assert np.mean([one.p_difference() < 0.05 for one in simulated[8]]) <= 0.05 + 2 * (0.05 * 0.95 / 200) ** 0.5


def test_a_family_of_true_zeros_has_an_error_in_few_studies(simulated):
    families = np.array([one.p_difference() for one in simulated[8]][:198]).reshape(-1, 6)
    assert np.mean([(holm(p) < 0.05).any() for p in families]) <= 0.05 + 2 * (0.05 * 0.95 / 33) ** 0.5


def test_few_gains_of_the_margin_are_called_equivalent():
    rng = np.random.default_rng(3)
    truth = np.mean([measured(rng, 8, 0.06, 0.03, 0.1).mean for _ in range(60)])  # about one point
    called = [measured(rng, 8, 0.06, 0.03, 0.1).p_equivalence(margin=abs(truth)) < 0.05 for _ in range(200)]
    assert np.mean(called) <= 0.05 + 2 * (0.05 * 0.95 / 200) ** 0.5
    zeros = [measured(rng, 8, 0.0, 0.01, 0.05).p_equivalence(margin=2.0) < 0.05 for _ in range(30)]
    assert np.mean(zeros) > 0.9  # the test has power
