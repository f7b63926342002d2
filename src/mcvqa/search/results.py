"""Collects the results of a search: all trials, the best first, ties, and the other folds' results of the best few."""
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mcvqa.base.files import read_json, write_json, write_text
from mcvqa.base.uncertainty import spell_error
from mcvqa.report.experiments import settings_text
from mcvqa.run.dataset import RunData
from mcvqa.run.of_search import TRIALS_FILE
from mcvqa.run.project import RunStopped
from mcvqa.scoring.scores import load_scores
from mcvqa.search.judge import Judgement
from mcvqa.search.study import SearchPlan, was_killed
from mcvqa.search.trial import judged_run


# %% one trial
@dataclass(frozen=True, eq=False)
class TrialResult:
    """Holds the result of a trial.

    Attributes:
        number: from 1.
        state: complete, pruned, failed, killed or running.
        values: values of the searched settings.
        reported: share of the training in percent -> log-loss.
        judged: result on the rows of the judging fold; None: not complete.
        note: why it failed.
    """

    number: int
    state: str
    run: str
    values: Mapping[str, Any]
    reported: Mapping[int, float]
    judged: Judgement | None
    seconds: float = 0.0
    epochs: int = 0
    note: str = ""

    @property
    def measured(self) -> str:
        """Describe the result: 'log-loss 0.712 ± 0.031, accuracy 0.730 ± 0.026 (n=300)', or what happened instead."""
        if self.judged is not None:
            return f"log-loss {_loss_and_error(self.judged)}, accuracy {self.judged.accuracy}"
        last = f", log-loss {self.reported[max(self.reported)]:.3f} then" if self.reported else ""
        return f"{self.state}{last}" + (f": {self.note}" if self.note else "")


def trial_results(plan: SearchPlan, data: RunData, trials: Sequence[Any]) -> list[TrialResult]:
    """Collect the trials of a study, oldest first.

    Args:
        plan: plan of the search.
        data: rows, with folds.
        trials: trials of Optuna.
    """
    return [trial_result(plan, data, trial) for trial in trials]


def trial_result(plan: SearchPlan, data: RunData, trial: Any) -> TrialResult:
    """Collect one trial of Optuna, with its scores of each row."""
    facts, names = trial.user_attrs, {"FAIL": "killed" if was_killed(trial) else "failed"}
    run, complete = facts.get("run", ""), trial.state.name == "COMPLETE"
    return TrialResult(
        trial.number + 1, names.get(trial.state.name, trial.state.name.lower()), run, facts.get("values", trial.params),
        trial.intermediate_values,
        judged_run(data, load_scores(plan.paths.scores / f"{run}.npz")) if complete else None, facts.get("seconds", 0.0),
        facts.get("epochs", 0), facts.get("note", ""),
    )


# %% all of them
@dataclass(frozen=True)
class Confirmed:
    """Describes a run of the search that was trained on all folds.

    Attributes:
        trial: its trial.
        everywhere: result on the rows of all folds.
        elsewhere: result on the rows of the folds that did not judge the trials; None: there is only one fold.
    """

    trial: TrialResult
    everywhere: Judgement
    elsewhere: Judgement | None


@dataclass(frozen=True)
class SearchOutcome:
    """Holds the outcome of a search.

    Attributes:
        trials: oldest first.
        confirmed: the best few, the best on all folds first.
    """

    plan: SearchPlan
    trials: tuple[TrialResult, ...]
    confirmed: tuple[Confirmed, ...] = field(default=())

    @property
    def ranked(self) -> list[TrialResult]:
        """List the complete trials with different settings, the lowest log-loss first."""
        return ranked(self.trials)

    @property
    def best(self) -> TrialResult:
        """The best trial on all folds, if some were confirmed, else the best on the judging fold."""
        return self.confirmed[0].trial if self.confirmed else self.ranked[0]

    @property
    def ties(self) -> list[TrialResult]:
        """List trials that the rows cannot distinguish from the best one."""
        first, *others = self.ranked
        assert first.judged is not None
        return [one for one in others if one.judged is not None and one.judged.ties_with(first.judged)]


def ranked(trials: Sequence[TrialResult]) -> list[TrialResult]:
    """List the complete trials with different settings, the lowest log-loss first.

    Raises:
        RunStopped: there is none.
    """
    complete = {one.run: one for one in reversed(trials) if one.judged is not None}
    if not complete:
        reason = next((f" ({one.note})" for one in trials if one.note), "")
        raise RunStopped(f"No trial was trained to the end{reason}. Start from a lower learning_rate, or allow more time.")
    return sorted(complete.values(), key=lambda one: (one.judged.log_loss if one.judged else 0.0, one.number))


def confirmed_result(plan: SearchPlan, data: RunData, trial: TrialResult, everywhere: Judgement) -> Confirmed:
    """Make the result of a confirmed run, on all rows and on those of the folds that did not judge the trials.

    Args:
        plan: plan of the search.
        data: rows, with folds.
        trial: the trial.
        everywhere: result on the rows of all folds.
    """
    rows = np.flatnonzero(data.validated(plan.fold)).tolist()
    elsewhere = ~np.isin(everywhere.ids, [data.train[row].id for row in rows])
    parts = (getattr(everywhere, name)[elsewhere] for name in ("ids", "losses", "right", "groups"))
    return Confirmed(trial, everywhere, Judgement(*parts) if elsewhere.any() else None)


# %% written
def write_outcome(outcome: SearchOutcome) -> Path:
    """Write trials.json and best.yaml, and return the latter.

    What earlier calls have confirmed stays: this one may have ended before it could read it again.
    """
    folder = outcome.plan.paths.experiment
    complete = ranked(outcome.trials)
    others = [one for one in outcome.trials if one not in complete]
    confirmed = _confirmed_before(folder / TRIALS_FILE) | {one.trial.run: _confirmed_figures(one) for one in outcome.confirmed}
    write_json(folder / TRIALS_FILE, [_record(one, confirmed) for one in (*complete, *others)])
    known = [one for one in complete if one.run in confirmed]
    first = min(known, key=lambda one: confirmed[one.run]["all_folds"]["log_loss"], default=complete[0])
    best = outcome.best if outcome.confirmed else first
    config = outcome.plan.final_config(best.values).replace(time_budget=outcome.plan.config.time_budget)
    write_text(folder / "best.yaml", config.to_yaml())
    return folder / "best.yaml"


def _confirmed_before(file: Path) -> dict[str, dict[str, Any]]:
    """Read from trials.json: run -> its figures on all folds and on the other folds."""
    records = read_json(file, list) if file.exists() else []
    return {one["run"]: {name: one[name] for name in ("all_folds", "other_folds")} for one in records if "all_folds" in one}


def _confirmed_figures(one: Confirmed) -> dict[str, Any]:
    return {"all_folds": _figures(one.everywhere), "other_folds": _figures(one.elsewhere) if one.elsewhere else None}


def _record(one: TrialResult, confirmed: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    record: dict[str, Any] = {"trial": one.number, "run": one.run, "state": one.state, "settings": dict(one.values)}
    record |= {"seconds": one.seconds, "epochs": one.epochs, "note": one.note}
    if one.judged is not None:
        record |= _figures(one.judged)
        record |= confirmed.get(one.run, {})
    return record


def _figures(one: Judgement) -> dict[str, Any]:
    return {"log_loss": one.log_loss, "standard_error": one.standard_error, "accuracy": one.accuracy.record}


def outcome_lines(outcome: SearchOutcome) -> Iterator[str]:
    """Yield the outcome for a terminal, line by line."""
    first, ties = outcome.ranked[0], [str(one.number) for one in outcome.ties]
    yield f"\nbest on fold {outcome.plan.fold}: trial {first.number}, {first.measured}: {settings_text(first.values)}"
    if ties:
        who = f"trials {', '.join(ties)} differ" if len(ties) > 1 else f"trial {ties[0]} differs"
        yield (
            f"a tie: {who} from the best by no more than two standard errors of the difference. These rows cannot tell which "
            "is best."
        )
    for one in outcome.confirmed:
        line = f"confirmed: trial {one.trial.number}, log-loss {_loss_and_error(one.everywhere)} on all folds"
        if one.elsewhere is not None:
            line += f"; on the other folds {_loss_and_error(one.elsewhere)}, accuracy {one.elsewhere.accuracy}"
        yield line
    if not outcome.confirmed:
        yield "not confirmed on other folds: the log-loss of the best of many trials is probably too optimistic."


def _loss_and_error(one: Judgement) -> str:
    return spell_error(one.log_loss, one.standard_error)
