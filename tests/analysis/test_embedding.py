import numpy as np
import pytest
from scipy.sparse.linalg import ArpackNoConvergence
from sklearn.metrics.pairwise import cosine_distances

from crodino_lib.analysis.embedding import condition, embed, principal, standardised
from tests.analysis.factories import clustered

SENSORS = np.repeat(["rgb", "depth"], 20)


@pytest.mark.parametrize(
    ("vectors", "says"),
    [
        (np.ones((40, 3)), "collapsed: all vectors are equal"),
        (np.where(SENSORS == "rgb", 1.0, -1.0)[:, None] * np.ones(3), "collapsed: all vectors of a sensor are equal"),
        (1000 + 1e-5 * np.random.default_rng(0).normal(size=(40, 3)), "collapsed: all vectors are equal"),
        (np.zeros((40, 3)), "collapsed: all vectors are equal"),
        (np.r_[np.full((2, 3), np.nan), np.ones((38, 3))], "collapsed: 2 of 40 vectors are not finite"),
        (1 + 1e-3 * np.random.default_rng(0).normal(size=(40, 3)), "nearly collapsed: vectors deviate by 0.1% of"),
        (np.random.default_rng(0).normal(size=(40, 3)), ""),
    ],
)
def test_the_condition_of_a_half_is_told_in_words(vectors, says):
    told = condition(vectors, SENSORS)
    assert told.startswith(says)
    assert bool(told) == bool(says)


def test_one_sensor_that_collapsed_is_still_drawn():
    vectors = np.random.default_rng(0).normal(size=(40, 3))
    vectors[:20] = 0
    assert condition(vectors, SENSORS) == ""


def test_channels_that_vary_by_rounding_alone_are_left_out():
    alive = np.random.default_rng(0).normal(size=(40, 1))
    dead = np.float32(100) + np.linspace(0, 1e-5, 40)[:, None]
    assert standardised(np.hstack([alive, dead, alive])).shape == (40, 2)


def test_an_offset_between_sensors_survives_standardising():
    high = standardised(clustered().stacked("private")[0])
    np.testing.assert_allclose(high.mean(axis=0), 0, atol=1e-9)
    np.testing.assert_allclose(high.std(axis=0), 1, atol=1e-9)
    assert np.linalg.norm(high[:100].mean(axis=0) - high[100:].mean(axis=0)) > 1


def test_a_start_that_failed_is_told_and_still_makes_a_picture(monkeypatch):
    def fails(*_, **__):
        raise ArpackNoConvergence("no eigenvectors", np.zeros(0), np.zeros((0, 0)))

    high = cosine_distances(np.random.default_rng(0).normal(size=(60, 5)))
    assert embed(high, 0, 10, 0.1)[1] == ""
    monkeypatch.setattr("scipy.sparse.linalg.eigsh", fails)
    low, says = embed(high, 0, 10, 0.1)
    assert says == "UMAP started at random, its spectral start failed"
    assert np.isfinite(low).all()


def test_a_half_of_few_different_vectors_still_makes_a_picture():
    generator = np.random.default_rng(0)
    few = generator.normal(size=(4, 20))[np.arange(40) % 4]
    low, _ = embed(cosine_distances(standardised(few)), 0, 30, 0.1)
    assert np.isfinite(low).all()
    assert principal(few[:, :1]).shape == (40, 2)


def test_the_same_seed_gives_the_same_picture():
    high = cosine_distances(standardised(clustered().blocks["rgb/shared"]))
    np.testing.assert_array_equal(embed(high, 0, 10, 0.1)[0], embed(high, 0, 10, 0.1)[0])
