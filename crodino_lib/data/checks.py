"""Check the scenes of a split, as they are read from disk, for wrong units, fill values and labels."""

from collections import defaultdict

import numpy as np
import pandas as pd

from crodino_lib.data.sample import IGNORE, METRES, DatasetCard, Sample

DEPTH_MEANS_M = (0.05, 500)  # a mean outside is millimetres called metres, or the reverse
MEAN_STDS, STD_FACTORS = 3, (1 / 30, 10)  # means and deviations further from the stated ones have another unit
FAR = 50  # median absolute deviations between the median and a fill value such as -9999
RARE = 0.02  # a larger share of the pixels at a high value may be the sky
FILL_PIXELS = 10  # a value of fewer pixels in a single scene may be a faulty pixel
SCALE = 50  # times the middle scene's mean depth: a scene beyond is stored in another unit
SEVERAL = 5  # scenes of which not all have the same values by chance
SAMPLED = 4096  # values of a scene that its median is taken from


class SplitStatistics:
    """Accumulate what the scenes of one split hold and list what is wrong with them; not for several threads."""

    def __init__(self, card: DatasetCard):
        self.card = card
        self.pixels = np.zeros(256, np.int64)  # of each class; 255 counts the ignored ones
        self.scenes = np.zeros(256, np.int64)  # in which each class occurs
        self._values: dict[str, list[tuple[float, ...]]] = defaultdict(list)
        self._fills: dict[tuple[str, float], list[int]] = defaultdict(list)
        self._ids: list[str] = []
        self._behind: dict[str, int] = defaultdict(int)  # pixels at no distance in front of the camera

    def add(self, sample: Sample) -> list[str]:
        """Add one scene at its native size; return a warning for each entry of it that carries no information."""
        self._ids.append(sample["id"])
        counts = np.bincount(sample["label"].ravel(), minlength=256)
        self.pixels += counts
        self.scenes += counts > 0
        warnings = [] if counts[:IGNORE].any() else ["no pixel has a label"]
        for name, sensor in self.card.sensors.items():
            valid = sample.get(f"{name}_valid", np.ones((1, 1, 1), bool))
            values = sample[name].ravel() if valid.all() else sample[name][:, valid[0]].ravel()
            if not values.size:
                self._values[name].append((np.nan, np.nan, np.nan, np.nan, 0.0))
                warnings.append(f"{name} has no valid pixel")
                continue
            low, high = values.min().item(), values.max().item()
            mean, std = (moment(values, dtype=np.float64).item() for moment in (np.mean, np.std))
            self._values[name].append((low, mean, high, std, valid.mean()))
            if low <= 0 and (equal := np.count_nonzero(values == low)) > 1:  # noise falls on no value twice
                self._behind[name] += equal
            if low == high:
                warnings.append(f"{name} is {low:g} everywhere")
            for value in () if sensor.unit.startswith("0..255") else fill_values(values, low, high):
                self._fills[name, value].append(np.count_nonzero(values == value))
        return [f"scene {sample['id']!r}: {warning}" for warning in warnings]

    def values(self, name: str) -> tuple[float, float, float, float, float]:
        """Return lowest, mean, highest value and deviation of a sensor, and the share of valid pixels in 0..1."""
        table = pd.DataFrame(self._values[name], columns=["low", "mean", "high", "std", "valid"])
        spread = np.sqrt((table["std"] ** 2).mean() + table["mean"].var(ddof=0))
        return table["low"].min(), table["mean"].mean(), table["high"].max(), spread, table["valid"].mean()

    def problems(self, split: str) -> list[str]:
        """Return one paragraph for each reason why training or scores on ``split`` would be worthless."""
        if not self.scenes.any():
            return []
        found, filled = [self._label_problem(split)], set()
        for (name, value), counts in self._fills.items():
            share = sum(counts) / (self.pixels.sum() * self.card.sensors[name].channels)
            if (len(counts) == 1 and counts[0] < FILL_PIXELS) or (value > self.values(name)[1] and share > RARE):
                continue
            filled.add(name)
            what = f"{name} holds the value {value:g} in {sum(counts)} pixel(s) of {len(counts)} scene(s), far from all"
            found.append(f"{what} others; if it means no measurement, add it under invalid as it is stored")
        found += [self._sensor_problem(name, split) for name in self.card.sensors if name not in filled]
        return [f"{self.card.name}, split {split}: {problem}" for problem in found if problem]

    def _label_problem(self, split: str) -> str:
        names = [name for index, name in enumerate(self.card.classes) if self.pixels[index]]
        if not names:
            return "no pixel has a label, all are ignored; every split needs labels, or leave the split out"
        if len(names) > 1 or split != "train":
            return ""
        ignored = self.pixels[IGNORE] / self.pixels.sum()
        hint = f"; {ignored:.0%} of the pixels are ignored: if their id, say 255, is a class, set ignore = [] and map"
        return f"every labelled pixel is {names[0]!r}, expected two classes or more" + hint * bool(ignored)

    def _sensor_problem(self, name: str, split: str) -> str:
        sensor, (low, mean, high, std, valid) = self.card.sensors[name], self.values(name)
        stated_mean, stated_std = np.mean(sensor.mean), np.mean(sensor.std)
        least_std = stated_std * STD_FACTORS[0] if split == "train" else 0  # a short split may show one place
        if not valid:
            return f"{name} has no valid pixel in any scene, expected values in {sensor.unit}"
        if low == high:
            return f"{name} is {low:g} {sensor.unit} in every pixel: is it the file or band that is meant?"
        if len(rows := self._values[name]) >= SEVERAL and len(set(rows)) == 1:
            return f"{name} has the same values in all {len(rows)} scenes: are its files those that are meant?"
        in_metres = name.startswith("depth") and sensor.unit in METRES
        if in_metres and self._behind[name]:
            told = f"{name} is 0 m or less in {self._behind[name]} pixel(s), which is no distance"
            return f"{told}: add the value, as it is stored, to invalid; if it is a height, give it another name"
        times = (means := np.array([row[1] for row in rows])) / np.nanmedian(means)
        if in_metres and len(rows) > 2 and (odd := (times < 1 / SCALE) | (times > SCALE)).any():
            told = f"{name} of {odd.sum()} scene(s) such as {self._ids[odd.argmax()]!r} is {means[odd][0]:.4g} m"
            return f"{told}, of the others {np.nanmean(means[~odd]):.4g} m: are they stored in another unit?"
        if in_metres and not DEPTH_MEANS_M[0] <= mean <= DEPTH_MEANS_M[1]:
            proposal = "millimetres: set scale = 0.001" if mean > 1 else "metres: set scale = 1.0"
            proposal = proposal if mean > 0 else "heights, or scale has the wrong sign"
            return f"{name} has a mean of {mean:.4g} m, expected 0.05 to 500 m. Files seem to hold {proposal}"
        if abs(mean - stated_mean) > MEAN_STDS * stated_std or not least_std <= std <= stated_std * STD_FACTORS[1]:
            stated = f"far from the stated {stated_mean:.4g} +- {stated_std:.4g} by which it is normalised"
            return f"{name} is {mean:.4g} +- {std:.4g} {sensor.unit}, {stated}: has it another unit, scale, byte order?"
        return ""


def fill_values(values: np.ndarray, low: float, high: float) -> list[float]:
    """Return ``low`` and ``high`` where each stands alone, far from all other ``values``, as fill values do."""
    part = values[:: max(1, values.size // SAMPLED)]
    median = np.median(part)
    far = FAR * np.median(np.abs(part - median))  # 0 where most values are equal
    return [
        value
        for value, beyond in ((low, np.less), (high, np.greater))
        if 0 < far < abs(value - median) and (values[beyond(values, (value + median) / 2)] == value).all()
    ]
