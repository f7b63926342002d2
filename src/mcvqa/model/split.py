"""Divides a model larger than one GPU: its layers are on several GPUs, one stage each, and micro-batches pass through all stages.

Everything that belongs to a layer is on its GPU: weights, adapters, optimizer state, averages. One process launches the kernels
of all stages, and no GPU waits for the CPU. Micro-batches are pipelined as in PipeDream-Flush (arXiv:2006.09503, "1F1B"): a stage
alternates between forward and backward passes and holds the activations of few micro-batches, the first stage of as many as there
are stages. With m micro-batches and S stages, each GPU works for m / (m + S - 1) of the time.

Stages do not depend on the kind of device: two may be on the same one, which is how this is tested.

Shapes: B rows, K option orders, T distinct tokens, H hidden size, V vocabulary.
"""
import contextlib
import itertools
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeGuard

import numpy as np
import torch
from torch import nn

from mcvqa.model.device import DeviceError, DevicePlan
from mcvqa.model.families.family import Family
from mcvqa.model.fast.block import Tables, rotary_tables
from mcvqa.model.fast.dropout import Dropout, joined_keys, with_keys
from mcvqa.model.fast.forward import AnswerModel, AskedRows, Batch, letter_logprobs, letters_of_rows
from mcvqa.model.fast.layout import Group, NewTokens, Sight
from mcvqa.model.halving import HalvingReader
from mcvqa.model.memory import Measure, Trial, measure_pass

AHEAD = 2  # micro-batches, times the number of stages, that the CPU may launch before the GPUs have computed them


# %% from one GPU to another
def computing_on(device: torch.device) -> contextlib.AbstractContextManager:
    """Within the block, launch kernels on this device."""
    return torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext()


class Carrier:
    """Copies tensors between GPUs.

    Torch's own copy makes each GPU wait for all work queued on the other one, so they would compute one after the other. Here a
    copy uses a separate stream: the source copies when it has the tensor, and the target waits only for the copy.
    """

    def __init__(self, devices: Iterable[torch.device]) -> None:
        self.arrivals = {device: torch.cuda.Stream(device) for device in devices if device.type == "cuda"}

    def __call__(self, tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
        if tensor.device == device:
            return tensor
        arrival, computing = self.arrivals[device], torch.cuda.current_stream(device)
        with torch.cuda.stream(arrival):
            copy = tensor.to(device, non_blocking=True)
        computing.wait_stream(arrival)
        copy.record_stream(computing)
        return copy

    def masks(self, masks: Sequence[Dropout | None], device: torch.device) -> Sequence[Dropout | None]:
        """Copy dropout masks, whose keys are sent as one tensor."""
        keys = joined_keys(masks)
        return masks if keys is None or keys.device == device else with_keys(masks, self(keys, device))


def pinned(tensor: torch.Tensor) -> torch.Tensor:
    """Copy a CPU tensor so that a GPU can copy from it without making the CPU wait."""
    return tensor.pin_memory() if tensor.device.type == "cpu" and torch.cuda.is_available() else tensor


def sight_on(sight: Sight, device: torch.device) -> Sight:
    """Copy to a device. Groups of new tokens are made before, as they would make the CPU wait for the device."""
    def there(tensor: torch.Tensor) -> torch.Tensor:
        return pinned(tensor).to(device, non_blocking=True)

    moved = Sight(there(sight.prompt_tokens), there(sight.first_use), sight.learning)
    new = sight.new_tokens
    groups = () if new is None else tuple(
        there(group) if isinstance(group, torch.Tensor)
        else Group(there(group.new), there(group.seen), there(group.visible)) for group in new.groups
    )
    vars(moved)["new_tokens"] = new and NewTokens(groups, there(new.results_at))
    return moved


# %% the model
LossOf = Callable[..., torch.Tensor]  # keywords answers (batch -> logits), batch, weight (of a row) -> ()


@dataclass(frozen=True)
class Passing:
    """Holds a batch between two stages.

    Attributes:
        batch: the original batch, without image features.
        hidden: (T, H) input of the next stage.
        tables: (cosines, sines) of the rotary angles.
        sight: the tokens each prompt attends to, on the original device.
        masks: dropout masks of the remaining stages.
        is_image, deeper: from AnswerModel.embed.
    """

    batch: Batch
    hidden: torch.Tensor
    tables: tuple[torch.Tensor, torch.Tensor]
    sight: Sight
    masks: Sequence[Dropout | None]
    is_image: torch.Tensor
    deeper: Sequence[torch.Tensor]


class SplitAnswerModel(AnswerModel):
    """Implements an AnswerModel whose layers are on several devices.

    Args:
        model, family, image_token_id: see AnswerModel.
        plan: with the stages.
    """

    def __init__(self, model: nn.Module, family: Family, image_token_id: int, plan: DevicePlan) -> None:
        super().__init__(model, family, image_token_id)
        if not self.blocks:
            raise DeviceError(
                "A model split across several GPUs (gpus_per_model) needs the fast layers, which these settings turn off: set "
                "use_dora=false, and lora_r to 8 or more."
            )
        self.plan = plan
        self.devices = [torch.device(stage.device) for stage in plan.stages]
        self.numbers = [range(2 * stage.layers.start, 2 * stage.layers.stop) for stage in plan.stages]  # of the blocks
        self.carry = Carrier(self.devices)
        self.recorder: Any = None  # of stages, see split_recorded.py

    @property
    def divided(self) -> "SplitAnswerModel":
        return self

    def can_be_recorded(self, batch: AskedRows) -> TypeGuard[Batch]:
        whole_stages = self.parts["head"].weight.device == self.devices[-1]  # else the last stage ends on the first one's device
        return whole_stages and isinstance(batch, Batch) and batch.grids is None

    def forward(self, batch: Batch) -> torch.Tensor:
        """Compute float32 logits (B, K, V) on the first stage's device."""
        return self.logits(batch).to(self.devices[0])

    def logits(self, batch: Batch) -> torch.Tensor:
        """Compute float32 logits (B, K, V) on the device of the head.

        Args:
            batch: on the CPU or the first stage's device.
        """
        passing = self.begin(batch)
        for stage in range(len(self.devices)):
            hidden = self.run_stage(stage, passing)
            passing = self.handed_on(stage, passing, hidden)
        return self.read_head(passing)

    def precision(self) -> contextlib.AbstractContextManager:
        """Use mixed precision within the block, as accelerate applies it to the forward pass of other models."""
        return torch.autocast(self.devices[0].type, dtype=self.plan.dtype, enabled=self.plan.amp)

    def begin(self, batch: Batch, *, rounded: bool = False) -> Passing:
        """Compute the embeddings of a batch, on the first stage's device.

        Args:
            batch: the batch.
            rounded: whether to pad it to lengths that recur.
        """
        first, others = self.devices[0], replace(batch, images=None)
        with computing_on(first), self.precision():
            moved = batch.each(pinned).to(first)
            if rounded:
                moved, others = moved.rounded(), others.rounded()
            sight = Sight(others.prompt_tokens, others.first_use, learning=torch.is_grad_enabled())
            embeds, is_image, deeper = self.embed(moved)
            tables = rotary_tables(self.parts["language"], self.axes, moved.position_ids, embeds.dtype)
            return Passing(others, embeds, tables, sight, self.draw_masks(embeds), is_image, deeper)

    def run_stage(self, stage: int, passing: Passing) -> torch.Tensor:
        """Compute hidden states (T, H) after a stage or, after the last one, (B * K, H) at the answer positions.

        Args:
            stage: number of the stage.
            passing: the batch.
        """
        device, numbers = self.devices[stage], self.numbers[stage]
        with computing_on(device):
            batch = passing.batch.each(pinned).to(device)
            tables = Tables(*passing.tables, sight_on(passing.sight, device), batch.chunks)
            masks = passing.masks[: 2 * len(numbers)]
            return self.run_blocks(numbers, batch, tables, passing.hidden, masks, passing.is_image, passing.deeper)

    def handed_on(self, stage: int, passing: Passing, hidden: torch.Tensor) -> Passing:
        """Prepare the batch for the next stage, on its device; after the last one it is unchanged.

        Args:
            stage: number of the stage.
            passing: the batch.
            hidden: output of this stage.
        """
        if stage + 1 == len(self.devices):
            return replace(passing, hidden=hidden)
        device, numbers, (cos, sin) = self.devices[stage + 1], self.numbers[stage], passing.tables
        deeper = passing.deeper if 2 * len(passing.deeper) > numbers.stop else ()  # else the layers before have read them all
        return replace(
            passing, hidden=hidden.to(device) if hidden.requires_grad else self.carry(hidden, device),
            tables=(self.carry(cos, device), self.carry(sin, device)),
            masks=self.carry.masks(passing.masks[2 * len(numbers) :], device),
            is_image=self.carry(passing.is_image, device), deeper=[self.carry(one, device) for one in deeper],
        )

    def read_head(self, passing: Passing) -> torch.Tensor:
        """Compute float32 logits (B, K, V) from the output of the last stage, on the device of the head."""
        head = self.parts["head"]
        with computing_on(self.devices[-1]), self.precision():
            answers = self.parts["language"].norm(passing.hidden).unflatten(0, passing.batch.answer_at.shape)
        with computing_on(head.weight.device), self.precision():  # with tied embeddings on the first stage's device
            return head(answers.to(head.weight.device)).float()

    # %% what training and scoring do otherwise with a divided model
    def gradients(
        self, loss_of: LossOf, scaled: Callable[[torch.Tensor], torch.Tensor], batches: Iterable[tuple[Any, float]], *,
        recorded: bool = False,
    ) -> torch.Tensor:
        """Add the gradients of a step's micro-batches to those of the parameters.

        Args:
            loss_of, scaled: see `Pipeline`.
            batches: micro-batches, each with the weight of its rows in the loss of the step.
            recorded: whether stages are recorded as CUDA graphs.

        Returns:
            () the loss of the step, on the first stage's device.
        """
        if recorded:
            from mcvqa.model.split_recorded import StageRecorder

            self.recorder = self.recorder or StageRecorder(self)
            self.recorder.start_step()
        return Pipeline(self, loss_of, scaled, self.recorder if recorded else None)(batches)

    def forget_recordings(self) -> None:
        """Drop all recordings and free their memory."""
        if self.recorder:
            self.recorder.start_over()

    @torch.no_grad()
    def read_ahead(
        self, keys: Sequence[tuple[int, ...]], batches: Iterable[Any], halving: HalvingReader
    ) -> Iterator[list[np.ndarray]]:
        """Compute letter log-probabilities (K, C) of each row of each batch, keeping as many batches in flight as there are
        stages.

        Args:
            keys: row numbers of each batch.
            batches: the batches.
            halving: reads a single batch that does not fit into memory or overflows.
        """
        self.eval()
        started: deque[tuple[tuple[int, ...], Any, Reading | None]] = deque()
        for key, batch in itertools.chain(zip(keys, batches, strict=True), [(None, None)] * len(self.devices)):
            if key is not None:
                started.append((key, batch, self._start_reading(batch) if len(key) <= halving.most else None))
            if started and (key is None or len(started) > len(self.devices)):
                key, batch, reading = started.popleft()
                scores = reading and reading.rows(batch)
                finite = scores and all(np.isfinite(values).all() for values in scores)
                yield scores if scores and finite else halving.read(key, batch)

    def _start_reading(self, batch: Batch) -> "Reading | None":
        """Launch the kernels for a batch; None: there is not enough memory."""
        try:
            logits = self.logits(batch)
            with computing_on(logits.device):
                logprobs = letter_logprobs(logits, pinned(batch.letters).to(logits.device, non_blocking=True))
                there = logprobs.to("cpu", non_blocking=logprobs.is_cuda)
                return Reading(there, torch.cuda.current_stream().record_event() if logprobs.is_cuda else None)
        except torch.cuda.OutOfMemoryError:
            return None

    def try_passes(
        self, losses: Callable[[Any], Iterable[torch.Tensor]], batch: Batch, rows: int, checkpointing: bool, share: int,
        kept: int, *, recorded: bool = False,
    ) -> Trial | None:
        """Time some micro-batches together; None: they do not fit.

        Args:
            losses: adds the gradients of micro-batches.
            batch: the micro-batch.
            rows: its rows.
            checkpointing: whether activations are recomputed.
            share: rows of a step.
            kept: bytes that training will keep in addition, on all GPUs together.
            recorded: whether stages are recorded as CUDA graphs.

        Returns:
            A trial whose seconds are those of one micro-batch in a step. Filling and emptying the stages takes the time of S - 1
            additional passes.
        """
        stages, passes, batch = len(self.devices), math.ceil(share / rows), batch.each(pinned)
        tried = min(passes, 2 * stages)
        trial = measure_pass(
            rows, checkpointing, lambda: [*losses([(batch, 1 / rows)] * tried)], kept // stages, self.plan.limits,
            recorded=recorded)
        if trial is None or (recorded and not self.recorder.works):
            return None
        seconds = trial.seconds * (passes + stages - 1) / (tried + stages - 1)  # of a step
        return replace(trial, seconds=seconds * rows / share)

    @staticmethod
    def fastest_fitting(counts: Sequence[int], setting: str, measure: Measure) -> list[Trial]:
        """Choose rows like fastest_fitting in memory.py, but by speed: with few passes the stages wait longer.

        Args:
            counts: numbers of rows to try, largest first.
            setting: the setting gradient_checkpointing.
            measure: tries a pass; its seconds are those of a micro-batch in a step.
        """
        trials: list[Trial] = []
        for checkpointing in [way for way in (False, True) if setting != ("never" if way else "always")]:
            before: Trial | None = None
            for rows in counts:
                if before and rows > 0.75 * before.rows:
                    continue
                trial = measure(rows, checkpointing)
                if trial:
                    trials.append(trial)
                if before and (trial is None or trial.rate < before.rate):
                    break
                before = trial or before
        return sorted(trials, key=lambda trial: -trial.rate)


@dataclass(frozen=True)
class Reading:
    """Holds letter log-probabilities (B, K, C) in CPU memory, valid after an event; None: they are complete."""

    logprobs: torch.Tensor
    done: Any

    def rows(self, batch: AskedRows) -> list[np.ndarray]:
        """Return (K, C) of each row, once they are complete."""
        if self.done:
            self.done.synchronize()
        return letters_of_rows(self.logprobs.numpy(), batch)


# %% training
@dataclass
class _Running:
    """Holds a micro-batch in a stage, between its forward and its backward pass there.

    Attributes:
        entered: (T, H) input of the stage, whose gradient the previous stage needs.
        left: output of the stage; of the last stage the sum of the rows' losses ().
        recording: replays its passes; None: they are computed.
    """

    entered: torch.Tensor
    left: torch.Tensor
    recording: Any

    def differentiate(self, gradient: torch.Tensor) -> torch.Tensor | None:
        """Run the backward pass from the gradient of `left`; returns that of `entered`, if it is needed."""
        if self.left.requires_grad:  # else no layer up to here has adapters
            torch.autograd.backward(self.left, gradient)
        return self.entered.grad if self.entered.is_leaf else None


class Pipeline:
    """Runs the passes of one optimizer step.

    Args:
        answers: the model.
        loss_of: computes the loss () from `answers`, a function that returns the logits, `batch` on their device, and the
            `weight` of a row.
        scaled: scales the loss before differentiation.
        recorder: replays the stages' passes (split_recorded.py); None: they are computed.
    """

    def __init__(
        self, answers: SplitAnswerModel, loss_of: LossOf, scaled: Callable[[torch.Tensor], torch.Tensor], recorder: Any = None
    ) -> None:
        self.answers, self.loss_of, self.recorder = answers, loss_of, recorder
        stages, first, last = len(answers.devices), answers.devices[0], answers.devices[-1]
        self.waiting: list[deque[tuple[Passing, float]]] = [deque() for _ in range(stages)]  # in front of each stage
        self.running: list[deque[_Running]] = [deque() for _ in range(stages)]
        self.gradients: list[deque[torch.Tensor]] = [deque() for _ in range(stages)]  # of what a stage has given on
        self.launched: deque[Any] = deque()  # events after the backward passes of the first stage
        self.slots = [itertools.cycle(range(stages - stage)) for stage in range(stages)]  # the next of each stage
        self.loss = torch.zeros((), device=last)
        self.scale = answers.carry(scaled(torch.ones((), device=first)), last)  # once, or both GPUs would wait each time

    def __call__(self, batches: Iterable[tuple[Any, float]]) -> torch.Tensor:
        """Add the gradients of all micro-batches to those of the parameters.

        Args:
            batches: micro-batches, each with the weight of its rows in the loss of the step.

        Returns:
            () the loss of the step, on the first stage's device.
        """
        source, stages = iter(batches), range(len(self.answers.devices))
        worked = True
        while worked:
            worked = False
            for stage in stages:
                if len(self.running[stage]) < len(stages) - stage and self._take(stage, source):
                    self._forward(stage)
                elif self.gradients[stage]:
                    self._backward(stage)
                else:
                    continue
                worked = True
        return self.loss.to(self.answers.devices[0])

    def _take(self, stage: int, source: Iterator[tuple[Any, float]]) -> bool:
        """Return whether a micro-batch waits in front of a stage; the first stage takes it from `source`."""
        if stage == 0 and (item := next(source, None)) is not None:
            if len(self.launched) > AHEAD * len(self.running):
                self.launched.popleft().synchronize()
            self.waiting[0].append((self.answers.begin(item[0], rounded=self.recorder is not None), item[1]))
        return bool(self.waiting[stage])

    def _forward(self, stage: int) -> None:
        passing, weight = self.waiting[stage].popleft()
        if stage:
            passing = replace(passing, hidden=passing.hidden.requires_grad_())
        with computing_on(self.answers.devices[stage]):
            replayed = self.recorder and self.recorder.run(stage, next(self.slots[stage]), passing, self._compute)
            recording, left = replayed or (None, self._compute(stage, passing))
            if stage + 1 < len(self.running):
                self.waiting[stage + 1].append((self.answers.handed_on(stage, passing, left.detach()), weight))
            else:
                self.loss += weight * left.detach()
                self.gradients[stage].append(weight * self.scale)
        self.running[stage].append(_Running(passing.hidden, left, recording))

    def _compute(self, stage: int, passing: Passing) -> torch.Tensor:
        """Compute what leaves a stage: hidden states or, after the last one, the sum of the rows' losses ()."""
        left = self.answers.run_stage(stage, passing)
        if stage + 1 < len(self.running):
            return left
        logits = self.answers.read_head(replace(passing, hidden=left))
        with computing_on(logits.device):
            batch = passing.batch.each(pinned).to(logits.device)
            return self.loss_of(answers=lambda _: logits, batch=batch, weight=1.0).to(left.device)

    def _backward(self, stage: int) -> None:
        run, gradient, device = self.running[stage].popleft(), self.gradients[stage].popleft(), self.answers.devices[stage]
        with computing_on(device):
            entered = run.recording.differentiate(gradient) if run.recording else run.differentiate(gradient)
        if stage:
            assert entered is not None
            self.gradients[stage - 1].append(self.answers.carry(entered, self.answers.devices[stage - 1]))
        elif device.type == "cuda":
            self.launched.append(torch.cuda.current_stream(device).record_event())
