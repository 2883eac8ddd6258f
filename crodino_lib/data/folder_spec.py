"""State what a folder of your own holds: pictures of every sensor, labels and split lists, laid out as CMX does.

::

    root/dataset.toml   RGB/0001.jpg   Depth/0001.png   Label/0001.png   train.txt   test.txt

``dataset.toml`` states what the files hold; its keys are the fields of ``FolderSpec``. Known layouts are presets and
need none::

    name = "mine"
    classes = ["wall", "floor", "chair"]
    rgb = { dir = "RGB" }
    label = { dir = "Label", offset = -1 }
    splits = { train = "train.txt", test = "test.txt" }
    [sensors.depth]
    dir = "Depth"
    kind = "u16"
    scale = 0.001
    unit = "m"
    invalid = [0]
    mean = [2.8]
    std = [1.4]
"""

import re
import tomllib
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator
from torch import nn

from crodino_lib.data.image_files import ImageFiles, LabelFiles, SensorFiles
from crodino_lib.data.layouts import LayoutError
from crodino_lib.data.sample import IGNORE
from crodino_lib.settings import Names, Strict

PRESETS = tomllib.loads(Path(__file__).with_name("presets.toml").read_text(encoding="utf-8"))
PALETTE = tomllib.loads(Path(__file__).with_name("palette.toml").read_text(encoding="utf-8"))["colours"]


class FolderSpec(Strict):
    """Hold what ``dataset.toml`` states."""

    name: str = Field(pattern=r"^[\w.-]+$")
    title: str = ""
    classes: Names = Field(min_length=2, max_length=IGNORE)
    palette: Names = ()  # one '#rrggbb' per class; empty chooses
    rgb: ImageFiles | None = None  # pictures in colour, where there are any
    sensors: dict[str, SensorFiles] = Field({})
    label: LabelFiles
    # split -> list file; val is taken from train where it is not given; without any, the sub-folders train, val and
    # test are the splits, and where there are none either, test is drawn in whole groups of scenes
    splits: dict[Annotated[str, Field(pattern="^(train|val|test.*)$")], str] = Field({})
    val_fraction: float = Field(0.12, gt=0, lt=1)  # part of train that becomes val where no list is given
    val_run: int | None = Field(None, ge=2)  # longest run of consecutive ids that stays whole when val is taken
    test_fraction: float = Field(0.3, gt=0, lt=1)  # part that becomes test where nothing says which
    homepage: str = ""
    citation: str = ""
    notes: str = ""
    licensed: bool = True

    @property
    def pictures(self) -> dict[str, ImageFiles]:
        """Entry of a sample -> its files: rgb where there is one, the other sensors, the label."""
        return ({"rgb": self.rgb} if self.rgb else {}) | self.sensors | {"label": self.label}

    @field_validator("classes")
    @classmethod
    def _classes(cls, classes: tuple[str, ...]) -> tuple[str, ...]:
        for index, name in enumerate(classes):
            if (first := classes.index(name)) < index:
                raise ValueError(f"classes {first} and {index} are both {name!r}; give each a name of its own")
        return classes

    @field_validator("palette")
    @classmethod
    def _palette(cls, palette: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        count = len(info.data.get("classes", palette))
        palette = palette or tuple(PALETTE * (1 + count // len(PALETTE)))[:count]
        if len(palette) != count or not all(re.fullmatch("#[0-9a-fA-F]{6}", colour) for colour in palette):
            raise ValueError(f"expected one '#rrggbb' for each of the {count} classes")
        return palette

    @field_validator("sensors")
    @classmethod
    def _sensors(cls, sensors: dict[str, SensorFiles], info: ValidationInfo) -> dict[str, SensorFiles]:
        for name, files in sensors.items():
            taken = name in ("rgb", "label", "id") or name.endswith("_valid") or hasattr(nn.ModuleDict, name)
            if taken or not re.fullmatch(r"[A-Za-z][\w-]*", name):
                hint = re.sub(r"[^\w-]", "_", name + "_sensor" * taken)
                raise ValueError(f"{name!r} cannot be the name of a sensor; letters, digits, _ and - can: {hint!r}?")
            channels = files.sensor.channels
            if {len(files.mean), len(files.std)} - {0, channels}:
                raise ValueError(f"mean and std of {name} must be {channels} number(s) each, one per channel")
        if len(sensors) + (info.data.get("rgb") is not None) < 2:
            raise ValueError("a study needs two sensors: rgb and one more, or two others")
        return sensors

    @field_validator("label")
    @classmethod
    def _label(cls, label: LabelFiles, info: ValidationInfo) -> LabelFiles:
        count = len(info.data.get("classes", ()))
        if wrong := [value for value in label.map.values() if value not in (*range(count), IGNORE)]:
            raise ValueError(f"map leads to {wrong[:5]}, expected classes 0..{count - 1} or {IGNORE} (ignore)")
        if never := sorted(set(range(count)) - set(label.classes(count).tolist())):
            names = ", ".join(repr(info.data["classes"][index]) for index in never)
            raise ValueError(f"no id becomes the class {names}: ignore and map leave none; leave it out of classes")
        return label

    @model_validator(mode="after")
    def _different(self) -> Self:
        seen: dict[tuple, str] = {}
        for name, files in self.pictures.items():
            key = (Path(files.dir), files.ext, files.pattern, files.bands)
            if key in seen:
                raise ValueError(f"{seen[key]} and {name} are the same files, those of {files.dir!r}")
            seen[key] = name
        return self

    @field_validator("splits")
    @classmethod
    def _splits(cls, splits: dict[str, str]) -> dict[str, str]:
        if splits and (missing := {"train", "test"} - set(splits)):
            raise ValueError(f"the list file for {' and '.join(sorted(missing))} is not given")
        return splits


class FolderOptions(Strict):
    """Options of a folder of the user."""

    preset: str = Field("", description=f"a known layout instead of a dataset.toml: {', '.join(PRESETS)}")


def read_spec(path: Path) -> FolderSpec:
    """Read a ``dataset.toml``; LayoutError where there is none, ValueError where it is wrong, which names the table."""
    if not path.is_file():
        example = f"{__doc__.split('::')[-1]}\nor name a layout: options preset, one of {', '.join(PRESETS)}"
        raise LayoutError(f"{path} is missing: it states what the files hold, such as\n{example}")
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not saved as UTF-8 ({error})") from error
    except ValueError as error:
        raise ValueError(f"{path} is not TOML: {error}") from error
    tables = values.get("sensors")
    for name, table in tables.items() if isinstance(tables, dict) else ():
        if isinstance(table, dict):  # each on its own, so that an error names its table
            tables[name] = SensorFiles.parse(table, f"{path} [sensors.{name}]")
    return FolderSpec.parse(values, str(path))
