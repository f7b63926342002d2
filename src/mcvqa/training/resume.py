"""Resume points of a fold: when they are written, going on from the newest, and going back after lost steps."""
import dataclasses
import time
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from tqdm.auto import tqdm

from mcvqa.base.files import damaged_file, or_nan
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
STATE_FORMAT = 2  # of resume points; a later version may need another
SKIPS_ON_END = 20  # steps without a finite gradient, after which a fold is rolled back
MOST_ROLLBACKS = 3


# %% trained weights
class KeptWeights:
    """The checkpoints that a fold leaves: best/, last/ and one folder for each other variant.

    Attributes:
        best_epoch, best: of the weights in best/, counted from 0; None: there are none yet.
    """

    def __init__(self, job: FoldJob, stepper: Stepper, evaluator: Evaluator) -> None:
        self.job, self.stepper, self.evaluator = job, stepper, evaluator
        self.best_epoch = -1
        self.best: Validation | None = None

    def keep(self, epoch: int, results: dict[str, Validation], chosen: str, *, last: bool) -> None:
        """Save what is best so far; after the last epoch every variant.

        Args:
            results: validation of each variant.
            chosen: the variant to score with.

        Raises:
            NotSaved: the disk is full or gone.
        """
        if self.best is None or results[chosen].is_better(self.best):
            self.best_epoch, self.best = epoch, results[chosen]
            self.save("best", chosen, epoch, self.best)
        for variant, result in results.items() if last else ():
            self.save("last" if variant == chosen else variant, variant, epoch, result)

    def save(self, name: str, variant: str, epoch: int, result: Validation) -> None:
        """Save one variant's weights as the folder `name`, in the main process."""
        if not is_main_process():
            return
        with self.evaluator.weights(variant):
            save_trained(self.stepper.model, self.job.folder / name, dict(
                fold=self.job.fold, epoch=epoch, variant=variant, accuracy=result.accuracy.value, right=result.accuracy.right,
                rows=result.accuracy.n, clusters=result.accuracy.record[2:], loss=result.loss,
                rollbacks=self.stepper.state.rollbacks,
            ))

    def find_best(self) -> None:
        """After a resume: take over what best/ holds."""
        self.best_epoch, self.best = by_main(self._best_on_disk)

    def _best_on_disk(self) -> tuple[int, Validation | None]:
        """Epoch and result of the weights in best/, maybe of an epoch that is to be repeated: then it is found again, unless
        it is of before a rollback."""
        state = self.stepper.state
        try:
            facts = verified(self.job.folder / "best")
        except CheckpointError as error:
            tqdm.write(f"  {error} Going on: the best of the epochs that follow is kept.")
            return -1, None
        if facts["epoch"] >= state.epochs_done and facts["rollbacks"] < state.rollbacks:
            return -1, None
        accuracy = Accuracy(facts["right"], facts["rows"], *facts.get("clusters", []))
        return facts["epoch"], Validation([], accuracy, or_nan(facts["loss"]))

    def forget_after(self, epochs_done: int) -> None:
        """After a rollback: what was best in an epoch that is trained again does not count."""
        if self.best_epoch >= epochs_done:
            self.best_epoch, self.best = -1, None


# %% resume points
class ResumePoints:
    """Writes the resume points of a fold, and takes them over.

    Attributes:
        newest: name of the newest point.
        saved_at: when it was written, or tried; a time of time.monotonic().
    """

    def __init__(self, job: FoldJob, stepper: Stepper, kept: KeptWeights) -> None:
        self.job, self.stepper, self.kept, self.folder = job, stepper, kept, job.folder / RESUME
        self.newest, self.saved_at = "", time.monotonic()
        self._earlier, self._started = 0.0, time.time()

    def seconds(self) -> float:
        """Time that the fold took, in all sessions."""
        return self._earlier + time.time() - self._started

    def is_due(self) -> bool:
        return time.monotonic() - self.saved_at >= 60 * self.job.config.save_minutes

    def save(self, *, begins_epoch: bool = False) -> None:
        """Write a resume point, if there is none of this very step. Where the disk is full the training goes on.

        Args:
            begins_epoch: training may go back to it; not where it is among lost steps.
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
        except NotSaved as error:
            told = f"fold {self.job.fold} step {state.step}: {error}. Training goes on"
            tqdm.write(f"{told}; the resume point before this one stays.")

    def go_on(self) -> None:
        """Take over the newest resume point, if there is one.

        Raises:
            TrainingError: it is of other settings or rows.
        """
        point, job = by_main(newest_point, self.folder), self.job
        if point is None:
            return
        tensors, facts = read_point(point)
        if differences := self._differences(facts):
            stop_all(TrainingError("\n".join((
                f"Fold {job.fold} was cut off at another state of things, in {point}:", *differences,
                f"Go on as it was, or delete {point.parent} to begin this fold anew.",
            ))))
        self._take_over(tensors, facts)
        self._earlier, self.newest = facts["seconds"], point.name
        memory = job.memory
        if not memory.rows and facts["memory_terms"] == self._memory_terms():
            vars(memory).update({name: facts["memory"][name] for name in vars(memory) if name in facts["memory"]})
        if self.stepper.state.epochs_done:
            self.kept.find_best()
        tqdm.write(f"  fold {job.fold} goes on after step {self.stepper.state.step} of {self.stepper.plan.total}")

    def must_roll_back(self) -> bool:
        return self.stepper.state.skipped_on_end == SKIPS_ON_END

    def roll_back(self) -> None:
        """After twenty lost steps on end: back to the beginning of the epoch, with half the learning rate from there on.

        The beginning of an epoch, and not the newest resume point: where that is depends on the clock and on cuts.

        Raises:
            TrainingError: that has been done three times, or the resume point cannot be read.
        """
        job, state = self.job, self.stepper.state
        point, skipped, rollbacks, lost_at = self.folder / state.anchor, state.skipped, state.rollbacks + 1, state.step
        why = f"Fold {job.fold}: no finite gradient in {SKIPS_ON_END} steps on end, up to step {lost_at}"
        whole = bool(state.anchor) and by_main(damaged_file, point) is None
        if rollbacks > MOST_ROLLBACKS or not whole:
            tried = f"after {state.rollbacks} rollbacks" if whole else "and there is no resume point to go back to"
            rate = self.stepper.plan.learning_rate(lost_at - 1, state.rollbacks)
            stop_all(TrainingError(
                f"{why}, {tried} (learning rate {rate:.2g}). Lower learning_rate (now {job.config.learning_rate:g}) or "
                "set precision=float32."
            ))
        self._take_over(*read_point(point))
        state.skipped, state.rollbacks = skipped, rollbacks
        self.kept.forget_after(state.epochs_done)
        tqdm.write(f"{why}. Back to step {state.step}, with half the learning rate (rollback {rollbacks} of {MOST_ROLLBACKS})")
        if is_main_process():
            job.log.write("rollback", fold=job.fold, step=lost_at, to=state.step, rollbacks=rollbacks)
        self.save(begins_epoch=True)

    def _take_over(self, tensors: dict[str, torch.Tensor], facts: dict[str, Any]) -> None:
        """Set everything to what it was when a resume point was written."""
        self.stepper.answers.move_to_float32(facts["float32"])
        self.stepper.state.restore(tensors, facts)
        own = facts["generators"][PartialState().process_index :]
        if own:  # with more processes than before the new ones draw from their own seeds
            set_generator_states(own[0])

    def _differences(self, facts: dict[str, Any]) -> list[str]:
        """One line for each difference that matters between a resume point and this run."""
        if facts["format"] != STATE_FORMAT:
            return [f"  it has format {facts['format']}, this version of mcvqa reads {STATE_FORMAT}"]
        other_rows = facts["rows_key"] != self.job.rows_key
        return weight_changes(facts["settings"], self.job.config) + ["  other rows or photographs"] * other_rows

    def _memory_terms(self) -> list[Any]:
        """What the division of a step was found for: with other terms it is searched anew."""
        config, plan = self.job.config, self.job.base.plan
        return [
            config.batch_size, config.micro_batch, config.gradient_checkpointing, plan.device, plan.memory,
            self.stepper.accelerator.num_processes,
        ]
