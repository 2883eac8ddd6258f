import itertools

import numpy as np
import pytest

from crodino_lib.analysis.retrieval import (
    chance,
    chance_map,
    class_map,
    compute,
    rotated_standings,
    scores,
    standings,
)
from tests.analysis.factories import made, normal


def unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def test_retrieval_is_what_its_equations_say():
    u, v, classes = unit(normal(0, n=30, d=3)[0]), unit(normal(1, n=30, d=3)[0]), np.repeat([0, 1, 2], [14, 15, 1])
    ranks = []
    for i in range(29):  # the last has no other candidate
        fellows = [j for j in range(30) if classes[j] == classes[i]]
        ranks.append(sorted(fellows, key=lambda j: -(u[i] @ v[j])).index(i) + 1)
    found = scores(standings(u, v, classes))
    for k in (1, 5, 10):
        assert found[f"recall_{k}"] == pytest.approx(np.mean([rank <= k for rank in ranks]))
    assert found["median_rank"] == np.median(ranks)
    assert found["mrr"] == pytest.approx(np.mean([1 / rank for rank in ranks]))


def test_class_map_is_what_its_equation_says():
    u, v, classes = unit(normal(0, n=20, d=3)[0]), unit(normal(1, n=20, d=3)[0]), np.repeat([0, 1, 2], [8, 9, 3])
    precisions = []
    for i in range(20):
        ranked = sorted(range(20), key=lambda j: -(u[i] @ v[j]))
        hits = [classes[j] == classes[i] for j in ranked]
        precisions.append(np.mean([sum(hits[: r + 1]) / (r + 1) for r in range(20) if hits[r]]))
    assert class_map(u, v, classes) == pytest.approx(np.mean(precisions))


def test_ties_are_shared_fairly():
    rows = np.repeat(np.eye(4), 2, axis=0)  # every row is there twice
    found = scores(standings(rows, rows, np.zeros(8, int)))
    assert found["recall_1"] == 0.5
    assert found["recall_5"] == 1
    assert found["median_rank"] == 1.5
    assert found["mrr"] == pytest.approx(2 / 3)
    assert scores(np.array([[2, 5, 9]]))["recall_5"] == 0.5  # places 3 to 8, of which three are among the first five
    same = np.tile(unit(normal(0, n=1, d=7)[0]), (8, 1))
    assert scores(standings(same, same, np.zeros(8, int)))["recall_5"] == 5 / 8  # all tied is chance


def test_chance_is_what_random_answers_reach():
    candidates = np.repeat([4, 12, 1], [4, 6, 1])
    generator = np.random.default_rng(0)
    ranks = np.concatenate([generator.integers(1, n + 1, 40000) for n in candidates if n > 1])
    found = chance(candidates)
    assert found["chance_recall_1"] == pytest.approx((ranks == 1).mean(), abs=0.01)
    assert found["chance_recall_10"] == pytest.approx((ranks <= 10).mean(), abs=0.01)
    assert found["chance_mrr"] == pytest.approx((1 / ranks).mean(), abs=0.01)
    assert found["chance_median_rank"] == np.median(ranks)
    assert chance(np.full(6, 6))["chance_median_rank"] == 3.5
    assert chance(np.full(20, 20))["chance_recall_5"] == pytest.approx(5 / 20)


def test_chance_map_is_the_mean_over_all_orders():
    def precision(ranks):  # of the relevant, ascending
        return np.mean([(hits + 1) / rank for hits, rank in enumerate(ranks)])

    expected = 0.0
    for relevant in (4, 2, 1):  # each class gives as many queries as it has rows
        orders = itertools.combinations(range(1, 8), relevant)
        expected += relevant / 7 * np.mean([precision(ranks) for ranks in orders])
    assert chance_map(np.repeat([0, 1, 2], [4, 2, 1])) == pytest.approx(expected)


def test_equal_halves_are_found_and_independent_ones_are_at_chance():
    a, b, c, _ = normal(0, 400)
    found = compute(made([a, 2 * a, b, c]), 400, np.random.default_rng(0))
    assert found["recall_1 shared"] == found["mrr shared"] == found["median_rank shared"] == 1
    assert found["rotated_recall_1 shared"] == 1
    assert found["recall_1 private"] == pytest.approx(found["chance_recall_1 private"], abs=0.01)
    assert found["recall_10 private"] == pytest.approx(found["chance_recall_10 private"], abs=0.03)
    assert found["mrr private"] == pytest.approx(found["chance_mrr private"], abs=0.02)
    assert found["median_rank private"] == pytest.approx(found["chance_median_rank private"], abs=8)
    assert found["map private"] == pytest.approx(found["chance_map private"], abs=0.01)
    assert found["chance_recall_1 shared"] == 1 / 100  # a hundred rows of each class


def test_classes_alone_are_told_but_not_instances():
    blocks = [0.01 * block + np.eye(6)[np.arange(400) % 4] for block in normal(0, 400)]
    found = compute(made(blocks), 400, np.random.default_rng(0))
    assert found["map shared"] == 1
    assert found["recall_1 shared"] == pytest.approx(0.01, abs=0.01)


def test_whole_images_are_candidates_of_each_other_whatever_their_class():
    a, b, c, _ = normal(0)
    found = compute(made([a, a, b, c], 1, np.full(80, 255), "image"), 80, np.random.default_rng(0))
    assert found["chance_recall_1 shared"] == 1 / 80
    assert found["recall_1 shared"] == 1


def test_a_rotation_mends_what_is_not_aligned_but_not_what_is_not_shared():
    a, b, c, _ = normal(0, 400)
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(6, 6)))[0]
    found = compute(made([a, a @ turn, b, c]), 400, np.random.default_rng(0))
    assert found["recall_1 shared"] < 0.2
    assert found["rotated_recall_1 shared"] == pytest.approx(1)
    assert found["rotated_recall_1 private"] < 0.05


def test_the_rotation_is_never_fitted_on_the_images_it_is_measured_on():
    n, d = 40, 64  # so many channels that a rotation fitted on the rows themselves finds nearly all of them
    u, v = unit(normal(0, n, d)[0]), unit(normal(1, n, d)[0])
    images = np.repeat(np.arange(10), 4)
    there, back = rotated_standings(u, v, np.zeros(n, int), images, np.random.default_rng(0))
    assert scores(there)["recall_1"] < 0.2
    assert scores(back)["recall_1"] < 0.2
    assert (there[:, 2] == n).all()
    assert (back[:, 2] == n).all()


def test_both_directions_count():
    u, v = normal(0, n=40)[:2]
    u[:20] += 10  # a hub on one side only
    groups = np.zeros(40, int)
    there, back = (scores(standings(*pair, groups)) for pair in ((unit(u), unit(v)), (unit(v), unit(u))))
    assert there["mrr"] != back["mrr"]
    found = compute(made([u, v, u, v], 1, unit="image"), 40, np.random.default_rng(0))
    assert found["mrr shared"] == pytest.approx((there["mrr"] + back["mrr"]) / 2)


def test_shuffled_rows_are_not_found():
    a, _, b, c = normal(0, 400)
    found = compute(made([a, np.random.default_rng(1).permutation(a), b, c]), 400, np.random.default_rng(0))
    assert found["recall_1 shared"] < 0.05


@pytest.mark.parametrize("value", [0.0, 0.1])
def test_a_constant_half_is_not_asked(value):
    blocks = normal(0)
    blocks[3] = np.full_like(blocks[3], value)
    found = compute(made(blocks), 80, np.random.default_rng(0))
    assert {name for name, result in found.items() if np.isnan(result)} == {name for name in found if "private" in name}


def test_one_class_has_no_map_one_image_no_rotation_and_lonely_rows_no_rank():
    def missing(latents):
        found = compute(latents, 80, np.random.default_rng(0))
        return {name for name, value in found.items() if np.isnan(value)}

    def both(*names):
        return {f"{name} {half}" for name in names for half in ("shared", "private")}

    assert missing(made(normal(0), classes=np.zeros(80))) == both("map", "chance_map")
    assert missing(made(normal(0), per_image=80, classes=np.arange(80) % 4)) == both("rotated_recall_1", "rotated_mrr")
    lonely = missing(made(normal(0), classes=np.arange(80)))
    assert both("recall_1", "mrr", "median_rank", "chance_recall_1", "rotated_mrr") <= lonely
    assert not both("map") & lonely


def test_a_rotation_fitted_on_few_rows_would_not_find_identical_blocks_and_is_not_asked():
    block = np.random.default_rng(0).normal(size=(300, 128))
    few, many = (compute(made([block[:n]] * 4, 1), n, np.random.default_rng(0)) for n in (100, 300))
    assert few["recall_1 shared"] == many["recall_1 shared"] == 1
    assert np.isnan(few["rotated_recall_1 shared"])
    assert many["rotated_recall_1 shared"] > 0.99
