"""The training loop: read it top to bottom.

Every random draw comes from the run's seed and the number of the step, never from what was drawn before, so a run
resumed at any step goes on exactly as if it had not been interrupted.
"""

from __future__ import annotations

import hashlib
import math
import pickle
import time
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
from accelerate import Accelerator
from torch import Tensor
from torch.optim.lr_scheduler import OneCycleLR
from tqdm.auto import tqdm

from crodino_lib.analysis.extraction import extract_regions
from crodino_lib.augment import augment
from crodino_lib.config import RunConfig, TrainConfig
from crodino_lib.cost import counted_flops, describe, peak_memory, reset_peak_memory
from crodino_lib.data.sample import Scenes
from crodino_lib.evaluate import evaluate, scores
from crodino_lib.io import atomic_write, bar, headless, say
from crodino_lib.methods.base import Method

RESUME_EVERY_S = 60.0
FLOP_LOOKS = 16  # steps whose operations are counted, at even distances; steps need not cost alike
RATIO_EVERY = 100  # steps between two looks at how loudly each term speaks, which cost a backward pass per term


@dataclass
class Trained:
    """What training leaves behind.

    Attributes:
        students: name -> state dict of the epoch that was best on the validation split, each student for itself.
        history: one row per epoch: loss terms, learning rate, validation mIoU per student, seconds, what the method has
            to say, and, where measured, the norm of each term's gradient relative to cross-entropy's.
        cost: wall seconds, seconds of forward and backward passes alone, operations (the teacher's apart), peak memory,
            precision, device.
    """

    students: dict[str, dict[str, Tensor]]
    history: pd.DataFrame
    cost: dict[str, float | str]


def train(
    method: Method,
    scenes: Scenes,
    validation: Scenes,
    config: RunConfig,
    resume_file: Path,
    resume_every_s: float = RESUME_EVERY_S,
    frames: Path | None = None,
) -> Trained:
    """Train ``method``, or go on where ``resume_file`` stands.

    Args:
        method: built from ``config``; trained in place.
        scenes: the training split.
        validation: the split that chooses the epoch.
        config: the run.
        resume_file: written at every epoch's end and every ``resume_every_s`` seconds; the caller removes it.
        resume_every_s: seconds between two resume files; 0 writes one after every step.
        frames: folder for the latents of chosen moments (``frame_epochs``), which the film is made of, of methods with
            a network of each sensor.

    Raises:
        ValueError: the training split is smaller than two scenes, or the loss is no longer finite.
    """
    settings = config.train
    batch_size = min(settings.batch_size, len(scenes))
    if batch_size < 2:
        raise ValueError(f"the training split has {len(scenes)} scene(s); BatchNorm needs at least 2")
    steps_per_epoch = len(scenes) // batch_size
    total_steps = settings.epochs * steps_per_epoch

    accelerator = Accelerator()
    device = accelerator.device
    precision = resolve_precision(settings.precision, device)
    method = method.to(device, memory_format=torch.channels_last)
    trained = [parameter for parameter in method.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(trained, settings.learning_rate, weight_decay=settings.weight_decay)
    schedule = one_cycle(optimiser, settings, total_steps)
    model, optimiser = accelerator.prepare(method, optimiser)

    state = {"step": 0, "seconds": 0.0, "step_seconds": 0.0, "sums": {}, "ratios": {}, "history": [], "best": {}}
    state |= {"precision": precision, "flops": {}, "peak": 0}
    if resume_file.exists():
        saved = load_resume(resume_file, device)
        state = saved["state"]
        precision = state["precision"]  # another machine may compute in another one
        method.load_state_dict(saved["method"])
        optimiser.load_state_dict(saved["optimiser"])
        schedule.load_state_dict(saved["schedule"])
        say(f"resuming at step {state['step']} of {total_steps}")

    of_both = len(method.sensors) > 1 and set(method.sensors) <= set(method.students)
    filmed = frame_epochs(settings) if frames and of_both else []
    if state["step"] == 0 and filmed:
        keep_frame(method, validation, config, device, frames, 0)
    reset_peak_memory(device)
    saved_at = time.monotonic()
    started = saved_at - state["seconds"]
    label = f"{config.method} {'+'.join(config.sensors)} seed {config.seed}"
    progress = bar(total=total_steps, label=label, unit="step")
    progress.update(state["step"])
    while state["step"] < total_steps:
        step = state["step"]
        epoch, position = divmod(step, steps_per_epoch)
        order = torch.randperm(len(scenes), generator=seeded(config.seed, f"order of epoch {epoch}"))
        indices = order[position * batch_size : (position + 1) * batch_size].tolist()
        batch = augment(
            scenes,
            indices,
            method.card,
            method.batch_sensors,
            method.augmentation,
            seeded(config.seed, f"augmentation of step {step}"),
            device,
        )
        torch.manual_seed(seeded(config.seed, f"dropout of step {step}").initial_seed())

        model.train()
        step_started = time.monotonic()
        stride = max(1, total_steps // FLOP_LOOKS)
        flops = state["flops"] if step % stride == stride // 2 else None
        with counted_flops(flops, method), autocast(device, precision):
            terms = model(batch, step / total_steps)
        if step % RATIO_EVERY == RATIO_EVERY // 2:
            aside = time.monotonic()
            deployed = [parameter for part in separately_trained(method)[:-1] for parameter in part]
            state["ratios"] = gradient_ratios(terms, deployed)
            aside = time.monotonic() - aside  # no row pays for being looked at
            step_started, started = step_started + aside, started + aside
        loss = torch.stack(list(terms.values())).sum()
        if not torch.isfinite(loss):
            told = {name: round(term.item(), 4) for name, term in terms.items()}
            raise ValueError(
                f"the loss is {loss.item()} at step {step}: {told}. Lower learning_rate, or set precision to 'fp32'"
            )
        optimiser.zero_grad(set_to_none=True)
        with counted_flops(flops, method):
            accelerator.backward(loss)
        if flops is not None:
            flops["steps"] = flops.get("steps", 0) + 1
        for part in separately_trained(method):  # a student is clipped alike, whatever is trained beside it
            accelerator.clip_grad_norm_(part, settings.clip_norm)
        optimiser.step()
        schedule.step()

        for name, term in terms.items():
            state["sums"][name] = state["sums"].get(name, 0.0) + term.item()  # waits for the device
        state["step_seconds"] += time.monotonic() - step_started
        state["peak"] = max(state["peak"], peak_memory(device))
        state["step"] += 1
        progress.update()
        if state["step"] % steps_per_epoch == 0:
            row = {"epoch": epoch + 1, "learning_rate": schedule.get_last_lr()[0]}
            row |= {name: total / steps_per_epoch for name, total in state["sums"].items()}
            row |= state["ratios"] | method.diagnostics()
            row |= validate(method, validation, config, device, precision, epoch + 1, state["best"])
            row["seconds"] = time.monotonic() - started
            state["history"].append(row)
            state["sums"], state["ratios"] = {}, {}
            if epoch + 1 in filmed:
                aside = time.monotonic()
                keep_frame(method, validation, config, device, frames, epoch + 1)
                started += time.monotonic() - aside
            tell(progress, label, row, settings.epochs)
        state["seconds"] = time.monotonic() - started
        if state["step"] % steps_per_epoch == 0 or time.monotonic() - saved_at >= resume_every_s:
            with atomic_write(resume_file) as path:
                torch.save(
                    {
                        "state": state,
                        "method": method.state_dict(),
                        "optimiser": optimiser.state_dict(),
                        "schedule": schedule.state_dict(),
                    },
                    path,
                )
            saved_at = time.monotonic()
    progress.close()

    students = {name: best["weights"] for name, best in state["best"].items()}
    for name, weights in students.items():
        method.students[name].load_state_dict(weights)
    cost = {
        "train_seconds": state["seconds"],
        "device_seconds": state["step_seconds"],
        "train_flops": state["flops"]["total"] * total_steps // state["flops"]["steps"],
        "teacher_flops": state["flops"]["teacher"] * total_steps // state["flops"]["steps"],
        "peak_memory_bytes": state["peak"],
        "precision": precision,
        "device": describe(device),
        "steps": total_steps,
        "best_epoch": {name: best["epoch"] for name, best in state["best"].items()},
    }
    return Trained(students, pd.DataFrame(state["history"]), cost)


def validate(
    method: Method,
    scenes: Scenes,
    config: RunConfig,
    device: torch.device,
    precision: str,
    epoch: int,
    best: dict,
) -> dict[str, float]:
    """Validation mIoU per student; ``best`` keeps each student's weights of its own best epoch so far."""
    row = {}
    method.eval().export()
    for name, student in method.students.items():
        sensors = tuple(name.split("+"))
        with autocast(device, precision):
            matrix = evaluate(method.predict, scenes, method.card, sensors, config.train.batch_size, device)
        miou = scores(matrix)["miou"]
        if math.isnan(miou):
            raise ValueError("the validation split has no labelled pixel, so no epoch can be chosen")
        row[f"val_miou/{name}"] = miou
        if name not in best or miou > best[name]["miou"]:
            weights = {key: value.detach().cpu().clone().contiguous() for key, value in student.state_dict().items()}
            best[name] = {"miou": miou, "weights": weights, "epoch": epoch}
    return row


def frame_epochs(settings: TrainConfig) -> list[int]:
    """Epochs after which latents are kept, evenly spaced from 0, the untrained network, to the last."""
    if not settings.frames:
        return []
    return sorted({round(settings.epochs * part / max(settings.frames - 1, 1)) for part in range(settings.frames)})


def keep_frame(method: Method, scenes: Scenes, config: RunConfig, device: torch.device, folder: Path, epoch: int):
    """Write the latents of this moment as ``epoch-0003.npz``. Draws no random number: training goes on unwatched."""
    method.eval().export()
    try:
        latents = extract_regions(method, scenes, method.card, config.sensors, config.train.batch_size, device)
    except ValueError as error:
        say(f"no frame of epoch {epoch}: {error}")
        return
    latents.save(folder / f"epoch-{epoch:04}.npz")


def one_cycle(optimiser: torch.optim.Optimizer, settings: TrainConfig, steps: int) -> OneCycleLR:
    """The learning rate's rise and fall over ``steps``; the rise takes at least one step."""
    total = max(steps + 1, 4)  # the least that has a rise and a fall
    rise = max(settings.warmup, 2 / total)
    return OneCycleLR(optimiser, settings.learning_rate, total_steps=total, pct_start=rise)


def separately_trained(method: Method) -> list[list[Tensor]]:
    """Trained parameters of each student, and of all else that is trained with them."""
    students = [[p for p in student.parameters() if p.requires_grad] for student in method.students.values()]
    mine = {id(parameter) for part in students for parameter in part}
    return [*students, [p for p in method.parameters() if p.requires_grad and id(p) not in mine]]


def gradient_ratios(terms: dict[str, Tensor], parameters: list[Tensor]) -> dict[str, float]:
    """Norm of each term's gradient relative to that of the cross-entropies together.

    Args:
        terms: from ``Method.training_step``; the graph is kept.
        parameters: those of what is deployed.

    Returns:
        ``gradient/<term>`` for every term that is no cross-entropy: how loudly it speaks to the students.
    """

    def norm(loss: Tensor) -> float:
        if not loss.requires_grad:
            return 0.0
        found = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
        return math.sqrt(sum(part.float().square().sum().item() for part in found if part is not None))

    supervised = [term for name, term in terms.items() if name.startswith("segmentation")]
    others = {name: term for name, term in terms.items() if not name.startswith("segmentation")}
    if not others:
        return {}
    reference = norm(torch.stack(supervised).sum())
    return {f"gradient/{name}": norm(term) / reference for name, term in others.items()} if reference else {}


def load_resume(path: Path, device: torch.device) -> dict:
    """What an unfinished run left: tensors and plain values, never code.

    Raises:
        ValueError: the file is damaged.
    """
    try:
        return torch.load(path, map_location=device, weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, KeyError, EOFError) as error:
        raise ValueError(f"{path} is damaged ({error}); remove it to start this run again") from error


def seeded(seed: int, purpose: str) -> torch.Generator:
    """A CPU generator that depends on the run's seed and on what it is for, and on nothing else."""
    digest = hashlib.sha256(f"{seed}/{purpose}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7]))


def resolve_precision(precision: str, device: torch.device) -> str:
    """``bf16`` or ``fp32``; ``auto`` asks whether the device has bf16 arithmetic, which decides whether it pays."""
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    return "bf16" if device.type == "cpu" and torch.cpu._is_avx512_bf16_supported() else "fp32"


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """The context that networks run in."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")


def tell(progress: tqdm, label: str, row: dict[str, float], epochs: int) -> None:
    """One epoch: in the bar where there is one, else as a line."""
    mious = {name.removeprefix("val_miou/"): value for name, value in row.items() if name.startswith("val_miou/")}
    text = ", ".join(f"{sensor} {100 * value:.1f}" for sensor, value in mious.items())
    progress.set_postfix_str(f"validation mIoU {text}")
    if headless():
        say(f"{label} | epoch {row['epoch']:>3}/{epochs} | validation mIoU {text} | {row['seconds']:.0f} s")
