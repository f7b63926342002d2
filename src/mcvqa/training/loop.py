"""One fold: train, validate every epoch, keep the best and the last weights.

Shapes: B rows, K option orders (1 in training), C choices.
"""
import contextlib
import dataclasses
import functools
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator, PartialState
from accelerate.state import AcceleratorState
from accelerate.utils import gather_object
from torch import nn
from tqdm.auto import tqdm

from mcvqa.base.budget import Schedule
from mcvqa.base.files import RunLog, damaged_file, or_nan
from mcvqa.base.interrupt import Interrupted, StopRequest
from mcvqa.base.uncertainty import Accuracy, accuracy_of_right, pack_right
from mcvqa.config import Config, McvqaError, weight_changes
from mcvqa.data.questions import Question
from mcvqa.model.batches import Batches
from mcvqa.model.device import GIB, set_seeds
from mcvqa.model.distributed import by_each, by_main, own_share, progress, stop_all
from mcvqa.model.fast.forward import Answering, AskedRows, answer_loss
from mcvqa.model.fast.overflow import OverflowInModel
from mcvqa.model.load import BaseModel, make_trainable, trained_parameters
from mcvqa.model.memory import (
    LEAST_PASSES,
    MARGIN,
    MemoryPlan,
    Trial,
    fastest_fitting,
    free_memory,
    launches_bind,
    less_memory,
    measure_pass,
    random_state,
    reason_for,
    row_counts,
    set_random_state,
    settings_plan,
)
from mcvqa.model.rows import Maker, TrainingRows, encode_rows, epoch_windows, longest_row, read_rows, without_empty
from mcvqa.training.average import WeightAverage
from mcvqa.training.checkpoint import (
    CheckpointError,
    NotSaved,
    newest_point,
    read_point,
    save_point,
    save_trained,
    verified,
)
from mcvqa.training.progress import Learned, generator_states, set_generator_states
from mcvqa.training.recorded import Recorder

RESUME = "resume"  # folder of a fold's resume points
COUNTED = ("step", "skipped", "skipped_on_end", "epochs_done", "rollbacks", "anchor")
PACE_STEPS = 10  # over which the time of a step is measured
STATE_FORMAT = 2  # of resume points; a later version may need another
SKIPS_ON_END = 20  # steps without a finite gradient, after which a fold is rolled back
MOST_ROLLBACKS = 3


class TrainingError(McvqaError, RuntimeError):
    """Training cannot go on; the message says why and what to change."""


@dataclass(frozen=True)
class Validation:
    """What one set of weights says about the validation rows.

    Attributes:
        logprobs: letter log-probabilities (C,) of each row, in the order of its original choices.
        loss: mean negative log-probability of the answer among the choices, in nats.
        right: (N,) booleans of the rows with a known answer.
    """

    logprobs: list[np.ndarray]
    accuracy: Accuracy
    loss: float
    right: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=bool))


@dataclass
class FoldResult:
    """Outcome of one fold.

    Attributes:
        best_epoch: epoch of the weights in `best/`, counted from 0.
        accuracy: of the weights to score with, on the validation rows.
        variants: Validation at the end of training of the raw weights and of each average ('raw', 'ema', 'swa').
        skipped: optimizer steps left out because a gradient was not finite.
        rollbacks: returns to the beginning of an epoch, after twenty such steps on end.
    """

    fold: int
    best_epoch: int
    accuracy: Accuracy
    variants: dict[str, Validation]
    steps: int
    skipped: int
    rollbacks: int
    seconds: float
    rows_per_second: float
    trained_parameters: int


# %% plan
def learning_rate_at(step: int, total: int, config: Config) -> float:
    """Learning rate of optimizer step `step` (from 0) of `total`: linear warm-up, then cosine or linear to zero."""
    warmup = math.ceil(config.warmup_ratio * total)
    if step < warmup:
        return config.learning_rate * (step + 1) / warmup
    left = 1 - (step - warmup) / max(1, total - warmup)
    return config.learning_rate * (left if config.lr_schedule == "linear" else 0.5 * (1 - math.cos(math.pi * left)))


def swa_start_step(steps_per_epoch: int, total: int, config: Config) -> int:
    """First optimizer step, of `total`, whose weights are averaged by SWA."""
    start = config.swa_start_epoch * steps_per_epoch if config.swa_start_epoch >= 0 else 0.75 * total
    return min(int(start), total - 1)


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Matrices decay, vectors (norms, biases) do not."""
    trained = trained_parameters(model).values()
    return [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]


def weighted_loss(answers: Answering, config: Config, batch: AskedRows, weight: float) -> torch.Tensor:
    """() what the rows add to the loss of a step. Args: weight: of each row, 1 / rows in the step."""
    losses = answer_loss(
        answers(batch), batch, among_choices=config.loss == "choices", label_smoothing=config.label_smoothing,
        consistency=config.order_consistency,
    )  # (B,)
    return losses.sum() * weight


# %% one fold
@dataclass
class FoldTrainer:
    """Everything that changes while a fold is trained.

    A fold that was cut off goes on from its newest resume point. Where it stands is said by `step` and `epochs_done`: the order
    of the rows is a function of seed and epoch, so going there costs nothing.

    Args:
        maker: makes batches from questions.
        train, validation: questions with answers; a row is never in both.
        folder: receives best/, last/, at the end of training one folder for each other kind of weights (raw/, ema/), and
            until then resume/.
        memory: how a step is divided; the trainers of a run's folds share one, and the first finds it.
        rows_key: changes with the rows and their photographs.
        schedule: of a session with a time budget.
        groups: (N,) image group of each validation row, for the errors; None: each row is its own group.

    Attributes:
        total: optimizer steps of the whole fold; within a time budget maybe fewer than its epochs have.
        step, skipped, skipped_on_end: optimizer steps: all, those left out, and those left out just before.
        epochs_done: epochs that are trained and validated.
        rollbacks: so often training went back, each time with half the learning rate from there on.
        anchor: name of the resume point to go back to: the beginning of the newest epoch that did not begin among lost steps.
        best_epoch, best: of the weights in best/; None: there are none yet.
        seconds: that sessions before this one took; started: when this one began.
        point: name of the newest resume point.
    """

    config: Config
    base: BaseModel
    maker: Maker
    train: Sequence[Question]
    validation: Sequence[Question]
    fold: int
    folder: Path
    log: RunLog
    memory: MemoryPlan = field(default_factory=MemoryPlan)
    rows_key: str = ""
    schedule: Schedule | None = None
    groups: np.ndarray | None = None
    step: int = 0
    skipped: int = 0
    skipped_on_end: int = 0
    epochs_done: int = 0
    rollbacks: int = 0
    anchor: str = ""
    best_epoch: int = -1
    best: Validation | None = None
    seconds: float = 0.0
    started: float = field(default_factory=time.time)
    point: str = ""
    averages: dict[str, WeightAverage] = field(default_factory=dict)

    def run(self) -> FoldResult:
        """Train to the last epoch, from the newest resume point or, without one, from freshly initialised adapters.

        Raises:
            TrainingError: no gradient is finite in twenty steps on end, and going back does not help; one row alone does not
                fit into the GPU's memory; or the resume point is of other settings or rows.
            NotSaved: the trained weights could not be written.
            Interrupted: by SIGTERM or SIGINT; the same call goes on.
        """
        config = self.config
        set_seeds(config.seed + self.fold + 1009 * PartialState().process_index)  # dropout is drawn apart in each process
        self._prepare()
        if not self.anchor and config.num_epochs:
            self._save_progress(begins_epoch=True)
        result: dict[str, Validation] = {}
        try:
            while self.epochs_done < config.num_epochs:
                if self._epoch(self.epochs_done):
                    result = self._end_of_epoch(self.epochs_done)
                    if self.step >= self.total:
                        break
        finally:
            self.recorder.forget()  # an error holds on to the trainer
        if self.best is None:  # num_epochs=0: the untrained model, scored as it is
            result = self._validate(-1, every_variant=True)
            self.best = result["raw"]
            for name in ("best", "last"):
                self._save(name, "raw", -1, self.best)
        kept = self.best if config.keep == "best" else result[self._scoring_variant()]
        seconds = self._seconds()
        return FoldResult(
            self.fold, self.best_epoch, kept.accuracy, result, self.step, self.skipped, self.rollbacks, seconds,
            self.step * config.effective_batch / seconds, sum(p.numel() for p in self.parameters.values()),
        )

    def _end_of_epoch(self, epoch: int) -> dict[str, Validation]:
        """Validate, and keep what is best and what is last."""
        last = self.step >= self.total
        result, chosen = self._validate(epoch, every_variant=last), self._scoring_variant()
        if self.best is None or _is_better(result[chosen], self.best):
            self.best_epoch, self.best = epoch, result[chosen]
            self._save("best", chosen, epoch, self.best)
        for name, found in result.items() if last else ():
            self._save("last" if name == chosen else name, name, epoch, found)
        self.epochs_done += 1
        if not last:  # a cut from here on repeats the last validation
            self._save_progress(begins_epoch=True)
        return result

    def _seconds(self) -> float:
        return self.seconds + time.time() - self.started

    def _prepare(self) -> None:
        config, plan = self.config, self.base.plan
        self.model = make_trainable(self.base, config, config.seed + self.fold)
        self.parameters = trained_parameters(self.model)
        precision = {torch.float16: "fp16", torch.bfloat16: "bf16"}.get(plan.dtype, "no") if plan.amp else "no"
        AcceleratorState._reset_state(reset_partial_state=True)  # a notebook may change precision or device between runs
        self.accelerator = Accelerator(mixed_precision=precision, cpu=plan.device == "cpu")
        answers = self.base.answers(self.model)
        # the model is where it should be already; DistributedDataParallel is not wanted: see _exchange
        self.answers: Answering = self.accelerator.prepare_model(answers, device_placement=False, evaluation_mode=True)
        self.optimizer = self.accelerator.prepare_optimizer(
            torch.optim.AdamW(
                parameter_groups(self.model, config.weight_decay), lr=config.learning_rate, fused=plan.device == "cuda"
            )
        )
        self.steps_per_epoch = math.ceil(len(self.train) / config.effective_batch)
        self.total = self.steps_per_epoch * config.num_epochs
        if config.use_ema:
            self.averages["ema"] = WeightAverage(self.parameters, config.ema_decay)
        if config.use_swa:
            self.averages["swa"] = WeightAverage(self.parameters, None)
        self.learned = Learned(self.parameters, self.optimizer, self.averages, self.accelerator.scaler)
        self.loss_of = functools.partial(weighted_loss, self.answers, config)
        scaled = self.accelerator.scaler.scale if self.accelerator.scaler else lambda loss: loss
        self.recorder = Recorder(self.answers, self.loss_of, scaled, self.parameters.values())
        self._go_on()
        if not self.memory.rows:
            self._plan_memory()
        self.answers.set_checkpointing(self.memory.checkpointing)

    # %% progress on disk
    def _save_progress(self, *, begins_epoch: bool = False) -> None:
        """Write a resume point, if there is none of this very place. Where the disk is full the training goes on.

        Args:
            begins_epoch: training may go back to it; not where it stands among lost steps.
        """
        self.saved_at = time.monotonic()
        generators = gather_object([generator_states()])
        point = f"{self.rollbacks}-{self.epochs_done:04d}-{self.step:08d}"
        if begins_epoch and not self.skipped_on_end:
            self.anchor = point
        if point == self.point or not self.accelerator.is_main_process:
            return
        state = {
            "format": STATE_FORMAT, "settings": self.config.as_dict(), "rows_key": self.rows_key,
            "counters": {name: getattr(self, name) for name in COUNTED}, "seconds": round(self._seconds(), 1),
            "memory": dataclasses.asdict(self.memory), "memory_terms": self._memory_terms(), "generators": generators,
            "float32": self.answers.in_float32(), **self.learned.facts(),
        }
        try:
            save_point(self.folder / RESUME / point, self.learned.tensors(), state, self.anchor)
            self.point = point
        except NotSaved as error:
            tqdm.write(f"fold {self.fold} step {self.step}: {error}. Training goes on; the resume point before this one stays.")

    def _go_on(self) -> None:
        """Take over the newest resume point, if there is one.

        Raises:
            TrainingError: it is of other settings or rows.
        """
        self.saved_at = time.monotonic()
        point = by_main(newest_point, self.folder / RESUME)
        if point is None:
            return
        tensors, state = read_point(point)
        if told := self._differences(state):
            stop_all(TrainingError("\n".join((
                f"Fold {self.fold} was cut off at another state of things, in {point}:", *told,
                f"Go on as it was, or delete {point.parent} to begin this fold anew.",
            ))))
        self._take_over(tensors, state)
        self.seconds, self.point = state["seconds"], point.name
        if not self.memory.rows and state["memory_terms"] == self._memory_terms():
            vars(self.memory).update({name: state["memory"][name] for name in vars(self.memory) if name in state["memory"]})
        if self.epochs_done:
            self.best_epoch, self.best = by_main(self._best_on_disk)
        tqdm.write(f"  fold {self.fold} goes on after step {self.step} of {self.total}")

    def _take_over(self, tensors: dict[str, torch.Tensor], state: dict[str, Any]) -> None:
        """Stand where a resume point was written."""
        self.answers.move_to_float32(state["float32"])
        self.learned.restore(tensors, state)
        for name in COUNTED:
            setattr(self, name, state["counters"][name])
        own = state["generators"][PartialState().process_index :]
        if own:  # with more processes than before the new ones draw from their own seeds
            set_generator_states(own[0])

    def _roll_back(self) -> None:
        """After twenty lost steps on end: back to the beginning of the epoch, with half the learning rate from there on.

        The beginning of an epoch, and not the newest resume point: where that stands depends on the clock and on cuts.

        Raises:
            TrainingError: that has been done three times, or the resume point cannot be read.
        """
        point, skipped, rollbacks, lost_at = self.folder / RESUME / self.anchor, self.skipped, self.rollbacks + 1, self.step
        why = f"Fold {self.fold}: no finite gradient in {SKIPS_ON_END} steps on end, up to step {lost_at}"
        whole = bool(self.anchor) and by_main(damaged_file, point) is None
        if rollbacks > MOST_ROLLBACKS or not whole:
            tried = f"after {self.rollbacks} rollbacks" if whole else "and there is no resume point to go back to"
            stop_all(TrainingError(
                f"{why}, {tried} (learning rate {self._rate:.2g}). Lower learning_rate (now {self.config.learning_rate:g}) or "
                "set precision=float32."
            ))
        self._take_over(*read_point(point))
        self.skipped, self.rollbacks = skipped, rollbacks
        if self.best_epoch >= self.epochs_done:
            self.best_epoch, self.best = -1, None
        tqdm.write(f"{why}. Back to step {self.step}, with half the learning rate (rollback {rollbacks} of {MOST_ROLLBACKS})")
        if self.accelerator.is_main_process:
            self.log.write("rollback", fold=self.fold, step=lost_at, to=self.step, rollbacks=rollbacks)
        self._save_progress(begins_epoch=True)

    def _differences(self, state: dict[str, Any]) -> list[str]:
        """One line for each difference that matters between a resume point and this run."""
        if state["format"] != STATE_FORMAT:
            return [f"  it has format {state['format']}, this version of mcvqa reads {STATE_FORMAT}"]
        other_rows = state["rows_key"] != self.rows_key
        return weight_changes(state["settings"], self.config) + ["  other rows or photographs"] * other_rows

    def _memory_terms(self) -> list[Any]:
        """What the division of a step was found for: with other terms it is looked for anew."""
        config, plan = self.config, self.base.plan
        return [
            config.batch_size, config.micro_batch, config.gradient_checkpointing, plan.device, plan.memory,
            self.accelerator.num_processes,
        ]

    def _best_on_disk(self) -> tuple[int, Validation | None]:
        """Epoch and result of the weights in best/, maybe of an epoch that is to be repeated: then it is found again, unless
        it is of before a rollback."""
        try:
            facts = verified(self.folder / "best")
        except CheckpointError as error:
            tqdm.write(f"  {error} Going on: the best of the epochs that follow is kept.")
            return -1, None
        if facts["epoch"] >= self.epochs_done and facts["rollbacks"] < self.rollbacks:
            return -1, None
        accuracy = Accuracy(facts["right"], facts["rows"], *facts.get("clusters", []))
        return facts["epoch"], Validation([], accuracy, or_nan(facts["loss"]))

    # %% how a step is divided
    @property
    def _usual_rows(self) -> int:
        """Of a step; the last one of an epoch may have fewer."""
        return min(self.config.effective_batch, len(self.train))

    def _plan_memory(self) -> None:
        """Fill `memory`: on a GPU by trying the longest row, elsewhere from the settings."""
        config, limit, first = self.config, self.base.plan.memory, settings_plan(self.config, self.base.plan)
        share = math.ceil(self._usual_rows / self.accelerator.num_processes)
        self.memory.rows, self.memory.checkpointing = min(first.rows, share), first.checkpointing
        if not limit:
            return
        row, before = longest_row(self.maker, self.train, config), random_state()
        self.answers.train()
        found = fastest_fitting(
            row_counts(min(config.micro_batch or share, share)), config.gradient_checkpointing,
            lambda rows, checkpointing: self._try_pass(row, rows, checkpointing),
        )
        recorded = bool(found) and self._recording_pays(row, found[0], self.total * math.ceil(share / found[0].rows))
        set_random_state(before)  # what dropout draws does not depend on what was tried
        free_memory()
        tokens = self.maker.tokens(row)
        if not found:
            stop_all(TrainingError(
                f"Fold {self.fold}: the longest row ({row.id}, {tokens} tokens) does not fit by itself into "
                f"{MARGIN:.0%} of {limit / GIB:.1f} GiB (gradient_checkpointing={config.gradient_checkpointing}). "
                f"{less_memory(config, four_bit=self.base.plan.four_bit)}"
            ))
        self.memory.rows, self.memory.checkpointing, self.memory.recorded = found[0].rows, found[0].checkpointing, recorded
        why = "; launching its kernels takes much of that, so passes are recorded" if recorded else ""
        tqdm.write(f"  {reason_for(found, share, tokens)}{why}")
        if self.accelerator.is_main_process:
            tried = [dataclasses.asdict(trial) for trial in found]
            self.log.write("memory", fold=self.fold, tokens=tokens, tried=tried, recorded=recorded)

    def _recording_pays(self, row: Any, plain: Trial, passes: int) -> bool:
        # beside recordings passes of other shapes must have room; one answer for all processes
        fits = by_main(lambda: 2 * plain.peak < MARGIN * self.base.plan.memory)
        if plain.rows == 1 or passes < LEAST_PASSES or not fits or not self.answers.can_be_recorded(self.maker.copies(row, 1)):
            return False
        single = self._try_pass(row, 1, plain.checkpointing)
        return single is not None and launches_bind(single, plain)

    def _try_pass(self, row: Any, rows: int, checkpointing: bool) -> Trial | None:
        """So many copies of `row`, forward and backward, in every process: what does not fit in one is too much for all."""
        self.answers.set_checkpointing(checkpointing)
        batch = self.maker.copies(row, rows)
        own = by_each(
            measure_pass, rows, checkpointing, lambda: self._backward(batch.to(self.accelerator.device), 1 / rows),
            8 * sum(p.numel() for p in self.parameters.values()),  # AdamW's two moments come with the first step
            MARGIN * self.base.plan.memory,
        )
        self.optimizer.zero_grad(set_to_none=True)
        trials: list[Trial | None] = gather_object([own])
        fitting = [trial for trial in trials if trial]
        if len(fitting) < len(trials):
            return None
        return Trial(rows, checkpointing, max(t.seconds for t in fitting), max(t.peak for t in fitting))

    def _use_less_memory(self) -> None:
        """After a step that did not fit. Raises TrainingError when there is nothing left to save."""
        before = str(self.memory)
        if not self.memory.shrink(self.config):
            stop_all(TrainingError(
                f"Fold {self.fold}, step {self.step + 1}: the GPU's memory is full with {before}, so not even one row fits. "
                f"{less_memory(self.config, four_bit=self.base.plan.four_bit)}"
            ))
        self.answers.set_checkpointing(self.memory.checkpointing)
        self.recorder.forget()
        tqdm.write(
            f"fold {self.fold} step {self.step + 1}: the GPU's memory was full with {before}. The step is done again with "
            f"{self.memory}; it still counts {self.config.effective_batch} rows."
        )

    # %% training steps
    def _epoch(self, epoch: int) -> bool:
        """Returns whether it was trained to its end, and not rolled back."""
        windows, first = list(epoch_windows(len(self.train), epoch, self.config)), epoch * self.steps_per_epoch
        self.answers.train()
        shown = dict(unit="step", desc=f"fold {self.fold} epoch {epoch + 1}", initial=self.step - first)
        with StopRequest() as self.stop, progress(windows, **shown) as bar:
            self.pace_from = self.step, time.monotonic()
            # again where memory ran out, the steps that are left being divided anew, and where the schedule has become shorter
            while left := windows[self.step - first : max(0, self.total - first)]:
                self._steps(left, epoch, bar)
                if self.skipped_on_end == SKIPS_ON_END:
                    self._roll_back()
                    return False
            self._save_progress()  # validation takes a while
        return True

    def _steps(self, windows: Sequence[np.ndarray], epoch: int, bar: Any) -> None:
        """Optimizer steps, up to the first that does not fit into memory, or the twentieth on end that is lost."""
        shares = [self._own_share(window) for window in windows]
        # a process that has no row left in the last window computes one all the same, without weight: all must take part
        keys = [
            (epoch, part or (int(window[0]),)) for window, share in zip(windows, shares, strict=True) for part in share
        ]
        rows = TrainingRows(self.maker, self.train, self.config)
        plan = self.base.plan
        batches = iter(Batches(rows, keys, plan.workers, pin=plan.device == "cuda"))
        for window, share in zip(windows, shares, strict=True):
            started = time.time()
            made = self._step([(next(batches), bool(part)) for part in share], len(window))
            if made is None:
                self._use_less_memory()
                return
            loss, norm, done = made
            self.skipped_on_end = 0 if done else self.skipped_on_end + 1
            rate = len(window) / (time.time() - started)
            bar.set_postfix(refresh=False, loss=f"{loss:.3f}", skipped=self.skipped)
            bar.update()
            if self.accelerator.is_main_process:
                self.log.write(
                    "step", fold=self.fold, step=self.step, epoch=epoch, loss=loss, lr=self._rate, grad_norm=norm,
                    skipped=self.skipped, rows_per_s=round(rate, 2),
                )
            if self.skipped_on_end == SKIPS_ON_END:
                return
            self._between_steps()
            if self.step >= self.total:
                return

    def _between_steps(self) -> None:
        """Save when it is time, and when a signal asks to stop; several processes have agreed on it in the step."""
        save, stop = self._wishes() if self.accelerator.num_processes == 1 else self.agreed
        if save or stop:
            self._save_progress()
        if stop:
            raise Interrupted(
                f"Stopped after step {self.step} of fold {self.fold}; saved in {self.folder / RESUME / self.point}."
                if self.point else f"Stopped after step {self.step} of fold {self.fold}, of which nothing could be saved."
            )
        self._keep_to_schedule()

    def _keep_to_schedule(self) -> None:
        """Within a time budget: plan anew from what the last steps took. Where time is short the fold ends sooner, and the
        learning rate falls to zero by then."""
        since, started = self.pace_from
        steps = self.step - since
        if self.schedule is None or steps < min(PACE_STEPS, self.steps_per_epoch):
            return
        self.schedule.pace.learn = (time.monotonic() - started) / (steps * self.config.effective_batch)
        epochs = by_main(self.schedule.plan, self.step / self.steps_per_epoch).epochs
        self.total = max(self.step, math.ceil(epochs * self.steps_per_epoch))
        self.pace_from = self.step, time.monotonic()

    def _wishes(self) -> tuple[bool, bool]:
        """Of this process: whether it is time to save, and whether to stop."""
        return time.monotonic() - self.saved_at >= 60 * self.config.save_minutes, self.stop.asked

    def _own_share(self, window: np.ndarray) -> list[tuple[int, ...]]:
        """Micro-batches of this process for one optimizer step; every process makes the same number of them."""
        largest = math.ceil(len(window) / self.accelerator.num_processes)
        parts = np.array_split(own_share(window.tolist()), math.ceil(largest / self.memory.rows))
        return [tuple(int(i) for i in part) for part in parts]

    def _step(self, batches: Sequence[tuple[AskedRows, bool]], rows_in_step: int) -> tuple[float, float, bool] | None:
        """One optimizer step; returns the mean loss, the gradient norm, and whether the weights changed.

        None: it does not fit into memory, and everything is as before it.

        Args:
            batches: micro-batches, each with whether it counts.
        """
        self._rate = learning_rate_at(self.step, self.total, self.config) / 2**self.rollbacks
        for group in self.optimizer.param_groups:
            group["lr"] = self._rate
        before = random_state()
        total = self._gradients(batches, rows_in_step)
        if total is None:
            set_random_state(before)
            return None
        length = self.accelerator.clip_grad_norm_(list(self.parameters.values()), self.config.max_grad_norm)
        # the only time that a step waits for the GPU; several processes have waited in _exchange, for there being room in all
        norm, loss = torch.stack((length, self.accelerator.reduce(total, "sum"))).tolist()
        done = math.isfinite(norm)
        if done or self.base.plan.scale_gradients:  # the scaler itself leaves out a step that overflowed
            self.optimizer.step()
            done = done and not self.accelerator.optimizer_step_was_skipped
        self.optimizer.zero_grad(set_to_none=True)
        if done:
            for name, average in self.averages.items():
                if name == "ema" or self.step >= swa_start_step(self.steps_per_epoch, self.total, self.config):
                    average.update(self.parameters)
        self.skipped += not done
        self.step += 1
        if not math.isfinite(loss):  # the forward pass itself overflowed: a smaller loss scale would not help
            for batch, _ in batches:
                with contextlib.suppress(OverflowInModel):  # not to be mended: twenty such steps on end stop the run
                    moved = self.answers.mend(batch.to(self.accelerator.device))
                    if moved and self.accelerator.is_main_process:
                        self.log.write("float32", fold=self.fold, step=self.step, modules=moved)
        return loss, norm, done

    def _gradients(self, batches: Sequence[tuple[AskedRows, bool]], rows_in_step: int) -> torch.Tensor | None:
        """The gradients of a step; returns this process's part of the loss, or None where memory ran out in any of them."""
        total, fits = torch.zeros((), device=self.accelerator.device), True
        try:
            for batch, counts in batches:
                total += self._backward(batch.to(self.accelerator.device), counts / rows_in_step)
        except torch.cuda.OutOfMemoryError:
            fits = False
        if not fits:
            self._drop_gradients()
        if self._exchange(fits):
            return total
        self._drop_gradients()
        return None

    def _drop_gradients(self) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        free_memory()

    def _exchange(self, fits: bool) -> bool:
        """Add up the gradients of all processes, once a step; returns whether each of them had enough memory. What one of
        them wishes, to save or to stop, is agreed on along with it.

        DistributedDataParallel would do this inside the backward pass, and wait there for a process that ran out of memory.
        """
        count = self.accelerator.num_processes
        if count == 1:
            return fits
        parameters = list(self.parameters.values())
        own = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        every = torch.cat([*(gradient.flatten() for gradient in own), own[0].new_tensor([fits, *self._wishes()])])
        torch.distributed.all_reduce(every)
        for p, gradient in zip(parameters, every[:-3].split([p.numel() for p in parameters]), strict=True):
            p.grad = gradient.view_as(p)
        fitting, save, stop = every[-3:].tolist()
        self.agreed = save > 0, stop > 0
        return fitting == count

    def _backward(self, batch: AskedRows, weight: float) -> torch.Tensor:
        """Adds this micro-batch's share to the gradient: the mean over all rows of the step, wherever they are.

        Args:
            weight: of each row, 1 / rows in the step.
        """
        rest = weight != 1 / self._usual_rows  # of an epoch: its shapes do not come again
        if self.memory.recorded and not rest and self.answers.can_be_recorded(batch):
            return self.recorder(batch, weight)
        loss = self.loss_of(batch, weight)
        self.accelerator.backward(loss)
        return loss.detach()

    # %% validation
    def _scoring_variant(self) -> str:
        """Which weights are scored with: SWA's average, else EMA's, else the weights themselves."""
        if self.config.use_swa and self.averages["swa"].updates:
            return "swa"
        return "ema" if self.config.use_ema and self.averages["ema"].updates else "raw"

    @contextlib.contextmanager
    def _weights(self, variant: str) -> Iterator[None]:
        if variant == "raw":
            yield
        else:
            with self.averages[variant].applied(self.parameters):
                yield

    def _validate(self, epoch: int, *, every_variant: bool) -> dict[str, Validation]:
        """Validation of the weights to score with; after the last epoch of all variants, to measure what each brings."""
        chosen = self._scoring_variant()
        names = ["raw", *(n for n, a in self.averages.items() if a.updates)] if every_variant else [chosen]
        found = {}
        for name in names:
            started = time.monotonic()
            with self._weights(name):
                found[name] = self._read(f"validation ({name})" if len(names) > 1 else "validation")
            if self.schedule and self.validation:
                self.schedule.pace.read = (time.monotonic() - started) / len(self.validation)
            result = found[name]
            if self.accelerator.is_main_process:
                self.log.write(
                    "epoch", fold=self.fold, epoch=epoch, variant=name, accuracy=result.accuracy.value, nll=result.loss,
                    standard_error=result.accuracy.standard_error, n=result.accuracy.n, chosen=name == chosen,
                    right=pack_right(result.right),  # what choosing the best epoch adds to its accuracy is measured from these
                )
        shown = found[chosen]
        if self.accelerator.is_main_process:
            when = "untrained" if epoch < 0 else f"epoch {epoch + 1}"
            tqdm.write(f"fold {self.fold} {when}: accuracy {shown.accuracy} ({chosen}), loss {shown.loss:.3f}")
        return found

    @functools.cached_property
    def _validation_rows(self) -> list[Any]:
        return encode_rows(self.maker, self.validation, [None] * len(self.validation), self.base.plan.workers)

    def _read(self, title: str) -> Validation:
        questions, rows = self.validation, self._validation_rows
        ways = read_rows(self.answers, self.maker, rows, self.config.eval_batch_size, self.base.plan, title=title)
        logprobs = [without_empty(question, way)[0] for question, way in zip(questions, ways, strict=True)]
        own = [values - np.logaddexp.reduce(values) for values in logprobs]  # among the row's choices
        answers = np.array([-1 if q.answer is None else q.answer for q in questions])
        known = answers >= 0
        right = (np.array([values.argmax() for values in own]) == answers)[known]
        accuracy = accuracy_of_right(right, None if self.groups is None else self.groups[known])
        losses = [-values[a] for values, a in zip(own, answers, strict=True) if a >= 0]
        return Validation(logprobs, accuracy, float(np.mean(losses)) if losses else float("nan"), right)

    def _save(self, name: str, variant: str, epoch: int, found: Validation) -> None:
        if not self.accelerator.is_main_process:
            return
        with self._weights(variant):
            save_trained(self.model, self.folder / name, dict(
                fold=self.fold, epoch=epoch, variant=variant, accuracy=found.accuracy.value, right=found.accuracy.right,
                rows=found.accuracy.n, clusters=found.accuracy.record[2:], loss=found.loss, rollbacks=self.rollbacks,
            ))


def _is_better(new: Validation, old: Validation) -> bool:
    """Higher accuracy; at the same accuracy the lower loss."""
    return (new.accuracy.value, -new.loss) > (old.accuracy.value, -old.loss)
