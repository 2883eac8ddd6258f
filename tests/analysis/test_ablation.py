"""Students whose context is a picture of scores: 4 shared channels, then 4 private ones, each right or wrong."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from crodino_lib.analysis import ablation
from crodino_lib.analysis.ablation import ablate, ablation_table, decoder_inputs
from crodino_lib.data.sample import Scenes
from crodino_lib.evaluate import confusion_per_image, scores
from crodino_lib.models.segnet import SegOutput
from tests.analysis.factories import named

K, CELL = 4, 16
SENSORS = ("depth", "thermal")
LEVELS = {"depth": (1.0, 1.5), "thermal": (1.25, 1.25)}  # class = gain * normalised value + offset
RIGHT, WRONG = list(range(K)), list(reversed(range(K)))


class Reader(nn.Module):
    """A decoder that reads the channels from ``first`` on as scores of classes."""

    def __init__(self, first):
        super().__init__()
        self.first = first

    def forward(self, context, fine):
        logits = context[:, self.first : self.first + K]
        return logits.repeat_interleave(CELL, 2).repeat_interleave(CELL, 3), fine


class Student(nn.Module):
    """Knows the class of every cell; its halves hold scores in the order of ``shared`` and of ``private``."""

    def __init__(self, sensor, shared=RIGHT, private=RIGHT, reads="shared", spare=0):
        super().__init__()
        self.gain, self.offset = LEVELS[sensor]
        self.orders, self.spare = (shared, private), spare
        self.decoder = Reader(0 if reads == "shared" else K)

    def forward(self, image):
        told = (self.gain * image[:, :, CELL // 2 :: CELL, CELL // 2 :: CELL] + self.offset).round()
        score = torch.cat([-((told - k) ** 2) for k in range(K)], dim=1)
        context = torch.cat([score[:, order] for order in self.orders] + [0 * score[:, : self.spare]], dim=1)
        logits, decoded = self.decoder(context, torch.zeros(len(image), 1, 1, 1))
        return SegOutput(logits, [], context, None, None, decoded)


@pytest.fixture(scope="module")
def clean():
    """Seven scenes of cells of 16 pixels, without noise; a row of cells in the first is not labelled."""
    found = scenes_of(np.random.default_rng(2).integers(K, size=(7, 3, 4)))
    found.labels[0, :CELL] = 255
    return found


def scenes_of(coarse):
    """Scenes of the cells' classes (N, 3, 4), as depth and as temperature."""
    labels = coarse.repeat(CELL, axis=1).repeat(CELL, axis=2).astype(np.uint8)
    planes = {"depth": 1.5 + labels[:, None], "thermal": 15.0 + 4 * labels[:, None]}
    images = {sensor: plane.astype(np.float16) for sensor, plane in planes.items()}
    valid = {sensor: np.ones_like(labels[:, None], dtype=bool) for sensor in SENSORS}
    return Scenes(images, valid, labels, [str(i) for i in range(len(labels))])


@pytest.fixture
def lose(clean, toy_card):
    """The results of two students, by name."""

    def of(depth, thermal, n=100, **how):
        students = {"depth": Student("depth", **depth).eval(), "thermal": Student("thermal", **thermal).eval()}
        inputs = decoder_inputs(students, clean, toy_card, n, np.random.default_rng(0))
        return named(ablate(students, inputs, K, **how))

    return of


def score(guessed, labels):
    """Oracle: mIoU of cell-wise guesses, by the evaluation everybody uses."""
    whole = torch.from_numpy(np.asarray(guessed)).repeat_interleave(CELL, 1).repeat_interleave(CELL, 2)
    return scores(confusion_per_image(whole, torch.from_numpy(labels).long(), K).numpy())["miou"]


def cells(scenes):
    return (scenes.images["depth"][:, 0, ::CELL, ::CELL].astype(float) - 1.5).round().astype(int)


def constant(scenes):
    """The class that the mean scores prefer, everywhere."""
    told = cells(scenes)
    means = [np.mean(-((told - k) ** 2.0)) for k in range(K)]
    return np.full(told.shape, int(np.argmax(means)))


def test_students_that_know_every_class_are_perfect_while_nothing_is_taken(lose):
    found = lose({}, {"reads": "private"})
    assert found["miou depth"] == found["miou thermal"] == 1


def test_a_decoder_that_reads_the_shared_half_loses_nothing_with_the_private_one(lose, clean):
    found = lose({"reads": "shared"}, {"reads": "shared"})
    for sensor in SENSORS:
        assert found[f"miou_mean {sensor}/private"] == 1
        assert found[f"miou_swap {sensor}/private"] == 1
        assert found[f"miou_mean {sensor}/shared"] == pytest.approx(score(constant(clean), clean.labels))
        assert found[f"miou_mean {sensor}/shared"] < 0.2


def test_a_decoder_that_reads_the_private_half_loses_nothing_with_the_shared_one(lose, clean):
    found = lose({"reads": "private"}, {"reads": "private"})
    for sensor in SENSORS:
        assert found[f"miou_mean {sensor}/shared"] == 1
        assert found[f"miou_swap {sensor}/shared"] == 1
        assert found[f"miou_mean {sensor}/private"] == pytest.approx(score(constant(clean), clean.labels))


def test_a_swap_between_sensors_that_see_the_same_changes_nothing(lose):
    found = lose({"private": WRONG}, {"private": WRONG})
    for sensor in SENSORS:
        assert found[f"miou_swap {sensor}/shared"] == found[f"miou_swap {sensor}/private"] == 1


def test_a_swap_brings_in_what_the_other_sensor_knows(lose, clean):
    """Depth's shared scores are right, thermal's are in reverse: each decoder then says what the other's would."""
    found = lose({"shared": RIGHT}, {"shared": WRONG})
    wrong = score(K - 1 - cells(clean), clean.labels)
    assert found["miou depth"] == 1
    assert found["miou thermal"] == pytest.approx(wrong)
    assert found["miou_swap depth/shared"] == pytest.approx(wrong)
    assert found["miou_swap thermal/shared"] == 1
    assert found["miou_swap depth/private"] == 1
    assert found["miou_swap thermal/private"] == pytest.approx(wrong)


def test_a_private_swap_brings_in_the_other_sensors_private_half(lose, clean):
    found = lose({"reads": "private"}, {"reads": "private", "private": WRONG})
    assert found["miou_swap depth/private"] == pytest.approx(score(K - 1 - cells(clean), clean.labels))
    assert found["miou_swap thermal/private"] == 1
    assert found["miou_swap depth/shared"] == 1


def test_from_another_scene_comes_the_next_scenes_half_and_means_stay(lose, clean):
    here, there = lose({}, {}), lose({}, {}, other_scene=True)
    rolled = score(np.roll(cells(clean), 1, axis=0), clean.labels)
    for sensor in SENSORS:
        assert there[f"miou_swap {sensor}/shared"] == pytest.approx(rolled)
        assert rolled < 0.5
        for name in (f"miou {sensor}", f"miou_mean {sensor}/shared", f"miou_swap {sensor}/private"):
            assert there[name] == here[name]


def test_reassigned_halves_are_the_channels_of_the_mask(lose):
    plain, turned = lose({}, {"shared": WRONG}), lose({}, {"shared": WRONG}, shared=np.arange(2 * K) >= K)
    for sensor in SENSORS:
        assert turned[f"miou {sensor}"] == plain[f"miou {sensor}"]
        for how in ("mean", "swap"):
            assert turned[f"miou_{how} {sensor}/shared"] == plain[f"miou_{how} {sensor}/private"]
            assert turned[f"miou_{how} {sensor}/private"] == plain[f"miou_{how} {sensor}/shared"]


def test_an_uneven_mask_takes_exactly_its_channels(lose):
    """With one score of four exchanged for its mean, the other three still tell most scenes."""
    found = lose({}, {}, shared=np.arange(2 * K) == 0)
    assert found["miou_mean depth/private"] < 0.5  # three scores of four are means
    assert found["miou_mean depth/private"] < found["miou_mean depth/shared"] < 1


def test_batches_decide_nothing(lose, monkeypatch):
    whole = lose({}, {"shared": WRONG})
    monkeypatch.setattr(ablation, "BATCH", 2)
    assert lose({}, {"shared": WRONG}) == pytest.approx(whole, nan_ok=True)


def test_a_half_is_replaced_by_its_mean_over_all_scenes(toy_card):
    """Four scenes of the first class and one of the last: their mean scores prefer the second class, nobody's."""
    scenes = scenes_of(np.repeat([0, 0, 0, 0, 3], 12).reshape(5, 3, 4))
    students = {sensor: Student(sensor).eval() for sensor in SENSORS}
    inputs = decoder_inputs(students, scenes, toy_card, 5, np.random.default_rng(0))
    found = named(ablate(students, inputs, K))
    assert found["miou depth"] == 1
    assert found["miou_mean depth/shared"] == 0


def test_the_contexts_are_those_that_the_decoder_was_given(clean, toy_card):
    students = {sensor: Student(sensor, private=WRONG).eval() for sensor in SENSORS}
    inputs = decoder_inputs(students, clean, toy_card, 100, np.random.default_rng(0))
    context, fine = inputs.contexts["thermal"], inputs.fine["thermal"]
    assert context.shape == (7, 2 * K, 3, 4)
    assert fine.shape == (7, 1, 1, 1)
    np.testing.assert_array_equal(context[:, :K].argmax(dim=1), cells(clean))
    np.testing.assert_array_equal(context[:, K:].argmax(dim=1), K - 1 - cells(clean))
    np.testing.assert_array_equal(inputs.labels, clean.labels)
    assert not students["depth"].decoder._forward_pre_hooks  # the hook is gone


def test_at_most_n_scenes_are_seen_and_the_generator_chooses_them(clean, toy_card):
    students = {sensor: Student(sensor).eval() for sensor in SENSORS}
    drawn = [decoder_inputs(students, clean, toy_card, 4, np.random.default_rng(seed)).labels for seed in (0, 0, 1)]
    assert [len(labels) for labels in drawn] == [4, 4, 4]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    assert len(torch.unique(drawn[0].flatten(1), dim=0)) == 4


def test_one_student_or_three_are_refused(clean, toy_card):
    for sensors in (("depth",), ("depth", "thermal", "rgb")):
        students = dict.fromkeys(sensors, Student("depth"))
        with pytest.raises(ValueError, match=f"ablation compares two sensors, found {', '.join(sensors)}"):
            decoder_inputs(students, clean, toy_card, 4, np.random.default_rng(0))


def test_a_decoder_that_sees_other_channels_than_the_halves_is_refused(clean, toy_card):
    class Narrow(Student):
        def forward(self, image):
            out = super().forward(image)
            return replace(out, context=out.context[:, :K])

    students = {"depth": Narrow("depth"), "thermal": Student("thermal")}
    with pytest.raises(ValueError, match="decoder of Narrow gets 8 channels, not its two halves"):
        decoder_inputs(students, clean, toy_card, 4, np.random.default_rng(0))


def test_bottlenecks_of_other_widths_are_refused(clean, toy_card):
    students = {"depth": Student("depth", spare=2), "thermal": Student("thermal")}
    with pytest.raises(ValueError, match=r"bottlenecks have \{'depth': 10, 'thermal': 8\} channels"):
        decoder_inputs(students, clean, toy_card, 4, np.random.default_rng(0))


def test_losses_are_shares_of_the_untouched_miou(lose):
    found = lose({"private": WRONG}, {"shared": WRONG})
    for sensor in SENSORS:
        for name in ("mean", "swap"):
            lost = found[f"lost_{name} {sensor}/shared"]
            if sensor == "thermal":  # whose mIoU is 0
                assert np.isnan(lost)
            else:
                assert lost == pytest.approx(1 - found[f"miou_{name} {sensor}/shared"] / found[f"miou {sensor}"])


def test_the_table_has_the_model_and_its_two_null_models(clean, toy_card):
    students = {sensor: Student(sensor).eval() for sensor in SENSORS}
    table = ablation_table(students, clean, toy_card, 5, seed=0)
    assert table["null"].unique().tolist() == ["value", "shuffled_channels", "shuffled_pairs"]
    assert (table[["rows", "images"]] == 5).all(axis=None)
    pairs = table[table["null"] == "shuffled_pairs"]
    assert set(pairs["measure"]) == {"miou", "miou_swap", "lost_swap"}
    assert pairs.loc[(pairs["measure"] == "lost_swap") & (pairs["half"] == "shared"), "value"].gt(0.3).all()
