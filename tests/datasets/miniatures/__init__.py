"""Writers of bit-compatible miniatures: the real names, trees and types of published datasets."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Reader:
    """A miniature: its writer, a scene, one file of every entry of that scene, and options."""

    write: Callable[[Path], Path]
    scene: str
    files: tuple[str, ...]
    options: dict = field(default_factory=dict)
    of_a_tile: bool = False  # files of several scenes are opened, and their headers read, with the dataset
