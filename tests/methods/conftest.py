"""Methods on toy scenes: small, taught by a network that has learned them."""

import functools
import tempfile
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from crodino_lib.augment import augment, plain
from crodino_lib.config import ModelConfig, RunConfig
from crodino_lib.methods.registry import METHODS, VARIANTS, build_method, parse_method
from crodino_lib.train import seeded


def tiny_encoder() -> str:
    """Path of a tiny random encoder with fitting BatchNorm statistics, so that activations are not vanishing."""
    torch.manual_seed(0)
    encoder = timm.create_model("test_efficientnet", features_only=True)
    for module in encoder.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None  # statistics of the one batch
    encoder.train()(torch.randn(16, 3, 48, 64))
    path = Path(tempfile.mkdtemp()) / "encoder.safetensors"
    save_file(encoder.state_dict(), path)
    return str(path)


SMALL = ModelConfig(encoder="test_efficientnet", weights=tiny_encoder(), block_channels=16, decoder_channels=16)
STEPS = 12
EVERY_VARIANT = [f"{method}:{variant}" for method, variants in VARIANTS.items() for variant in variants]


def run_of(name, sensors, seed=0, teacher="early", **settings):
    """The run of ``METHOD`` or ``METHOD:VARIANT``: methods of one sensor take the first one."""
    method, varied = parse_method(name)
    build = METHODS[method].build
    taught = {"fusion": (teacher, sensors), "first": ("baseline", sensors[:1]), None: ("", ())}[build.taught_by]
    return RunConfig(
        method=method,
        sensors=sensors[: build.sensor_count],
        seed=seed,
        settings=varied | settings,
        teacher=taught[0],
        teacher_sensors=taught[1],
        model=SMALL,
    )


def batch_for(method, scenes, count=4):
    indices, generator = list(range(count)), seeded(0, "test")
    sensors, regime = method.batch_sensors, method.augmentation
    return augment(scenes, indices, method.card, sensors, regime, generator, torch.device("cpu"))


def images_of(sensors, scenes, card, count=2):
    return plain(scenes, list(range(count)), card, sensors, torch.device("cpu")).images


def learn(method, scenes, steps=STEPS):
    """Train on one batch, as the loop would; returns every step's terms."""
    batch, told = batch_for(method, scenes), []
    optimiser = torch.optim.AdamW([p for p in method.parameters() if p.requires_grad], 1e-3)
    for step in range(steps):
        torch.manual_seed(step)
        terms = method.train()(batch, step / steps)
        told.append({name: term.item() for name, term in terms.items()})
        optimiser.zero_grad()
        torch.stack(list(terms.values())).sum().backward()
        optimiser.step()
    method.eval().export()
    return told


@pytest.fixture(scope="session")
def build(toy_card, toy_scenes, tmp_path_factory):
    """Builds a row, its teacher trained on the toy scenes once for all rows."""

    @functools.cache
    def taught(config):
        method = build_method(RunConfig.model_validate_json(config), toy_card)
        learn(method, toy_scenes)
        name, folder = "+".join(method.sensors), tmp_path_factory.mktemp("teacher")
        save_file(method.students[name].state_dict(), folder / f"student-{name}.safetensors")
        return folder

    def build(name, sensors=("rgb", "depth"), seed=0, teacher="early", **settings):
        config = run_of(name, sensors, seed, teacher, **settings)
        method = build_method(config, toy_card)
        if config.parent:
            method.load_teacher(taught(config.parent.model_dump_json()))
        return method

    return build


PAIR = ("rgb", "depth")


@pytest.fixture
def build_pair(toy_card):
    """Build a method of colour and depth, CroDiNo-KD where none is named, with the settings given."""

    def build_pair(name="crodino-kd", **settings):
        return build_method(run_of(name, PAIR, **settings), toy_card)

    return build_pair


@pytest.fixture
def batch(toy_scenes, toy_card):
    return augment(toy_scenes, list(range(8)), toy_card, PAIR, "decoupled", seeded(0, "x"), torch.device("cpu"))


def outputs_of(method, batch):
    return {sensor: method.students[sensor](batch.images[sensor]) for sensor in PAIR}
