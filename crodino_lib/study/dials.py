"""Describe dials: a setting that is turned, a value at a time, and what was predicted of it; ``dials.toml`` lists them.

Each value is a study of its own in a folder beside that of the base, or the base itself; ``dial_runs`` trains them.
"""

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from crodino_lib.config import StudyConfig
from crodino_lib.data.registry import DATASETS
from crodino_lib.settings import Names, Strict, as_tuple, choose

BRIEF = ("baseline", "self-training", "kd")  # enough for one gain over both controls


class Dial(Strict):
    """A setting that is turned, and what was predicted of the gain before it was."""

    name: str
    title: str = Field(description="what the setting is, for the axis of a figure")
    setting: str = Field(description="setting of a study, or options.NAME")
    values: tuple[Any, ...]
    headline: tuple[Any, ...] = Field((), description="values that are trained first, with all seeds; all if empty")
    students: Names = Field(description="sensors whose students are compared")
    settings: dict[str, Any] = Field(default_factory=dict, description="settings of its points other than the base's")
    prediction: str
    source: str
    reference: str = Field("", description="method that all others are compared with as well, in an ablation")
    groups: dict[str, dict[str, str]] = Field(
        default_factory=dict, description="its methods: heading in a figure -> method -> what the figure calls it"
    )

    @model_validator(mode="before")
    @classmethod
    def _train_all_groups(cls, given: dict[str, Any]) -> dict[str, Any]:
        if not (groups := given.get("groups")):
            return given
        methods = ["baseline", *(name for group in groups.values() for name in group)]
        return given | {"settings": given.get("settings", {}) | {"methods": methods}}

    @property
    def built_in(self) -> bool:
        """Whether it needs no copy of a dataset."""
        return not DATASETS[self.settings.get("dataset", "rooms")].needs_root

    @property
    def brief(self) -> "Dial":
        """The dial at its headline values with the methods of ``BRIEF`` alone, as a study turns it."""
        own = [name for name in self.settings.get("methods", BRIEF) if name in BRIEF]
        settings = self.settings | {"methods": own}
        return self.model_copy(update={"values": self.headline or self.values, "settings": settings})

    def config(self, value: Any, base: StudyConfig, root: str = "") -> StudyConfig:
        """Return the study of one value; it has the name of ``base`` where it differs from it in no setting.

        Args:
            value: one of ``values``.
            base: the study in which the dial is not turned.
            root: folder of your copy of the dial's dataset, which training needs where it is not the built-in one.
        """
        flat = base.flat() | self.settings | ({"root": root} if root and not self.built_in else {})
        options, (where, _, name) = dict(flat.get("options", {})), self.setting.rpartition(".")
        (options if where else flat)[name] = value
        dataset = DATASETS[flat.get("dataset", base.data.dataset)]
        flat["options"] = dataset.options.parse(options).model_dump(exclude_defaults=True)
        config = StudyConfig.parse({**flat, "study": base.name})
        if config.identity() == base.identity():
            return config
        return StudyConfig.parse({**flat, "study": f"{base.name}-{self.name}-{value}"})


_TABLES = tomllib.loads(Path(__file__).with_name("dials.toml").read_text())
BASE: dict[str, Any] = _TABLES["base"]  # settings of the base of the reference
DIALS = {
    name: Dial(name=name, **{key: as_tuple(value) for key, value in table.items()})
    for name, table in _TABLES["dials"].items()
}


def check_dials(names: Sequence[str]) -> None:
    """Raise ValueError for a dial that does not exist; proposes the nearest."""
    for name in names:
        choose(name, DIALS, "dial")


def choose_dials(names: Sequence[str], root: str = "") -> list[Dial]:
    """Return the dials of these names, all on the built-in dataset where there are none.

    ValueError proposes the nearest name, and names the dials that need ``root``.
    """
    check_dials(names)
    chosen = [DIALS[name] for name in names] or [dial for dial in DIALS.values() if dial.built_in]
    if needing := [dial for dial in chosen if not dial.built_in and not root]:
        raise ValueError(f"dial {needing[0].name!r} needs root, your copy of {needing[0].settings['dataset']}")
    return chosen
