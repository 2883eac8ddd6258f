import numpy as np
import pandas as pd
import pytest

from crodino_lib.analysis import probes
from crodino_lib.analysis.extraction import Block, Latents
from crodino_lib.analysis.probes import factor_probes, held_out_guesses, skill
from tests.analysis.factories import MEMORISED, four_blocks, jitter, named, rows_of


def compute(latents, shuffles, **targets):
    table = pd.DataFrame(targets, index=latents.rows["image"].unique())
    return named(factor_probes(latents, np.random.default_rng(0), table, shuffles))


@pytest.fixture(scope="module")
def whole():
    """160 whole images: both sensors' shared halves hold the same, their private ones what is their own."""
    generator = np.random.default_rng(1)
    shared, other, alone = (generator.normal(size=(160, 5)) for _ in range(3))
    latents = four_blocks(shared, other, shared[:, ::-1], alone, images=np.arange(160), classes=255)
    return latents, shared


def test_a_linear_function_of_a_block_is_read_from_it_and_from_no_independent_one(whole):
    latents, shared = whole
    values = compute(latents, 8, far=1000 + 7 * shared @ np.arange(5.0), night=(shared[:, 0] > 0).astype(int))
    for block in ("rgb/shared", "depth/shared"):
        assert values[f"skill far {block}"] > 0.99
        assert values[f"skill night {block}"] > 0.8
    for block in ("rgb/private", "depth/private"):
        assert values[f"skill far {block}"] < 0.1
        assert values[f"skill night {block}"] < 0.3
    assert all(value < 0.35 for name, value in values.items() if name.startswith("skill_chance"))


def test_a_square_cannot_be_read_by_a_line_and_nothing_from_a_constant_block(whole):
    latents, shared = whole
    assert compute(latents, 1, square=shared[:, 0] ** 2)["skill square rgb/shared"] < 0.15
    constant = Latents({Block("rgb", "shared"): np.zeros((160, 3))}, latents.rows)
    assert compute(constant, 1, x=shared[:, 0])["skill x rgb/shared"] == 0


def test_memorised_images_do_not_help_to_read_factors():
    images = np.repeat(np.arange(20), 5)
    memory = MEMORISED * np.eye(20)[images] + jitter(np.random.default_rng(1), 100, 20)
    value = np.random.default_rng(0).normal(size=20)[images][:, None]
    assert skill(value[:, 0], held_out_guesses(memory, value, images)[:, 0]) < 0.1
    assert skill(value[:, 0], held_out_guesses(memory, value, np.arange(100))[:, 0]) > 0.9


def test_chance_is_the_95th_percentile_of_the_shuffles(monkeypatch):
    """The first column is the factor, the others the same numbers given to other scenes."""
    columns = []
    guess = lambda v, targets, i: columns.append(targets) or np.zeros_like(targets) + np.arange(targets.shape[1])  # noqa: E731
    monkeypatch.setattr(probes, "held_out_guesses", guess)
    monkeypatch.setattr(probes, "skill", lambda actual, guesses: guesses[0] / 100)
    latents = Latents({Block("rgb", "shared"): np.zeros((6, 1))}, rows_of(np.arange(6), 0))
    values = compute(latents, 100, value=np.arange(6.0))
    assert values["skill value rgb/shared"] == 0
    assert values["skill_chance value rgb/shared"] == pytest.approx(np.quantile(np.arange(1, 101) / 100, 0.95))
    (table,) = columns
    np.testing.assert_array_equal(table[:, 0], np.arange(6))
    np.testing.assert_array_equal(np.sort(table, axis=0), np.tile(np.arange(6.0)[:, None], 101))
    assert (table[:, 1:] != table[:, :1]).any(axis=0).mean() > 0.9


def test_skill_of_numbers_is_the_explained_variance_and_never_negative():
    actual, guesses = np.array([1.0, 2.0, 4.0, 9.0]), np.array([1.5, 2.0, 5.0, 8.0])
    mean = sum(actual) / 4
    left, all_ = sum((a - g) ** 2 for a, g in zip(actual, guesses, strict=True)), sum((a - mean) ** 2 for a in actual)
    assert skill(actual, guesses) == pytest.approx(1 - left / all_)
    assert skill(actual, actual) == 1
    assert skill(actual, np.full(4, mean)) == 0
    assert skill(actual, -actual) == 0
    assert np.isnan(skill(np.full(4, 2.0), np.arange(4.0)))


def test_skill_of_a_yes_or_no_counts_both_alike():
    actual = np.array([0, 0, 0, 0, 1, 1])
    guesses = np.array([0.1, 0.0, 0.2, 0.9, 0.8, 0.2])  # means 0.3 and 0.5, divided at 0.4: right 3 of 4 and 1 of 2
    assert skill(actual, guesses) == pytest.approx(3 / 4 + 1 / 2 - 1)
    assert skill(actual, 0.01 * actual) == 1  # timid, but in order
    assert skill(actual, np.zeros(6)) == 0
    assert skill(5 - 3 * actual, 5 - 3 * guesses) == pytest.approx(skill(actual, guesses))
