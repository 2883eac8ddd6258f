"""Define the settings of runs and studies, and where results and data go."""

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, field_validator
from pydantic.fields import FieldInfo

from crodino_lib.settings import Counts, Names, Strict, as_tuple, choose, collect, nearest

TRAINING_VERSION = 3  # raise it when training, augmentation or the reading of scenes computes something else
TOUR = ("baseline", "acnet", "self-training", "kd", "crodino-kd", "csk-net")  # methods of a study that names none


def home() -> Path:
    """Return the folder that holds ``notebooks`` and ``results``: ``$CRODINO_HOME``, else the checkout, else here."""
    if chosen := os.environ.get("CRODINO_HOME"):
        return Path(chosen).expanduser().resolve()
    checkout = Path(__file__).resolve().parent.parent
    return checkout if (checkout / "notebooks").is_dir() else Path.cwd()


def cache_dir() -> Path:
    """Return the folder of rendered and decoded data: ``$CRODINO_CACHE``, else ``.cache`` in ``home()``."""
    return Path(os.environ.get("CRODINO_CACHE") or home() / ".cache").expanduser().resolve()


def find_study(name: str) -> Path:
    """Return the folder of a study by its name in ``results/local`` or its path; ValueError proposes the nearest."""
    if (Path(name) / "study.json").is_file():
        return Path(name).resolve()
    results = home() / "results" / "local"
    begun = sorted(file.parent.name for file in results.glob("*/study.json") if len([*file.parent.iterdir()]) > 1)
    if not begun:
        raise ValueError(f"there is no study in {results} yet; begin one: crodino study")
    if Path(name).is_dir() and name not in begun:
        raise ValueError(f"{name} holds no study.json; give the folder of a study, or one of {', '.join(begun)}")
    return results / choose(name, begun, "study")


def parse_size(size: str) -> tuple[int, int]:
    """Return (width, height) of ``"128x96"``; ValueError where it is not two multiples of 16 with an x between."""
    sides = [int(side) if side.isdigit() else 0 for side in size.split("x")]
    if len(sides) != 2 or min(sides) < 32:
        raise ValueError(f"size {size!r} must be 'native', or WIDTHxHEIGHT of at least 32 pixels, such as '128x96'")
    if any(side % 16 for side in sides):
        rounded = "x".join(str(-(-side // 16) * 16) for side in sides)
        raise ValueError(f"size {size!r} must be multiples of 16, which the networks halve four times; try {rounded!r}")
    return sides[0], sides[1]


class DataConfig(Strict):
    """Settings that choose the scenes of a run and their size."""

    dataset: str = Field("rooms", description="name of the dataset: `crodino list datasets`")
    root: str = Field("", description="folder of your copy of the dataset; empty for the built-in one")
    size: str = Field("128x96", description="WIDTHxHEIGHT, or native: pixels that networks see and metrics use")
    scenes: Counts = Field((200, 30, 70), description="scenes for train, val and test")
    labelled: int | None = Field(
        None, ge=1, description="training scenes with labels, the others are unlabelled pairs; all: every one"
    )
    limit: bool = Field(False, description="take at most `scenes` scenes per split of a dataset on disk")
    scene_seed: int = Field(0, ge=0, description="seed that rooms are rendered from")
    options: dict[str, Any] = Field(default_factory=dict, description="options of the dataset, as NAME=VALUE,...")
    depth_encoding: Literal["raw", "inverse", "log", "normals"] = Field(
        "raw", description="what networks see of depth, computed from metres"
    )
    depth_holes: Literal["none", "nearest", "constant"] = Field(
        "none", description="fill value for missing depth: the mean, the nearest value, or 0 m"
    )
    thermal_encoding: Literal["raw", "contrast"] = Field(
        "raw", description="thermal as measured, or relative to the mean and deviation of each picture"
    )

    @field_validator("labelled", mode="before")
    @classmethod
    def _all(cls, labelled: Any) -> Any:
        return None if labelled == "all" else labelled  # None stands for what is not given, as in a profile

    @field_validator("size")
    @classmethod
    def _size(cls, size: str) -> str:
        if size != "native":
            parse_size(size)
        return size

    @field_validator("scenes")
    @classmethod
    def _three(cls, scenes: tuple[int, ...]) -> tuple[int, ...]:
        if len(scenes) != 3:
            raise ValueError("scenes must be three counts: train, val, test")
        return scenes

    @property
    def encodings(self) -> dict[str, str]:
        """Settings of what networks see of depth and thermal that are not the default."""
        names = ("depth_encoding", "depth_holes", "thermal_encoding")
        return {name: value for name in names if (value := getattr(self, name)) not in ("raw", "none")}

    def check_labelled(self, scenes: int, classes: int) -> None:
        """Raise ValueError where ``labelled`` is more than the training scenes, or fewer than the classes."""
        if self.labelled is None or classes <= self.labelled <= scenes:
            return
        wrong = f"more than the {scenes} training scenes" if self.labelled > scenes else f"fewer than {classes} classes"
        fits = f"give {classes} to {scenes}" if classes <= scenes else f"give more than {scenes} training scenes"
        hint = f"{fits}, or 'all': then every training scene carries labels"
        raise ValueError(f"labelled {self.labelled} is {wrong}; {hint}")

    def pixels(self, native_size: tuple[int, int]) -> tuple[int, int]:
        """Return (width, height) that networks see; a native size is cut to multiples of 16."""
        if self.size != "native":
            return parse_size(self.size)
        width, height = (side // 16 * 16 for side in native_size)
        return parse_size(f"{width}x{height}")  # which also refuses pictures that are too small


class ModelConfig(Strict):
    """Settings of the one network that every method of a study uses."""

    encoder: str = Field("tf_efficientnet_lite0", description="any timm encoder with a convolutional feature pyramid")
    weights: str = Field("packaged", description="packaged, hub, none, or the path of a .safetensors file")
    output_stride: Literal[8, 16, 32] = Field(16, description="pixels per cell of the bottleneck")
    dilate: bool = Field(True, description="dilate the encoder's stages beyond that stride; false leaves them out")
    atrous_rates: Counts = Field(
        (2, 4, 6), description="dilations of the context; 6, 12, 18 suits pictures of 512 pixels"
    )
    block_channels: int = Field(128, ge=8, description="channels of each half of the bottleneck, shared and private")
    decoder_channels: int = Field(128, ge=8, description="channels of the decoder")


class TrainConfig(Strict):
    """Settings of the one optimiser, schedule and budget of every method."""

    epochs: int = Field(5, ge=1, description="passes over the training split; a validation ends each")
    steps: int | None = Field(
        None, ge=1, description="steps in all, with `epochs` validations at even distances; none: those of the passes"
    )
    batch_size: int = Field(16, ge=2, description="scenes per step; with `labelled`, half of them carry labels")
    learning_rate: float = Field(1e-3, gt=0, description="peak of the one-cycle schedule, AdamW")
    weight_decay: float = Field(1e-2, ge=0, description="weight decay of AdamW")
    warmup: float = Field(0.1, gt=0, lt=1, description="fraction of the steps over which the learning rate rises")
    clip_norm: float = Field(5.0, gt=0, description="largest gradient norm")
    precision: Literal["auto", "bf16", "fp32"] = Field(
        "auto", description="auto takes bf16 where the device has bf16 arithmetic"
    )
    frames: int = Field(6, ge=0, description="epochs whose latents are saved for the film of notebook 15; 0 for none")


class RunConfig(Strict):
    """Settings of one run: a dataset, a method, its sensors, a seed."""

    method: str = Field(description="name of the method: `crodino list methods`")
    sensors: Names = Field(("rgb", "depth"), description="sensors it trains with")
    seed: int = Field(0, ge=0, description="seed of weights, order and augmentation")
    settings: dict[str, Any] = Field(default_factory=dict, description="settings of the method that are not default")
    teacher: str = Field("", description="method of its teacher, with default settings; empty for none")
    teacher_sensors: Names = Field((), description="sensors its teacher sees")
    data: DataConfig = Field(default_factory=DataConfig)
    model: ModelConfig = Field(default_factory=ModelConfig)
    train: TrainConfig = Field(default_factory=TrainConfig)

    @property
    def parent(self) -> "RunConfig | None":
        """The run that trains its teacher: same data, network, budget and seed."""
        if not self.teacher:
            return None
        own = {"method": self.teacher, "sensors": self.teacher_sensors, "settings": {}}
        return self.model_copy(update={**own, "teacher": "", "teacher_sensors": ()})


def profiles() -> dict[str, dict[str, Any]]:
    """Return the profiles: name -> settings."""
    return tomllib.loads((Path(__file__).parent / "profiles.toml").read_text())


class StudyConfig(Strict):
    """Settings of a study: its own, and those that all its runs share.

    Users give flat settings (``epochs = 20``), in a notebook's parameters cell, by papermill or on the command line;
    ``parse`` takes what is not given, or None, from the profile and then from the defaults.
    """

    study: str = Field(
        "",
        pattern=r"^(\w[\w.-]*)?$",
        description="name of its results folder; empty: <dataset>-<profile>, of a folder its own name",
    )
    profile: str = Field("quick", description="size of the study: `crodino list profiles`")
    sensors: Names = Field(("rgb", "depth"), description="the two sensors of the study")
    methods: Names = Field(TOUR, description="methods, as NAME or NAME:VARIANT: `crodino list methods`")
    teacher: str = Field("acnet", description="method of the teachers; baseline: the other sensor's baseline")
    dials: Names = Field((), description="dials that it turns at their headline values: `crodino list dials`")
    seeds: int = Field(1, ge=1, description="number of independent repetitions of every run: 2 for the seeds 0 and 1")
    data: DataConfig = Field(default_factory=DataConfig)
    model: ModelConfig = Field(default_factory=ModelConfig)
    train: TrainConfig = Field(default_factory=TrainConfig)
    given: dict[str, Any] = Field(default_factory=dict, description="the flat settings as they were given")

    @classmethod
    def settings(cls) -> dict[str, FieldInfo]:
        """Return every flat setting: name -> its pydantic field."""
        own = {name: field for name, field in cls.model_fields.items() if name not in (*_PARTS, "given")}
        return own | {name: field for part in _PARTS.values() for name, field in part.model_fields.items()}

    @classmethod
    def parse(cls, values: Mapping[str, Any], where: str = "") -> Self:
        """Validate flat settings; see ``Strict.parse``."""
        known, wrong = cls.settings(), []
        given = {name: as_tuple(value) for name, value in values.items() if value is not None}
        for name in [name for name in given if name not in known]:
            hint = f"{nearest(name, known)} Known: {', '.join(known)}."
            wrong.append(f"there is no parameter {name!r} (given {given.pop(name)!r}).{hint}")
        with collect(wrong):
            choose(given.get("profile", "quick"), profiles(), "profile")
        profile = profiles().get(str(given.get("profile", "quick")), {})
        profile |= profile.get(str(given.get("dataset", "rooms")), {})  # its settings on one dataset
        defaults = {name: field.get_default(call_default_factory=True) for name, field in known.items()}
        usual = {name: as_tuple(profile.get(name, default)) for name, default in defaults.items()}
        chosen, changed = usual | given, {name: value for name, value in given.items() if value != usual[name]}
        parts = {}
        for part, model in _PARTS.items():
            with collect(wrong):
                parts[part] = model.parse({name: chosen.pop(name) for name in model.model_fields})
        with collect(wrong):
            config = super().parse({**chosen, **parts, "given": changed})
        if wrong:
            raise ValueError(f"{where + ': ' if where else ''}" + "\n".join(wrong))
        return config

    @field_validator("methods")
    @classmethod
    def _methods(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if not names or len(set(names)) != len(names):
            raise ValueError("name at least one method, and none twice")
        return names

    @field_validator("sensors")
    @classmethod
    def _two(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(names)) != 2 or len(names) != 2:
            raise ValueError("a study compares two different sensors")
        return names

    def identity(self) -> dict[str, Any]:
        """Return every setting that makes it this study: all but its methods, its seeds and where data lies."""
        shared = {name: value for part in _PARTS for name, value in getattr(self, part).model_dump().items()}
        del shared["root"]
        return {"profile": self.profile, "sensors": self.sensors} | shared

    def flat(self) -> dict[str, Any]:
        """Return the flat settings that ``parse`` makes this study from."""
        own = {"study": self.study, "profile": self.profile}
        return own | {name: list(value) if isinstance(value, tuple) else value for name, value in self.given.items()}

    @property
    def name(self) -> str:
        """Name of the results folder."""
        return self.study or f"{self.data.dataset}-{self.profile}"

    @property
    def seed_list(self) -> range:
        """Seeds of every method."""
        return range(self.seeds)

    def caveat(self) -> str:
        """Return the sentence about the profile that is printed with every result."""
        own = ("study", "profile", "dataset", "root", "sensors", "methods", "teacher", "dials")
        changed = [f"{name} {value}" for name, value in self.given.items() if name not in own]
        if changed:  # whatever the profile promises, this is not it
            return f"Profile {self.profile}, changed: {', '.join(changed)}."
        return f"Profile {self.profile}: {profiles()[self.profile]['description']}."


_PARTS = {"data": DataConfig, "model": ModelConfig, "train": TrainConfig}
