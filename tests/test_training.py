"""Which scenes a training sees at which step, and how its budget is spent."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn

from crodino_lib.config import DataConfig, RunConfig, TrainConfig
from crodino_lib.data.sample import IGNORE, Scenes
from crodino_lib.training import Training

COUNT = 60


@dataclass(eq=False)
class Stub(nn.Module):
    """A method of one weight."""

    label_free: tuple[str, ...] = ("overlap",)
    budget: float = 1.0

    def __post_init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))


def training(labelled=None, seed=0, count=COUNT, label_free=("overlap",), budget=1.0, **settings):
    """A training of scenes whose label is their number."""
    config = RunConfig(
        method="crodino-kd",
        seed=seed,
        data=DataConfig(labelled=labelled),
        train=TrainConfig(**{"batch_size": 8, "epochs": 3, **settings}),
    )
    labels = np.arange(count, dtype=np.uint8)[:, None, None].repeat(2, axis=1)
    scenes = Scenes({}, {}, labels, [str(i) for i in range(count)])
    return Training(Stub(label_free, budget), config, scenes, scenes, torch.device("cpu"), "fp32")


def steps_of(found, count):
    """The scenes of the first steps."""
    steps = []
    for found.step in range(count):
        steps.append(found.indices())
    return steps


def labelled_of(**settings):
    return {i for i, label in enumerate(training(**settings).scenes.labels) if (label != IGNORE).all()}


# -- labelled and unlabelled scenes


def test_labels_are_left_in_as_many_scenes_as_asked_for_and_are_their_own():
    found = training(labelled=25).scenes
    known = (found.labels != IGNORE).all(axis=(1, 2))
    assert known.sum() == 25
    assert (found.labels[~known] == IGNORE).all()
    assert (found.labels[known, 0, 0] == np.flatnonzero(known)).all()


def test_few_labelled_scenes_are_among_many_of_the_same_seed_and_another_seed_has_others():
    few, many = labelled_of(labelled=25), labelled_of(labelled=50)
    assert few < many
    assert labelled_of(labelled=25, label_free=()) == few
    assert labelled_of(labelled=25, steps=7, batch_size=4) == few
    assert labelled_of(labelled=25, seed=1) != few


@pytest.mark.parametrize("labelled", [None, COUNT])
def test_with_all_labels_there_is_one_pool_and_a_whole_batch_of_it(labelled):
    found = training(labelled=labelled)
    assert list(found.pools) == ["labelled"]
    assert all(len(step) == 8 for step in steps_of(found, 4))
    assert (found.scenes.labels[:, 0, 0] == np.arange(COUNT)).all()


def test_half_of_a_batch_carries_labels():
    known = labelled_of(labelled=10)
    for step in steps_of(training(labelled=10), 20):
        assert len(step) == 8
        assert sum(scene in known for scene in step) == 4


def test_a_method_that_needs_labels_gets_the_same_labelled_scenes_and_no_others():
    alone, both = (training(labelled=10, label_free=terms) for terms in ((), ("overlap",)))
    for mine, theirs in zip(steps_of(alone, 20), steps_of(both, 20), strict=True):
        assert mine == theirs[:4]


@pytest.mark.parametrize("labelled", [None, 3, 10, 50])  # 3 are fewer than half a batch
def test_every_pool_is_passed_over_whole_before_a_scene_returns(labelled):
    found = training(labelled=labelled)
    steps, begin = steps_of(found, 60), 0
    for pool, count in found.pools.values():
        seen = [scene for step in steps for scene in step[begin : begin + count]]
        passes = [seen[i : i + len(pool)] for i in range(0, len(seen) - len(pool) + 1, len(pool))]
        assert len(passes) > 2
        assert all(sorted(one) == sorted(pool) for one in passes)
        assert len(set(map(tuple, passes))) > 2  # shuffled anew
        begin += count


@pytest.mark.parametrize("count", [2, 5])
def test_fewer_scenes_than_a_batch_are_a_batch(count):
    assert sorted(training(count=count).indices()) == list(range(count))


# -- steps and epochs


def epochs_at(found):
    """The steps behind which an epoch ends."""
    ends = []
    for step in range(1, found.total_steps + 1):
        found.step = step - 1
        before, found.step = found.epoch, step
        ends += [step] * (found.epoch - before)
    return ends


@pytest.mark.parametrize(
    ("steps", "epochs", "ends"),
    [
        (6, 3, [2, 4, 6]),
        (7, 3, [3, 5, 7]),
        (10, 4, [3, 5, 8, 10]),
        (2, 5, [1, 2]),  # a validation needs a step
        (1, 1, [1]),
    ],
)
def test_validations_lie_at_even_distances_and_the_last_step_has_one(steps, epochs, ends):
    found = training(steps=steps, epochs=epochs)
    assert found.total_steps == steps
    assert found.epochs == len(ends)
    assert epochs_at(found) == ends


@pytest.mark.parametrize(("steps", "epochs"), [(97, 10), (1000, 7), (13, 12)])
def test_distances_between_validations_differ_by_at_most_a_step(steps, epochs):
    distances = np.diff([0, *epochs_at(training(steps=steps, epochs=epochs))])
    assert len(distances) == epochs
    assert distances.max() - distances.min() <= 1


def test_without_steps_the_epochs_are_passes_over_all_scenes_labelled_or_not():
    for labelled in (None, 20):
        assert training(labelled=labelled, epochs=3).total_steps == 3 * (COUNT // 8)
    assert training(count=5, epochs=3).total_steps == 3


@pytest.mark.parametrize(("budget", "steps"), [(2.0, 14), (4.0, 28), (0.5, 4)])
def test_a_control_s_budget_multiplies_the_steps_and_not_the_validations(budget, steps):
    found = training(budget=budget, steps=7, epochs=3)
    assert (found.total_steps, found.epochs) == (steps, 3)
    assert len(epochs_at(found)) == 3
