import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr
from sklearn.manifold import trustworthiness as sklearn_trustworthiness

from crodino_lib.analysis.embedding_quality import (
    Space,
    centroid_spearman,
    class_purity,
    continuity,
    cross_modality_fraction,
    distance_spearman,
    islands,
    ranks,
    rnx,
    rnx_auc,
    some_pairs,
    trustworthiness,
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


def test_trustworthiness_and_continuity_have_their_golden_values():
    high = np.random.RandomState(0).randn(300, 20)
    of_high, of_low = ranks(high), ranks(high[:, :2])
    assert trustworthiness(of_high, of_low, 15) == pytest.approx(0.617831, abs=1e-6)
    assert continuity(of_high, of_low, 15) == pytest.approx(0.697899, abs=1e-6)


def test_trustworthiness_is_that_of_scikit_learn():
    high, low = clouds(200)
    assert trustworthiness(ranks(high), ranks(low), 15) == pytest.approx(
        sklearn_trustworthiness(high, low, n_neighbors=15)
    )


def test_trustworthiness_is_what_its_equation_says():
    (high, low), k = clouds(), 4
    penalty = 0
    for i in range(30):
        for j in neighbours(low, i)[1 : k + 1]:
            penalty += max(0, neighbours(high, i).index(j) - k)
    assert trustworthiness(ranks(high), ranks(low), k) == pytest.approx(1 - 2 / (30 * k * (60 - 3 * k - 1)) * penalty)


def test_a_picture_that_is_the_space_itself_is_trusted_fully():
    points = np.random.default_rng(0).normal(size=(100, 2))
    of_points, of_picture = ranks(points), ranks(3 * points + 1)
    assert trustworthiness(of_points, of_picture) == 1.0
    assert continuity(of_points, of_picture) == 1.0
    np.testing.assert_allclose(rnx(of_points, of_picture), 1)
    assert rnx_auc(rnx(of_points, of_picture)) == pytest.approx(1)


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


def test_an_unrelated_picture_has_no_more_in_common_than_chance():
    high, low = clouds(800)
    curve = rnx(ranks(high), ranks(low))
    assert abs(rnx_auc(curve)) < 0.02
    assert trustworthiness(ranks(high), ranks(low)) == pytest.approx(0.5, abs=0.02)
    assert abs(distance_spearman(high, low, some_pairs(800, 100_000, np.random.default_rng(0)))) < 0.03


def test_distances_are_correlated_over_the_pairs_that_were_asked_for():
    (high, low), pairs = clouds(8), [(i, j) for j in range(8) for i in range(j)]
    far = [[sum((points[i] - points[j]) ** 2) ** 0.5 for i, j in pairs] for points in (high, low)]
    assert distance_spearman(high, low, np.array(pairs)) == pytest.approx(spearmanr(*far).statistic)
    assert distance_spearman(high, low, np.array(pairs[:9])) == pytest.approx(
        spearmanr(far[0][:9], far[1][:9]).statistic
    )


def test_a_picture_that_only_turns_and_scales_keeps_the_order_of_distances():
    _, low = clouds(50)
    turned = 2 * low @ np.array([[0.0, -1.0], [1.0, 0.0]])
    pairs = some_pairs(50, 10**6, np.random.default_rng(0))
    assert distance_spearman(low, turned, pairs) == pytest.approx(1)
    assert np.isnan(distance_spearman(low, np.zeros_like(low), pairs))  # a picture of one point has no order


def test_all_pairs_are_taken_where_they_fit_and_a_sample_of_different_points_elsewhere():
    generator = np.random.default_rng(0)
    assert sorted(map(tuple, some_pairs(5, 10, generator))) == [(i, j) for i in range(5) for j in range(i + 1, 5)]
    pairs = some_pairs(6, 14, generator)
    assert len(pairs) == 14
    many = some_pairs(200, 19_000, generator)
    assert (many[:, 0] < many[:, 1]).all()
    shares = np.bincount(many.ravel(), minlength=200) / many.size
    assert shares == pytest.approx(np.full(200, 1 / 200), abs=0.002)


def test_centroids_of_groups_are_compared_by_their_distances():
    (high, low), groups = clouds(24), np.arange(24) % 4
    far = []
    for points in (high, low):
        centres = [points[groups == g].mean(axis=0) for g in range(4)]
        far.append([np.linalg.norm(centres[i] - centres[j]) for i in range(4) for j in range(i + 1, 4)])
    assert centroid_spearman(high, low, groups) == pytest.approx(spearmanr(*far).statistic)
    assert np.isnan(centroid_spearman(high, low, groups % 2))  # one distance has no order


def test_a_space_tells_of_a_picture_what_the_measures_say():
    high, low = clouds(40)
    rows = pd.DataFrame({"sensor": ["rgb", "depth"] * 20, "class": np.arange(40) // 10})
    told = Space.of(high, rows, np.random.default_rng(0)).fidelity(low)
    unit = high / np.linalg.norm(high, axis=1, keepdims=True)
    assert (told["points"], told["k"]) == (40, 15)
    assert told["trustworthiness"] == pytest.approx(sklearn_trustworthiness(high, low, n_neighbors=15, metric="cosine"))
    assert told["continuity"] == pytest.approx(sklearn_trustworthiness(low, unit, n_neighbors=15))
    assert told["rnx_auc"] == rnx_auc(rnx(ranks(unit), ranks(low)))
    groups = rows["class"] * 2 + (rows["sensor"] == "rgb")
    assert told["centroid_spearman"] == pytest.approx(centroid_spearman(unit, low, groups))
    assert told["cross_modality_2d"] == cross_modality_fraction(low, rows["sensor"], 15)
    assert told["class_purity_hd"] == class_purity(unit, rows["class"], 15)


def test_a_picture_misleads_where_a_share_of_neighbours_changes_by_more_than_a_tenth():
    block = np.random.default_rng(0).normal(size=(100, 8))
    rows = pd.DataFrame({"sensor": ["rgb"] * 50 + ["depth"] * 50, "class": 0})
    space = Space.of(block, rows, np.random.default_rng(0))
    told = space.fidelity(block[:, :2])
    assert abs(told["cross_modality_hd"] - told["cross_modality_2d"]) < 0.1
    assert not told["misleads"]
    apart = block[:, :2] + 100 * (rows[["sensor"]].to_numpy() == "rgb")
    assert space.fidelity(apart)["misleads"]


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


def test_islands_are_clean_where_groups_are_tight_and_far_and_none_where_they_are_dealt_at_random():
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
    with pytest.raises(ValueError, match=r"need two sensors in one picture, found only \['rgb'\]"):
        cross_modality_fraction(np.zeros((20, 2)), np.repeat("rgb", 20))
