"""Unlabelled scenes: what every method and variant learns of them, and that their labels reach none."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from crodino_lib.config import DataConfig, TrainConfig
from crodino_lib.data.sample import IGNORE
from crodino_lib.methods.registry import METHODS, build_method
from crodino_lib.train import train
from crodino_lib.training import Training
from tests.methods.conftest import EVERY_VARIANT, batch_for, run_of

SENSORS = ("rgb", "depth")
NAMES = [*METHODS, *EVERY_VARIANT]
LABELLED = 6  # of the sixteen toy scenes
BATCHLESS = {"sparsity"}  # terms of the weights alone
DRAWS = 12  # steps: ShaSpec draws which sensors it sees, CSK-Net whether it exchanges


def config_of(name, seed=0, **settings):
    config = run_of(name, SENSORS, seed, **settings)
    small = TrainConfig(epochs=1, steps=2, batch_size=4, precision="fp32")
    return config.model_copy(update={"data": DataConfig(labelled=LABELLED), "train": small})


def pools(config, card, scenes):
    method = build_method(config, card)
    training = Training(method, config, scenes, scenes, torch.device("cpu"), "fp32")
    return method, {name: pool for name, (pool, _) in training.pools.items()}


@pytest.fixture(scope="module")
def labelled(toy_card, toy_scenes):
    """The scenes of seed 0 that carry labels, which are the same for every method."""
    return pools(config_of("baseline"), toy_card, toy_scenes)[1]["labelled"]


def spoilt(scenes, positions):
    """Scenes with random classes in place of the labels at some positions."""
    labels = scenes.labels.copy()
    wrong = np.random.default_rng(1).integers(4, size=labels[positions].shape)
    labels[positions] = wrong
    return replace(scenes, labels=labels)


def trained(config, card, scenes, validation, folder):
    method = build_method(config, card)
    train(method, scenes, validation, config, folder / "resume.pt", resume_every_s=1e9)
    (folder / "resume.pt").unlink()
    return method.state_dict()


@pytest.mark.parametrize("name", NAMES)
def test_labels_of_unlabelled_scenes_change_no_weight(name, labelled, toy_card, toy_scenes, tmp_path):
    few = replace(toy_scenes, labels=toy_scenes.labels[:2], ids=toy_scenes.ids[:2])
    hidden = [i for i in range(len(toy_scenes)) if i not in labelled]
    first, second = (
        trained(config_of(name), toy_card, scenes, few, tmp_path) for scenes in (toy_scenes, spoilt(toy_scenes, hidden))
    )
    assert all(torch.equal(value, second[key]) for key, value in first.items())


@pytest.mark.parametrize("name", ["baseline", "kd", "crodino-kd"])
def test_labels_of_labelled_scenes_change_the_weights(name, labelled, toy_card, toy_scenes, tmp_path):
    first, second = (
        trained(config_of(name), toy_card, scenes, toy_scenes, tmp_path)
        for scenes in (toy_scenes, spoilt(toy_scenes, labelled))
    )
    assert any(not torch.equal(value, second[key]) for key, value in first.items())


@pytest.mark.parametrize("name", NAMES)
def test_every_method_has_the_same_labelled_scenes_and_others_only_where_it_can_learn_of_them(
    name, labelled, toy_card, toy_scenes
):
    method, found = pools(config_of(name), toy_card, toy_scenes)
    rest = sorted(set(range(len(toy_scenes))) - set(labelled))
    assert found["labelled"] == labelled
    assert len(labelled) == len(set(labelled)) == LABELLED
    assert sorted(found.get("unlabelled", [])) == (rest if method.label_free else [])


@pytest.mark.parametrize("name", NAMES)
def test_the_terms_it_names_learn_of_unlabelled_scenes_and_no_other_does(name, build, toy_scenes):
    confident = {"contrast_confidence": 0.0} if name == "crodino-kd:predicted" else {}  # untrained, it is sure of none
    method = build(name, SENSORS, **confident).train()
    parameters, told = [p for p in method.parameters() if p.requires_grad], {}
    for seed, progress in itertools.product(range(DRAWS), (0.1, 0.5)):  # MasKD's tokens learn first, then its student
        batch = batch_for(method, toy_scenes)
        for label in batch.labels.values():
            label.fill_(IGNORE)
        torch.manual_seed(seed)
        for term, value in method(batch, progress).items():
            moves = value.requires_grad and any(
                part is not None and part.any()
                for part in torch.autograd.grad(value, parameters, retain_graph=True, allow_unused=True)
            )
            told[term] = told.get(term, False) or moves
            assert term in (*method.label_free, *BATCHLESS) or value.item() == 0
        if seed and all(told.get(term) for term in method.label_free):
            break
    assert {term for term, moves in told.items() if moves} - BATCHLESS == set(method.label_free)
