"""Show a training while it runs in TensorBoard: losses, scores, predictions, and latents in its projector."""

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from crodino_lib.analysis.extraction import extract, single_sensors
from crodino_lib.augment import plain
from crodino_lib.data.sample import SensorSet
from crodino_lib.training import Callback, Training

EVERY = 10  # steps between two values of the losses
SHOWN = 4  # validation scenes whose predictions are shown


class Track(Callback):
    """Write what a training does into a folder of event files; it draws no random number and changes nothing.

    Args:
        folder: of the event files, in the run's own folder.

    Raises:
        ImportError: TensorBoard is not installed.
    """

    def __init__(self, folder: Path):
        super().__init__()
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ImportError("--track needs TensorBoard, which is missing: pip install 'crodino[track]'") from error
        self.stored = False
        self.open, self.folder, self.writer, self.told = SummaryWriter, folder, None, 0

    def on_start(self, training: Training) -> None:
        """Open the files; what an interrupted run wrote after the state that it resumes from is written anew."""
        self.told = max(0, len(training.history) - 1)  # the last row is written an epoch later
        self.writer = self.open(str(self.folder), purge_step=training.step or None)
        self.writer.add_text("run", training.config.model_dump_json(indent=1).replace("\n", "  \n"))

    def on_terms(self, training: Training, terms: dict[str, Tensor]) -> None:
        """Write the loss terms of a step."""
        if training.step % EVERY == 0:
            for name, term in terms.items():
                self.writer.add_scalar(f"loss/{name}", term.item(), training.step)

    def on_epoch_end(self, training: Training) -> dict[str, float]:
        """Write the epochs before this one, predictions, and the latents of a method that has them."""
        self.tell(training.history)
        scenes, method = training.validation, training.method.eval()
        places = list(range(min(SHOWN, len(scenes))))
        palette = np.array([*training.method.card.palette, *[(0, 0, 0)] * 256], np.uint8)[:256]
        for name in method.students:
            images = plain(scenes, places, method.card, SensorSet.parse(name), training.device).images
            with torch.inference_mode():
                found = method.predict(images).argmax(dim=1).cpu().numpy()
            pairs = [np.concatenate([palette[scenes.labels[i]], palette[found[i]]], axis=1) for i in places]
            grid = np.concatenate(pairs)
            self.writer.add_image(f"truth, prediction/{name}", grid, training.step, dataformats="HWC")
        if method.split and len(single_sensors(method)) > 1 and training.epoch == training.epochs:
            self.project(training)
        self.writer.flush()
        return {}

    def project(self, training: Training) -> None:
        """Write the mean latents of every region, shared and private, of all sensors, with class and sensor."""
        latents = extract(training.method, training.validation, ["region"], training.config.train.batch_size)["region"]
        for half in sorted({block.half for block in latents.blocks}):
            blocks = {block.sensor: values for block, values in latents.blocks.items() if block.half == half}
            names = [[name, sensor] for sensor in blocks for name in latents.rows["name"]]
            vectors = np.concatenate(list(blocks.values()))
            if len(vectors):
                self.writer.add_embedding(vectors, names, metadata_header=["class", "sensor"], tag=half)

    def tell(self, history: list[dict]) -> None:
        """Write the rows of the history that were not written before: validation, learning rate, diagnostics."""
        for row in history[self.told :]:
            for name, value in row.items():
                if name != "epoch" and pd.notna(value):
                    self.writer.add_scalar(f"epoch/{name}", value, row["epoch"])
        self.told = len(history)

    def close(self, history: pd.DataFrame) -> None:
        """Write the last epoch, which is known when the training has ended, and close the files."""
        self.tell(history.to_dict("records"))
        self.writer.close()
