"""Training images per second of one network, by precision and by the route of its depthwise convolutions.

    python benchmarks/training.py [WIDTHxHEIGHT]

Prints a row per setting and the ratio to the slowest, from one run on one machine.
Nothing else should run beside it.
"""

import crodino_lib.losses  # noqa: F401 # isort: skip  (first: it mends the import of torchvision)

import sys
import time

import timm
import torch

from crodino_lib.config import ModelConfig, parse_size
from crodino_lib.device import autocast
from crodino_lib.losses import segmentation_cross_entropy
from crodino_lib.models.segnet import single_sensor_net

STEPS, BATCH, CLASSES = 8, 16, 15


def images_per_second(precision: str, hastened: bool, width: int, height: int) -> float:
    """Median over the steps after the first two."""
    torch.manual_seed(0)
    network = single_sensor_net(3, CLASSES, ModelConfig())
    if not hastened:
        name = ModelConfig().encoder
        network.encoder = timm.create_model(name, features_only=True, output_stride=ModelConfig().output_stride)
    network = network.to(memory_format=torch.channels_last).train()
    optimiser = torch.optim.AdamW(network.parameters())
    image = torch.randn(BATCH, 3, height, width).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(CLASSES, (BATCH, height, width))
    seconds = []
    for _ in range(STEPS):
        started = time.perf_counter()
        with autocast(image.device, precision):
            loss = segmentation_cross_entropy(network(image).logits, labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        seconds.append(time.perf_counter() - started)
    return BATCH / sorted(seconds[2:])[len(seconds[2:]) // 2]


def main() -> None:
    """Measure every setting and print the table."""
    width, height = parse_size(sys.argv[1] if len(sys.argv) > 1 else "128x96")
    rows = {(p, h): images_per_second(p, h, width, height) for p in ("fp32", "bf16") for h in (False, True)}
    print(f"{width}x{height}, batch {BATCH}, {torch.get_num_threads()} threads")
    for (precision, hastened), speed in rows.items():
        route = "hastened" if hastened else "plain"
        print(f"{precision}  depthwise {route:8}  {speed:6.1f} images/s  {speed / min(rows.values()):.2f}x")


if __name__ == "__main__":
    main()
