"""Measure operations and gradient norms while a method trains."""

import contextlib
import math
from collections.abc import Iterator

import torch
from torch import Tensor

from crodino_lib.cost import counted_flops
from crodino_lib.train import separately_trained
from crodino_lib.training import Callback, Training

COUNTED_STEPS = 16  # steps whose operations are counted, at even distances; steps need not cost alike
GRADIENTS_EVERY = 100  # steps between two measurements of gradient norms, which cost a backward pass per term


class CountOperations(Callback):
    """Count the floating-point operations of evenly spaced steps, those of the teacher apart."""

    @contextlib.contextmanager
    def on_pass(self, training: Training) -> Iterator[None]:
        """Count the operations of a pass, where its step is one of those counted."""
        stride = max(1, training.total_steps // COUNTED_STEPS)
        if training.step % stride != stride // 2:
            yield
            return
        with counted_flops(training.method) as counts:
            yield
        for name, count in counts.items():
            self.state[name] = self.state.get(name, 0) + count
        self.state["passes"] = self.state.get("passes", 0) + 1

    def cost(self, steps: int) -> dict[str, int]:
        """Return the operations of a whole training, estimated from the steps counted: two passes each."""
        counted, named = self.state["passes"] // 2, {"train_flops": "total", "teacher_flops": "teacher"}
        return {name: self.state[key] * steps // counted for name, key in named.items()}


class MeasureGradients(Callback):
    """Measure the gradient norm of each loss term relative to cross-entropy, for the history."""

    def on_terms(self, training: Training, terms: dict[str, Tensor]) -> None:
        """Measure at every hundredth step."""
        if training.step % GRADIENTS_EVERY == GRADIENTS_EVERY // 2:
            deployed = [parameter for part in separately_trained(training.method)[:-1] for parameter in part]
            self.state = gradient_ratios(terms, deployed)

    def on_epoch_end(self, training: Training) -> dict[str, float]:
        """Return the ratios measured in the epoch, if any."""
        ratios, self.state = self.state, {}
        return ratios


def gradient_ratios(terms: dict[str, Tensor], parameters: list[Tensor]) -> dict[str, float]:
    """Return ``gradient/<term>``: the norm of its gradient relative to that of the cross-entropies together.

    ``terms`` are those of ``Method.training_step``, whose graph is kept; cross-entropies get no ratio.
    """

    def norm(loss: Tensor) -> float:
        if not loss.requires_grad:
            return 0.0
        gradients = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
        return math.sqrt(sum(part.float().square().sum().item() for part in gradients if part is not None))

    others = {name: term for name, term in terms.items() if not name.startswith("segmentation")}
    if not others:
        return {}
    reference = norm(sum(term for name, term in terms.items() if name not in others))
    return {f"gradient/{name}": norm(term) / reference for name, term in others.items()} if reference else {}
