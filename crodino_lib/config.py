"""What a run and a study are: strict settings, and errors that name the parameter and the nearest right value."""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

Precision = Literal["auto", "bf16", "fp32"]
DepthEncoding = Literal["raw", "inverse", "log", "normals"]
DepthHoles = Literal["none", "nearest", "constant"]
ThermalEncoding = Literal["raw", "contrast"]
ENCODINGS = ("depth_encoding", "depth_holes", "thermal_encoding")  # of a run: how networks are shown its sensors
# rows of a study that names none: one or two of each kind
TOUR = (
    "baseline",
    "acnet",
    "kd-v2",
    "crodino-kd",
    "crodino-kd-rec",
    "discom-kd",
    "shaspec",
    "csk-net",
)


def home() -> Path:
    """The folder that holds ``notebooks`` and ``results``: ``$CRODINO_HOME``, else the checkout, else here."""
    if chosen := os.environ.get("CRODINO_HOME"):
        return Path(chosen).expanduser().resolve()
    checkout = Path(__file__).resolve().parent.parent
    return checkout if (checkout / "notebooks").is_dir() else Path.cwd()


def cache_dir() -> Path:
    """Where rendered and decoded data is kept: ``$CRODINO_CACHE``, else ``.cache`` in ``home()``."""
    return Path(os.environ.get("CRODINO_CACHE") or home() / ".cache").expanduser().resolve()


def nearest(name: str, allowed: Iterable[str]) -> str:
    """A sentence that proposes the allowed name most like ``name``; empty where none is alike."""
    match = difflib.get_close_matches(str(name), list(allowed), n=1, cutoff=0.5)
    return f" Did you mean {match[0]!r}?" if match else ""


def choose(name: str, allowed: Iterable[str], what: str) -> str:
    """Return ``name`` if it is allowed.

    Raises:
        ValueError: says what was found, what is allowed and the nearest match.
    """
    allowed = list(allowed)
    if name not in allowed:
        raise ValueError(
            f"{what} {name!r} does not exist; it must be one of {', '.join(allowed)}.{nearest(name, allowed)}"
        )
    return name


class Strict(BaseModel):
    """Settings that refuse unknown keys and wrong types with an error a reader can act on."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, validate_default=True)

    @classmethod
    def parse(cls, values: Mapping[str, Any], where: str = "") -> Self:
        """Validate ``values``.

        Args:
            values: parameter name -> value.
            where: put before the error, such as a notebook's name.

        Raises:
            ValueError: one line per parameter: its name, its value, what is allowed and the nearest match.
        """
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            lines = [cls._explain(problem) for problem in error.errors()]
        raise ValueError(f"{where + ': ' if where else ''}" + "\n".join(lines))

    @classmethod
    def _explain(cls, problem: Mapping[str, Any]) -> str:
        path = [str(part) for part in problem["loc"]] or ["settings"]
        name, value = ".".join(path), problem["input"]
        if problem["type"] == "extra_forbidden":
            known = cls._fields_at(path[:-1])
            hint = nearest(path[-1], known)
            return f"there is no parameter {name!r} (given {value!r}).{hint} Known: {', '.join(known) or 'none'}."
        if problem["type"] == "literal_error":
            allowed = [part.strip("'") for part in problem["ctx"]["expected"].replace(" or ", ", ").split(", ")]
            return f"{name} = {value!r} is not allowed: {problem['msg']}.{nearest(value, allowed)}"
        message = problem["msg"].removeprefix("Value error, ")
        hint = ""
        if isinstance(value, str) and value[:1] in "([{":
            hint = " (a list or tuple that arrived as text: pass JSON or YAML, as in -y 'name: [a, b]')"
        return f"{name} = {value!r}: {message}{hint}"

    @classmethod
    def _fields_at(cls, path: list[str]) -> list[str]:
        model: Any = cls
        for part in path:
            annotation = model.model_fields[part].annotation
            model = annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else cls
        return list(model.model_fields)


def parse_size(size: str) -> tuple[int, int]:
    """(width, height) of ``"128x96"``.

    Raises:
        ValueError: not two positive multiples of 16 with an x between.
    """
    width, _, height = size.partition("x")
    if not (width.isdigit() and height.isdigit()) or min(int(width), int(height)) < 32:
        raise ValueError(f"size {size!r} must be WIDTHxHEIGHT in pixels, each at least 32, such as '128x96'")
    if int(width) % 16 or int(height) % 16:
        round_up = f"{-(-int(width) // 16) * 16}x{-(-int(height) // 16) * 16}"
        raise ValueError(
            f"size {size!r} must be multiples of 16, which the networks halve four times; try {round_up!r}"
        )
    return int(width), int(height)


def _listed(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


Names = Annotated[tuple[str, ...], BeforeValidator(_listed)]
Counts = Annotated[tuple[Annotated[int, Field(ge=1)], ...], BeforeValidator(_listed)]


class DataConfig(Strict):
    """Which scenes a run sees, and at which size."""

    dataset: str = Field("rooms", description="name of the dataset: `crodino list datasets`")
    root: str = Field("", description="folder of your copy of the dataset; empty for the built-in one")
    size: str = Field("128x96", description="WIDTHxHEIGHT in pixels that networks see and metrics are computed at")
    scenes: Counts = Field((200, 30, 70), description="scenes for train, val and test")
    limit: bool = Field(False, description="take at most that many scenes per split of a dataset on disk")
    seed: int = Field(0, ge=0, description="seed that rooms are rendered from")
    options: dict[str, Any] = Field(default_factory=dict, description="the dataset's own: `crodino list datasets`")
    depth_encoding: DepthEncoding = Field("raw", description="what networks see of depth, computed from metres")
    depth_holes: DepthHoles = Field(
        "none", description="what they see in its holes: the mean, the nearest value, or 0 m"
    )
    thermal_encoding: ThermalEncoding = Field("raw", description="as measured, or the contrast of each picture")

    @field_validator("dataset")
    @classmethod
    def _known(cls, name: str) -> str:
        from crodino_lib.data.registry import DATASETS  # imports every reader

        return choose(name, DATASETS, "dataset")

    @field_validator("size")
    @classmethod
    def _size(cls, size: str) -> str:
        if size != "native":
            parse_size(size)
        return size

    @field_validator("options")
    @classmethod
    def _options(cls, options: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        from crodino_lib.data.registry import DATASETS  # imports every reader

        if dataset := info.data.get("dataset"):
            DATASETS[dataset].options.parse(options, f"options of {dataset}")
        return options

    @field_validator("scenes")
    @classmethod
    def _three(cls, scenes: tuple[int, ...]) -> tuple[int, ...]:
        if len(scenes) != 3:
            raise ValueError("scenes must be three counts: train, val, test")
        return scenes

    def pixels(self, native_size: tuple[int, int]) -> tuple[int, int]:
        """(width, height) that networks see; a native size is cut to multiples of 16."""
        if self.size != "native":
            return parse_size(self.size)
        width, height = (side // 16 * 16 for side in native_size)
        return parse_size(f"{width}x{height}")  # which also refuses pictures that are too small


class ModelConfig(Strict):
    """The one network that every row of a study uses."""

    encoder: str = Field("tf_efficientnet_lite0", description="any timm encoder with a convolutional feature pyramid")
    weights: str = Field("packaged", description="packaged, hub, none, or the path of a .safetensors file")
    output_stride: Literal[8, 16, 32] = Field(16, description="pixels per cell of the bottleneck")
    atrous_rates: Counts = Field(
        (2, 4, 6), description="dilations of the context; 6, 12, 18 suits pictures of 512 pixels"
    )
    block_channels: int = Field(128, ge=8, description="channels of each half of the bottleneck, shared and private")
    decoder_channels: int = Field(128, ge=8, description="channels of the decoder")


class TrainConfig(Strict):
    """One optimiser, one schedule, one budget for every row."""

    epochs: int = Field(5, ge=1, description="passes over the training split")
    batch_size: int = Field(16, ge=2, description="scenes per step")
    learning_rate: float = Field(1e-3, gt=0, description="peak of the one-cycle schedule, AdamW")
    weight_decay: float = Field(1e-2, ge=0, description="AdamW's")
    warmup: float = Field(0.1, gt=0, lt=1, description="fraction of the steps over which the learning rate rises")
    clip_norm: float = Field(5.0, gt=0, description="largest gradient norm")
    precision: Precision = Field("auto", description="auto takes bf16 where the device computes in it")
    frames: int = Field(6, ge=0, description="moments of the training whose latents are kept for the film; 0 for none")


class RunConfig(Strict):
    """One run: a dataset, a method, its sensors, a seed."""

    method: str = Field(description="row of the table: `crodino list methods`")
    sensors: Names = Field(("rgb", "depth"), description="sensors it trains with")
    seed: int = Field(0, ge=0, description="seed of weights, order and augmentation")
    settings: dict[str, Any] = Field(default_factory=dict, description="the method's own settings, where not default")
    teacher: str = Field("", description="row its teacher is, with that row's default settings; empty for none")
    teacher_sensors: Names = Field((), description="sensors its teacher sees")
    data: DataConfig = Field(default_factory=DataConfig)
    model: ModelConfig = Field(default_factory=ModelConfig)
    train: TrainConfig = Field(default_factory=TrainConfig)

    @field_validator("method")
    @classmethod
    def _known(cls, name: str) -> str:
        from crodino_lib.methods.registry import METHODS  # imports every method

        return choose(name, METHODS, "method")

    @property
    def parent(self) -> RunConfig | None:
        """The run that trains its teacher: same data, network, budget and seed."""
        if not self.teacher:
            return None
        own = {"method": self.teacher, "sensors": self.teacher_sensors, "settings": {}}
        return self.model_copy(update=own | {"teacher": "", "teacher_sensors": ()})


class AnalysisConfig(Strict):
    """How much the laboratory of latents looks at; printed with every result."""

    rows: int = Field(1000, ge=20, description="most rows of any metric; those of kernels cost its square")
    permutations: int = Field(
        200, ge=1, description="permutations of images behind every p-value, at least 1 / (N + 1)"
    )
    shuffles: int = Field(20, ge=1, description="shuffles of factors over scenes behind the chance level of probes")
    steps: int = Field(400, ge=0, description="steps of every perceptron that probes; 0 asks linear probes alone")
    scenes: int = Field(100, ge=2, description="most scenes that are segmented with a half replaced")
    seed: int = Field(0, ge=0, description="seed of samples and shuffles; a model and its nulls see the same rows")


def profiles() -> dict[str, dict[str, Any]]:
    """The profiles, as data: name -> settings."""
    return tomllib.loads((Path(__file__).parent / "profiles.toml").read_text())


class StudyConfig(Strict):
    """A study: what the parameters cell of every notebook sets. ``None`` means the profile's value or the default."""

    study: str = Field(
        "", pattern=r"^(\w[\w.-]*)?$", description="name of its results folder; empty: <dataset>-<profile>"
    )
    profile: str = Field("quick", description="how large: `crodino list profiles`")
    dataset: str = Field("rooms", description="name of the dataset: `crodino list datasets`")
    root: str = Field("", description="folder of your copy of the dataset")
    options: dict[str, Any] = Field(default_factory=dict, description="the dataset's own: `crodino list datasets`")
    depth_encoding: DepthEncoding = Field("raw", description="what networks see of depth, computed from metres")
    depth_holes: DepthHoles = Field(
        "none", description="what they see in its holes: the mean, the nearest value, or 0 m"
    )
    thermal_encoding: ThermalEncoding = Field("raw", description="as measured, or the contrast of each picture")
    sensors: Names = Field(("rgb", "depth"), description="the two sensors of the study")
    methods: Names = Field(TOUR, description="rows: `crodino list methods`")
    teacher: str = Field("acnet", description="row that rows with a teacher learn from; baseline: the other sensor's")
    seeds: int | None = Field(None, ge=1, description="independent repetitions of every run")
    epochs: int | None = Field(None, ge=1, description="passes over the training split")
    size: str | None = Field(None, description="WIDTHxHEIGHT in pixels")
    scenes: Counts | None = Field(None, description="scenes for train, val and test")
    batch_size: int | None = Field(None, ge=2, description="scenes per step")
    encoder: str | None = Field(None, description="any timm encoder with a convolutional feature pyramid")
    weights: str | None = Field(None, description="packaged, hub, none, or the path of a .safetensors file")
    output_stride: Literal[8, 16, 32] | None = Field(None, description="pixels per cell of the bottleneck")
    precision: Precision | None = Field(None, description="auto takes bf16 where the device computes in it")
    frames: int | None = Field(None, ge=0, description="moments of the training kept for the film of the latents")

    @field_validator("profile")
    @classmethod
    def _profile(cls, name: str) -> str:
        return choose(name, profiles(), "profile")

    @field_validator("dataset")
    @classmethod
    def _dataset(cls, name: str) -> str:
        return DataConfig._known(name)

    @field_validator("methods")
    @classmethod
    def _methods(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if not names or len(set(names)) != len(names):
            raise ValueError("name at least one row, and none twice")
        return tuple(RunConfig._known(name) for name in names)

    @field_validator("teacher")
    @classmethod
    def _teacher(cls, name: str) -> str:
        from crodino_lib.methods.registry import teachers

        return choose(name, teachers(), "teacher")

    @field_validator("sensors")
    @classmethod
    def _two(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(names)) != 2 or len(names) != 2:
            raise ValueError("a study compares two different sensors")
        return names

    @field_validator("size")
    @classmethod
    def _size(cls, size: str | None) -> str | None:
        return size if size is None else DataConfig._size(size)

    def _settings(self, model: type[Strict]) -> dict[str, Any]:
        """Values for ``model``: this study's own where given, else the profile's, else the model's default."""
        chosen = {**profiles()[self.profile], **{k: v for k, v in self.model_dump().items() if v is not None}}
        return {name: chosen[name] for name in model.model_fields if name in chosen}

    def data_config(self) -> DataConfig:
        """The scenes that every run of the study sees."""
        return DataConfig.parse(self._settings(DataConfig))

    def run_config(self, method: str, sensors: Iterable[str], seed: int, settings: dict | None = None) -> RunConfig:
        """One run of the study."""
        sensors = tuple(sensors)
        teacher, seen = self._teacher_of(method, sensors)
        return RunConfig.parse(
            {
                "method": method,
                "sensors": sensors,
                "seed": seed,
                "settings": settings or {},
                "teacher": teacher,
                "teacher_sensors": seen,
                "data": self.data_config(),
                "model": ModelConfig.parse(self._settings(ModelConfig)),
                "train": TrainConfig.parse(self._settings(TrainConfig)),
            }
        )

    def _teacher_of(self, method: str, sensors: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
        """The row that teaches ``method`` in this study, and what it sees: one of one sensor sees the other sensor."""
        from crodino_lib.methods.registry import METHODS

        taught_by = METHODS[RunConfig._known(method)].build.taught_by
        if taught_by != "fusion":
            return ("baseline", self.sensors[:1]) if taught_by else ("", ())
        if METHODS[self.teacher].build.sensor_count == 2:
            return self.teacher, self.sensors
        return self.teacher, tuple(sensor for sensor in self.sensors if sensor not in sensors)

    def identity(self) -> dict[str, Any]:
        """What makes it this study and no other: every resolved setting but its rows, its seeds and where data lies."""
        parts = [model.parse(self._settings(model)).model_dump() for model in (DataConfig, ModelConfig, TrainConfig)]
        settings = {name: value for part in parts for name, value in part.items() if name != "root"}
        return {"profile": self.profile, "sensors": self.sensors} | settings

    @property
    def name(self) -> str:
        """Name of the results folder."""
        return self.study or f"{self.dataset}-{self.profile}"

    def budget(self, **given: int) -> AnalysisConfig:
        """What the laboratory of latents looks at: as ``given``, else as the profile has it, else the default."""
        return AnalysisConfig.parse(profiles()[self.profile].get("laboratory", {}) | given)

    @property
    def seed_list(self) -> range:
        """Seeds of every row."""
        return range(self.seeds or profiles()[self.profile]["seeds"])
