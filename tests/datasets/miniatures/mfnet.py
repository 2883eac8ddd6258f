"""MFNet, 48x36 pixels small: real names, trees, types and compression."""

from pathlib import Path

import numpy as np
from PIL import Image

from miniatures import Reader

HEIGHT, WIDTH = 36, 48
TRAIN = ["00001D", "00002D", "00010D", "00020D", "00033D", "00047D", "00093D", "00094D", "00108N", "00110N", "00120N"]
VAL = ["00131D", "00133N", "00140N"]
TEST = ["00150D", "00151D", "00160N", "00164N", "00170D"]
LISTS = {
    "train": TRAIN,
    "val": VAL,
    "test": TEST,
    "test_day": [stem for stem in TEST if stem[-1] == "D"],
    "test_night": [stem for stem in TEST if stem[-1] == "N"],
}


def scene(stem: str) -> tuple[np.ndarray, np.ndarray]:
    """(36, 48, 4) uint8 of red down, green right, blue and thermal by the stem, and (36, 48) uint8 ids 0..8."""
    row, column = np.mgrid[:HEIGHT, :WIDTH]
    number = int(stem[:5])
    thermal = (5 * row + column + number) % 256
    picture = np.stack([40 + 4 * row, 60 + 3 * column, np.full_like(row, number % 200), thermal], axis=-1)
    picture[2:14, 4:30, 3] = 0  # cold: as an opacity it would be clear
    picture[14:20, 4:30, 3] = 3
    label = (row // 6 + column // 8 + number) % 9
    if stem.endswith("_flip"):
        picture, label = picture[:, ::-1], label[:, ::-1]
    return np.ascontiguousarray(picture).astype(np.uint8), np.ascontiguousarray(label).astype(np.uint8)


def write(root: Path, layout: str = "original", lists: dict[str, list[str]] = LISTS) -> Path:
    """A copy in one of the trees it is handed on in.

    Args:
        root: where to.
        layout: original, CMX, Sigma, CMNeXt or SemanticRT.
        lists: name of a list -> stems; pictures are written of all.
    """
    for stem in sorted({stem for stems in lists.values() for stem in stems}):
        picture, label = scene(stem)
        grey3 = picture[..., 3:].repeat(3, axis=2)
        rgb, thermal = picture[..., :3], picture[..., 3]
        files = {
            "original": {f"images/{stem}.png": picture, f"labels/{stem}.png": label},
            "CMX": {f"RGB/{stem}.png": rgb, f"Thermal/{stem}.png": thermal, f"Label/{stem}.png": label},
            "Sigma": {f"RGB/{stem}.png": rgb, f"Modal/{stem}.png": grey3, f"Label/{stem}.png": label},
            "CMNeXt": {f"rgb/{stem}.jpg": rgb, f"ther/{stem}.jpg": grey3, f"labels/{stem}.png": label},
            "SemanticRT": {
                f"seperated_images/{stem}_rgb.png": rgb,
                f"seperated_images/{stem}_th.png": thermal,
                f"labels/{stem}.png": label,
            },
        }[layout]
        for name, pixels in files.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
    for name, stems in lists.items():
        (root / f"{name}.txt").write_text("\n".join(stems) + "\n")
    return root


READERS = {
    "mfnet": Reader(write, "00002D", ("images/00002D.png", "labels/00002D.png")),
}
