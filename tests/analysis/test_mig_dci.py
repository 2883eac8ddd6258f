import math

import numpy as np
import pytest

from crodino_lib.analysis.mig_dci import block_dci, block_mig

PERFECT = np.array([[1.0, 1, 0, 0, 0], [0, 0, 1, 1, 1]])


def skills(seed=0, codes=2, factors=7):
    return np.random.default_rng(seed).random((codes, factors))


def entropy_to_base(shares, base):
    return -sum(share * math.log(share, base) for share in shares if share > 0)


def test_a_perfect_split_has_a_gap_of_one_and_is_disentangled_and_complete():
    assert block_mig(PERFECT) == 1
    found = block_dci(PERFECT[:, :4])
    assert found["completeness"] == 1
    assert found["informativeness"] == 1
    one_each = block_dci(np.eye(2))
    assert one_each == {"disentanglement": 1, "completeness": 1, "informativeness": 1}


def test_equal_halves_have_no_gap_and_nothing_is_complete():
    equal = np.tile(skills(codes=1), (2, 1))
    assert block_mig(equal) == 0
    assert block_dci(equal)["completeness"] == pytest.approx(0)


def test_a_half_that_holds_all_factors_alike_is_not_disentangled():
    found = block_dci(np.array([[0.7] * 4, [0.0] * 4]))
    assert found["disentanglement"] == pytest.approx(0)
    assert found["completeness"] == pytest.approx(1)  # every factor is in one half alone, though all in the same


def test_channels_dealt_at_random_have_a_gap_of_about_nothing():
    """Each of 200 channels holds a little of every factor; a half's skill is the mean of its channels'."""
    generator = np.random.default_rng(0)
    channels = generator.random((200, 6))
    trained = np.stack([channels[:100].mean(axis=0) + 0.4, channels[100:].mean(axis=0) - 0.4])
    order = generator.permutation(200)
    dealt = np.stack([channels[order[:100]].mean(axis=0), channels[order[100:]].mean(axis=0)])
    assert block_mig(dealt) < 0.1
    assert block_dci(dealt)["completeness"] < 0.02
    assert block_mig(trained) > 0.6


def test_the_gap_is_that_of_the_best_two_codes_of_every_factor():
    """Oracle: MIG's equation, loop by loop, with skill in place of information; three codes."""
    table = skills(codes=3)
    gaps = []
    for k in range(7):
        first, second, _ = sorted((table[j, k] for j in range(3)), reverse=True)
        gaps.append(first - second)
    assert block_mig(table) == pytest.approx(sum(gaps) / 7)


def test_disentanglement_and_completeness_are_what_their_equations_say():
    table = skills(codes=3)
    total, d, c = table.sum(), 0.0, 0.0
    for j in range(3):
        share = [table[j, k] / table[j].sum() for k in range(7)]
        d += table[j].sum() / total * (1 - entropy_to_base(share, 7))
    for k in range(7):
        share = [table[j, k] / table[:, k].sum() for j in range(3)]
        c += table[:, k].sum() / total * (1 - entropy_to_base(share, 3))
    found = block_dci(table)
    assert found["disentanglement"] == pytest.approx(d)
    assert found["completeness"] == pytest.approx(c)
    assert found["informativeness"] == pytest.approx(sum(max(table[:, k]) for k in range(7)) / 7)


def test_the_order_of_halves_and_of_factors_decides_nothing():
    table = skills()
    assert block_mig(table[::-1, ::-1]) == pytest.approx(block_mig(table))
    assert block_dci(table[::-1, ::-1]) == pytest.approx(block_dci(table))


def test_a_factor_that_was_not_measured_in_both_halves_does_not_count():
    table = np.column_stack([skills(), [0.3, np.nan], [np.nan, np.nan]])
    assert block_mig(table) == block_mig(skills())
    assert block_dci(table) == block_dci(skills())


def test_a_dead_half_and_a_factor_that_none_tells_weigh_nothing():
    table = skills()
    table[1], table[:, 3] = 0, 0
    found = block_dci(table)
    alone = 1 - entropy_to_base(table[0] / table[0].sum(), 7)
    assert found["disentanglement"] == pytest.approx(alone)
    assert found["completeness"] == pytest.approx(1)


def test_without_anything_told_there_is_no_score():
    assert np.isnan(block_mig(np.full((2, 3), np.nan)))
    assert all(np.isnan(value) for value in block_dci(np.zeros((2, 3))).values())
    assert block_mig(np.zeros((2, 3))) == 0


def test_a_single_factor_says_nothing_about_disentanglement():
    found = block_dci(np.array([[0.8], [0.2]]))
    assert np.isnan(found["disentanglement"])
    assert found["completeness"] == pytest.approx(1 - entropy_to_base([0.8, 0.2], 2))


@pytest.mark.parametrize("table", [np.zeros(3), np.zeros((1, 3)), np.zeros((2, 2, 2))])
def test_a_table_without_two_codes_is_refused(table):
    with pytest.raises(ValueError, match=r"skills must be \(codes, factors\) of at least two codes, found shape"):
        block_mig(table)
