import numpy as np
import pytest

from crodino_lib.analysis import factors
from crodino_lib.analysis.extraction import Latents
from crodino_lib.analysis.factors import compute, ridge_guesses, skill
from tests.analysis.factories import MEMORISED, four_blocks, jitter, rows_of

# perceptrons stop after a fixed number of steps, on purpose
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture(scope="module")
def whole():
    """160 whole images: both sensors' shared halves hold the same, their private ones what is their own."""
    generator = np.random.default_rng(1)
    shared, other, alone = (generator.normal(size=(160, 5)) for _ in range(3))
    latents = four_blocks(shared, other, shared[:, ::-1], alone, images=np.arange(160), classes=255)
    return latents, shared, other


def test_a_linear_function_of_a_block_is_read_from_it_and_from_no_independent_one(whole):
    latents, shared, _ = whole
    targets = {"far": 1000 + 7 * shared @ np.arange(5.0), "night": (shared[:, 0] > 0).astype(int)}
    found = compute(latents, targets, 1000, 8, np.random.default_rng(0), steps=0)
    for block in ("rgb/shared", "depth/shared"):
        assert found[f"far {block}"] > 0.99
        assert found[f"night {block}"] > 0.8
    for block in ("rgb/private", "depth/private"):
        assert found[f"far {block}"] < 0.1
        assert found[f"night {block}"] < 0.3
    for name in targets:
        for block in latents.blocks:
            assert found[f"{name}_chance {block}"] < 0.35
    assert not any("_mlp" in key for key in found)


def test_a_square_is_read_by_a_perceptron_and_not_by_a_line(whole):
    latents, shared, _ = whole
    latents = latents.of(["rgb"])
    found = compute(latents, {"square": shared[:, 0] ** 2}, 1000, 0, np.random.default_rng(0))
    assert found["square rgb/shared"] < 0.15
    assert found["square_mlp rgb/shared"] > 0.3
    assert found["square_mlp rgb/private"] < 0.15
    assert np.isnan(found["square_chance rgb/shared"])  # no shuffles, no chance


def test_a_constant_block_tells_no_factor(whole):
    latents, shared, _ = whole
    found = compute(
        Latents({"rgb/shared": np.zeros((160, 3))}, latents.rows),
        {"x": shared[:, 0]},
        1000,
        2,
        np.random.default_rng(0),
        steps=0,
    )
    assert found["x rgb/shared"] == 0


def test_memorised_images_do_not_help_to_tell_factors():
    images = np.repeat(np.arange(20), 5)
    memory = MEMORISED * np.eye(20)[images] + jitter(np.random.default_rng(1), 100, 20)
    value = np.random.default_rng(0).normal(size=20)[images][:, None]
    assert skill(value[:, 0], ridge_guesses(memory, value, images)[:, 0]) < 0.1
    assert skill(value[:, 0], ridge_guesses(memory, value, np.arange(100))[:, 0]) > 0.9


def test_factors_are_shuffled_over_images_and_rows_of_an_image_move_together(monkeypatch):
    """What the probes are asked for: the factor, and then the same numbers dealt to other images."""
    asked = []
    monkeypatch.setattr(factors, "ridge_guesses", lambda vectors, targets, images: asked.append(targets) or targets)
    images = np.repeat(np.arange(15), 3)
    value = np.arange(15.0) ** 2
    latents = Latents({"rgb/shared": np.zeros((45, 1))}, rows_of(images, 0))
    compute(latents, {"value": value[images]}, 1000, 6, np.random.default_rng(0), steps=0)
    (columns,) = asked
    assert columns.shape == (45, 7)
    np.testing.assert_array_equal(columns[:, 0], value[images])
    for column in columns.T[1:]:
        per_image = column.reshape(15, 3)
        assert (per_image == per_image[:, :1]).all()
        assert sorted(per_image[:, 0]) == sorted(value)
        assert (per_image[:, 0] != value).any()


def test_chance_is_the_95th_percentile_of_the_shuffles(monkeypatch):
    monkeypatch.setattr(
        factors, "ridge_guesses", lambda v, targets, images: np.zeros_like(targets) + np.arange(targets.shape[1])
    )
    monkeypatch.setattr(factors, "skill", lambda actual, guessed: guessed[0] / 100)
    latents = Latents({"rgb/shared": np.zeros((6, 1))}, rows_of(np.arange(6), 0))
    found = compute(latents, {"value": np.arange(6.0)}, 10, 100, np.random.default_rng(0), steps=0)
    assert found["value rgb/shared"] == 0
    assert found["value_chance rgb/shared"] == pytest.approx(np.quantile(np.arange(1, 101) / 100, 0.95))


def test_a_sample_keeps_factors_with_their_rows(whole):
    latents, shared, _ = whole
    found = compute(latents, {"x": shared[:, 0]}, 80, 0, np.random.default_rng(0), steps=0)
    assert (found["rows"], found["images"]) == (80, 80)
    assert found["x rgb/shared"] > 0.95


def test_a_factor_of_another_length_is_refused_and_none_is_fine(whole):
    with pytest.raises(ValueError, match="factor x has 3 values, but there are 160 rows"):
        compute(whole[0], {"x": np.zeros(3)}, 10, 0, np.random.default_rng(0))
    assert compute(whole[0], {}, 10, 0, np.random.default_rng(0)) == {"rows": 10, "images": 10}


def test_skill_of_numbers_is_the_explained_variance_and_never_negative():
    actual, guessed = np.array([1.0, 2.0, 4.0, 9.0]), np.array([1.5, 2.0, 5.0, 8.0])
    mean = sum(actual) / 4
    left, whole = sum((a - g) ** 2 for a, g in zip(actual, guessed, strict=True)), sum((a - mean) ** 2 for a in actual)
    assert skill(actual, guessed) == pytest.approx(1 - left / whole)
    assert skill(actual, actual) == 1
    assert skill(actual, np.full(4, mean)) == 0
    assert skill(actual, -actual) == 0


def test_skill_of_a_yes_or_no_counts_both_answers_alike():
    actual = np.array([0, 0, 0, 0, 1, 1])
    guessed = np.array([0.1, 0.0, 0.2, 0.9, 0.8, 0.2])  # means 0.3 and 0.5, parted at 0.4: right 3 of 4 and 1 of 2
    assert skill(actual, guessed) == pytest.approx(3 / 4 + 1 / 2 - 1)
    assert skill(actual, 0.01 * actual) == 1  # timid, but in order
    assert skill(actual, np.zeros(6)) == 0
    assert skill(5 - 3 * actual, 5 - 3 * guessed) == pytest.approx(skill(actual, guessed))


def test_there_is_no_skill_in_telling_a_constant():
    assert np.isnan(skill(np.full(4, 2.0), np.arange(4.0)))
