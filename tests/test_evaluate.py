import warnings

import numpy as np
import pytest
import torch
from torchmetrics.classification import MulticlassConfusionMatrix, MulticlassJaccardIndex

from crodino_lib.augment import plain
from crodino_lib.data.sample import IGNORE, Scenes
from crodino_lib.evaluate import (
    class_iou,
    confusion_per_image,
    evaluate,
    load_confusion,
    save_confusion,
    scores,
)
from crodino_lib.study.statistics import interval, resampled_mious

CPU = torch.device("cpu")
# truth:      0 0 0 1 1 255      class 0: 2 right of 3 true + 2 predicted - 2 -> 2/3
# prediction: 0 0 1 1 2 3        class 1: 1 right of 2 true + 2 predicted - 1 -> 1/3
# class 2 is predicted but not there -> 0; class 3 is predicted only where it is ignored, so it is absent
TRUTH, GUESS = torch.tensor([[[0, 0, 0, 1, 1, 255]]]), torch.tensor([[[0, 0, 1, 1, 2, 3]]])


@pytest.fixture
def maps():
    """Labels and predictions of five images in six classes; the last image is all ignored, class 5 is nowhere."""
    generator = torch.Generator().manual_seed(0)
    label = torch.randint(5, (5, 7, 9), generator=generator)
    prediction = torch.where(torch.rand(5, 7, 9, generator=generator) < 0.6, label, (label + 2) % 5)
    label[torch.rand(5, 7, 9, generator=generator) < 0.2] = IGNORE
    label[4] = IGNORE
    return prediction, label


def counted_one_by_one(prediction, label, classes):
    counts = np.zeros((len(label), classes, classes), np.int64)
    for image in range(len(label)):
        for truth, guess in zip(label[image].flatten().tolist(), prediction[image].flatten().tolist(), strict=True):
            if truth != IGNORE:
                counts[image, truth, guess] += 1
    return counts


def miou_one_by_one(counts):
    """The convention, from its sentence: one matrix, classes in neither truth nor prediction left out."""
    total, ious = counts.sum(axis=0), []
    for k in range(len(total)):
        union = total[k].sum() + total[:, k].sum() - total[k, k]
        if union:
            ious.append(total[k, k] / union)
    return sum(ious) / len(ious)


def test_counts_are_those_of_a_loop_over_pixels(maps):
    found = confusion_per_image(*maps, classes=6)
    assert found.dtype == torch.int64
    np.testing.assert_array_equal(found, counted_one_by_one(*maps, classes=6))


def test_counts_and_ious_are_those_of_torchmetrics(maps):
    prediction, label = maps
    counts = confusion_per_image(prediction, label, classes=6).numpy()
    oracle = MulticlassConfusionMatrix(6, ignore_index=IGNORE)
    np.testing.assert_array_equal(counts.sum(axis=0), oracle(prediction, label))
    oracle = MulticlassJaccardIndex(6, average="none", ignore_index=IGNORE)
    np.testing.assert_allclose(scores(counts)["class_iou"][:5], oracle(prediction, label)[:5], rtol=1e-6)
    oracle = MulticlassJaccardIndex(6, average="macro", ignore_index=IGNORE)  # leaves out absent classes, as we do
    assert scores(counts)["miou"] == pytest.approx(oracle(prediction, label).item(), rel=1e-6)


def test_the_toy_case_by_hand():
    found = scores(confusion_per_image(GUESS, TRUTH, classes=4).numpy())
    np.testing.assert_allclose(found["class_iou"], [2 / 3, 1 / 3, 0, np.nan])
    assert found["miou"] == pytest.approx(1 / 3)
    assert found["pixel_accuracy"] == pytest.approx(3 / 5)
    assert found["class_accuracy"] == pytest.approx((2 / 3 + 1 / 2) / 2)


def test_the_split_is_one_matrix_and_not_a_mean_over_images(maps):
    counts = counted_one_by_one(*maps, classes=6)
    assert scores(counts)["miou"] == pytest.approx(miou_one_by_one(counts))
    assert scores(counts)["miou"] == scores(counts.sum(axis=0))["miou"]
    per_image = np.mean([scores(image)["miou"] for image in counts[:4]])
    assert abs(scores(counts)["miou"] - per_image) > 1e-3


def test_a_class_in_neither_truth_nor_prediction_is_left_out(maps):
    few, more = (scores(counted_one_by_one(*maps, classes=classes)) for classes in (6, 9))
    assert few["miou"] == more["miou"]
    assert few["class_accuracy"] == more["class_accuracy"]
    assert np.isnan(more["class_iou"][5:]).all()
    assert not np.isnan(more["class_iou"][:5]).any()


def test_an_image_to_ignore_counts_nowhere_and_gives_no_warning(maps):
    counts = confusion_per_image(*maps, classes=6).numpy()
    assert (counts[4] == 0).all()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        nothing = scores(counts[4])
        assert all(np.isnan(nothing[name]) for name in ("miou", "pixel_accuracy", "class_accuracy"))
        assert np.isnan(interval(resampled_mious(counts[4:], seed=0))).all()
        assert not np.isnan(
            interval(resampled_mious(counts[3:], seed=0))
        ).any()  # a quarter of the draws sees the last one only


def test_a_perfect_prediction_scores_one():
    label = torch.tensor([[[0, 1], [2, IGNORE]]])
    found = scores(confusion_per_image(label.where(label != IGNORE, 0), label, classes=3).numpy())
    assert found["miou"] == found["pixel_accuracy"] == found["class_accuracy"] == 1


@pytest.mark.parametrize("wrong", [4, 254, -1])
def test_a_class_that_does_not_exist_is_refused(wrong):
    other = TRUTH.clone()
    other[0, 0, 0] = wrong
    with pytest.raises(ValueError, match=rf"label holds {wrong}, outside the classes 0\.\.3"):
        confusion_per_image(GUESS, other, classes=4)
    with pytest.raises(ValueError, match=rf"prediction holds {wrong}, outside the classes 0\.\.3"):
        confusion_per_image(other, GUESS, classes=4)


def test_maps_of_different_sizes_are_refused():
    with pytest.raises(ValueError, match=r"prediction is \(1, 1, 5\) but label is \(1, 1, 6\)"):
        confusion_per_image(GUESS[..., :5], TRUTH, classes=4)


def many_images(count, classes=4):
    """Confusion of images that differ in difficulty."""
    generator = np.random.default_rng(count)
    right = generator.uniform(0.2, 0.9, size=(count, 1, 1))
    rates = right * np.eye(classes) + (1 - right) * np.full((classes, classes), 1 / classes)
    return generator.multinomial(200, rates).astype(np.int32)


def test_the_interval_holds_the_estimate_and_shrinks_with_the_number_of_images():
    widths = []
    for count in (20, 80, 320):
        counts = many_images(count)
        low, high = interval(resampled_mious(counts, seed=0))
        assert low < scores(counts)["miou"] < high
        widths.append(high - low)
    assert widths[0] > 1.4 * widths[1] > 1.4**2 * widths[2]  # as one over the root: 2 each


def test_the_interval_is_that_of_resampling_images_one_draw_at_a_time():
    counts = many_images(30)
    generator = np.random.default_rng(1)
    mious = [miou_one_by_one(counts[generator.integers(30, size=30)]) for _ in range(2000)]
    low, high = np.quantile(mious, [0.05, 0.95])
    assert interval(resampled_mious(counts, seed=0, draws=2000), level=0.9) == pytest.approx(
        (low, high), abs=0.1 * (high - low)
    )


def test_the_interval_depends_on_the_seed_alone():
    counts = many_images(30)
    assert interval(resampled_mious(counts, seed=5)) == interval(resampled_mious(counts, seed=5))
    assert interval(resampled_mious(counts, seed=5)) != interval(resampled_mious(counts, seed=6))


def test_images_that_are_all_alike_leave_no_uncertainty():
    counts = np.repeat(many_images(1), 10, axis=0)
    expected = scores(counts)["miou"]
    assert interval(resampled_mious(counts, seed=0)) == pytest.approx((expected, expected))


def test_class_iou_takes_any_number_of_leading_dimensions():
    counts = many_images(6).reshape(2, 3, 4, 4)
    found = class_iou(counts)
    assert found.shape == (2, 3, 4)
    np.testing.assert_allclose(found[1, 2], scores(counts[1, 2])["class_iou"])


@pytest.mark.parametrize("sensors", [("rgb",), ("depth", "rgb")])
def test_evaluation_gives_predict_the_plain_images_and_counts_every_scene(toy_scenes, toy_card, sensors):
    expected = plain(toy_scenes, list(range(len(toy_scenes))), toy_card, sensors, CPU)
    seen = []

    def predict(images):
        assert tuple(images) == sensors
        assert torch.is_inference_mode_enabled()
        seen.append(images["rgb"])
        return torch.stack([images["rgb"][:, 0] * k for k in (-1, 0, 1, 0.5)], dim=1)

    found = evaluate(predict, toy_scenes, toy_card, sensors, batch_size=5, device=CPU)  # 16 = 3 x 5 + 1
    torch.testing.assert_close(torch.cat(seen), expected.images["rgb"])
    prediction = torch.where(expected.images["rgb"][:, 0] > 0, 2, 0)
    np.testing.assert_array_equal(found, counted_one_by_one(prediction, expected.labels["rgb"], classes=4))
    assert found.dtype == np.int32


def test_small_logits_are_enlarged_by_bilinear_interpolation(toy_card):
    """Two cells, four times enlarged: logits fall from 1 to -3 in the row 1, 1, .5, -.5, -1.5, -2.5, -3, -3."""
    scenes = Scenes({"rgb": np.zeros((1, 3, 4, 8), np.uint8)}, {}, np.zeros((1, 4, 8), np.uint8), ["a"])

    def predict(images):
        logits = torch.full((1, 4, 1, 2), -9.0, dtype=torch.bfloat16)
        logits[0, 0, 0], logits[0, 3] = torch.tensor([1.0, -3.0]), 0
        return logits

    found = evaluate(predict, scenes, toy_card, ("rgb",), batch_size=4, device=CPU)
    assert found[0, 0].tolist() == [4 * 3, 0, 0, 4 * 5]


def test_confusions_come_back_as_they_were_saved(tmp_path):
    saved = {("test", "rgb"): many_images(4), ("test_night", "rgb+depth"): many_images(3)}
    save_confusion(tmp_path / "run" / "confusion.npz", saved)
    found = load_confusion(tmp_path / "run" / "confusion.npz")
    assert list(found) == list(saved)
    for key, value in saved.items():
        np.testing.assert_array_equal(found[key], value)
        assert found[key].dtype == value.dtype
    assert [file.name for file in (tmp_path / "run").iterdir()] == ["confusion.npz"]


def test_a_failed_save_leaves_the_old_file_whole(tmp_path, monkeypatch):
    path = tmp_path / "confusion.npz"
    save_confusion(path, {("test", "rgb"): many_images(4)})

    def fails(file, array):
        file.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "save", fails)
    with pytest.raises(KeyboardInterrupt):
        save_confusion(path, {("test", "rgb"): many_images(2)})
    assert len(load_confusion(path)[("test", "rgb")]) == 4
    assert [file.name for file in tmp_path.iterdir()] == ["confusion.npz"]


@pytest.mark.parametrize("keep", [0, 1, 100, -30])
def test_a_damaged_file_is_an_error_that_names_it(tmp_path, keep):
    path = tmp_path / "confusion.npz"
    save_confusion(path, {("test", "rgb"): many_images(40)})
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match=r"confusion\.npz is damaged"):
        load_confusion(path)
    with pytest.raises(FileNotFoundError, match=r"other\.npz"):
        load_confusion(tmp_path / "other.npz")


def test_pickles_are_never_loaded(tmp_path):
    np.savez(tmp_path / "confusion.npz", rgb=np.array([{"a": 1}], dtype=object))
    with pytest.raises(ValueError, match="is damaged"):
        load_confusion(tmp_path / "confusion.npz")
