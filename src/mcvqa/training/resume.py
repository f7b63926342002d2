"""Manages the resume points of a fold: saving, resuming from the newest, and rolling back after skipped steps."""
import dataclasses
import time
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from tqdm.auto import tqdm

from mcvqa.base.files import damaged_file, or_nan
from mcvqa.base.informing import counted
from mcvqa.base.uncertainty import Accuracy
from mcvqa.config import weight_changes
from mcvqa.model.distributed import by_main, is_main_process, stop_all
from mcvqa.training.checkpoint import (
    CheckpointError,
    NotSaved,
    newest_point,
    read_point,
    save_point,
    save_trained,
    verified,
)
from mcvqa.training.evaluate import Evaluator, Validation
from mcvqa.training.job import FoldJob, TrainingError
from mcvqa.training.state import generator_states, set_generator_states
from mcvqa.training.step import Stepper

RESUME = "resume"  # folder of a fold's resume points
STATE_FORMAT = 2  # of resume points; a later version may change it
SKIPS_ON_END = 20  # skipped steps in a row after which a fold is rolled back
MOST_ROLLBACKS = 3


# %% trained weights
class KeptWeights:
    """Manages the checkpoints of a fold: best/, last/ and one folder for each other variant.

    Attributes:
        best_epoch: epoch of the weights in best/, counted from 0; -1: there are none yet.
        best: their validation result; None: there are none yet.
    """

    def __init__(self, job: FoldJob, stepper: Stepper, evaluator: Evaluator) -> None:
        self.job, self.stepper, self.evaluator = job, stepper, evaluator
        self.best_epoch = -1
        self.best: Validation | None = None

    def keep(self, epoch: int, results: dict[str, Validation], chosen: str, *, last: bool) -> None:
        """Save the weights if they are the best so far, or if nothing validates them; after the last epoch save every variant.

        Args:
            epoch: number of the epoch, from 0.
            results: validation result of each variant.
            chosen: the variant used for scoring.
            last: whether this was the last epoch.

        Raises:
            NotSaved: the disk is full or unavailable.
        """
        if self.best is None or not self.job.validation or results[chosen].is_better(self.best):
            self.best_epoch, self.best = epoch, results[chosen]
            self.save("best", chosen, epoch, self.best)
        for variant, result in results.items() if last else ():
            self.save("last" if variant == chosen else variant, variant, epoch, result)

    def save(self, name: str, variant: str, epoch: int, result: Validation) -> None:
        """Save one variant's weights; only the main process writes.

        Args:
            name: name of the folder.
            variant: 'raw', 'ema' or 'swa'.
            epoch: number of the epoch, from 0.
            result: validation result of the variant.
        """
        if not is_main_process():
            return
        with self.evaluator.weights(variant):
            save_trained(self.stepper.model, self.job.folder / name, dict(
                fold=self.job.fold, epoch=epoch, variant=variant, accuracy=result.accuracy.value, right=result.accuracy.right,
                rows=result.accuracy.n, clusters=result.accuracy.record[2:], loss=result.loss,
                rollbacks=self.stepper.state.rollbacks,
            ), self.job.beside)

    def restore_best(self) -> None:
        """Read the best weights' epoch and result from best/ after a resume."""
        self.best_epoch, self.best = by_main(self._best_on_disk)

    def _best_on_disk(self) -> tuple[int, Validation | None]:
        """Read the epoch and result of the weights in best/.

        They may belong to an epoch that will be repeated with the same result, unless it was rolled back.
        """
        state = self.stepper.state
        try:
            facts = verified(self.job.folder / "best")
        except CheckpointError as error:
            tqdm.write(f"  {error} Continuing; the best of the following epochs is kept.")
            return -1, None
        if facts["epoch"] >= state.epochs_done and facts["rollbacks"] < state.rollbacks:
            return -1, None
        accuracy = Accuracy(facts["right"], facts["rows"], *facts.get("clusters", []))
        return facts["epoch"], Validation([], accuracy, or_nan(facts["loss"]))

    def forget_after(self, epochs_done: int) -> None:
        """Forget a best epoch that is trained again after a rollback."""
        if self.best_epoch >= epochs_done:
            self.best_epoch, self.best = -1, None


# %% resume points
class ResumePoints:
    """Writes and restores the resume points of a fold.

    Attributes:
        newest: name of the newest point; '' if there is none.
        saved_at: time.monotonic() of the last attempt to save.
    """

    def __init__(self, job: FoldJob, stepper: Stepper, kept: KeptWeights) -> None:
        self.job, self.stepper, self.kept, self.folder = job, stepper, kept, job.folder / RESUME
        self.newest, self.saved_at = "", time.monotonic()
        self._earlier, self._started = 0.0, time.monotonic()

    def seconds(self) -> float:
        """Return the time spent on the fold in all sessions."""
        return self._earlier + time.monotonic() - self._started

    def is_due(self) -> bool:
        return time.monotonic() - self.saved_at >= 60 * self.job.config.save_minutes

    def save(self, *, begins_epoch: bool = False) -> None:
        """Write a resume point, unless this step has one. If the disk is full, training continues without it.

        Args:
            begins_epoch: a rollback may return to this point, unless the last steps were skipped.
        """
        stepper, state = self.stepper, self.stepper.state
        self.saved_at = time.monotonic()
        generators = gather_object([generator_states()])
        point = f"{state.rollbacks}-{state.epochs_done:04d}-{state.step:08d}"
        if begins_epoch and not state.skipped_on_end:
            state.anchor = point
        if point == self.newest or not is_main_process():
            return
        facts = {
            "format": STATE_FORMAT, "settings": self.job.config.as_dict(), "rows_key": self.job.rows_key,
            "seconds": round(self.seconds(), 1), "memory": dataclasses.asdict(self.job.memory),
            "memory_terms": self._memory_terms(), "generators": generators, "float32": stepper.answers.in_float32(),
            **state.facts(),
        }
        try:
            save_point(self.folder / point, state.tensors(), facts, state.anchor)
            self.newest = point
            if self.job.on_point:
                self.job.on_point()
        except NotSaved as error:
            message = f"{self.job.title} step {state.step}: {error}. Training continues"
            tqdm.write(f"{message}; the previous resume point is kept.")

    def resume(self) -> None:
        """Continue from the newest resume point, if there is one.

        Raises:
            TrainingError: it has other settings or rows.
        """
        point, job = by_main(newest_point, self.folder), self.job
        if point is None:
            return
        tensors, facts = read_point(point)
        if differences := self._differences(facts):
            stop_all(TrainingError("\n".join((
                f"{job.title.capitalize()} was interrupted with other settings or rows, in {point}:", *differences,
                f"Restore them to continue, or delete {point.parent} to start this fold again.",
            ))))
        self._restore(tensors, facts)
        self._earlier, self.newest = facts["seconds"], point.name
        memory = job.memory
        if not memory.rows and facts["memory_terms"] == self._memory_terms():
            vars(memory).update({name: facts["memory"][name] for name in vars(memory) if name in facts["memory"]})
        if self.stepper.state.epochs_done:
            self.kept.restore_best()
        tqdm.write(f"  {job.title} resumes after step {self.stepper.state.step} of {self.stepper.plan.end}")

    def must_roll_back(self) -> bool:
        return self.stepper.state.skipped_on_end == SKIPS_ON_END

    def roll_back(self) -> None:
        """Return to the beginning of the epoch after twenty skipped steps in a row, and halve the learning rate.

        Not to the newest resume point, whose position depends on the clock and on interruptions.

        Raises:
            TrainingError: this is the fourth rollback, or the resume point cannot be read.
        """
        job, state = self.job, self.stepper.state
        point, skipped, rollbacks, failed_at = self.folder / state.anchor, state.skipped, state.rollbacks + 1, state.step
        why = f"{job.title.capitalize()}: no finite gradient in {SKIPS_ON_END} steps in a row, up to step {failed_at}"
        is_intact = bool(state.anchor) and by_main(damaged_file, point) is None
        if rollbacks > MOST_ROLLBACKS or not is_intact:
            after = f"after {counted(state.rollbacks, 'rollback')}"
            context = after if is_intact else "and there is no resume point to return to"
            rate = self.stepper.plan.learning_rate(failed_at - 1, state.rollbacks)
            stop_all(TrainingError(
                f"{why}, {context} (learning rate {rate:.2g}). Lower learning_rate (now {job.config.learning_rate:g}) or "
                "set precision=float32."
            ))
        self._restore(*read_point(point))
        state.skipped, state.rollbacks = skipped, rollbacks
        self.kept.forget_after(state.epochs_done)
        tqdm.write(f"{why}. Back to step {state.step}, with half the learning rate (rollback {rollbacks} of {MOST_ROLLBACKS})")
        if is_main_process():
            job.log.write("rollback", fold=job.fold, step=failed_at, to=state.step, rollbacks=rollbacks)
        self.save(begins_epoch=True)

    def _restore(self, tensors: dict[str, torch.Tensor], facts: dict[str, Any]) -> None:
        """Restore the state in which a resume point was written."""
        self.stepper.answers.move_to_float32(facts["float32"])
        self.stepper.state.restore(tensors, facts)
        states = facts["generators"][PartialState().process_index :]
        if states:  # additional processes keep the generators of their seeds
            set_generator_states(states[0])

    def _differences(self, facts: dict[str, Any]) -> list[str]:
        """Make one line for each relevant difference between a resume point and this run."""
        if facts["format"] != STATE_FORMAT:
            return [f"  its format is {facts['format']}, this version of mcvqa reads {STATE_FORMAT}"]
        other_rows = facts["rows_key"] != self.job.rows_key
        return weight_changes(facts["settings"], self.job.config) + ["  other rows or photographs"] * other_rows

    def _memory_terms(self) -> list[Any]:
        """Return the conditions of the memory plan; if they change, the micro-batch is searched again."""
        config, plan = self.job.config, self.job.base.plan
        return [
            config.batch_size, config.micro_batch, config.gradient_checkpointing, plan.device, plan.memory,
            self.stepper.accelerator.num_processes,
        ]
