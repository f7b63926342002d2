"""Averages the trained weights: exponentially (EMA), and plainly over the last part of training (SWA).

Only trained tensors are averaged, in float32. These models have no batch norm, so no statistics need to be recomputed.
"""
import contextlib
from collections.abc import Iterator

import torch
from torch import nn


class WeightAverage:
    """Keeps a running average of some parameters.

    Args:
        parameters: the trained parameters by name.
        decay: decay per update of the exponential average, after its warm-up; None: plain mean of all updates.
    """

    def __init__(self, parameters: dict[str, nn.Parameter], decay: float | None) -> None:
        self.decay, self.updates = decay, 0
        self.values = {name: p.detach().clone().float() for name, p in parameters.items()}

    @torch.no_grad()
    def update(self, parameters: dict[str, nn.Parameter]) -> None:
        """Add the weights after an optimizer step to the average."""
        self.updates += 1
        share = 1 / self.updates if self.decay is None else 1 - warm_decay(self.decay, self.updates)
        torch._foreach_lerp_([*self.values.values()], [parameters[name].float() for name in self.values], share)

    def restart(self) -> None:
        """Discard all updates; a plain mean starts again with the next one."""
        self.updates = 0

    @contextlib.contextmanager
    def applied(self, parameters: dict[str, nn.Parameter]) -> Iterator[None]:
        """Within the block, let the parameters hold the average."""
        backup = {name: p.detach().clone() for name, p in parameters.items()}
        with torch.no_grad():
            for name, p in parameters.items():
                p.copy_(self.values[name])
        try:
            yield
        finally:
            with torch.no_grad():
                for name, p in parameters.items():
                    p.copy_(backup[name])


def warm_decay(decay: float, updates: int) -> float:
    """Compute the decay at an update: (1 + t) / (10 + t), up to `decay`.

    Without a warm-up, an average with decay 0.999 still contains 74 % of the untrained weights after 300 steps. This is the
    schedule of TensorFlow's ExponentialMovingAverage with num_updates.

    Args:
        decay: the final decay.
        updates: t, number of updates so far.
    """
    return min(decay, (1 + updates) / (10 + updates))
