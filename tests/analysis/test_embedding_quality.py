import numpy as np
import pandas as pd
import pytest
from sklearn.manifold import trustworthiness

from crodino_lib.analysis.embedding_quality import (
    EmbeddingReference,
    class_purity,
    cross_modality_fraction,
    islands,
    ranks,
    rnx,
    rnx_auc,
)


def clouds(n=30, seed=0):
    generator = np.random.default_rng(seed)
    return generator.normal(size=(n, 5)), generator.normal(size=(n, 2))


def neighbours(points, i):
    """All points by their distance to i, with i first."""
    return sorted(range(len(points)), key=lambda j: (j != i, ((points[i] - points[j]) ** 2).sum(), j))


def test_ranks_are_places_in_the_order_of_distance():
    points, _ = clouds(12)
    for i, row in enumerate(ranks(points)):
        assert [int(row[j]) for j in neighbours(points, i)] == list(range(12))


def test_a_point_is_its_own_nearest_even_if_others_equal_it():
    assert ranks(np.zeros((3, 2))).tolist() == [[0, 1, 2], [1, 0, 2], [1, 2, 0]]


def test_co_ranking_is_what_its_equation_says():
    high, low = clouds(20)
    curve, n = rnx(ranks(high), ranks(low)), 20
    assert len(curve) == n - 2
    for k in range(1, n - 1):
        common = sum(len(set(neighbours(high, i)[1 : k + 1]) & set(neighbours(low, i)[1 : k + 1])) for i in range(n))
        assert curve[k - 1] == pytest.approx(((n - 1) * common / (n * k) - k) / (n - 1 - k))


def test_the_area_under_co_ranking_weighs_small_neighbourhoods_most():
    curve = np.array([0.9, 0.3, 0.6])
    assert rnx_auc(curve) == pytest.approx((0.9 + 0.3 / 2 + 0.6 / 3) / (1 + 1 / 2 + 1 / 3))


def test_trustworthiness_and_continuity_have_their_golden_values():
    high = np.random.RandomState(0).randn(300, 20)
    assert trustworthiness(high, high[:, :2], n_neighbors=15) == pytest.approx(0.617831, abs=1e-6)
    assert trustworthiness(high[:, :2], high, n_neighbors=15) == pytest.approx(0.697899, abs=1e-6)


def test_the_quality_of_an_embedding_is_what_the_measures_say():
    high, low = clouds(40)
    rows = pd.DataFrame({"sensor": ["rgb", "depth"] * 20, "class": np.arange(40) // 10})
    quality = EmbeddingReference(high, rows).quality(low)
    unit = high / np.linalg.norm(high, axis=1, keepdims=True)
    assert (quality["points"], quality["k"]) == (40, 15)
    assert quality["trustworthiness"] == pytest.approx(trustworthiness(high, low, n_neighbors=15, metric="cosine"))
    assert quality["continuity"] == pytest.approx(trustworthiness(low, unit, n_neighbors=15))
    assert quality["rnx_auc"] == rnx_auc(rnx(ranks(unit), ranks(low)))
    assert quality["cross_modality_2d"] == cross_modality_fraction(low, rows["sensor"], 15)
    assert quality["class_purity_hd"] == class_purity(unit, rows["class"], 15)


def test_the_space_itself_is_trusted_fully_and_an_unrelated_embedding_is_not():
    _, low = clouds(400)
    rows = pd.DataFrame({"sensor": ["rgb", "depth"] * 200, "class": 0})
    angle = np.random.default_rng(0).uniform(0, 2 * np.pi, 400)
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=1)  # rows of length one, which scaling leaves as they are
    same, other = (EmbeddingReference(circle, rows).quality(points) for points in (3 * circle + 1, low))
    assert [same[name] for name in ("trustworthiness", "continuity", "rnx_auc")] == pytest.approx([1, 1, 1])
    assert other["trustworthiness"] == pytest.approx(0.5, abs=0.05)
    assert abs(other["rnx_auc"]) < 0.05


def test_an_embedding_misleads_where_a_share_of_neighbours_changes_by_more_than_a_tenth():
    block = np.random.default_rng(0).normal(size=(100, 8))
    rows = pd.DataFrame({"sensor": ["rgb"] * 50 + ["depth"] * 50, "class": 0})
    reference = EmbeddingReference(block, rows)
    assert not reference.quality(block[:, :2])["misleads"]
    apart = block[:, :2] + 100 * (rows[["sensor"]].to_numpy() == "rgb")
    assert reference.quality(apart)["misleads"]


def test_sensors_with_equal_latents_are_mixed_and_separate_ones_are_not():
    block = np.random.default_rng(0).normal(size=(500, 8))
    sensors = np.repeat(["rgb", "depth"], 500)
    twins = cross_modality_fraction(np.concatenate([block, block]), sensors)
    assert twins == pytest.approx(8 / 15, abs=0.01)  # its twin, and half of seven pairs of others
    assert cross_modality_fraction(np.concatenate([block, block + 100]), sensors) == 0.0


def test_two_sensors_that_share_a_distribution_mix_evenly():
    points = np.random.default_rng(0).normal(size=(2000, 3))
    assert cross_modality_fraction(points, np.repeat(["rgb", "depth"], 1000)) == pytest.approx(0.5, abs=0.01)


def test_purity_is_counted_over_neighbours_without_the_point_itself():
    line = np.array([[0.0], [1.0], [10.0], [11.0], [20.0], [21.0]])
    assert class_purity(line, np.array([0, 0, 1, 1, 2, 2]), k=1) == 1.0
    assert class_purity(line, np.array([0, 1, 0, 1, 0, 1]), k=1) == 0.0
    assert class_purity(line, np.array([0, 0, 1, 1, 0, 1]), k=1) == pytest.approx(4 / 6)


def test_islands_are_clean_where_groups_are_tight_and_far_and_not_where_they_are_random():
    generator, groups = np.random.default_rng(0), np.arange(80) % 4
    centres = 50 * np.stack([groups % 2, groups // 2], axis=1)
    assert islands(centres + generator.normal(size=(80, 2)), groups) > 0.9
    assert abs(islands(generator.normal(size=(80, 2)), groups)) < 0.1
    line, pairs = np.array([[0.0, 0], [1, 0], [4, 0], [6, 0]]), np.array([0, 0, 1, 1])
    by_hand = [(5 - 1) / 5, (4 - 1) / 4, (3.5 - 2) / 3.5, (5.5 - 2) / 5.5]  # (to the next - within) / larger
    assert islands(line, pairs) == pytest.approx(np.mean(by_hand))
    assert np.isnan(islands(line, np.zeros(4)))
    assert np.isnan(islands(line, np.arange(4)))


def test_one_sensor_has_no_neighbours_from_another():
    with pytest.raises(ValueError, match=r"need points of two sensors, found only \['rgb'\]"):
        cross_modality_fraction(np.zeros((20, 2)), np.repeat("rgb", 20))
