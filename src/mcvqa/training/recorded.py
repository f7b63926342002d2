"""Replays CUDA graphs: forward and backward passes are recorded once per batch shape.

If a machine launches kernels more slowly than its GPU executes them, a pass is mostly waiting. A graph replays the recorded
kernels on the same memory: each batch is copied there first, and lengths are rounded up so that few shapes occur. Passes of rare
shapes are recorded too, replayed once and dropped: passes without a recording would need as much memory again.
"""
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from tqdm.auto import tqdm

from mcvqa.model.fast.forward import Answering, Batch
from mcvqa.model.graphs import GradientBuffers, capture

USUAL_SHAPES = 6  # that the passes of a fold have, where photographs have similar sizes
MOST_SHAPES = 16  # recordings kept at most: each holds its inputs, and later shapes are rare


@dataclass(frozen=True)
class Recording:
    """Holds the recorded pass of one batch shape.

    Attributes:
        replay: adds the gradients of `batch` and writes its loss.
        batch: inputs of the graph.
        loss: () output of the graph.
    """

    replay: Callable[[], None]
    batch: Batch
    loss: torch.Tensor


class Recorder:
    """Runs forward and backward passes; each batch shape is recorded when it first occurs.

    The very first pass is not recorded: it compiles and tests kernels and initialises the loss scale.

    Args:
        answers: the model.
        loss_of: maps a batch on the GPU and the weight of each row to the loss ().
        scaled: scales the loss before differentiation.
        parameters: the trained parameters.
    """

    def __init__(
        self, answers: Answering, loss_of: Callable[[Batch, float], torch.Tensor],
        scaled: Callable[[torch.Tensor], torch.Tensor], parameters: Iterable[nn.Parameter],
    ) -> None:
        self.answers, self.loss_of, self.scaled, self.parameters = answers, loss_of, scaled, list(parameters)
        self.works, self.in_float32 = True, answers.in_float32()
        self.forget()

    def forget(self) -> None:
        """Drop all recordings and free their memory."""
        self.recordings: dict[Any, Recording] = {}
        self.gradients = GradientBuffers(self.parameters)
        self.warm = False
        self.pool: Any = None

    def __call__(self, batch: Batch, weight: float, *, keep: bool = True) -> torch.Tensor:
        """Compute the loss () and add its gradients to those of the parameters.

        Args:
            batch: on the GPU.
            weight: of each row in the loss of the step.
            keep: whether passes of this shape and weight will recur.

        Raises:
            OutOfMemoryError: there is no memory for the pass; all recordings are dropped.
        """
        if self.in_float32 != (moved := self.answers.in_float32()):  # modules that now compute in another precision than recorded
            self.in_float32 = moved
            self.forget()
        batch = batch.rounded()
        self.gradients.own()
        inputs = batch.tensors()
        key = weight, *(tensor.shape for tensor in inputs)
        recording = self.recordings.get(key)
        if recording is None and self.warm and self.works:
            recording = self._record(batch, weight)
            if recording and keep and len(self.recordings) < MOST_SHAPES:
                self.recordings[key] = recording
        self.warm = True
        if recording is None:
            return self._compute(batch, weight)
        for static, tensor in zip(recording.batch.tensors(), inputs, strict=True):
            static.copy_(tensor)
        recording.replay()
        return recording.loss.clone()

    def _compute(self, batch: Batch, weight: float) -> torch.Tensor:
        loss = self.loss_of(batch, weight)
        # not backward(), which accumulates on the stream of earlier passes, which cannot be recorded
        self.gradients.add(torch.autograd.grad(self.scaled(loss), self.parameters, materialize_grads=True))
        return loss.detach()

    def _record(self, batch: Batch, weight: float) -> Recording | None:
        """Record a pass; if that fails for another reason than memory (an old driver), passes run without recording."""
        try:
            return self._recorded(batch, weight)
        except RuntimeError as error:
            self.forget()
            if isinstance(error, torch.cuda.OutOfMemoryError):
                raise
            self.gradients.own()
            self.works = False
            tqdm.write(f"  CUDA graphs are not used: {error}")
            return None

    def _recorded(self, batch: Batch, weight: float) -> Recording:
        batch, losses = batch.each(torch.clone), []
        self.pool = self.pool or torch.cuda.graph_pool_handle()  # a shared memory pool, as only one graph runs at a time
        replay = capture(lambda: losses.append(self._compute(batch, weight)), self.pool)
        return Recording(replay, batch, losses[0])
