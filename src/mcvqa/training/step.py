"""Takes one optimizer step: forward and backward passes, recovery from full memory, exchange between processes.

Shapes: B rows, K option orders, C choices.
"""
import contextlib
import functools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import nn
from torch.nn import Parameter

from mcvqa.config import Config
from mcvqa.model.adapters import trained_parameters
from mcvqa.model.distributed import by_each, own_share
from mcvqa.model.fast.forward import Answering, AskedRows, answer_loss
from mcvqa.model.fast.overflow import OverflowInModel
from mcvqa.model.load import make_trainable
from mcvqa.model.memory import free_memory, random_state, set_random_state
from mcvqa.training.average import WeightAverage
from mcvqa.training.job import FoldJob, StepPlan
from mcvqa.training.recorded import Recorder
from mcvqa.training.state import TrainingState


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Make optimizer parameter groups: weight decay for matrices, none for vectors (norms, biases).

    Args:
        model: the model.
        weight_decay: decay of matrices.
    """
    trained = trained_parameters(model).values()
    return [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]


def weighted_loss(answers: Callable[[AskedRows], torch.Tensor], config: Config, batch: AskedRows, weight: float) -> torch.Tensor:
    """Compute the contribution of a batch to the loss of a step.

    Args:
        answers: the model.
        config: all settings.
        batch: B rows.
        weight: weight of each row, 1 / rows in the step.

    Returns:
        () the weighted sum of the rows' losses.
    """
    losses = answer_loss(
        answers(batch), batch, among_choices=config.loss == "choices", label_smoothing=config.label_smoothing,
        noise=config.label_noise_loss, consistency=config.order_consistency,
    )  # (B,)
    return losses.sum() * weight


# %% between processes
class Requests(NamedTuple):
    """Holds the requests of a process after a step; all processes do what any of them requests.

    Attributes:
        save: it is time for a resume point.
        stop: a signal asked to stop.
        time_up: the time budget is used up.
        revise: enough steps were timed to revise the plan.
    """

    save: bool = False
    stop: bool = False
    time_up: bool = False
    revise: bool = False


class Agreement(NamedTuple):
    """Holds what all processes know after the exchange of a step.

    Attributes:
        fits: every process had enough memory.
        failed: some process raised an error.
        requests: requests of all processes together.
        loss: () loss of the whole step.
    """

    fits: bool
    failed: bool
    requests: Requests
    loss: torch.Tensor


class Exchange:
    """Sums the gradients of all processes once per step, together with everything that they must agree on.

    DistributedDataParallel would do this inside the backward pass and wait there for a process that ran out of memory. The
    buffer is allocated once, so that the exchange itself cannot run out of memory.
    """

    def __init__(self, parameters: Iterable[Parameter], processes: int) -> None:
        self.parameters, self.processes = [*parameters], processes
        if processes > 1:
            sizes = [p.numel() for p in self.parameters]
            flags = 3 + len(Requests._fields)  # out of memory, failed, the requests, the loss
            self.buffer = torch.zeros(sum(sizes) + flags, device=self.parameters[0].device)
            *sums, self.flags = self.buffer.split([*sizes, flags])
            self.sums = [values.view_as(p) for values, p in zip(sums, self.parameters, strict=True)]

    def __call__(self, fits: bool, failed: bool, requests: Requests, loss: torch.Tensor) -> Agreement:
        """Exchange; every process calls this once per step, whatever happened.

        Args:
            fits, failed, requests, loss: values of this process; see `Agreement`.

        Returns:
            The same for all processes together; their gradients are summed.
        """
        if self.processes == 1:
            return Agreement(fits, failed, requests, loss)
        self.buffer.zero_()
        pairs = [(part, p.grad) for part, p in zip(self.sums, self.parameters, strict=True) if p.grad is not None]
        if pairs and fits and not failed:
            torch._foreach_copy_([part for part, _ in pairs], [gradient for _, gradient in pairs])
        self.flags.copy_(torch.tensor([not fits, failed, *requests, 0.0], dtype=torch.float32))
        self.flags[-1] = loss
        torch.distributed.all_reduce(self.buffer)
        for p, summed in zip(self.parameters, self.sums, strict=True):
            p.grad = summed
        out_of_memory, failures, *requested = (flag > 0 for flag in self.flags[:-1].tolist())
        return Agreement(not out_of_memory, failures, Requests(*requested), self.flags[-1].clone())


# %% one step
@dataclass(frozen=True)
class StepResult:
    """Holds the outcome of an optimizer step.

    Attributes:
        loss: mean over the rows of the step.
        norm: norm of the gradient before clipping.
        rate: learning rate.
        done: whether the weights changed.
        requests: requests of all processes together; with one process, those from before the optimizer update.
    """

    loss: float
    norm: float
    rate: float
    done: bool
    requests: Requests


class Stepper:
    """Takes the optimizer steps of a fold; made by `prepare`.

    Attributes:
        plan: number of steps and learning rate.
        state: everything that a step changes.
        recorder: records passes as CUDA graphs.
    """

    def __init__(
        self, job: FoldJob, model: nn.Module, answers: Answering, accelerator: Accelerator, state: TrainingState
    ) -> None:
        self.job, self.model, self.answers, self.accelerator, self.state = job, model, answers, accelerator, state
        self.plan = StepPlan(job)
        self.loss_of = functools.partial(weighted_loss, answers, job.config)
        self.scaled = accelerator.scaler.scale if accelerator.scaler else lambda loss: loss
        self.recorder = Recorder(answers, self.loss_of, self.scaled, state.parameters.values())
        self.exchange = Exchange(state.parameters.values(), accelerator.num_processes)

    def share(self, window: np.ndarray) -> list[tuple[int, ...]]:
        """Split this process's rows of a step into micro-batches, the same number in every process.

        Args:
            window: row numbers of the step.

        Returns:
            Row numbers of each micro-batch, possibly none.
        """
        largest = math.ceil(len(window) / self.accelerator.num_processes)
        parts = np.array_split(own_share(window.tolist()), math.ceil(largest / self.job.memory.rows))
        return [tuple(int(i) for i in part) for part in parts]

    def step(
        self, batches: Iterable[tuple[AskedRows, bool]], rows_in_step: int, requests: Callable[[], Requests] = Requests
    ) -> StepResult | None:
        """Take one optimizer step.

        Args:
            batches: micro-batches, each with whether it counts.
            rows_in_step: number of rows in all processes.
            requests: returns what this process requests; called after its passes.

        Returns:
            The result; None: it did not fit into memory and nothing has changed.
        """
        state = self.state
        rate = self.plan.learning_rate(state.step, state.rollbacks)
        for group in state.optimizer.param_groups:
            group["lr"] = rate
        generators = random_state()
        seen: list[AskedRows] = []
        agreed = self._gradients(batches, rows_in_step, requests, seen)
        if not agreed.fits:
            self.drop_gradients()
            set_random_state(generators)
            return None
        norm_tensor = self.accelerator.clip_grad_norm_(list(state.parameters.values()), self.job.config.max_grad_norm)
        # the only synchronisation with the GPU in a step, apart from the exchange of several processes
        norm, loss = torch.stack((norm_tensor, agreed.loss)).tolist()
        done = self._optimize(math.isfinite(norm))
        state.skipped += not done
        state.step += 1
        if not math.isfinite(loss):  # the forward pass overflowed: a smaller loss scale would not help
            self._mend(seen)
        return StepResult(loss, norm, rate, done, agreed.requests)

    def _gradients(
        self, batches: Iterable[tuple[AskedRows, bool]], rows_in_step: int, requests: Callable[[], Requests],
        seen: list[AskedRows],
    ) -> Agreement:
        """Compute the gradients of a step in all processes.

        Args:
            seen: receives the batches.

        Raises:
            Exception: from this process; with several processes `by_each` raises it in all of them.
        """
        def noted() -> Iterator[tuple[AskedRows, float]]:
            for batch, counts in batches:
                seen.append(batch)
                yield batch, counts / rows_in_step

        total, fits, error = torch.zeros((), device=self.accelerator.device), True, None
        try:
            for loss in self.losses(noted(), recorded=self.job.memory.recorded):
                total += loss
        except torch.cuda.OutOfMemoryError:
            fits = False
        except Exception as caught:
            if self.accelerator.num_processes == 1:
                raise
            error = caught
        if not fits:
            self.drop_gradients()
        agreed = self.exchange(fits, error is not None, requests(), total)
        if agreed.failed:
            by_each(_raise, error)
        return agreed

    def losses(self, batches: Iterable[tuple[AskedRows, float]], *, recorded: bool) -> Iterator[torch.Tensor]:
        """Add the gradients of micro-batches and yield their contributions () to the loss of the step, or that of all together.

        Args:
            batches: micro-batches, each with the weight of its rows.
            recorded: whether the stages of a divided model are launched as CUDA graphs.
        """
        if self.answers.divided:
            loss_of = functools.partial(weighted_loss, config=self.job.config)
            yield self.answers.divided.gradients(loss_of, self.scaled, batches, recorded=recorded)
            return
        for batch, weight in batches:
            yield self.backward(batch.to(self.accelerator.device), weight)

    def backward(self, batch: AskedRows, weight: float) -> torch.Tensor:
        """Add the gradients of a micro-batch; over a step they sum to the mean over its rows in all processes.

        Args:
            batch: rows on this process's device.
            weight: of each row, 1 / rows in the step.

        Returns:
            () the batch's contribution to the loss of the step.
        """
        if self.job.memory.recorded and self.answers.can_be_recorded(batch):
            is_last_of_epoch = weight != 1 / self.job.rows_in_step  # a smaller step, whose shapes do not occur again
            return self.recorder(batch, weight, keep=not is_last_of_epoch)
        loss = self.loss_of(batch, weight)
        self.accelerator.backward(loss)
        return loss.detach()

    def forget_recordings(self) -> None:
        """Drop all recorded passes and free their memory."""
        self.recorder.forget()
        if self.answers.divided:
            self.answers.divided.forget_recordings()

    def drop_gradients(self) -> None:
        """Drop the gradients and free cached memory."""
        self.state.optimizer.zero_grad(set_to_none=True)
        free_memory()

    def _optimize(self, finite: bool) -> bool:
        """Update the weights and their averages; returns whether the weights changed."""
        state = self.state
        done = finite
        if done or self.job.base.plan.scale_gradients:  # the scaler itself skips a step that overflowed
            state.optimizer.step()
            done = done and not self.accelerator.optimizer_step_was_skipped
        state.optimizer.zero_grad(set_to_none=True)
        if done:
            for name, average in state.averages.items():
                if name == "ema" or state.step >= self.plan.swa_start():
                    average.update(state.parameters)
                else:  # a time budget may move the start of SWA: discard earlier updates
                    average.restart()
        return done

    def _mend(self, batches: Sequence[AskedRows]) -> None:
        """Move modules that overflowed to float32."""
        for batch in batches:
            with contextlib.suppress(OverflowInModel):  # cannot be fixed: twenty such steps in a row cause a rollback
                moved = self.answers.mend(batch.to(self.accelerator.device))
                if moved and self.accelerator.is_main_process:
                    self.job.log.write("float32", fold=self.job.fold, step=self.state.step, modules=moved)


def _raise(error: Exception | None) -> None:
    if error is not None:
        raise error


# %% before the first step
def prepare(job: FoldJob) -> Stepper:
    """Prepare a fold for its first step: adapters, optimizer and averages."""
    config, plan = job.config, job.base.plan
    model = make_trainable(job.base, config, config.training_seed + job.fold, job.start)
    parameters = trained_parameters(model)
    precision = {torch.float16: "fp16", torch.bfloat16: "bf16"}.get(plan.dtype, "no") if plan.amp else "no"
    AcceleratorState._reset_state(reset_partial_state=True)  # a notebook may change precision or device between runs
    accelerator = Accelerator(mixed_precision=precision, cpu=plan.device == "cpu")
    # the model is already on its device; no DistributedDataParallel: see Exchange
    answers: Answering = accelerator.prepare_model(job.base.answers(model), device_placement=False, evaluation_mode=True)
    optimizer = accelerator.prepare_optimizer(
        torch.optim.AdamW(parameter_groups(model, config.weight_decay), lr=config.learning_rate, fused=plan.device == "cuda")
    )
    averages = {"ema": WeightAverage(parameters, config.ema_decay)} if config.use_ema else {}
    if config.use_swa:
        averages["swa"] = WeightAverage(parameters, None)
    return Stepper(job, model, answers, accelerator, TrainingState(parameters, optimizer, averages, accelerator.scaler))
