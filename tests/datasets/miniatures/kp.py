"""KP day-night, 40x32 pixels small: the 950 published ids, real trees, types and compression."""

from pathlib import Path

import numpy as np
from PIL import Image

from miniatures import Reader

HEIGHT, WIDTH = 32, 40
FRAMES = {  # set -> step, then (video, first, last) of its labelled frames, as the published lists name them
    "set00": (
        203,
        [
            *[(0, 50, 2080), (1, 50, 2689), (2, 50, 2486), (3, 50, 1471), (4, 50, 1877)],
            *[(5, 50, 1471), (6, 50, 1065), (7, 50, 1471), (8, 50, 1877)],
        ],
    ),
    "set01": (80, [(0, 50, 2210), (1, 50, 1090), (2, 50, 1330), (3, 50, 1250), (4, 50, 1570), (5, 50, 290)]),
    "set02": (106, [(0, 50, 1852), (1, 50, 1852), (2, 50, 1322), (3, 50, 898), (4, 50, 1640)]),
    "set03": (67, [(0, 50, 4338), (1, 50, 2261)]),
    "set04": (80, [(0, 50, 1410), (0, 2450, 3970), (1, 50, 1330), (1, 1890, 3170)]),
    "set05": (43, [(0, 50, 2888)]),
    "set06": (203, [(0, 50, 1471), (1, 50, 2283), (2, 50, 1674), (3, 50, 4110), (4, 50, 2689)]),
    "set07": (80, [(0, 50, 2530), (1, 50, 3970), (2, 50, 1570)]),
    "set08": (106, [(0, 50, 2488), (1, 50, 2912), (2, 50, 2488)]),
    "set09": (67, [(0, 50, 3467)]),
    "set10": (80, [(0, 50, 690), (0, 1730, 1890), (0, 3090, 4370), (1, 370, 1250), (1, 1410, 4130)]),
    "set11": (43, [(0, 50, 1985), (1, 50, 1512)]),
}
IDS = [
    f"{name}/V{video:03d}/I{frame:05d}"
    for name, (step, videos) in FRAMES.items()
    for video, first, last in videos
    for frame in range(first, last + 1, step)
]
FEW = [next(scene_id for scene_id in IDS if scene_id.startswith(name)) for name in FRAMES]  # the first of each set
NIGHT = ("set03", "set04", "set05", "set09", "set10", "set11")


def scene(scene_id: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(32, 40, 3) uint8 colours, (32, 40) uint8 thermal, (32, 40) uint8 ids 0..18, 19 and 255."""
    row, column = np.mgrid[:HEIGHT, :WIDTH]
    seed = int(scene_id[3:5])
    rgb = np.stack([20 + 6 * row, 30 + 5 * column, np.full_like(row, 10 * seed)], axis=-1)
    label = (row // 4 + column // 4 + seed) % 20
    label[:3] = 255
    return rgb.astype(np.uint8), (4 * row + 2 * column + seed).astype(np.uint8), label.astype(np.uint8)


def write(root: Path, layout: str = "KAIST", ids: list[str] = FEW) -> Path:
    """A copy in one of its two trees, with a picture that has no label and lists that are not read.

    Args:
        root: where to.
        layout: MS-UDA or KAIST.
        ids: of the scenes.
    """
    for scene_id in ids:
        name, video, frame = scene_id.split("/")
        rgb, thermal, label = scene(scene_id)
        grey3 = np.repeat(thermal[..., None], 3, axis=2)
        if layout == "MS-UDA":
            light = "night" if name in NIGHT else "day"
            stem = f"{name}_{video}"
            folder = f"pseudo_KP/val_{light}/{stem}"
            files = {
                f"{folder}_visible_{frame}.png": rgb,
                f"{folder}_lwir_{frame}.png": grey3,
                f"{folder}_{frame}_pseudo.png": label,
                f"{folder}_{frame}pred.png": rgb,
                f"pseudo_KP/{light}/{stem}_visible_I00001.png": rgb,
                f"pseudo_KP/{light}/{stem}_lwir_I00001.png": grey3,
                f"labels/val_{light}/{stem}_{frame}.png": label,
                f"labels/visualize/{stem}_{frame}.png": rgb,
            }
        else:
            folder = f"images/{name}/{video}"
            files = {
                f"{folder}/visible/{frame}.jpg": rgb,
                f"{folder}/lwir/{frame}.jpg": grey3,
                f"{folder}/visible/I00001.jpg": rgb,
                f"{folder}/lwir/I00001.jpg": grey3,
                f"labels/{name}_{video}_{frame}.png": label,
            }
        for file, pixels in files.items():
            path = root / file
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
    stems = [scene_id.replace("/", "_") + ".png" for scene_id in ids]
    (root / "train.txt").write_bytes("\r\n".join(stems).encode())
    return root


READERS = {
    "kp": Reader(
        write,
        "set06/V000/I00050",
        ("images/set06/V000/visible/I00050.jpg", "images/set06/V000/lwir/I00050.jpg", "labels/set06_V000_I00050.png"),
    ),
}
