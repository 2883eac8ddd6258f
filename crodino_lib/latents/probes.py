"""What a fresh classifier can read from the latents, on images that it was not fitted on."""

from __future__ import annotations

from crodino_lib.latents.extraction import Latents
from crodino_lib.latents.stages import modality_probe


def sensor_probe(latents: Latents, half: str, sensors: tuple[str, str]) -> float:
    """How often a fresh linear probe tells from a region's vector which of two sensors saw it.

    Every region counts once for each sensor, so class, scene and area tell nothing; only the vectors do.

    Args:
        latents: paired regions, as ``extract_regions`` gives them.
        half: ``shared`` or ``private``.
        sensors: the two to tell apart, whose blocks have equally many channels.

    Returns:
        Accuracy in [0, 1], balanced; 0.5 is chance. A high value says that a linear direction gives the sensor away; a
        low one, that no linear direction was found with these images, not that none of another kind is.

    Raises:
        ValueError: fewer than two images, or no such block.

    Explained in notebook 06.
    """
    first, second = (f"{sensor}/{half}" for sensor in sensors)
    for name in (first, second):
        if name not in latents.blocks:
            raise ValueError(f"there is no block {name!r}; the blocks are {', '.join(latents.blocks)}")
    return modality_probe(latents.blocks[first], latents.blocks[second], latents.rows["image"].to_numpy())
