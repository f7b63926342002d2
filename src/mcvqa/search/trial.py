"""Does one trial: a run that trains one fold and scores its validation rows, reporting every epoch to the study."""
import dataclasses
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from mcvqa.base.files import RunLog, write_json
from mcvqa.config import Config, ConfigError
from mcvqa.model.device import plan_device
from mcvqa.report.experiments import read_experiment, record_experiment, update_index
from mcvqa.run.dataset import RunData, read_run_data, require_photographs
from mcvqa.run.execution import Execution, prepare_model
from mcvqa.run.folds import split_rows, write_folds
from mcvqa.run.of_search import CHOSEN_ON
from mcvqa.run.paths import RunPaths
from mcvqa.run.project import Project, RunStopped, settle_prompt, settle_settings
from mcvqa.run.session import run_session
from mcvqa.run.steps import score_folds, train_folds
from mcvqa.scoring.scores import Scores, joined, load_scores
from mcvqa.search.judge import Judgement, judged
from mcvqa.search.study import OF_STEPS, SearchPlan, SearchStudy, Taken
from mcvqa.training.job import TrainingError


class PrunedTrial(BaseException):
    """Raised when a trial has fallen behind the others. Like TimeUp it is no error: code that recovers from errors must not catch
    it."""


# %% every epoch is reported
@dataclass
class EpochReports:
    """Passes on what a fold's training writes into its run's log.

    A trial that resumes after its process was killed also reports earlier epochs.

    Args:
        trial: trial of Optuna.
        epochs: number of epochs of the whole training.

    Attributes:
        reported: share of the training in percent -> log-loss.
    """

    trial: Any
    epochs: int
    reported: dict[int, float] = dataclasses.field(default_factory=dict)

    def report(self, log: RunLog) -> None:
        """Report the new epochs of the log's attempt.

        Raises:
            PrunedTrial: others were better after an epoch that is not the last, and the trial is not the best of all already.
        """
        for event in log.events("epoch", "epoch", "chosen", "nll"):
            share = OF_STEPS * (event["epoch"] + 1) // self.epochs
            is_of_attempt = event.get("attempt", "") == log.facts.get("attempt", "")
            if event["chosen"] and is_of_attempt and share not in self.reported and event["nll"] is not None:
                self.reported[share] = event["nll"]
                self.trial.report(event["nll"], share)
        if self.reported and max(self.reported) < OF_STEPS and self.trial.should_prune() and not self._beats_the_best():
            raise PrunedTrial

    def _beats_the_best(self) -> bool:
        """Return whether the log-loss is lower than the final one of any trial.

        If training too long raises the loss, comparing only early epochs would keep the trials that learn, and overfit, fastest.
        """
        ends = [one.value for one in self.trial.study.get_trials(deepcopy=False) if one.state.name == "COMPLETE"]
        return bool(ends) and self.reported[max(self.reported)] < min(ends)

    @property
    def epochs_done(self) -> int:
        return round(max(self.reported, default=0) * self.epochs / OF_STEPS)


class ReportedLog(RunLog):
    """Reports epochs as they are written to a run's log, by the training itself: a trial ends between two steps."""

    def __init__(self, log: RunLog, reports: EpochReports) -> None:
        super().__init__(log.path, log.facts)
        self.reports = reports

    def with_facts(self, **facts: Any) -> RunLog:
        return ReportedLog(super().with_facts(**facts), self.reports)

    def write(self, event: str, **figures: Any) -> None:
        super().write(event, **figures)
        if event == "epoch" and figures["chosen"]:
            self.reports.report(self)


# %% a run without its report
def trained_and_scored(
    config: Config, work: Callable[[Execution], None], reports: EpochReports | None = None
) -> tuple[Project, RunData]:
    """Open the run, read its data and let `work` train and score.

    Args:
        config: settings of the run.
        work: executes the tasks.
        reports: receives the epochs.
    """
    with run_session(config) as project:
        if reports:
            project = dataclasses.replace(project, log=ReportedLog(project.log, reports))
        settle_settings(project)
        data = split_rows(read_run_data(project), project.config)
        write_folds(project, data)
        project = settle_prompt(project, data.train)
        require_photographs(project, data)
        with prepare_model(project, data, plan_device(project.config)) as execution:
            work(execution)
        return project, data


def out_of_fold(project: Project, data: RunData) -> Scores:
    """Read the run's scores of the validation rows of all its folds."""
    return joined([load_scores(project.paths.scores_of(fold, "oof")) for fold in project.config.folds_to_train])


def judged_run(data: RunData, scores: Scores) -> Judgement:
    """Judge out-of-fold scores on the rows of `data`."""
    answers = {q.id: q.answer for q in data.train if q.answer is not None}
    return judged(scores, answers, dict(zip((q.id for q in data.train), data.groups.tolist(), strict=True)))


# %% a trial
def do_trial(study: SearchStudy, taken: Taken) -> None:
    """Train and judge a trial that this process owns, and report it to the study.

    Args:
        study: the study.
        taken: the trial.

    Raises:
        McvqaError: the search cannot go on, for example because the data are missing.
        Interrupted, TimeUp: the trial is repeated when the search resumes.
    """
    plan, trial, config = study.plan, taken.trial, taken.config
    reports, began = EpochReports(trial, config.num_epochs), time.monotonic()
    paths = RunPaths(plan.paths.root, config.run)
    try:
        project, data = trained_and_scored(config, _train_and_score_fold, reports)
        scores = out_of_fold(project, data)
        scores.save(plan.paths.scores / f"{config.run}.npz")
        judgement = judged_run(data, scores)
        trial.set_user_attr("accuracy", judgement.accuracy.record)
        trial.set_user_attr("error", judgement.standard_error)
        _settle(plan, taken, reports, began, "trial", f"log-loss {judgement.log_loss:.4f}, accuracy {judgement.accuracy}")
        study.study.tell(trial, judgement.log_loss)
    except PrunedTrial:
        shutil.rmtree(paths.checkpoints, ignore_errors=True)  # it never goes on
        _settle(plan, taken, reports, began, "pruned", f"ended after {reports.epochs_done} of {reports.epochs} epochs")
        study.study.tell(trial, state=_state("PRUNED"))
    except (TrainingError, ConfigError, RunStopped) as error:
        if isinstance(error, RunStopped) and not isinstance(error.__cause__, (MemoryError, torch.cuda.OutOfMemoryError)):
            raise
        shutil.rmtree(paths.checkpoints, ignore_errors=True)
        note = str(error).splitlines()[0]
        _settle(plan, taken, reports, began, "failed", note)
        study.fail(trial, note)
    finally:
        taken.ownership.give_back()


def _state(name: str) -> Any:
    from optuna.trial import TrialState

    return TrialState[name]


def _train_and_score_fold(execution: Execution) -> None:
    config = execution.project.config
    fold = config.folds_to_train[0]
    train_folds(execution, fold)
    execution.run([*execution.training(), *execution.scoring(config)], [f"score fold {fold} oof"])


def _settle(plan: SearchPlan, taken: Taken, reports: EpochReports, began: float, status: str, note: str) -> None:
    """Record a trial with its status in its study and in the index of runs."""
    seconds, folder = time.monotonic() - began, RunPaths(plan.paths.root, taken.config.run).experiment
    taken.trial.set_user_attr("seconds", round(seconds, 2))
    taken.trial.set_user_attr("epochs", reports.epochs_done)
    write_json(folder / CHOSEN_ON, {"study": plan.name, "trial": taken.trial.number, "folds": [plan.fold]})
    message = f"trial {taken.trial.number + 1} of the search {plan.name}, fold {plan.fold} only: {note}"
    record_experiment(folder, status=status, seconds=seconds, note=message)
    update_index(folder.parent)


# %% the best on all folds
def confirm(plan: SearchPlan, values: Mapping[str, Any]) -> Judgement:
    """Train and score all folds of a run; the fold that judged it as a trial is already trained.

    Args:
        plan: plan of the search.
        values: values of the searched settings.

    Raises:
        Owned: another process does it.
    """
    config = plan.final_config(values).replace(executor="inline", report_to=(), members=(), answer_by="letters")
    project, data = trained_and_scored(config, _train_and_score_all)
    judgement = judged_run(data, out_of_fold(project, data))
    folder = project.paths.experiment
    if read_experiment(folder).accuracy is None:  # else the run finished on its own
        note = f"of the search {plan.name}, all folds: log-loss {judgement.log_loss:.4f}, accuracy {judgement.accuracy}"
        seconds = sum(event["seconds"] for event in project.log.events("session", "seconds"))
        record_experiment(folder, status="trial", seconds=seconds, note=note)
        update_index(folder.parent)
    return judgement


def _train_and_score_all(execution: Execution) -> None:
    train_folds(execution)
    score_folds(execution)
