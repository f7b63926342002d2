"""Passes as CUDA graphs: recorded once for each shape of a batch, then launched as a whole.

Where a machine launches kernels more slowly than its GPU computes them, most of a pass is waiting. A graph does again what was
recorded, with the same memory: what a batch changes is copied there before, and lengths are rounded up so that few shapes come.
"""
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from tqdm.auto import tqdm

from mcvqa.model.fast.forward import Answering, Batch

MOST_SHAPES = 16  # that are recorded: each keeps its inputs, and what comes later is rare


@dataclass(frozen=True)
class Recording:
    """One shape's pass.

    Attributes:
        replay: adds up the gradients of what stands in `batch`, and writes its `loss` ().
    """

    replay: Callable[[], None]
    batch: Batch
    loss: torch.Tensor


class Recorder:
    """Forward and backward passes, each shape of batch recorded when it comes first.

    The very first pass is not: in it kernels are compiled and tried, and the loss scale begins.

    Args:
        loss_of: from a batch on the GPU and the weight of each row to the loss ().
        scaled: from the loss to what is differentiated.
        parameters: that are trained.
    """

    def __init__(
        self, answers: Answering, loss_of: Callable[[Batch, float], torch.Tensor],
        scaled: Callable[[torch.Tensor], torch.Tensor], parameters: Iterable[nn.Parameter],
    ) -> None:
        self.answers, self.loss_of, self.scaled, self.parameters = answers, loss_of, scaled, list(parameters)
        self.most, self.in_float32 = MOST_SHAPES, answers.in_float32()
        self.forget()

    def forget(self) -> None:
        """Give back all memory."""
        self.recordings: dict[Any, Recording] = {}
        self.gradients: list[torch.Tensor] = []  # of the parameters, in which all recordings add up theirs
        self.warm = False
        self.pool: Any = None

    def __call__(self, batch: Batch, weight: float) -> torch.Tensor:
        """The loss (); its gradients are added to those of the parameters. Args: weight: of each row."""
        if self.in_float32 != (moved := self.answers.in_float32()):  # modules that compute otherwise than recorded
            self.in_float32 = moved
            self.forget()
        batch = batch.rounded()
        self._take_gradients()
        given = batch.tensors()
        key = weight, *(tensor.shape for tensor in given)
        if key not in self.recordings and self.warm and len(self.recordings) < self.most:
            self._record(key, batch, weight)
        self.warm = True
        if key not in self.recordings:
            return self._compute(batch, weight)
        recording = self.recordings[key]
        for own, tensor in zip(recording.batch.tensors(), given, strict=True):
            own.copy_(tensor)
        recording.replay()
        return recording.loss.clone()

    def _take_gradients(self) -> None:
        """Whatever the parameters have for gradients, from here on they are added up in `gradients`."""
        self.gradients = self.gradients or [torch.zeros_like(p) for p in self.parameters]
        pairs = [*zip(self.parameters, self.gradients, strict=True)]
        if new := [own for p, own in pairs if p.grad is None]:
            torch._foreach_zero_(new)
        if others := [(own, p.grad) for p, own in pairs if p.grad is not None and p.grad is not own]:
            torch._foreach_copy_([own for own, _ in others], [gradient for _, gradient in others])
        for p, own in pairs:
            p.grad = own

    def _compute(self, batch: Batch, weight: float) -> torch.Tensor:
        loss = self.loss_of(batch, weight)
        # not by backward(), which adds up on the stream of earlier passes: that one may not be recorded
        torch._foreach_add_(self.gradients, torch.autograd.grad(self.scaled(loss), self.parameters, materialize_grads=True))
        return loss.detach()

    def _record(self, key: Any, batch: Batch, weight: float) -> None:
        """Where it cannot be done (memory, an old driver), passes go on one kernel after the other."""
        try:
            self.recordings[key] = self._recorded(batch, weight)
        except RuntimeError as error:
            if not isinstance(error, torch.cuda.OutOfMemoryError):  # what was recorded before draws from the same generator
                self.forget()
                self._take_gradients()
                _free_generator()
            self.most = len(self.recordings)
            tqdm.write(f"  no more passes are recorded: {error}")

    def _recorded(self, batch: Batch, weight: float) -> Recording:
        batch, graph = batch.each(torch.clone), torch.cuda.CUDAGraph()
        self.pool = self.pool or torch.cuda.graph_pool_handle()  # one memory for all, as one computes at a time
        # thread_local: the loader's thread may pin batches meanwhile; stream(): graph() does not come back to it from a failure
        recording = torch.cuda.graph(graph, pool=self.pool, capture_error_mode="thread_local")
        with torch.cuda.stream(torch.cuda.current_stream()), recording:
            loss = self._compute(batch, weight)
        return Recording(graph.replay, batch, loss)


def _free_generator() -> None:
    """A recording that fails leaves the random generator waiting for its end; a copy of its state goes on from there."""
    if torch.cuda.is_initialized():
        generator: Any = torch.cuda.default_generators[torch.cuda.current_device()]
        generator.graphsafe_set_state(generator.clone_state())

