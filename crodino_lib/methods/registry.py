"""The rows a study can name. A new one is its file, its test, one line here and one row of prose."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from crodino_lib.config import RunConfig, choose
from crodino_lib.data.sample import DatasetCard
from crodino_lib.methods.base import Method
from crodino_lib.methods.baseline import Baseline
from crodino_lib.methods.crodino_kd import CroDiNoKD
from crodino_lib.methods.csk_net import CSKNet
from crodino_lib.methods.discom_kd import DisCoMKD
from crodino_lib.methods.distillation import Distillation
from crodino_lib.methods.fusion import CEN, Fusion
from crodino_lib.methods.shaspec import ShaSpec


@dataclass(frozen=True)
class MethodEntry:
    """One line of ``crodino list methods``.

    Attributes:
        build: the method's class.
        description: what it is, in one sentence.
        settings: where this row departs from the class's defaults.
    """

    build: type[Method]
    description: str
    settings: dict[str, Any] = field(default_factory=dict)


METHODS: dict[str, MethodEntry] = {
    "baseline": MethodEntry(Baseline, "one network, one sensor, cross-entropy"),
    "early": MethodEntry(Fusion, "fusion teacher: sensors stacked before one encoder"),
    "acnet": MethodEntry(Fusion, "fusion teacher: ACNet's attention, three encoders", {"fusion": "middle"}),
    "late": MethodEntry(Fusion, "fusion teacher: learned weights of two networks' logits", {"fusion": "late"}),
    "kd": MethodEntry(Distillation, "distillation of every pixel's probabilities at temperature 1, beside the labels"),
    "kd-v1": MethodEntry(
        Distillation, "the same at temperature 4, without labels", {"temperature": 4.0, "cross_entropy_weight": 0.0}
    ),
    "kd-v2": MethodEntry(
        Distillation,
        "the same at temperature 4, labels and teacher by halves",
        {"temperature": 4.0, "cross_entropy_weight": 0.5, "weight": 0.5},
    ),
    "dkd": MethodEntry(
        Distillation,
        "DKD: the right class and the ranking of the wrong ones apart",
        {"loss": "decoupled", "temperature": 4.0},
    ),
    "cwd-logits": MethodEntry(
        Distillation,
        "CWD: where each class's logit is high",
        {"loss": "channels", "temperature": 4.0, "weight": 3.0},
    ),
    "cwd-features": MethodEntry(
        Distillation,
        "CWD: where each channel before the classifier is high",
        {"loss": "features", "temperature": 4.0, "weight": 5.0},  # CIRKD's for SegFormer; at 50 it is 13 times as loud
    ),
    "cirkd": MethodEntry(
        Distillation,
        "CIRKD: likeness of positions across images and to memories",
        {"loss": "relations", "pixel_weight": 1.0, "memory_weight": 0.1},
    ),
    "protokd": MethodEntry(
        Distillation,
        "ProtoKD: likeness of positions to the classes' means",
        {"loss": "prototypes", "weight": 0.1, "pixel_weight": 0.025, "temperature": 10.0},
    ),
    "maskd": MethodEntry(Distillation, "MasKD: logits under masks learned on the teacher", {"loss": "masks"}),
    "mgd": MethodEntry(
        Distillation,
        "MGD: the teacher's features generated from masked ones",
        {"loss": "generation", "weight": 0.001},  # published 1: hundreds of times as loud as cross-entropy here
    ),
    "mgd-cwd": MethodEntry(
        Distillation,
        "the same and CWD on the logits, as its official code",
        {"loss": "generation", "weight": 0.001, "channel_weight": 3.0, "temperature": 4.0},
    ),
    "cen": MethodEntry(CEN, "fusion teacher: CEN, one trunk, channels exchanged by BatchNorm scale"),
    "crodino-kd": MethodEntry(CroDiNoKD, "teacher-free, disentangled; auxiliary decoder segments (reconstruction)"),
    "crodino-kd-rec": MethodEntry(
        CroDiNoKD, "the same; auxiliary decoder rebuilds the input (reconstruction)", {"auxiliary": "reconstruction"}
    ),
    "crodino-c1lin": MethodEntry(
        CroDiNoKD, "crodino-kd; a sensor's private vectors are one class (C1-lin)", {"contrast": "class-pseudo"}
    ),
    "crodino-c1mk": MethodEntry(
        CroDiNoKD, "crodino-kd; private vectors are classes by sensor and label (C1-mk)", {"contrast": "class-private"}
    ),
    "crodino-c2": MethodEntry(CroDiNoKD, "crodino-kd; contrast of whole images (C2)", {"contrast": "image"}),
    "crodino-c3": MethodEntry(CroDiNoKD, "crodino-kd; contrast of tracked points (C3)", {"contrast": "pixel"}),
    "crodino-x2": MethodEntry(
        CroDiNoKD,
        "crodino-kd; auxiliary decoder segments swapped halves, geometry per scene (X2)",
        {"auxiliary": "swap", "augmentation": "paired"},
    ),
    "crodino-d2": MethodEntry(
        CroDiNoKD, "crodino-kd; halves uncorrelated over positions (D2)", {"disentanglement": "frobenius"}
    ),
    "crodino-d3": MethodEntry(CroDiNoKD, "crodino-kd; halves independent by CKA (D3)", {"disentanglement": "cka"}),
    "crodino-paired": MethodEntry(CroDiNoKD, "crodino-kd; geometry per scene", {"augmentation": "paired"}),
    "crodino-noskip": MethodEntry(CroDiNoKD, "crodino-kd; students without skips", {"skip": False}),
    "crodino-queue": MethodEntry(CroDiNoKD, "crodino-kd; regions of earlier batches join the contrast", {"queue": 64}),
    "crodino-plain": MethodEntry(
        CroDiNoKD,
        "crodino-kd without contrast and disentanglement: joint training",
        {"contrast_weight": 0.0, "overlap_weight": 0.0},
    ),
    "crodino-nodis": MethodEntry(CroDiNoKD, "crodino-kd without disentanglement", {"overlap_weight": 0.0}),
    "discom-kd": MethodEntry(DisCoMKD, "teacher-free, disentangled by domain classifiers; two encoders per sensor"),
    "discom-kd-released": MethodEntry(
        DisCoMKD,
        "the same as released: domain targets that do not tell the sensors apart",
        {"domain_labels": "released", "reversal": "constant", "adversarial_weight": 1.0},
    ),
    "discom-kd-1enc": MethodEntry(DisCoMKD, "the same with one encoder per sensor, cut in parts", {"encoders": "one"}),
    "csk-net": MethodEntry(CSKNet, "one network for both sensors or either; shared convolutions (reconstruction)"),
    "csk-hard": MethodEntry(CSKNet, "the same; channels that give way are replaced, as in CEN", {"exchange": "hard"}),
    "csk-noexchange": MethodEntry(CSKNet, "the same without exchange", {"exchange": "none", "sparsity_weight": 0.0}),
    "csk-nogate": MethodEntry(CSKNet, "the same; the fused maps are means", {"gate": "none"}),
    "csk-channelgate": MethodEntry(CSKNet, "the same; a gate per channel", {"gate": "channel"}),
    "csk-fourier": MethodEntry(CSKNet, "the same; a gate on Fourier amplitudes", {"gate": "fourier"}),
    "csk-nocontrast": MethodEntry(CSKNet, "the same without contrast", {"contrast_weight": 0.0}),
    "shaspec": MethodEntry(ShaSpec, "ShaSpec: a shared and a specific encoder per sensor, sensors missing at random"),
}


def teachers() -> list[str]:
    """Rows that can teach: those that need no teacher themselves and answer the sensors they train with together."""
    return [name for name, entry in METHODS.items() if entry.build.can_teach]


def check_run(config: RunConfig, card: DatasetCard) -> None:
    """Check what only method and dataset together can tell.

    Raises:
        ValueError: a sensor the dataset lacks, the wrong number of sensors for the method, a teacher that is missing,
            not wanted, or does not suit.
    """
    for sensor in (*config.sensors, *config.teacher_sensors):
        choose(sensor, card.sensors, f"sensor of {card.name}")
    _check_count(config.method, config.sensors, "trains with")
    taught_by = METHODS[config.method].build.taught_by
    if bool(config.teacher) != bool(taught_by):
        needs = "learns from a teacher: name one" if taught_by else f"has no teacher, given {config.teacher!r}"
        raise ValueError(f"method {config.method!r} {needs}")
    if config.teacher:
        choose(config.teacher, teachers(), "teacher")
        _check_count(config.teacher, config.teacher_sensors, "as a teacher sees")
    if taught_by == "first" and (config.teacher, config.teacher_sensors) != ("baseline", config.sensors[:1]):
        raise ValueError(
            f"method {config.method!r} learns from the baseline of its first sensor, {config.sensors[0]!r}, not from "
            f"{config.teacher!r} of {list(config.teacher_sensors)}"
        )


def _check_count(method: str, sensors: tuple[str, ...], does: str) -> None:
    needed = METHODS[method].build.sensor_count
    if len(set(sensors)) != needed or len(sensors) != needed:
        raise ValueError(f"method {method!r} {does} {needed} sensor{'s' * (needed > 1)}, given {list(sensors)}")


def build_method(config: RunConfig, card: DatasetCard) -> Method:
    """Build a run's method, untrained, from its seed; so is its teacher until ``load_teacher``.

    Raises:
        ValueError: settings the method does not have, or sensors that do not suit it.
    """
    check_run(config, card)
    entry = METHODS[config.method]
    settings = entry.build.Settings.parse({**entry.settings, **config.settings}, where=config.method)
    teacher = build_method(config.parent, card).students["+".join(config.teacher_sensors)] if config.parent else None
    return entry.build(card, config, settings, teacher)
