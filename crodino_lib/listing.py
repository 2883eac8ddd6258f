"""Print methods, datasets, profiles and parameters, and the settings of each."""

import typing
from typing import Any

from crodino_lib.config import StudyConfig, profiles
from crodino_lib.data.registry import DATASETS
from crodino_lib.methods.registry import METHODS, VARIANTS
from crodino_lib.settings import choose
from crodino_lib.study.dials import DIALS

ENTRIES = {"methods": METHODS, "datasets": DATASETS}


def print_list(what: str, name: str = "") -> None:
    """Print all methods, datasets, profiles, parameters or dials, or the settings of the one that is named."""
    if what in ("profiles", "parameters"):
        known = profiles() if what == "profiles" else StudyConfig.settings()
        known = {choose(name, known, what.removesuffix("s")): known[name]} if name else known
    if what == "profiles":
        for name, profile in known.items():
            settings = ", ".join(f"{key} {value}" for key, value in profile.items() if key != "description")
            print(f"{name:8} {profile['description']}\n{'':8} {settings}")
    elif what == "dials":
        for dial in [DIALS[choose(name, DIALS, "dial")]] if name else DIALS.values():
            print(
                f"{dial.name:18} {dial.title}: {', '.join(map(str, dial.values))}\n{'':18} predicted: {dial.prediction}"
            )
    elif what == "parameters":
        _print_settings(known, {})
    elif name:
        _list_one(what, name)
    else:
        for name, entry in ENTRIES[what].items():
            family = f"{entry.family:13}" if what == "methods" else ""
            print(f"{name:18} {family}{entry.description}")
        print(f"\nsettings of one: crodino list {what} NAME")


def _list_one(what: str, name: str) -> None:
    entry = ENTRIES[what][choose(name, ENTRIES[what], what.removesuffix("s"))]
    print(f"{name}: {entry.description}")
    if what == "datasets":
        _print_settings(entry.options.model_fields, {})
        return
    _print_settings(entry.build.Settings.model_fields, entry.settings)
    for variant, named in VARIANTS.get(name, {}).items():
        settings = ", ".join(f"{key} = {value!r}" for key, value in named["settings"].items())
        print(f"  {name}:{variant:20} {named['description']} ({settings})")


def _print_settings(fields: dict[str, Any], chosen: dict[str, Any]) -> None:
    for name, field in fields.items():
        allowed = typing.get_args(field.annotation) if typing.get_origin(field.annotation) is typing.Literal else ()
        choices = f" ({', '.join(map(str, allowed))})" if allowed else ""
        default = chosen.get(name, field.get_default(call_default_factory=True))
        print(f"  {name} = {default!r}{choices}: {field.description}")
