"""Measure what is left of a network, and of its confidence, when a sensor fails."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from joblib import Parallel, delayed
from scipy.optimize import minimize_scalar
from torch import Tensor

from crodino_lib.analysis.sensor_faults import ABSENT, SEVERITIES, broken, faults_of
from crodino_lib.augment import plain
from crodino_lib.data.sample import IGNORE, DatasetCard, Scenes, SensorSet
from crodino_lib.evaluate import confusion_per_image, scores
from crodino_lib.io import atomic_write, bar, read_table, say
from crodino_lib.methods.base import Method
from crodino_lib.study.runs import Run
from crodino_lib.study.study import Study

VERSION = 1  # raise it when results kept with runs would be computed differently
BATCH, BINS = 16, 15
FEW = 32  # runs times scenes: measured in this process
EVERY = 7  # pixel that a temperature is fitted on


@dataclass(frozen=True)
class Confidence:
    """How a network did on a split, and how sure it was.

    ``miou``; ``nll`` (mean negative log-likelihood of the true class), ``brier`` (mean squared distance of the
    probabilities to the truth, over classes, 0 to 2); ``bins`` (15, 3): share of the pixels, mean confidence and
    accuracy of the pixels whose confidence is in each fifteenth of 0..1.
    """

    miou: float
    nll: float
    brier: float
    bins: np.ndarray

    @property
    def confidence(self) -> float:
        """Mean largest probability of the pixels."""
        return float(np.nansum(self.bins[:, 0] * self.bins[:, 1]))

    @property
    def accuracy(self) -> float:
        """Share of the pixels whose class is right."""
        return float(np.nansum(self.bins[:, 0] * self.bins[:, 2]))

    @property
    def ece(self) -> float:
        """Expected calibration error: mean distance between confidence and accuracy over the pixels, by bin."""
        share, confidence, accuracy = np.nan_to_num(self.bins).T
        return float((share * np.abs(confidence - accuracy)).sum())


@torch.inference_mode()
def measure(
    method: Method, scenes: Scenes, card: DatasetCard, served: SensorSet, temperatures: Sequence[float] = (1.0,)
) -> list[Confidence]:
    """Return how the student of some sensors does on scenes, with its logits divided by each temperature."""
    confusion, sums = 0, torch.zeros(len(temperatures), BINS, 3, dtype=torch.float64)
    losses = torch.zeros(len(temperatures), 2, dtype=torch.float64)
    for logits, label in _pixels(method, scenes, card, served):
        confusion += confusion_per_image(logits.argmax(dim=1), label, len(card.classes)).sum(0).numpy()
        counted = label != IGNORE
        logits, truth = logits.movedim(1, -1)[counted], label[counted]
        for place, temperature in enumerate(temperatures):
            p = F.softmax(logits / temperature, dim=1).double()
            right, (sure, winner) = p.gather(1, truth[:, None])[:, 0], p.max(dim=1)
            losses[place] += torch.stack([-right.clamp(min=1e-12).log(), p.square().sum(1) - 2 * right + 1]).sum(dim=1)
            found = torch.stack([torch.ones_like(sure), sure, (winner == truth).double()], dim=1)
            sums[place].index_add_(0, (sure * BINS).long().clamp(max=BINS - 1), found)
    count, sums = float(sums[0, :, 0].sum()), sums.numpy()
    with np.errstate(invalid="ignore"):
        bins = np.concatenate([sums[..., :1] / count, sums[..., 1:] / sums[..., :1]], axis=-1)
    miou = scores(confusion)["miou"]
    return [Confidence(miou, *loss, one) for loss, one in zip((losses / count).tolist(), bins, strict=True)]


@torch.inference_mode()
def fit_temperature(method: Method, scenes: Scenes, card: DatasetCard, served: SensorSet) -> float:
    """Return the temperature that makes the true classes of some scenes most likely (Guo et al., ICML 2017)."""
    kept = []
    for logits, label in _pixels(method, scenes, card, served):
        counted = label != IGNORE
        kept.append((logits.movedim(1, -1)[counted][::EVERY], label[counted][::EVERY]))
    logits, truth = (torch.cat(part) for part in zip(*kept, strict=True))
    found = minimize_scalar(
        lambda t: F.cross_entropy(logits / np.exp(t), truth).item(), bounds=(-2, 3), method="bounded"
    )
    return float(np.exp(found.x))


def _pixels(method: Method, scenes: Scenes, card: DatasetCard, served: SensorSet) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the logits (B, K, H, W) and the labels (B, H, W) of a split, batch by batch."""
    for indices in torch.arange(len(scenes)).split(BATCH):
        batch = plain(scenes, indices.tolist(), card, served, torch.device("cpu"))
        yield method.predict(batch.images), batch.labels[served[0]]


def conditions(served: SensorSet, card: DatasetCard, severities: Sequence[int]) -> list[tuple[str, str, int]]:
    """Return what is done to the sensors of a network: (sensor, fault, severity), ``("-", "none", 0)`` first."""
    absent = [(name, fault, 0) for name in served for fault in ABSENT]
    degraded = [(name, fault, s) for name in served for fault in faults_of(name, card) for s in severities]
    return [("-", "none", 0), *absent, *degraded]


def robustness_table(
    study: Study,
    runs: Iterable[Run],
    severities: Sequence[int] = SEVERITIES,
    scenes: int | None = None,
    splits: Sequence[str] = (),
) -> pd.DataFrame:
    """Measure the networks of runs under every fault of each of their sensors; kept with the runs.

    Args:
        study: of the runs.
        runs: finished runs with their weights.
        severities: of ``SEVERITIES``.
        scenes: most scenes of a split, from the first on; None takes all.
        splits: every test split where none is given, so for rooms day and night apart.

    Returns:
        One row per run, split, sensors at test, and fault: ``method``, ``seed``, ``split``, ``sensors``, ``sensor``
        (the broken one, a dash for none), ``fault``, ``severity``, ``images``; ``miou``, ``accuracy``, ``confidence``
        and ``ece`` in percent, ``nll``, ``brier``; ``temperature``, fitted on unbroken validation scenes, and ``scaled
        nll`` and ``scaled ece`` with it.
    """
    runs = list(runs)
    splits = list(splits) or [split for split in study.card.splits if split.startswith("test")]
    few, val = {split: first_scenes(study.scenes[split], scenes) for split in splits}, study.scenes["val"]
    how = [VERSION, study.fingerprint, list(severities), scenes, splits]
    missing = {file: run for run in runs if not (file := _file(run, how)).exists()}
    if missing:
        say(f"breaking the sensors of {len(missing)} runs: {len(severities)} severities of each fault")
        jobs = -1 if len(missing) * (scenes or len(val)) > FEW else 1  # a process takes seconds to start
        tasks = Parallel(n_jobs=jobs, return_as="generator")(
            delayed(_measured)(run, study.card, few, val, severities) for run in missing.values()
        )
        for file, table in zip(missing, bar(tasks, total=len(missing), label="faults", unit="run"), strict=True):
            with atomic_write(file) as path:
                table.to_csv(path, index=False)
    tables = [read_table(_file(run, how), ("fault",)).assign(method=run.name, seed=run.config.seed) for run in runs]
    table = pd.concat(tables, ignore_index=True)
    return table[["method", "seed", *table.columns.drop(["method", "seed"])]]


def trust_table(table: pd.DataFrame) -> pd.DataFrame:
    """Return which to use when a sensor fails: the best network of both sensors, or of the other sensor alone.

    The networks are those that are best whole, by their mIoU on the same scenes with nothing broken.

    Args:
        table: from ``robustness_table``, of one split.

    Returns:
        One row per broken sensor, fault and severity: ``both`` and ``alone``, the mIoU (means over seeds) of the best
        network of several sensors and of the best that does not have the broken sensor, their methods, and ``trust``.
    """
    means = table.groupby(["method", "sensors", "sensor", "fault", "severity"], sort=False).miou.mean()
    whole = means.xs(("-", "none", 0), level=["sensor", "fault", "severity"]).sort_values(ascending=False)
    rows = []
    for sensor, fault, severity in dict.fromkeys(key[2:] for key in means.index if key[2] != "-"):
        served = {key: SensorSet.parse(key[1]) for key in whole.index}
        several = next((key for key in whole.index if sensor in served[key] and len(served[key]) > 1), None)
        alone = next((key for key in whole.index if sensor not in served[key]), None)
        if several and alone:
            both = means[(*several, sensor, fault, severity)]
            trust = "both" if both > whole[alone] else f"{alone[1]} alone"
            rows.append((sensor, fault, severity, both, several[0], whole[alone], alone[0], trust))
    columns = ["broken", "fault", "severity", "both", "method of both", "alone", "method alone", "trust"]
    return pd.DataFrame(rows, columns=columns)


def _file(run: Run, how: list) -> Path:
    key = hashlib.sha256(json.dumps([how, run.record["hash"]]).encode()).hexdigest()[:12]
    return run.folder / "faults" / f"{key}.csv"


def first_scenes(scenes: Scenes, most: int | None) -> Scenes:
    """Return the first scenes of a split; all where ``most`` is None."""
    images, valid = ({k: v[:most] for k, v in part.items()} for part in (scenes.images, scenes.valid))
    factors = None if scenes.factors is None else scenes.factors[:most]
    return Scenes(images, valid, scenes.labels[:most], scenes.ids[:most], factors)


def _measured(
    run: Run, card: DatasetCard, scenes: dict[str, Scenes], val: Scenes, severities: Sequence[int]
) -> pd.DataFrame:
    method, rows = run.method(card), []
    for served in method.serves:
        temperature = fit_temperature(method, val, card, served)
        for split in scenes:
            for sensor, fault, severity in conditions(served, card, severities):
                shown = scenes[split] if sensor == "-" else broken(scenes[split], card, sensor, fault, severity)
                one, scaled = measure(method, shown, card, served, (1.0, temperature))
                named = {"split": split, "sensors": str(served), "sensor": sensor, "fault": fault, "severity": severity}
                named |= {"images": len(shown), "miou": 100 * one.miou, "accuracy": 100 * one.accuracy}
                named |= {"confidence": 100 * one.confidence, "nll": one.nll, "brier": one.brier, "ece": 100 * one.ece}
                named |= {"temperature": temperature, "scaled nll": scaled.nll, "scaled ece": 100 * scaled.ece}
                rows.append(named)
    return pd.DataFrame(rows)
