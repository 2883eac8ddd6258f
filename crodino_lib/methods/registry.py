"""The rows a study can name. A new one is its file, its test, one line here and one row of prose."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from crodino_lib.config import RunConfig, choose
from crodino_lib.data.sample import DatasetCard
from crodino_lib.methods.base import Method
from crodino_lib.methods.baseline import Baseline
from crodino_lib.methods.crodino_kd import CroDiNoKD
from crodino_lib.methods.fusion import Fusion


@dataclass(frozen=True)
class MethodEntry:
    """One line of ``crodino list methods``.

    Attributes:
        build: the method's class.
        says: what it is, in one sentence.
        settings: where this row departs from the class's defaults.
    """

    build: type[Method]
    says: str
    settings: dict[str, Any] = field(default_factory=dict)


METHODS: dict[str, MethodEntry] = {
    "baseline": MethodEntry(Baseline, "one network, one sensor, cross-entropy"),
    "early": MethodEntry(Fusion, "fusion teacher: sensors stacked before one encoder"),
    "acnet": MethodEntry(Fusion, "fusion teacher: ACNet's attention, three encoders", {"fusion": "middle"}),
    "late": MethodEntry(Fusion, "fusion teacher: learned weights of two networks' logits", {"fusion": "late"}),
    "crodino-kd": MethodEntry(CroDiNoKD, "teacher-free, disentangled; auxiliary decoder segments (reconstruction)"),
    "crodino-kd-rec": MethodEntry(
        CroDiNoKD, "the same; auxiliary decoder rebuilds the input (reconstruction)", {"auxiliary": "reconstruction"}
    ),
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
