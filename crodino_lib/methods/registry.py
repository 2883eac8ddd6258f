"""The rows a study can name. A new one is its file, its test, one line here and one row of prose."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from crodino_lib.config import RunConfig, choose
from crodino_lib.data.sample import DatasetCard
from crodino_lib.methods.base import Method
from crodino_lib.methods.baseline import Baseline
from crodino_lib.methods.crodino_kd import CroDiNoKD


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
    "crodino-kd": MethodEntry(CroDiNoKD, "teacher-free, disentangled; auxiliary decoder segments (reconstruction)"),
    "crodino-kd-rec": MethodEntry(
        CroDiNoKD, "the same; auxiliary decoder rebuilds the input (reconstruction)", {"auxiliary": "reconstruction"}
    ),
}


def check_run(config: RunConfig, card: DatasetCard) -> None:
    """Check what only method and dataset together can tell.

    Raises:
        ValueError: a sensor the dataset lacks, or the wrong number of sensors for the method.
    """
    for sensor in config.sensors:
        choose(sensor, card.sensors, f"sensor of {card.name}")
    needed = METHODS[config.method].build.sensor_count
    if len(set(config.sensors)) != needed:
        raise ValueError(
            f"method {config.method!r} trains with {needed} sensor{'s' * (needed > 1)}, given {list(config.sensors)}"
        )


def build_method(config: RunConfig, card: DatasetCard) -> Method:
    """Build a run's method, untrained, from its seed.

    Raises:
        ValueError: settings the method does not have, or sensors that do not suit it.
    """
    check_run(config, card)
    entry = METHODS[config.method]
    settings = entry.build.Settings.parse({**entry.settings, **config.settings}, where=config.method)
    return entry.build(card, config, settings)
