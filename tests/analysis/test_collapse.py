import numpy as np
import pytest

from crodino_lib.analysis.collapse import collapse as compute
from crodino_lib.analysis.collapse import dead_channels, effective_rank, spread
from tests.analysis.factories import made, named, normal


def test_equally_strong_directions_are_counted():
    x = np.zeros((16, 10))
    for channel in range(4):
        x[:, channel] = 1 - 2 * (np.arange(16) >> channel & 1)  # four uncorrelated channels of equal variance
    turned = x @ np.linalg.qr(np.random.default_rng(0).normal(size=(10, 10)))[0]
    for block in (x, turned, 3 * turned + 1):
        assert effective_rank(block) == pytest.approx(4)


def test_ranks_are_what_their_equations_say():
    x = normal(0)[0] * [5, 3, 2, 1, 1, 0.1]
    eigenvalues = np.linalg.eigvalsh(np.cov(x.T))
    shares = [value / sum(eigenvalues) for value in eigenvalues]
    entropy = -sum(share * np.log(share) for share in shares)
    assert effective_rank(x) == pytest.approx(np.exp(entropy))


def test_one_direction_is_a_rank_of_one():
    line = np.outer(np.arange(20.0), [1, 2, 3])
    assert effective_rank(line) == pytest.approx(1)


def test_duplicated_channels_add_no_rank():
    x = normal(0)[0]
    assert effective_rank(np.concatenate([x, x], axis=1)) == pytest.approx(effective_rank(x))


def test_the_spread_is_what_varies_of_the_rows_lengths():
    x = normal(0)[0]
    centred = x - x.mean(axis=0)
    assert spread(centred) == pytest.approx(1)
    assert spread(np.ones((9, 4))) == pytest.approx(0, abs=1e-12)
    by_hand = [sum((value - mean) ** 2 for value, mean in zip(row, x.mean(axis=0), strict=True)) for row in x]
    assert spread(x) == pytest.approx(np.sqrt(sum(by_hand) / (x**2).sum()))
    assert spread(5 * x) == pytest.approx(spread(x))
    assert np.isnan(spread(np.zeros((3, 2))))


def test_a_block_that_shrinks_to_a_point_keeps_its_rank_but_not_its_spread():
    x = normal(0)[0]
    point = 1 + 1e-3 * x
    assert effective_rank(point) == pytest.approx(effective_rank(x))
    assert spread(point) < 2e-3


def test_channels_that_never_change_are_dead():
    x = np.float32(normal(0)[0])
    x[:, 1], x[:, 4] = 0, 0.1
    x[5, 4] = np.nextafter(np.float32(0.1), np.float32(1))  # rounding
    x[:, 5] = 0
    x[7, 5] = 1e-4  # fires once
    assert dead_channels(x) == pytest.approx(2 / 6)


def test_every_number_is_of_the_block_it_names():
    blocks = normal(0, 400)
    blocks[2] = 10 * blocks[0][:, :1] * np.ones(6)
    blocks[3][:, :3] = 1
    found = named(compute(made(blocks), np.random.default_rng(0)))
    assert found["effective_rank rgb/private"] == pytest.approx(1, abs=1e-3)
    assert found["rank_fraction rgb/private"] == pytest.approx(1 / 6, abs=1e-3)
    assert found["effective_rank rgb/shared"] > 5.8
    assert found["dead_channels thermal/private"] == 0.5
    assert found["dead_channels thermal/shared"] == 0


@pytest.mark.parametrize("value", [0.0, 0.1])
def test_a_constant_half_has_no_rank_and_only_dead_channels(value):
    blocks = normal(0)
    blocks[2] = np.full_like(blocks[2], value)
    found = named(compute(made(blocks), np.random.default_rng(0)))
    missing = {name for name, result in found.items() if np.isnan(result)}
    measures = ["effective_rank", "rank_fraction", *(["spread"] if value == 0 else [])]
    assert missing == {f"{measure} rgb/private" for measure in measures}
    assert value == 0 or found["spread rgb/private"] == pytest.approx(0, abs=1e-6)
    assert found["dead_channels rgb/private"] == 1


def test_the_sensors_are_never_compared():
    blocks = normal(0)
    before = named(compute(made(blocks), np.random.default_rng(0)))
    blocks[1], blocks[3] = blocks[1][::-1], blocks[3][::-1]
    assert named(compute(made(blocks), np.random.default_rng(0))) == pytest.approx(before)
