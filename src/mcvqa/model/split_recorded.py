"""Replays the passes of a divided model's stages as CUDA graphs.

One process launches the kernels of all stages. Where GPUs compute these faster than it launches them, GPUs take turns instead of
working at the same time. A stage's forward pass and its backward pass are therefore recorded, once per batch shape; what lies
between stages is launched as before.

A stage holds several micro-batches at a time, so it has as many slots: only one micro-batch of a slot is between its forward and
its backward pass. What autograd saves in between is copied into tensors of the slot, which all its recordings share. All else is
in memory that all recordings of the stage share, as they run one after the other.
"""
import contextlib
import itertools
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn
from tqdm.auto import tqdm

from mcvqa.model.fast.dropout import Dropout, joined_keys, with_keys
from mcvqa.model.fast.layout import Sight
from mcvqa.model.graphs import GradientBuffers, capture
from mcvqa.model.split import Passing, SplitAnswerModel, pinned

MOST_PASSES = 16  # kept in a slot: later shapes are rare
MORE = 1.25  # memory of a slot's inputs relative to those of its first batch; a larger batch starts the slot over


# %% the tensors of a micro-batch in front of a stage
def inputs_of(passing: Passing, masks: Sequence[Dropout | None]) -> list[torch.Tensor]:
    """List all tensors that a stage reads, in a fixed order; those of the batch may be on the CPU.

    Args:
        passing: the micro-batch.
        masks: the dropout masks of this stage.
    """
    keys = joined_keys(masks)
    return [
        passing.hidden.detach(), *passing.tables, passing.is_image, *passing.deeper, *([] if keys is None else [keys]),
        *passing.batch.tensors(),
    ]


def with_inputs(passing: Passing, masks: Sequence[Dropout | None], inputs: Sequence[torch.Tensor]) -> Passing:
    """Make a micro-batch of the same shapes from other tensors.

    Args:
        passing, masks: see `inputs_of`.
        inputs: in its order.
    """
    values = iter(inputs)
    hidden, cos, sin, is_image = (next(values) for _ in range(4))
    deeper = [next(values) for _ in passing.deeper]
    own = with_keys(masks, next(values)) if any(masks) else masks
    batch = passing.batch.each(lambda _: next(values))
    return Passing(batch, hidden, (cos, sin), Sight(batch.prompt_tokens, batch.first_use, learning=True), own, is_image, deeper)


# %% recordings
@dataclass(frozen=True)
class StagePass:
    """Holds the recorded passes of a stage for one batch shape in one slot.

    Attributes:
        inputs: inputs of the forward pass.
        left: its output.
        gradient: input of the backward pass, the gradient of `left`.
        entered: output of the backward pass, the gradient of the hidden states (T, H) that entered; None: not needed.
        forward, backward: launch the passes; no backward pass if nothing up to this stage is trained.
    """

    inputs: Sequence[torch.Tensor]
    left: torch.Tensor
    gradient: torch.Tensor
    entered: torch.Tensor | None
    forward: Callable[[], None]
    backward: Callable[[], None] | None

    def run(self, inputs: Sequence[torch.Tensor]) -> torch.Tensor:
        """Run the forward pass.

        Args:
            inputs: of a batch of this shape.

        Returns:
            What leaves the stage.
        """
        for own, tensor in zip(self.inputs, inputs, strict=True):
            own.copy_(pinned(tensor), non_blocking=True)
        self.forward()
        return self.left.clone()

    def differentiate(self, gradient: torch.Tensor) -> torch.Tensor | None:
        """Run the backward pass, which adds to the gradients of the parameters.

        Args:
            gradient: of what left the stage.

        Returns:
            (T, H) gradient of the hidden states that entered; None: not needed.
        """
        if self.backward is not None:
            self.gradient.copy_(gradient)
            self.backward()
        return None if self.entered is None else self.entered.clone()


class Slot:
    """Holds tensors of one micro-batch at a time in a stage, and the passes recorded for it.

    Args:
        device: of the stage.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.start_over()

    def start_over(self) -> None:
        """Drop the recordings and their tensors."""
        self.buffers: dict[Any, torch.Tensor] = {}
        self.passes: dict[Any, StagePass] = {}

    def tensors(self, likes: dict[Any, torch.Tensor]) -> dict[Any, torch.Tensor]:
        """Return a tensor of the slot for each of `likes`, with its shape and type; all shapes of a name share their memory.

        Args:
            likes: tensors by name.
        """
        if any(like.numel() > self.buffers[name].numel() for name, like in likes.items() if name in self.buffers):
            self.start_over()
        return {name: self.tensor(name, like) for name, like in likes.items()}

    def tensor(self, name: Any, like: torch.Tensor) -> torch.Tensor:
        """Return a tensor of the slot; recordings that use a smaller one of this name keep it.

        Args:
            name: of the tensor.
            like: has its shape and type.
        """
        if name not in self.buffers or like.numel() > self.buffers[name].numel():
            self.buffers[name] = torch.empty(int(MORE * like.numel()) + 1, dtype=like.dtype, device=self.device)
        return self.buffers[name][: like.numel()].view(like.shape)

    def saving(self, static: Iterable[torch.Tensor]) -> contextlib.AbstractContextManager:
        """Within the block, copy what autograd saves into tensors of the slot.

        Args:
            static: tensors that stay in place anyway.
        """
        there, numbers = {tensor.untyped_storage().data_ptr() for tensor in static}, itertools.count()

        def kept(tensor: torch.Tensor) -> torch.Tensor:
            if tensor.untyped_storage().data_ptr() in there:
                return tensor
            return self.tensor(("saved", next(numbers), tensor.dtype), tensor).copy_(tensor.detach())

        return torch.autograd.graph.saved_tensors_hooks(kept, lambda tensor: tensor)


class StageRecorder:
    """Records the passes of all stages; each batch shape is recorded when it first occurs in a slot.

    The first step is not recorded: it compiles and tests kernels. No pass that was computed may be in a stage while another is
    recorded: both would share the nodes of autograd that stand for the parameters, which belong to the stream of the first.

    Args:
        answers: the model.
    """

    def __init__(self, answers: SplitAnswerModel) -> None:
        self.answers, self.works = answers, True
        self.weights = [*answers.model.parameters(), *answers.model.buffers()]
        self.parameters = [[*_trained(answers, numbers)] for numbers in answers.numbers]
        self.streams = [torch.cuda.Stream(device) if device.type == "cuda" else None for device in answers.devices]
        self.start_over()

    def start_over(self) -> None:
        """Drop all recordings and free their memory."""
        self.in_float32 = self.answers.in_float32()
        self.slots = [defaultdict[int, Slot](partial(Slot, device)) for device in self.answers.devices]  # by number
        self.pools = [torch.cuda.graph_pool_handle() if stream else None for stream in self.streams]
        self.gradients = [GradientBuffers(parameters) for parameters in self.parameters]
        self.steps = 0

    def start_step(self) -> None:
        """Prepare the gradients, and drop recordings of modules that compute in another precision since."""
        if self.in_float32 != self.answers.in_float32():
            self.start_over()
        for gradients in self.gradients:
            gradients.own()
        self.steps += 1

    def run(
        self, stage: int, number: int, passing: Passing, compute: Callable[[int, Passing], torch.Tensor]
    ) -> tuple[StagePass, torch.Tensor] | None:
        """Replay the forward pass of a micro-batch, recorded if its shape is new; None: it is to be computed.

        Args:
            stage, number: the stage and its slot.
            passing: the micro-batch.
            compute: computes what leaves the stage; after the last stage that is the loss ().

        Returns:
            The recorded passes, and what leaves the stage.

        Raises:
            OutOfMemoryError: there is no memory for the passes.
        """
        if self.steps == 1 or not self.works:
            return None
        inputs = inputs_of(passing, self._masks(stage, passing))
        slot, key = self.slots[stage][number], tuple(tensor.shape for tensor in inputs)
        if (recording := slot.passes.get(key)) is None:
            try:
                recording = self._recorded(stage, slot, passing, inputs, compute)
            except torch.cuda.OutOfMemoryError:
                raise
            except RuntimeError as error:  # an old driver
                self.works = False
                tqdm.write(f"  CUDA graphs are not used: {error}")
                return None
            if len(slot.passes) < MOST_PASSES:
                slot.passes[key] = recording
        return recording, recording.run(inputs)

    def _masks(self, stage: int, passing: Passing) -> Sequence[Dropout | None]:
        return passing.masks[: 2 * len(self.answers.numbers[stage])]

    def _recorded(
        self, stage: int, slot: Slot, passing: Passing, inputs: Sequence[torch.Tensor],
        compute: Callable[[int, Passing], torch.Tensor],
    ) -> StagePass:
        last, hidden = stage + 1 == len(self.answers.devices), inputs[0]
        left_like = torch.empty((), device="meta") if last else hidden
        likes = dict(enumerate(inputs)) | dict(left=left_like, gradient=left_like)
        tensors = slot.tensors(likes | (dict(entered=hidden) if stage else {}))
        own = [tensors[n] for n in range(len(inputs))]
        entered = own[0].detach().requires_grad_(stage > 0)
        wanted = [entered] * (stage > 0) + self.parameters[stage]
        computed: list[torch.Tensor] = []

        def forward() -> None:
            static = with_inputs(passing, self._masks(stage, passing), [entered, *own[1:]])
            with slot.saving([*own, *self.weights]):
                computed[:] = [compute(stage, static)]
            tensors["left"].copy_(computed[0].detach())

        def backward() -> None:
            gradients = torch.autograd.grad(computed[0], wanted, tensors["gradient"], materialize_grads=True)
            if stage:
                tensors["entered"].copy_(gradients[0])
            self.gradients[stage].add(gradients[stage > 0 :])

        for one, tensor in zip(own, inputs, strict=True):
            one.copy_(tensor)
        forward()  # makes the slot's tensors: in a recording they would get memory that earlier recordings compute in
        computed.clear()
        run = capture(forward, self.pools[stage], self.streams[stage])
        differentiate = capture(backward, self.pools[stage], self.streams[stage]) if wanted else None
        computed.clear()
        return StagePass(own, tensors["left"], tensors["gradient"], tensors.get("entered"), run, differentiate)


def _trained(answers: SplitAnswerModel, numbers: range) -> Iterator[nn.Parameter]:
    """Iterate over the adapter weights of some blocks."""
    for n in numbers:
        for projections in (answers.blocks[n].before, answers.blocks[n].after):
            yield from (layer.weight for layer in (*projections.downs.values(), *projections.ups.values()))
