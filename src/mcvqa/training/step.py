"""One optimizer step: its forward and backward passes, the memory they take, and the exchange between processes.

Shapes: B rows, K option orders, C choices.
"""
import contextlib
import functools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import nn
from torch.nn import Parameter

from mcvqa.config import Config
from mcvqa.model.distributed import by_each, own_share
from mcvqa.model.fast.forward import Answering, AskedRows, answer_loss
from mcvqa.model.fast.overflow import OverflowInModel
from mcvqa.model.load import make_trainable, trained_parameters
from mcvqa.model.memory import free_memory, random_state, set_random_state
from mcvqa.training.average import WeightAverage
from mcvqa.training.job import FoldJob, StepPlan
from mcvqa.training.recorded import Recorder
from mcvqa.training.state import TrainingState


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Matrices decay, vectors (norms, biases) do not."""
    trained = trained_parameters(model).values()
    return [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]


def weighted_loss(answers: Answering, config: Config, batch: AskedRows, weight: float) -> torch.Tensor:
    """() what the rows add to the loss of a step.

    Args:
        weight: of each row, 1 / rows in the step.
    """
    losses = answer_loss(
        answers(batch), batch, among_choices=config.loss == "choices", label_smoothing=config.label_smoothing,
        consistency=config.order_consistency,
    )  # (B,)
    return losses.sum() * weight


# %% between processes
class Wishes(NamedTuple):
    """What a process asks for after a step. With several processes all of them do what any of them asks for.

    Attributes:
        save: it is time for a resume point.
        stop: a signal asks to stop.
        time_up: the time budget is over.
        revise: enough steps were measured to plan anew.
    """

    save: bool = False
    stop: bool = False
    time_up: bool = False
    revise: bool = False


class Agreement(NamedTuple):
    """What all processes know after the exchange of a step.

    Attributes:
        fits: every process had enough memory.
        failed: a process met an error.
        wishes: of all processes together.
        loss: () of the whole step.
    """

    fits: bool
    failed: bool
    wishes: Wishes
    loss: torch.Tensor


class Exchange:
    """Adds up the gradients of all processes, once a step, and along with them everything that they must agree on.

    DistributedDataParallel would do this inside the backward pass, and wait there for a process that ran out of memory. The
    buffer is allocated once, so that the exchange itself cannot run out of it.
    """

    def __init__(self, parameters: Iterable[Parameter], processes: int) -> None:
        self.parameters, self.processes = [*parameters], processes
        if processes > 1:
            sizes = [p.numel() for p in self.parameters]
            votes = 3 + len(Wishes._fields)  # out of memory, failed, the wishes, the loss
            self.buffer = torch.zeros(sum(sizes) + votes, device=self.parameters[0].device)
            *sums, self.votes = self.buffer.split([*sizes, votes])
            self.sums = [values.view_as(p) for values, p in zip(sums, self.parameters, strict=True)]

    def __call__(self, fits: bool, failed: bool, wishes: Wishes, loss: torch.Tensor) -> Agreement:
        """Every process calls this once a step, whatever happened in it.

        Args:
            fits, failed, wishes, loss: of this process.
        """
        if self.processes == 1:
            return Agreement(fits, failed, wishes, loss)
        self.buffer.zero_()
        pairs = [(own, p.grad) for own, p in zip(self.sums, self.parameters, strict=True) if p.grad is not None]
        if pairs and fits and not failed:
            torch._foreach_copy_([own for own, _ in pairs], [gradient for _, gradient in pairs])
        self.votes.copy_(torch.tensor([not fits, failed, *wishes, 0.0], dtype=torch.float32))
        self.votes[-1] = loss
        torch.distributed.all_reduce(self.buffer)
        for p, summed in zip(self.parameters, self.sums, strict=True):
            p.grad = summed
        missing, failures, *asked = (vote > 0 for vote in self.votes[:-1].tolist())
        return Agreement(not missing, failures, Wishes(*asked), self.votes[-1].clone())


# %% one step
@dataclass(frozen=True)
class StepResult:
    """Outcome of an optimizer step.

    Attributes:
        loss: mean over the rows of the step.
        norm: of the gradient, before clipping.
        rate: learning rate.
        done: whether the weights changed.
        wishes: that all processes agreed on; with one process those of before the optimizer's part.
    """

    loss: float
    norm: float
    rate: float
    done: bool
    wishes: Wishes


class Stepper:
    """Makes the optimizer steps of a fold: `prepare` gives one.

    Attributes:
        plan: how many steps there are.
        state: everything that a step changes.
        recorder: passes as CUDA graphs.
    """

    def __init__(
        self, job: FoldJob, model: nn.Module, answers: Answering, accelerator: Accelerator, state: TrainingState
    ) -> None:
        self.job, self.model, self.answers, self.accelerator, self.state = job, model, answers, accelerator, state
        self.plan = StepPlan(job)
        self.loss_of = functools.partial(weighted_loss, answers, job.config)
        scaled = accelerator.scaler.scale if accelerator.scaler else lambda loss: loss
        self.recorder = Recorder(answers, self.loss_of, scaled, state.parameters.values())
        self.exchange = Exchange(state.parameters.values(), accelerator.num_processes)

    def share(self, window: np.ndarray) -> list[tuple[int, ...]]:
        """Micro-batches of this process for one optimizer step; every process makes the same number of them.

        Args:
            window: row numbers of the step.
        """
        largest = math.ceil(len(window) / self.accelerator.num_processes)
        parts = np.array_split(own_share(window.tolist()), math.ceil(largest / self.job.memory.rows))
        return [tuple(int(i) for i in part) for part in parts]

    def step(
        self, batches: Iterable[tuple[AskedRows, bool]], rows_in_step: int, wishes: Callable[[], Wishes] = Wishes
    ) -> StepResult | None:
        """One optimizer step; None: it does not fit into memory, and everything is as before it.

        Args:
            batches: micro-batches, each with whether it counts.
            wishes: what this process asks for, asked when its passes are done.
        """
        state = self.state
        rate = self.plan.learning_rate(state.step, state.rollbacks)
        for group in state.optimizer.param_groups:
            group["lr"] = rate
        before = random_state()
        made: list[AskedRows] = []
        agreed = self._gradients(batches, rows_in_step, wishes, made)
        if not agreed.fits:
            self.drop_gradients()
            set_random_state(before)
            return None
        length = self.accelerator.clip_grad_norm_(list(state.parameters.values()), self.job.config.max_grad_norm)
        # the only time that a step waits for the GPU; several processes have waited in the exchange, to agree
        norm, loss = torch.stack((length, agreed.loss)).tolist()
        done = self._optimize(math.isfinite(norm))
        state.skipped += not done
        state.step += 1
        if not math.isfinite(loss):  # the forward pass itself overflowed: a smaller loss scale would not help
            self._mend(made)
        return StepResult(loss, norm, rate, done, agreed.wishes)

    def _gradients(
        self, batches: Iterable[tuple[AskedRows, bool]], rows_in_step: int, wishes: Callable[[], Wishes], made: list[AskedRows]
    ) -> Agreement:
        """The gradients of a step, of all processes.

        Args:
            made: receives the batches.

        Raises:
            Exception: that this process met; with several processes as `by_each` raises it, in all of them.
        """
        total, fits, error = torch.zeros((), device=self.accelerator.device), True, None
        try:
            for batch, counts in batches:
                made.append(batch)
                total += self.backward(batch.to(self.accelerator.device), counts / rows_in_step)
        except torch.cuda.OutOfMemoryError:
            fits = False
        except Exception as met:
            if self.accelerator.num_processes == 1:
                raise
            error = met
        if not fits:
            self.drop_gradients()
        agreed = self.exchange(fits, error is not None, wishes(), total)
        if agreed.failed:
            by_each(_raise_own, error)
        return agreed

    def backward(self, batch: AskedRows, weight: float) -> torch.Tensor:
        """Adds this micro-batch's share to the gradient: the mean over all rows of the step, wherever they are.

        Args:
            weight: of each row, 1 / rows in the step.
        """
        rest = weight != 1 / self.job.rows_in_step  # of an epoch: its shapes do not come again
        if self.job.memory.recorded and not rest and self.answers.can_be_recorded(batch):
            return self.recorder(batch, weight)
        loss = self.loss_of(batch, weight)
        self.accelerator.backward(loss)
        return loss.detach()

    def drop_gradients(self) -> None:
        """Forget the gradients, and give back what torch holds for later."""
        self.state.optimizer.zero_grad(set_to_none=True)
        free_memory()

    def _optimize(self, finite: bool) -> bool:
        """The optimizer's part of a step, and the averages'; returns whether the weights changed."""
        state = self.state
        done = finite
        if done or self.job.base.plan.scale_gradients:  # the scaler itself leaves out a step that overflowed
            state.optimizer.step()
            done = done and not self.accelerator.optimizer_step_was_skipped
        state.optimizer.zero_grad(set_to_none=True)
        if done:
            for name, average in state.averages.items():
                if name == "ema" or state.step >= self.plan.swa_start():
                    average.update(state.parameters)
                else:  # within a time budget SWA's start may move: whatever was averaged before it does not count
                    average.restart()
        return done

    def _mend(self, batches: Sequence[AskedRows]) -> None:
        """Move modules that overflowed to float32."""
        for batch in batches:
            with contextlib.suppress(OverflowInModel):  # not to be mended: twenty such steps on end stop the run
                moved = self.answers.mend(batch.to(self.accelerator.device))
                if moved and self.accelerator.is_main_process:
                    self.job.log.write("float32", fold=self.job.fold, step=self.state.step, modules=moved)


def _raise_own(error: Exception | None) -> None:
    if error is not None:
        raise error


# %% before the first step
def prepare(job: FoldJob) -> Stepper:
    """A fold before its first step: fresh adapters on the base model, the optimizer, the averages."""
    config, plan = job.config, job.base.plan
    model = make_trainable(job.base, config, config.seed + job.fold)
    parameters = trained_parameters(model)
    precision = {torch.float16: "fp16", torch.bfloat16: "bf16"}.get(plan.dtype, "no") if plan.amp else "no"
    AcceleratorState._reset_state(reset_partial_state=True)  # a notebook may change precision or device between runs
    accelerator = Accelerator(mixed_precision=precision, cpu=plan.device == "cpu")
    # the model is where it should be already; DistributedDataParallel is not wanted: see Exchange
    answers: Answering = accelerator.prepare_model(job.base.answers(model), device_placement=False, evaluation_mode=True)
    optimizer = accelerator.prepare_optimizer(
        torch.optim.AdamW(parameter_groups(model, config.weight_decay), lr=config.learning_rate, fused=plan.device == "cuda")
    )
    averages = {"ema": WeightAverage(parameters, config.ema_decay)} if config.use_ema else {}
    if config.use_swa:
        averages["swa"] = WeightAverage(parameters, None)
    return Stepper(job, model, answers, accelerator, TrainingState(parameters, optimizer, averages, accelerator.scaler))
