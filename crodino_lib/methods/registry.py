"""Look up, check and build the methods that ``methods.toml`` lists."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crodino_lib.config import RunConfig
from crodino_lib.settings import choose, load_object

if TYPE_CHECKING:  # torch is imported when a method is built, not when its name is checked
    from crodino_lib.data.sample import DatasetCard
    from crodino_lib.methods.base import Method


@dataclass(frozen=True)
class MethodEntry:
    """An entry of ``methods.toml``."""

    path: str  # module and class of the method below ``crodino_lib.methods``
    title: str  # as figures print it
    family: str  # control, fusion (of both sensors at test), distillation (from a teacher) or teacher-free
    description: str
    settings: dict[str, Any] = field(default_factory=dict)  # those that differ from the defaults of the class

    @property
    def build(self) -> type[Method]:
        """The class of the method."""
        return load_object(f"crodino_lib.methods.{self.path}")


_TABLES = tomllib.loads(Path(__file__).with_name("methods.toml").read_text())
METHODS = {name: MethodEntry(**entry) for name, entry in _TABLES["methods"].items()}
VARIANTS: dict[str, dict[str, dict[str, Any]]] = _TABLES["variants"]  # method -> variant -> description, settings


def parse_method(name: str) -> tuple[str, dict[str, Any]]:
    """Return the method and the settings that ``METHOD`` or ``METHOD:VARIANT`` names; ValueError has the nearest."""
    method, colon, variant = name.partition(":")
    choose(method, METHODS, "method")
    if not colon:
        return method, {}
    known = VARIANTS.get(method, {})
    if not known:
        raise ValueError(f"method {method!r} has no variants, given {variant!r}; {', '.join(VARIANTS)} have")
    return method, known[choose(variant, known, f"variant of {method}")]["settings"]


def method_name(method: str, settings: dict[str, Any]) -> str:
    """Return the name of a method with its settings in tables: ``crodino-kd:c2``, or ``crodino-kd (queue=8)``."""
    if not settings:
        return method
    named = [variant for variant, entry in VARIANTS.get(method, {}).items() if entry["settings"] == settings]
    if named:
        return f"{method}:{named[0]}"
    return f"{method} ({', '.join(f'{name}={value}' for name, value in sorted(settings.items()))})"


def method_title(name: str) -> str:
    """Return a name of tables as figures print it: ``crodino-kd:c2`` as CroDiNo-KD c2; other names as they are."""
    method = re.split(r"[: ,]", name, maxsplit=1)[0]
    return METHODS[method].title + name.removeprefix(method).replace(":", " ", 1) if method in METHODS else name


def teachers() -> list[str]:
    """Return the methods that can teach: without a teacher themselves, with one student of all their sensors."""
    return [name for name, entry in METHODS.items() if entry.build.can_teach]


def teacher_of(method: str, sensors: tuple[str, ...], both: tuple[str, ...], chosen: str) -> tuple[str, tuple]:
    """Return the method of a run's teacher and the sensors it sees; empty where the run's method has none.

    ``chosen`` is the study's teacher, of ``both`` its sensors, or of the one that the run's students lack.
    """
    taught_by = METHODS[method].build.taught_by
    if taught_by != "fusion":
        return ("baseline", sensors[:1]) if taught_by else ("", ())
    sees_both = METHODS[chosen].build.sensor_count == 2
    return chosen, both if sees_both else tuple(sensor for sensor in both if sensor not in sensors)


def check_methods(names: Iterable[str], teacher: str) -> None:
    """Raise ValueError for an unknown method, variant or teacher of a study, without importing torch."""
    for name in names:
        parse_method(name)
    choose(teacher, METHODS, "teacher")


def check_run(config: RunConfig, card: DatasetCard) -> None:
    """Raise ValueError for sensors that the dataset lacks or too many or few for the method, or an unfit teacher."""
    choose(config.method, METHODS, "method")
    for sensor in (*config.sensors, *config.teacher_sensors):
        choose(sensor, card.sensors, f"sensor of {card.name}")
    taught_by = METHODS[config.method].build.taught_by
    if bool(config.teacher) != bool(taught_by):
        needs = "learns from a teacher: name one" if taught_by else f"has no teacher, given {config.teacher!r}"
        raise ValueError(f"method {config.method!r} {needs}")
    counted = [(config.method, config.sensors, "trains with")]
    if config.teacher:
        choose(config.teacher, teachers(), "teacher")
        counted.append((config.teacher, config.teacher_sensors, "as a teacher sees"))
    for method, sensors, does in counted:
        needed = METHODS[method].build.sensor_count
        if not len(set(sensors)) == len(sensors) == needed:
            raise ValueError(f"method {method!r} {does} {needed} sensor{'s' * (needed > 1)}, given {list(sensors)}")
    if taught_by == "first" and (config.teacher, config.teacher_sensors) != ("baseline", config.sensors[:1]):
        given = f"{config.teacher!r} of {list(config.teacher_sensors)}"
        needs = f"learns from the baseline of its first sensor, {config.sensors[0]!r}, not from {given}"
        raise ValueError(f"method {config.method!r} {needs}")


def build_method(config: RunConfig, card: DatasetCard) -> Method:
    """Build a run's method, untrained, from its seed, and so its teacher; ValueError for settings it does not have."""
    check_run(config, card)
    entry = METHODS[config.method]
    settings = entry.build.Settings.parse({**entry.settings, **config.settings}, where=config.method)
    teacher = build_method(config.parent, card).students["+".join(config.teacher_sensors)] if config.parent else None
    return entry.build(card, config, settings, teacher)
