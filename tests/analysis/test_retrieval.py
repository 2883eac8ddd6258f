import numpy as np
import pytest

from crodino_lib.analysis.retrieval import SCORES, chance, rank_answers, rank_rotated, scores
from crodino_lib.analysis.retrieval import retrieval as compute
from tests.analysis.factories import made, named, normal


def unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def score(*blocks):
    """Scores by name of answers ranked by ``rank_answers``."""
    return dict(zip(SCORES, scores(rank_answers(*blocks)), strict=True))


def test_retrieval_is_what_its_equations_say():
    u, v, classes = unit(normal(0, n=30, d=3)[0]), unit(normal(1, n=30, d=3)[0]), np.repeat([0, 1, 2], [14, 15, 1])
    ranks = []
    for i in range(29):  # the last has no other candidate
        fellows = [j for j in range(30) if classes[j] == classes[i]]
        ranks.append(sorted(fellows, key=lambda j: -(u[i] @ v[j])).index(i) + 1)
    values = score(u, v, classes)
    for k in (1, 5, 10):
        assert values[f"recall_{k}"] == pytest.approx(np.mean([rank <= k for rank in ranks]))
    assert values["mrr"] == pytest.approx(np.mean([1 / rank for rank in ranks]))


def test_ties_are_shared_fairly():
    rows = np.repeat(np.eye(4), 2, axis=0)  # every row is there twice
    values = score(rows, rows, np.zeros(8, int))
    assert (values["recall_1"], values["recall_5"]) == (0.5, 1)
    assert values["mrr"] == pytest.approx(2 / 3)
    assert scores(np.array([[2, 5, 9]]))[1] == 0.5  # places 3 to 8, of which three are among the first five
    same = np.tile(unit(normal(0, n=1, d=7)[0]), (8, 1))
    assert score(same, same, np.zeros(8, int))["recall_5"] == 5 / 8  # all tied is chance


def test_chance_is_what_random_answers_reach():
    candidates = np.repeat([4, 12, 1], [4, 6, 1])
    generator = np.random.default_rng(0)
    ranks = np.concatenate([generator.integers(1, n + 1, 40000) for n in candidates if n > 1])
    values = dict(zip(SCORES, chance(candidates), strict=True))
    assert values["recall_1"] == pytest.approx((ranks == 1).mean(), abs=0.01)
    assert values["recall_10"] == pytest.approx((ranks <= 10).mean(), abs=0.01)
    assert values["mrr"] == pytest.approx((1 / ranks).mean(), abs=0.01)
    assert chance(np.full(20, 20))[1] == pytest.approx(5 / 20)


def test_equal_halves_are_found_and_independent_ones_are_at_chance():
    a, b, c, _ = normal(0, 400)
    found = named(compute(made([a, 2 * a, b, c]), np.random.default_rng(0)))
    assert found["recall_1 shared"] == found["mrr shared"] == found["rotated_recall_1 shared"] == 1
    assert found["recall_1 private"] == pytest.approx(found["chance_recall_1 private"], abs=0.01)
    assert found["recall_10 private"] == pytest.approx(found["chance_recall_10 private"], abs=0.03)
    assert found["mrr private"] == pytest.approx(found["chance_mrr private"], abs=0.02)
    assert found["chance_recall_1 shared"] == pytest.approx(1 / 100)  # a hundred rows of each class


def test_what_recognises_the_class_alone_finds_no_instance():
    blocks = [0.01 * block + np.eye(6)[np.arange(400) % 4] for block in normal(0, 400)]
    found = named(compute(made(blocks), np.random.default_rng(0)))
    assert found["recall_1 shared"] == pytest.approx(0.01, abs=0.01)


def test_whole_images_are_candidates_of_each_other_whatever_their_class():
    a, b, c, _ = normal(0)
    found = named(compute(made([a, a, b, c], 1, np.full(80, 255), "image"), np.random.default_rng(0)))
    assert found["chance_recall_1 shared"] == pytest.approx(1 / 80)
    assert found["recall_1 shared"] == 1


def test_a_rotation_mends_what_is_not_aligned_but_not_what_is_not_shared():
    a, b, c, _ = normal(0, 400)
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(6, 6)))[0]
    found = named(compute(made([a, a @ turn, b, c]), np.random.default_rng(0)))
    assert found["recall_1 shared"] < 0.2
    assert found["rotated_recall_1 shared"] == pytest.approx(1)
    assert found["rotated_recall_1 private"] < 0.05


def test_the_rotation_is_never_fitted_on_the_images_it_is_measured_on():
    n, d = 40, 64  # so many channels that a rotation fitted on the rows themselves finds nearly all of them
    u, v = unit(normal(0, n, d)[0]), unit(normal(1, n, d)[0])
    images = np.repeat(np.arange(10), 4)
    there, back = rank_rotated(u, v, np.zeros(n, int), images, np.random.default_rng(0))
    assert scores(there)[0] < 0.2
    assert scores(back)[0] < 0.2
    assert (there[:, 2] == n).all()
    assert (back[:, 2] == n).all()


def test_both_directions_count():
    u, v = normal(0, n=40)[:2]
    u[:20] += 10  # a hub on one side only
    groups = np.zeros(40, int)
    there, back = (score(*pair, groups) for pair in ((unit(u), unit(v)), (unit(v), unit(u))))
    assert there["mrr"] != back["mrr"]
    found = named(compute(made([u, v, u, v], 1, unit="image"), np.random.default_rng(0)))
    assert found["mrr shared"] == pytest.approx((there["mrr"] + back["mrr"]) / 2)


def test_shuffled_rows_are_not_found():
    a, _, b, c = normal(0, 400)
    found = named(compute(made([a, np.random.default_rng(1).permutation(a), b, c]), np.random.default_rng(0)))
    assert found["recall_1 shared"] < 0.05


@pytest.mark.parametrize("value", [0.0, 0.1])
def test_a_constant_half_is_not_asked(value):
    blocks = normal(0)
    blocks[3] = np.full_like(blocks[3], value)
    found = named(compute(made(blocks), np.random.default_rng(0)))
    assert {name for name, result in found.items() if np.isnan(result)} == {name for name in found if "private" in name}


def test_one_image_has_no_rotation_and_lonely_rows_no_rank():
    def missing(latents):
        return {name for name, v in named(compute(latents, np.random.default_rng(0))).items() if np.isnan(v)}

    one_image = missing(made(normal(0), per_image=80, classes=np.arange(80) % 4))
    assert one_image == {"rotated_recall_1 shared", "rotated_recall_1 private"}
    assert len(missing(made(normal(0), classes=np.arange(80)))) == 2 * (2 * len(SCORES) + 1)


def test_a_rotation_fitted_on_few_rows_would_not_find_identical_blocks_and_is_not_asked():
    block = np.random.default_rng(0).normal(size=(300, 128))
    few, many = (named(compute(made([block[:n]] * 4, 1), np.random.default_rng(0))) for n in (100, 300))
    assert few["recall_1 shared"] == many["recall_1 shared"] == 1
    assert np.isnan(few["rotated_recall_1 shared"])
    assert many["rotated_recall_1 shared"] > 0.99
