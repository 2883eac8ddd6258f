"""A memory of vectors per class: the keys of contrasts and relations."""

import torch
from torch import Tensor, nn


class ClassBank(nn.Module):
    """Keep the last ``size`` vectors of every class.

    All state is in buffers, so that a resumed run has the same keys. Only pushed vectors are returned (CIRKD's queues
    start with random ones), and class 0 is a class like any other (ContrastiveSeg's bank skips it).

    Source: Wang et al., Exploring Cross-Image Pixel Contrast, ICCV 2021; CIRKD losses/cirkd_memory.py.
    """

    def __init__(self, num_classes: int, size: int, channels: int):
        super().__init__()
        self.register_buffer("vectors", torch.zeros(num_classes, size, channels))
        self.register_buffer("filled", torch.zeros(num_classes, dtype=torch.int64))  # how many are held of each class
        self.register_buffer("position", torch.zeros(num_classes, dtype=torch.int64))  # slots to write to next

    @torch.no_grad()
    def push(self, vectors: Tensor, classes: Tensor) -> None:
        """Add vectors (M, C) float of classes (M,) int64 in [0, K); the oldest of a full class is overwritten first.

        A zero vector has no direction and is left out.
        """
        size = self.vectors.shape[1]
        nonzero = vectors.any(dim=1)
        vectors, classes = vectors[nonzero].to(self.vectors.dtype), classes[nonzero]
        for k in classes.unique().tolist():
            new = vectors[classes == k][-size:]
            slots = (self.position[k] + torch.arange(len(new), device=new.device)) % size
            self.vectors[k, slots] = new
            self.position[k] = (self.position[k] + len(new)) % size
            self.filled[k] = (self.filled[k] + len(new)).clamp(max=size)

    def all(self) -> tuple[Tensor, Tensor]:
        """Return every vector held, (N, C), and its class, (N,) int64; ordered by class."""
        slots = torch.arange(self.vectors.shape[1], device=self.filled.device)
        classes, held = torch.nonzero(slots < self.filled[:, None], as_tuple=True)
        return self.vectors[classes, held], classes

    def sample(self, per_class: int) -> tuple[Tensor, Tensor]:
        """Draw at most ``per_class`` vectors of every class, without replacement: (N, C), and their classes, (N,).

        They are ordered by class; torch's global generator draws.
        """
        drawn = [torch.randperm(filled)[:per_class] for filled in self.filled.tolist()]  # on the CPU: any device alike
        classes = torch.cat([torch.full_like(slots, k) for k, slots in enumerate(drawn)]).to(self.vectors.device)
        return self.vectors[classes, torch.cat(drawn).to(self.vectors.device)], classes
