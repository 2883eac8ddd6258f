"""Rank correlations of latent scores with gains: against brute force, and on made-up models of known truth."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import rankdata, spearmanr

from crodino_lib.analysis import gain_correlations as module
from crodino_lib.analysis.gain_correlations import SCORES, rank_correlations, spearman

FIRST = next(iter(SCORES))


@pytest.fixture(autouse=True)
def few_draws(monkeypatch):
    monkeypatch.setattr(module, "DRAWS", 100)


def models(generator, variants=24, seeds=3, truth=0.0, methods=4, repeated=1.0):
    """Return models of variants that repeat themselves over seeds; the first score goes with the gain by ``truth``."""
    of_variant = generator.multivariate_normal([0, 0], [[1, truth], [truth, 1]], variants).repeat(seeds, axis=0)
    n = variants * seeds
    others = repeated * generator.normal(size=(variants, len(SCORES))).repeat(seeds, axis=0)
    table = pd.DataFrame(others + 0.3 * generator.normal(size=(n, len(SCORES))), columns=list(SCORES))
    names = np.repeat([f"v{i}" for i in range(variants)], seeds)
    table[FIRST], gain = of_variant.T + 0.3 * generator.normal(size=(2, n))
    method = np.repeat([f"m{i % methods}" for i in range(variants)], seeds)
    return table.assign(study="a", variant=names, method=method, seed=np.tile(np.arange(seeds), variants), gain=gain)


def test_without_groups_it_is_scipy_s_with_ties():
    generator = np.random.default_rng(0)
    x, y = generator.integers(6, size=(4, 50)).astype(float), generator.normal(size=50).round(1)
    np.testing.assert_allclose(spearman(x, y), [spearmanr(row, y).statistic for row in x])
    np.testing.assert_array_equal(spearman(np.ones((1, 50)), y), [np.nan])


def test_within_groups_ranks_are_centred_on_their_group_by_brute_force():
    generator = np.random.default_rng(1)
    groups, x, y = generator.integers(3, size=40) + 7, generator.normal(size=(2, 40)), generator.normal(size=40)
    for row, found in zip(x, spearman(x, y, groups), strict=True):
        a, b = rankdata(row), rankdata(y)
        for group in set(groups):
            a[groups == group] -= a[groups == group].mean()
            b[groups == group] -= b[groups == group].mean()
        assert found == pytest.approx((a * b).sum() / np.sqrt((a**2).sum() * (b**2).sum()))


def test_a_trend_between_methods_is_none_within_them():
    generator = np.random.default_rng(2)
    groups = np.repeat(np.arange(4), 25)
    x = groups + 0.3 * generator.normal(size=100)
    y = groups + 0.3 * generator.normal(size=100)
    assert spearman(x[None], y)[0] > 0.8
    assert abs(spearman(x[None], y, groups)[0]) < 0.25


def test_a_true_score_is_found_and_noise_is_not():
    table = rank_correlations(models(np.random.default_rng(3), truth=0.9)).set_index("score")
    assert table.predicts[FIRST]
    assert table.low[FIRST] < table.rho[FIRST] < table.high[FIRST]
    assert table.clear.sum() == table.predicts.sum() == 1
    assert (table.models == 72).all()


def test_it_rarely_finds_something_where_there_is_nothing():
    """Of 25 studies without any truth in them, four at most name one of 22 scores; 5 of 100 are allowed."""
    generator = np.random.default_rng(4)
    found = [rank_correlations(models(generator)).clear.any() for _ in range(25)]
    assert sum(found) <= 4


def test_chance_knows_that_seeds_are_repetitions():
    generator = np.random.default_rng(5)
    repeated = np.mean([rank_correlations(models(generator)).chance[0] for _ in range(5)])
    single = np.mean([rank_correlations(models(generator, 72, 1)).chance[0] for _ in range(5)])
    assert repeated > single + 0.1


def test_a_score_that_rests_on_one_method_is_clear_and_predicts_nothing():
    table = models(np.random.default_rng(6), variants=30, truth=0.0, methods=3)
    mine = table.method == "m1"
    table.loc[mine, "gain"] += 5
    table.loc[mine, FIRST] += 5
    row = rank_correlations(table).set_index("score").loc[FIRST]
    assert row.clear
    assert row.without == "m1"
    assert abs(row["rho without"]) < 0.5 < row.rho
    assert not row.predicts


def test_a_variant_of_two_studies_repeats_itself():
    """Without any truth, a study and its repetition name a score no more often than one study does."""
    generator, named = np.random.default_rng(9), 0
    for _ in range(15):
        first = models(generator)
        second = first.assign(study="b", gain=first.gain + 0.3 * generator.normal(size=len(first)))
        named += rank_correlations(pd.concat([first, second])).clear.any()
    assert named <= 3


def test_gains_are_exchanged_within_what_is_held_fixed_in_one_order_for_all_studies():
    first = models(np.random.default_rng(10), variants=6, methods=2)
    table = pd.concat([first, first.assign(study="b")], ignore_index=True)
    for fixed in (["study"], ["study", "method"]):
        for whose in module._exchanged(table, fixed, np.random.default_rng(0)):
            assert sorted(whose) == list(range(len(table)))
            other = table.loc[whose].reset_index(drop=True)
            assert (other[[*fixed, "seed"]] == table[[*fixed, "seed"]]).all(axis=None)
            halves = other.variant.to_numpy().reshape(2, -1)
            assert (halves[0] == halves[1]).all()


def test_a_control_is_left_out_of_the_gain_over_itself_and_nothing_that_varies_is_nan():
    table = models(np.random.default_rng(11), truth=0.9)
    zero = table[:3].assign(variant="self-training", method="self-training", **{"cross-modal gain": 0.0})
    table = pd.concat([table.assign(**{"cross-modal gain": table.gain}), zero])
    assert (rank_correlations(table, "cross-modal gain").models == 72).all()
    assert (rank_correlations(table, "gain").models == 75).all()
    single = models(np.random.default_rng(12), variants=12, seeds=1, methods=12)
    found = rank_correlations(single, within=("method",))
    assert found[["rho", "chance", "low"]].isna().all(axis=None)
    assert not found.clear.any()


def test_missing_scores_gains_and_seeds_are_left_out():
    table = models(np.random.default_rng(7), truth=0.9)
    second, third = list(SCORES)[1:3]
    table.loc[:20, second] = np.nan
    table.loc[5:, third] = np.nan
    table.loc[70, "gain"] = np.nan
    found = rank_correlations(table.drop(index=[3, 4])).set_index("score")
    assert third not in found.index
    assert (found.models[second], found.models[FIRST]) == (72 - 21 - 1, 72 - 2 - 1)
    kept = table.drop(index=[3, 4]).dropna(subset=["gain", second])
    assert found.rho[second] == pytest.approx(spearmanr(kept[second], kept.gain).statistic)


def test_within_holds_study_and_method_fixed():
    parts = []
    for study, shift in (("a", 0), ("b", 8)):
        part = models(np.random.default_rng(8 + shift)).assign(study=study)
        part[[FIRST, "gain"]] += shift
        parts.append(part)
    table = pd.concat(parts)
    assert rank_correlations(table).rho[0] > 0.6
    assert abs(rank_correlations(table, within=("study", "method")).rho[0]) < 0.4
