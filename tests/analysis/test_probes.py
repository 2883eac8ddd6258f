import numpy as np
import pytest
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from crodino_lib.analysis import probes
from crodino_lib.analysis.probes import (
    balanced_accuracy,
    class_accuracy,
    class_errors,
    image_folds,
    logistic,
    modality_probe,
)
from tests.analysis.factories import MEMORISED, four_blocks, jitter, named

REGIONS, CHANNELS = 6, 16
IMAGES = np.repeat(np.arange(40), REGIONS)


def class_probes(latents):
    return named(probes.class_probes(latents, np.random.default_rng(0)))


def modality_probes(latents):
    return named(probes.modality_probes(latents, np.random.default_rng(0)))


def noise(seed, channels=CHANNELS):
    return np.random.default_rng(seed).normal(size=(len(IMAGES), channels))


def test_sensors_that_a_direction_separates_are_always_recognised():
    shift = 10 * np.eye(CHANNELS)[3]
    assert modality_probe(noise(0) + shift, noise(1) - shift, IMAGES) == 1.0


def test_sensors_of_one_distribution_are_recognised_half_of_the_time():
    assert modality_probe(noise(0), noise(1), IMAGES) == pytest.approx(0.5, abs=0.06)


def test_what_is_learned_of_an_image_does_not_help_with_another():
    """Each image reveals its sensors by a sign of its own: a probe that had seen the image would always be right."""
    signs = np.random.default_rng(0).choice([-1.0, 1.0], size=40)
    codes = np.repeat(np.eye(40) * 5 * signs[:, None], REGIONS, axis=0)
    accuracy = modality_probe(codes + 0.01 * noise(1, 40), -codes + 0.01 * noise(2, 40), IMAGES)
    assert accuracy == pytest.approx(0.5, abs=0.1)


def test_the_scale_of_a_channel_decides_nothing():
    scale = 10.0 ** np.linspace(-4, 4, CHANNELS)
    shift = np.eye(CHANNELS)[3]
    plain = modality_probe(noise(0) + shift, noise(1), IMAGES)
    scaled = modality_probe((noise(0) + shift) * scale, noise(1) * scale, IMAGES)
    assert scaled == pytest.approx(plain, abs=0.01)
    assert 0.55 < plain < 0.95


def test_one_image_is_an_error():
    with pytest.raises(ValueError, match="at least 2 images, found 1"):
        modality_probe(noise(0)[:6], noise(1)[:6], IMAGES[:6])


K = 4


@pytest.fixture(scope="module")
def scenes():
    """24 images of 4 rows, one of each class, with a generator for what blocks hold."""
    images, classes = np.repeat(np.arange(24), K), np.tile(np.arange(K), 24)
    return images, classes, np.random.default_rng(0)


@pytest.fixture(scope="module")
def found(scenes):
    """rgb holds the class in its shared half alone, depth in both: identity, missed, duplicated."""
    images, classes, generator = scenes
    code, n = 3 * np.eye(K)[classes], len(classes)
    blocks = [code + jitter(generator, n, K), generator.normal(size=(n, K))]
    blocks += [code + jitter(generator, n, K), code + jitter(generator, n, K)]
    return class_probes(four_blocks(*blocks, images=images, classes=classes))


def test_a_half_that_holds_the_class_is_read_and_one_that_missed_it_is_not(found):
    for block in ("rgb/shared", "depth/shared", "depth/private"):
        assert found[f"class {block}"] == 1
    assert found["class rgb/private"] == pytest.approx(1 / K, abs=0.15)
    assert found["class_chance"] == 1 / K
    assert found["skill class rgb/shared"] == 1
    assert found["skill class rgb/private"] < 0.2


def test_a_duplicated_half_adds_nothing_though_it_holds_everything(found):
    assert found["class depth/private"] == 1
    assert found["delta depth/private"] == pytest.approx(0, abs=0.02)
    assert found["delta depth/shared"] == pytest.approx(0, abs=0.02)


def test_a_half_that_missed_the_class_adds_nothing_and_the_other_adds_everything(found):
    assert found["delta rgb/private"] == pytest.approx(0, abs=0.05)
    assert found["delta rgb/shared"] == pytest.approx(1 - found["class rgb/private"], abs=0.05)


def test_halves_that_hold_half_of_the_class_each_add_the_other_half(scenes):
    images, classes, generator = scenes
    bits = [
        6.0 * np.stack([bit, bit], axis=1) + jitter(generator, len(classes), 2) for bit in (classes // 2, classes % 2)
    ]
    found = class_probes(four_blocks(*bits, *bits, images=images, classes=classes))
    for sensor in ("rgb", "depth"):
        assert found[f"class {sensor}/shared"] == pytest.approx(0.5, abs=0.06)  # one bit of two
        assert found[f"delta {sensor}/private"] == pytest.approx(0.5, abs=0.06)
        assert found[f"delta {sensor}/shared"] == pytest.approx(0.5, abs=0.06)


def test_a_constant_half_tells_nothing_and_adds_nothing(scenes):
    images, classes, generator = scenes
    code, nothing = 3 * np.eye(K)[classes] + jitter(generator, len(classes), K), np.zeros((len(classes), K))
    latents = four_blocks(code, nothing, code, nothing, images=images, classes=classes)
    found = class_probes(latents)
    assert found["class rgb/private"] == pytest.approx(1 / K)
    assert found["delta rgb/private"] == pytest.approx(0)
    assert found["delta rgb/shared"] == pytest.approx(1 - 1 / K)


def test_a_probe_of_equal_codes_transfers_wholly(found):
    assert found["transfer shared"] == 1


def test_a_probe_of_permuted_channels_does_not_transfer(scenes):
    images, classes, generator = scenes
    code = 3 * np.eye(K)[classes] + jitter(generator, len(classes), K)
    moved = code[:, [0, 2, 3, 1]]  # one class of four stays where it was: chance
    found = class_probes(four_blocks(code, code, moved, moved, images=images, classes=classes))
    assert found["class depth/shared"] == 1
    assert found["transfer shared"] == pytest.approx(1 / K, abs=0.02)


def test_transfer_is_relative_to_the_judged_sensors_own_probe():
    """Oracle: both ways by hand, with sensors of unequal quality."""
    generator = np.random.default_rng(3)
    images, classes = np.repeat(np.arange(20), K), np.tile(np.arange(K), 20)
    code = np.eye(K)[classes]
    good, poor = (code + spread * generator.normal(size=code.shape) for spread in (0.1, 0.9))
    (own, across), (back, poor_own) = (class_accuracy(block, classes, images, [good, poor]) for block in (good, poor))
    assert own - poor_own > 0.1
    latents = four_blocks(good, good, poor, poor, images=images, classes=classes)
    found = class_probes(latents)
    assert found["transfer shared"] == pytest.approx((across / poor_own + back / own) / 2, abs=0.05)


def test_blocks_of_other_widths_have_classes_but_no_transfer(scenes):
    images, classes, generator = scenes
    code = 3 * np.eye(K)[classes] + jitter(generator, len(classes), K)
    wide = np.concatenate([code, code], axis=1)
    found = class_probes(four_blocks(code, code, wide, code, images=images, classes=classes))
    assert np.isnan(found["transfer shared"])
    assert found["class rgb/shared"] == found["class depth/shared"] == 1
    assert found["transfer private"] == 1


def test_memorised_images_do_not_help_to_tell_classes():
    """All rows of an image are of one class, and each vector says which image it is of, but not of which class."""
    images = np.repeat(np.arange(24), 4)
    classes = np.random.default_rng(0).permutation(np.arange(24) % K)[images]
    memory = MEMORISED * np.eye(24)[images] + jitter(np.random.default_rng(1), 96, 24)
    assert class_accuracy(memory, classes, images, [memory])[0] < 0.5
    rows = np.arange(96)  # the same probe, with every row an image of its own, is always right
    assert class_accuracy(memory, classes, rows, [memory])[0] > 0.95


def test_selectivity_takes_off_what_is_learnt_by_heart(scenes):
    images, classes, generator = scenes
    code = 3 * np.eye(K)[classes] + jitter(generator, len(classes), K)
    memory = MEMORISED * np.eye(24)[images] + jitter(generator, len(classes), 24)
    both = np.concatenate([code, memory], axis=1)
    found = class_probes(four_blocks(code, memory, both, code, images=images, classes=classes))
    assert found["selectivity rgb/shared"] > 0.6  # classes, and no image is told
    assert found["selectivity rgb/private"] == pytest.approx(found["class rgb/private"] - 1, abs=0.05)
    assert found["selectivity depth/shared"] == pytest.approx(found["class depth/shared"] - 1, abs=0.05)


def test_the_accuracy_of_classes_counts_every_class_alike():
    classes = np.array([0] * 90 + [1] * 9 + [2])
    assert balanced_accuracy(classes, np.zeros(100, int)) == pytest.approx(1 / 3)
    guessed = np.random.default_rng(0).integers(3, size=100)
    recalls = []
    for k in (0, 1, 2):
        of_class = [i for i in range(100) if classes[i] == k]
        recalls.append(sum(guessed[i] == k for i in of_class) / len(of_class))
    assert balanced_accuracy(classes, guessed) == pytest.approx(sum(recalls) / 3)


def test_no_image_is_both_fitted_and_judged_and_every_row_is_judged_once():
    images = np.repeat(np.arange(13), 3)
    judged = np.zeros(39, int)
    for train, test in image_folds(images).split(images, groups=images):
        assert not set(images[train]) & set(images[test])
        judged[test] += 1
    assert (judged == 1).all()
    assert image_folds(images).get_n_splits() == 5
    assert image_folds(images[:9]).get_n_splits() == 3


def test_equal_blocks_cannot_be_distinguished_and_separate_ones_always_are():
    generator = np.random.default_rng(0)
    images, code = np.repeat(np.arange(20), 2), generator.normal(size=(40, 3))
    found = modality_probes(four_blocks(code, code, code, code + 20.0, images=images, classes=0))
    assert (found["modality shared"], found["modality private"]) == (0.5, 1)
    for sensor in ("rgb", "depth"):
        assert found[f"skill modality {sensor}/shared"] == 0
        assert found[f"skill modality {sensor}/private"] == 1


def test_the_error_of_a_row_is_what_an_unseen_probe_does_not_believe():
    """Oracle: fold by fold, with scikit-learn's own pieces."""
    generator = np.random.default_rng(0)
    images, classes = np.repeat(np.arange(10), 3), np.tile([2, 5, 7], 10)
    vectors = np.eye(3)[np.tile([0, 1, 2], 10)] + 0.5 * generator.normal(size=(30, 3))
    errors = class_errors(vectors, classes, images)
    for train, test in image_folds(images).split(vectors, groups=images):
        model = make_pipeline(StandardScaler(), logistic(0.1)).fit(vectors[train], classes[train])
        for row in test:
            believed = model.predict_proba(vectors[[row]])[0][[2, 5, 7].index(classes[row])]
            assert errors[row] == pytest.approx(1 - believed, abs=1e-6)


def test_a_class_that_no_other_image_shows_is_wholly_wrong():
    images, classes = np.repeat(np.arange(10), 2), np.tile([0, 1], 10)
    classes[6] = 9
    errors = class_errors(np.eye(10)[classes] + jitter(np.random.default_rng(0), 20, 10), classes, images)
    assert errors[6] == 1
    assert (np.delete(errors, 6) < 0.7).all()
