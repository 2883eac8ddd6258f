"""Record what training computes today: losses, gradients, updates and answers of every method on a toy dataset.

``python -m tests.golden.recording`` writes ``golden.json`` anew; ``test_golden.py`` compares. With ``new`` behind it,
what is recorded stays as it is and only new methods and variants are added. Only ``method_of`` knows how the library is
asked for a method, and all that is imported of the library is imported here.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from crodino_lib.augment import RECIPE, augment
from crodino_lib.config import TRAINING_VERSION, ModelConfig, RunConfig, TrainConfig
from crodino_lib.data.sample import IGNORE, RGB, Batch, DatasetCard, Scenes, Sensor
from crodino_lib.evaluate import evaluate
from crodino_lib.methods.base import Method
from crodino_lib.methods.registry import METHODS, VARIANTS, build_method, parse_method
from crodino_lib.models.encoder import create_encoder
from crodino_lib.train import train
from crodino_lib.training import one_cycle

GOLDEN = Path(__file__).with_name("golden.json")
SMALL, DEFAULT = "test_efficientnet", "tf_efficientnet_lite0"
EPOCHS, BATCH, TRAINING_SCENES, VALIDATION_SCENES = 2, 4, 9, 4
STEPS_PER_EPOCH = 2  # of four scenes each
FADING = 0.05  # a progress at which every schedule of a loss is on its way
CLIP_NORM = 1.0  # below most gradients' norms here, so that clipping does something
SCHEDULES = (1, 3, 40)  # lengths of runs, in steps, whose learning rates are recorded
DIGITS = 7


def golden() -> dict:
    """Return the record."""
    return json.loads(GOLDEN.read_text())


def cases() -> list[dict]:
    """List what is recorded: every method and variant of rgb and depth, and some of other sensors or encoders."""
    found = [case(name, ("rgb", "depth")) for name in names()]
    found += [case(name, ("rgb", "depth"), student="depth") for name in ("baseline", "kd")]
    found += [case("baseline", ("rgb", "thermal"), student="thermal")]
    found += [case(name, ("rgb", "thermal")) for name in ("acnet", "kd", "crodino-kd", "csk-net", "discom-kd")]
    found += [case("shaspec", ("rgb", "thermal"))]
    found += [case("csk-net", ("rgb", "depth"), contrast_pixels=16)]  # its bank holds more than is drawn from it
    found += [case(name, ("rgb", "depth"), encoder=DEFAULT) for name in ("baseline", "crodino-kd")]
    return found


def names() -> list[str]:
    """List every method, and every variant as ``METHOD:VARIANT``."""
    return [*METHODS, *(f"{method}:{variant}" for method, variants in VARIANTS.items() for variant in variants)]


def case(name: str, pair: tuple[str, str], student: str = "rgb", encoder: str = SMALL, **settings) -> dict:
    """Describe one case: a method, the settings in which it departs from its class, sensors, teacher and encoder."""
    method, variant = parse_method(name)
    entry = METHODS[method]
    sensors = (student,) if entry.build.sensor_count == 1 else pair
    teacher, taught = {"fusion": ("early", pair), "first": ("baseline", pair[:1]), None: ("", ())}[
        entry.build.taught_by
    ]
    epochs = 1 if encoder == DEFAULT else EPOCHS  # steps of a deep network soon follow rounding errors
    budget = (entry.settings | variant | settings).get("budget", 1)  # steps of all cases are as many, whatever it is
    title = f"{name} {'+'.join(sensors)}" + f" of {'+'.join(pair)}" * (teacher == "early")
    title += "".join(f" with {setting}={value}" for setting, value in settings.items())
    return {
        "case": title + f" on {encoder}" * (encoder != SMALL),
        "method": method,
        "settings": entry.settings | variant | settings,
        "sensors": list(sensors),
        "teacher": teacher,
        "teacher_sensors": list(taught),
        "encoder": encoder,
        "epochs": epochs,
        "total_steps": int(epochs * STEPS_PER_EPOCH / budget),
    }


def method_of(case: dict, folder: Path) -> Method:
    """Build the untrained method of a case. This alone turns a case into a run of the library.

    Args:
        case: from ``case``.
        folder: where weights of the small encoder are written.
    """
    weights = "packaged" if case["encoder"] == DEFAULT else str(drawn_weights(case["encoder"], folder))
    config = RunConfig(
        method=case["method"],
        settings=case["settings"],
        sensors=tuple(case["sensors"]),
        teacher=case["teacher"],
        teacher_sensors=tuple(case["teacher_sensors"]),
        model=ModelConfig(encoder=case["encoder"], weights=weights, block_channels=16, decoder_channels=16),
        train=TrainConfig(
            epochs=case["epochs"],
            steps=case["total_steps"],
            batch_size=BATCH,
            clip_norm=CLIP_NORM,
            precision=case.get("precision", "fp32"),
        ),
    )
    return build_method(config, toy_card())


def departures(method: Method) -> dict:
    """Return the settings of a method that are not its class's defaults."""
    settings, defaults = method.settings.model_dump(), type(method.settings)().model_dump()
    return {name: value for name, value in settings.items() if value != defaults[name]}


def drawn_weights(encoder: str, folder: Path) -> Path:
    """Write random weights of an encoder; no two scales of a BatchNorm are equal, as exchange asks which is smaller."""
    path = folder / f"{encoder}.safetensors"
    if not path.exists():
        torch.manual_seed(0)
        network = create_encoder(encoder, "none", 3, 16)
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.uniform_(module.bias, -0.2, 0.2)
        save_file({name: value.contiguous() for name, value in network.state_dict().items()}, path)
    return path


def toy_card() -> DatasetCard:
    """Describe a dataset of four classes seen by three sensors."""
    depth, thermal = Sensor(1, "metres", (3.0,), (1.0,)), Sensor(1, "degrees C", (20.0,), (5.0,))
    return DatasetCard(
        name="toy",
        title="Toy",
        sensors={"rgb": RGB, "depth": depth, "thermal": thermal},
        classes=("floor", "box", "ball", "lamp"),
        palette=((80, 80, 80), (200, 80, 0), (0, 120, 200), (240, 220, 60)),
        splits=("train", "val", "test"),
        native_size=(64, 48),
        licensed=False,
    )


def toy_scenes(count: int, seed: int) -> Scenes:
    """Draw scenes of blocks: each class has a colour, a distance and a temperature of its own, plus noise."""
    generator, card = np.random.default_rng(seed), toy_card()
    labels = generator.integers(len(card.classes), size=(count, 3, 4)).repeat(16, axis=1).repeat(16, axis=2)
    noise = generator.normal(size=(count, 1, 48, 64))
    holes = generator.random(noise.shape) < 0.05
    ignored = labels.astype(np.uint8)
    ignored[:, :2] = IGNORE
    return Scenes(
        images={
            "rgb": np.clip(np.asarray(card.palette)[labels].transpose(0, 3, 1, 2) + 8 * noise, 0, 255).astype(np.uint8),
            "depth": np.where(holes, 0, 1.5 + labels[:, None] + 0.1 * noise).astype(np.float16),
            "thermal": (15 + 4 * labels[:, None] + noise).astype(np.float16),
        },
        valid={"depth": ~holes, "thermal": np.ones_like(holes)},
        labels=ignored,
        ids=[f"{seed}-{i}" for i in range(count)],
        factors=pd.DataFrame({"room_width_m": generator.random(count)}),
    )


def record(case: dict, folder: Path) -> dict:
    """Train a case as a run is trained, and record its steps and its end.

    Args:
        case: from ``case``.
        folder: for the run's resume file and the encoder's weights.

    Returns:
        ``settings`` that the method has, terms while ``fading`` in, ``steps``, a list, and ``end``.
    """
    method = method_of(case, folder)
    fading = terms_at(method, FADING)
    training, validation = toy_scenes(TRAINING_SCENES, seed=1), toy_scenes(VALIDATION_SCENES, seed=2)
    start = {name: value.clone() for name, value in method.named_parameters() if value.requires_grad}
    with Watch(method).watching() as watch:
        trained = train(method, training, validation, method.config, folder / "resume.pt", resume_every_s=1e9)
    (folder / "resume.pt").unlink()
    method.cpu().load_state_dict(watch.last)  # not each student's best epoch, which a hair decides
    end = {"epochs": len(trained.history), "updates": updates(method, start)}
    end["answers"] = {"+".join(sensors): answers(method, validation, sensors) for sensors in method.serves}
    return {"settings": departures(method)} | rounded({"fading": fading, "steps": watch.steps, "end": end})


def terms_at(method: Method, progress: float) -> dict[str, dict[str, float]]:
    """Record one batch at a progress that the steps of so short a training jump over.

    Returns:
        ``terms``, and ``gradients``: the norm of each term's gradient with respect to all that is trained.
    """
    batch = augment(
        toy_scenes(BATCH, seed=3),
        list(range(BATCH)),
        method.card,
        method.batch_sensors,
        method.augmentation,
        torch.Generator().manual_seed(0),
        torch.device("cpu"),
    )
    before = {name: value.clone() for name, value in method.state_dict().items()}
    torch.manual_seed(0)
    terms = method.train().training_step(batch, progress)
    trained = [parameter for parameter in method.parameters() if parameter.requires_grad]
    found = {
        "terms": {name: term.item() for name, term in terms.items()},
        "gradients": {name: gradient_norm(term, trained) for name, term in terms.items()},
    }
    method.load_state_dict(before)
    return found


def gradient_norm(term: Tensor, parameters: list[Tensor]) -> float:
    """Return the norm of a term's gradient; the graph is kept."""
    if not term.requires_grad:
        return 0.0
    found = torch.autograd.grad(term, parameters, retain_graph=True, allow_unused=True)
    return sum(part.double().square().sum().item() for part in found if part is not None) ** 0.5


class Watch:
    """What happens to a method in each step of its training, seen from outside the

    Attributes:
        steps: one record per step.
        last: state of the method behind its last step.
    """

    def __init__(self, method: Method):
        self.method = method
        self.steps: list[dict] = []
        self.last: dict[str, Tensor] = {}
        self.gradients: dict[str, float] = {}

    @contextmanager
    def watching(self) -> Iterator[Watch]:
        """Watch until the context ends."""
        inner = self.method.training_step
        self.method.training_step = lambda *args: self.stepped(inner, *args)
        hooks = [register_optimizer_step_pre_hook(self.clipped), register_optimizer_step_post_hook(self.updated)]
        for name, parameter in self.method.named_parameters():
            if parameter.requires_grad:
                hooks.append(parameter.register_post_accumulate_grad_hook(self.follower(name)))
        try:
            yield self
        finally:
            del self.method.training_step
            for hook in hooks:
                hook.remove()

    def stepped(self, inner, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Make the step, and record what it was given and its terms."""
        told = {"progress": progress, "seed": torch.initial_seed(), "batch": described(batch)}
        self.gradients = {}
        terms = inner(batch, progress)
        self.steps.append(told | {"terms": {name: term.item() for name, term in terms.items()}})
        return terms

    def follower(self, name: str):
        """Return a hook that keeps the squared norm of a parameter's gradient as soon as it is known."""

        def follow(parameter: Tensor) -> None:
            self.gradients[name] = parameter.grad.double().square().sum().item()

        return follow

    def clipped(self, optimiser: torch.optim.Optimizer, *_) -> None:
        """Record gradients before and after clipping, and how the optimiser will step."""
        found = {
            name: parameter.grad.double().square().sum().item()
            for name, parameter in self.method.named_parameters()
            if parameter.grad is not None
        }
        (group,) = optimiser.param_groups
        rule = {"rule": type(optimiser).__name__} | {key: group[key] for key in ("lr", "betas", "eps", "weight_decay")}
        self.steps[-1] |= {
            "gradients": by_part(self.method, self.gradients),
            "clipped": by_part(self.method, found),
            "optimiser": rule,
        }

    def updated(self, *_) -> None:
        """Keep the state behind the step."""
        self.last = {name: value.clone() for name, value in self.method.state_dict().items()}


def described(batch: Batch) -> dict:
    """Describe a batch: its scenes in their order, and moments of what each sensor shows of them."""
    found = {"ids": " ".join(batch.ids)}
    for sensor, image in batch.images.items():
        label = batch.labels[sensor]
        counts = torch.bincount(torch.where(label == IGNORE, 4, label).flatten(), minlength=5)
        found[sensor] = {
            "mean": image.mean().item(),
            "deviation": image.std().item(),
            "valid": batch.valid[sensor].float().mean().item(),
            "labels": (counts / counts.sum()).tolist(),
            "warps": batch.warps[sensor].square().sum().item(),
        }
    return found


def by_part(method: Method, squares: dict[str, float]) -> dict[str, float]:
    """Sum squared norms over each student and over the rest, and return their roots."""
    sums: dict[str, float] = {}
    for name, square in squares.items():
        part = part_of(method, name)
        sums[part] = sums.get(part, 0.0) + square
    return {part: total**0.5 for part, total in sums.items()}


def part_of(method: Method, parameter: str) -> str:
    """Return the student that a parameter belongs to, or ``rest``."""
    return next((name for name in method.students if parameter.startswith(f"students.{name}.")), "rest")


def updates(method: Method, start: dict[str, Tensor]) -> dict[str, dict[str, float]]:
    """Compare each part's weights with their start.

    Returns:
        Part -> ``weights``, how many; ``length``, of the update relative to the weights; ``along``, the update's
        component along the weights relative to their length, which decay shrinks.
    """
    sums: dict[str, Tensor] = {}
    for name, parameter in method.named_parameters():
        if name in start:
            before, after = start[name].detach().double(), parameter.detach().double()
            change = after - before
            found = (before.numel(), change.square().sum(), before.square().sum(), (change * before).sum())
            part = part_of(method, name)
            sums[part] = sums.get(part, 0) + torch.tensor(found, dtype=torch.float64)
    return {
        part: {
            "weights": int(count),
            "length": (change / size).sqrt().item(),
            "along": (along / size).item(),
        }
        for part, (count, change, size, along) in sums.items()
    }


def answers(method: Method, scenes: Scenes, sensors: tuple[str, ...]) -> dict:
    """Ask a trained method about scenes, given a set of sensors it serves.

    Returns:
        ``confusion``: pixels by true and predicted class, row after row; ``cross_entropy``; ``deviation`` of logits.
    """
    method.eval().export()
    logits = []

    def predict(images: dict[str, Tensor]) -> Tensor:
        logits.append(method.predict(images))
        return logits[-1]

    matrix = evaluate(predict, scenes, method.card, sensors, len(scenes), torch.device("cpu"))
    said = torch.cat(logits)
    loss = F.cross_entropy(said, torch.from_numpy(scenes.labels).long(), ignore_index=IGNORE)
    return {
        "confusion": matrix.sum(axis=0).flatten().tolist(),
        "cross_entropy": loss.item(),
        "deviation": said.std().item(),
    }


def defaults() -> dict:
    """Return the settings that every run, and every class of methods, has unless told otherwise."""
    classes = dict.fromkeys(entry.build for entry in METHODS.values())
    return {
        "train": TrainConfig().model_dump(mode="json"),
        "model": ModelConfig().model_dump(mode="json"),
        "augmentation": RECIPE.model_dump(mode="json"),
        "methods": {build.__name__: build.Settings().model_dump(mode="json") for build in classes},
    }


def schedules() -> dict[str, list[float]]:
    """Record the learning rates of runs of several lengths, as fractions of the peak."""
    found = {}
    for steps in SCHEDULES:
        settings = TrainConfig()
        optimiser = torch.optim.AdamW([nn.Parameter(torch.zeros(1))], settings.learning_rate)
        schedule, rates = one_cycle(optimiser, settings, steps), []
        for _ in range(steps):
            rates.append(schedule.get_last_lr()[0] / settings.learning_rate)
            optimiser.step()
            schedule.step()
        found[str(steps)] = rates
    return rounded(found)


def rounded(value):
    """Round every float of nested lists and dicts."""
    if isinstance(value, dict):
        return {name: rounded(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(part) for part in value]
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


def recorded(known: list[dict] = ()) -> dict:
    """Record every case that is not among the ``known`` ones."""
    torch.set_num_threads(1)
    kept = {case["case"]: case for case in known}
    found = {"training_version": TRAINING_VERSION, "defaults": defaults(), "schedules": schedules()}
    with tempfile.TemporaryDirectory() as folder:
        return found | {"cases": [kept.get(c["case"]) or c | record(c, Path(folder)) for c in cases()]}


def write(found: dict, path: Path = GOLDEN) -> None:
    """Write a record, a line per case."""
    head = {name: value for name, value in found.items() if name != "cases"}
    lines = ",\n".join(json.dumps(case, separators=(",", ":")) for case in found["cases"])
    path.write_text(json.dumps(head, separators=(",", ":"))[:-1] + ',\n"cases":[\n' + lines + "\n]}\n")


if __name__ == "__main__":
    write(recorded(golden()["cases"] if "new" in sys.argv[1:] else ()))
