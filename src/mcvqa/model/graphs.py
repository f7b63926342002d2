"""Captures CUDA graphs, and keeps the gradients that they add to in place."""
import contextlib
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn


def capture(work: Callable[[], None], pool: Any, stream: Any = None) -> Callable[[], None]:
    """Record the kernels that `work` launches on the current GPU; nothing is computed yet.

    Args:
        work: launches kernels that read and write tensors which stay in place.
        pool: memory of the graph; graphs that never run at the same time may share it.
        stream: CUDA stream to record on; None: torch's, which is on the GPU that recorded first.

    Returns:
        Launches these kernels.

    Raises:
        OutOfMemoryError: there is no memory for what `work` computes.
        RuntimeError: it cannot be recorded.
    """
    graph, failures = torch.cuda.CUDAGraph(), list[RuntimeError]()
    # thread_local: the loader's thread may pin batches meanwhile; stream(): graph() does not restore it after a failure
    recording = torch.cuda.graph(graph, pool=pool, stream=stream, capture_error_mode="thread_local")
    try:
        with torch.cuda.stream(torch.cuda.current_stream()), recording:
            try:
                work()
            except RuntimeError as error:
                failures.append(error)
                raise
    except RuntimeError as error:
        if error not in failures:  # the recording could not be ended either
            _abandon(pool)
        raise (failures or [error])[0] from None
    finally:
        failures.clear()  # an error keeps the tensors of the functions that it went through
    return graph.replay


def _abandon(pool: Any) -> None:
    """Do what torch leaves out after a recording that it could not end: free its memory, and let the generator draw again."""
    device: Any = torch.cuda.current_device()
    for name in ("_cuda_endAllocateToPool", "_cuda_endAllocateCurrentStreamToPool", "_cuda_releasePool"):
        with contextlib.suppress(RuntimeError, AttributeError):  # another version of torch
            getattr(torch._C, name)(device, pool)
    generator: Any = torch.cuda.default_generators[device]
    generator.graphsafe_set_state(generator.clone_state())


class GradientBuffers:
    """Keeps the gradients of parameters in tensors of its own, to which all recordings add.

    Args:
        parameters: the parameters, on one device.
    """

    def __init__(self, parameters: Iterable[nn.Parameter]) -> None:
        self.parameters = list(parameters)
        self.buffers: list[torch.Tensor] = []

    def own(self) -> None:
        """Make the buffers the parameters' gradients, keeping their values."""
        self.buffers = self.buffers or [torch.zeros_like(p) for p in self.parameters]
        pairs = [*zip(self.parameters, self.buffers, strict=True)]
        if new := [buffer for p, buffer in pairs if p.grad is None]:
            torch._foreach_zero_(new)
        if others := [(buffer, p.grad) for p, buffer in pairs if p.grad is not None and p.grad is not buffer]:
            torch._foreach_copy_([buffer for buffer, _ in others], [gradient for _, gradient in others])
        for p, buffer in pairs:
            p.grad = buffer

    def add(self, gradients: Iterable[torch.Tensor]) -> None:
        """Add to the gradients.

        Args:
            gradients: one per parameter.
        """
        torch._foreach_add_(self.buffers, [*gradients])
