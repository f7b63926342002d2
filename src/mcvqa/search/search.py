"""Searches for better settings with Optuna (`mcvqa search`). Each trial is a run; the best few are confirmed on the other
folds."""
import contextlib
import shlex
import time
from collections.abc import Collection
from pathlib import Path

from mcvqa.base.budget import TimeUp
from mcvqa.base.files import write_text
from mcvqa.base.informing import counted, informing
from mcvqa.config import NAME_RULE, Config, ConfigError, is_folder_name, settings_hash
from mcvqa.data.language import language_of_pages
from mcvqa.report.experiments import settings_text
from mcvqa.run.dataset import RunData, read_data
from mcvqa.run.folds import split_rows
from mcvqa.run.ownership import Owned
from mcvqa.run.paths import RunPaths
from mcvqa.run.project import RunStopped, open_project
from mcvqa.run.workers.pool import silent
from mcvqa.search.page import importances_of, write_search_page
from mcvqa.search.results import (
    Confirmed,
    SearchOutcome,
    TrialResult,
    confirmed_result,
    outcome_lines,
    trial_result,
    trial_results,
    write_outcome,
)
from mcvqa.search.searchers import POLL_EVERY, confirm_here
from mcvqa.search.space import default_space, own_values, read_space, searched_settings, space_as_yaml
from mcvqa.search.study import SearchPlan, SearchStudy, required_optuna
from mcvqa.search.where import confirm_with, output_here, search_with

SHARE_OF_TRIALS = 0.6  # of a time budget; the rest is for confirming the best
SECONDS_FOR_END = 60.0  # of a time budget, at most a twentieth, for judging and the page


def search_settings(
    config: Config, *, trials: int, parallel: int = 1, study: str = "", space: Path | None = None, storage: str = "",
    best: int = 3, by_hand: Collection[str] = (), prune: bool = True,
) -> SearchOutcome:
    """Try settings on one fold until the study has `trials` trials, and train the other folds of the best.

    Args:
        config: all settings, which are the values of the first trial.
        trials: number of trials in the study, including earlier calls.
        parallel: number of parallel processes.
        study: name of the study; empty: that of the run, with '-search'.
        space: YAML with the search space; None: the default.
        storage: URL of a database, or a file; empty: a journal in experiments/<study>.
        best: number of trials to confirm.
        by_hand: names of settings that stay fixed.
        prune: whether trials that fall behind are stopped.

    Returns:
        All trials, and the best.

    Raises:
        RunStopped: the search cannot begin or go on.
        Owned: another main process uses this study on the Ray cluster.
        ConfigError: the space is impossible.
        Interrupted: the same call resumes.
    """
    began = time.time()
    plan, left_out = make_plan(config, trials, study, space, storage, best, by_hand, prune, began)
    required_optuna()
    data = _data_of(plan)
    study_now = SearchStudy(plan)
    study_now.settle(data)
    write_text(plan.paths.experiment / "space.yaml", space_as_yaml(plan.space))
    _announce(plan, study_now, data, left_out)
    teller, is_over = _Teller(plan, data, study_now), False
    try:
        search_with(study_now, parallel, teller)
    except TimeUp:
        is_over = True
    finally:
        result = SearchOutcome(plan, tuple(trial_results(plan, data, study_now.trials)))
        with contextlib.suppress(RunStopped):  # there is nothing yet
            write_outcome(result)  # after Ctrl-C too
    if plan.confirm and not is_over:
        result = SearchOutcome(plan, result.trials, tuple(_confirmed(study_now, data, result.ranked[: plan.confirm], parallel)))
    return _written(result, study_now, data)


def make_plan(
    config: Config, trials: int, study: str, space: Path | None, storage: str, best: int, by_hand: Collection[str], prune: bool,
    began: float,
) -> tuple[SearchPlan, list[str]]:
    """Check the space and divide the time.

    Args:
        config, trials, study, space, storage, best, by_hand, prune: see `search_settings`.
        began: time.time() at the start of the search.

    Returns:
        The plan, and the settings of the space that were set by hand.

    Raises:
        ConfigError: the space or the name is impossible, or a `shared_dir` is set.
        RunStopped: a run has this name.
    """
    if config.shared_dir:
        raise ConfigError("A search does not use shared_dir: its trials need an output_dir that all machines see.")
    spelled = read_space(space) if space else default_space(config)
    where = str(space) if space else "The default search space"
    searched = {one.name for one in searched_settings(spelled, config, by_hand, where)}
    name = study or f"{config.run}-search"
    budget, several = config.budget_seconds, len(config.folds_to_train) > 1 and best > 0
    end = began + budget - min(SECONDS_FOR_END, budget / 20)
    if not (is_folder_name(name) and is_folder_name(f"{name}-{settings_hash({})}")):  # that of a trial's run
        raise ConfigError(f"--study {name!r} cannot be a folder name: {NAME_RULE}, including the hash of a trial at its end.")
    paths = RunPaths(Path(config.output_dir), name)
    if (paths.experiment / "config.yaml").exists() and not (paths.experiment / "study.json").exists():
        raise RunStopped(f"{paths.experiment} is the folder of a run. A study needs its own folder: --study NAME.")
    plan = SearchPlan(
        config.replace(run_name=""), name, storage or str(paths.experiment / "journal.log"),
        {name: value for name, value in spelled.items() if name in searched}, trials, best if several else 0, prune,
        began + SHARE_OF_TRIALS * budget if several else end, end,
    )
    return plan, [name for name in spelled if name not in searched]


def _data_of(plan: SearchPlan) -> RunData:
    with silent():
        project = open_project(plan.config.replace(run_name=plan.name))
        return split_rows(read_data(project), plan.config)


def _announce(plan: SearchPlan, study: SearchStudy, data: RunData, left_out: list[str]) -> None:
    rows, before = int(data.validated(plan.fold).sum()), len(study.finished())
    print(f"study {plan.name}: {counted(plan.trials, 'trial')}" + (f", {before} done before" if before else ""))
    print(f"  judged by the log-loss of the {counted(rows, 'row')} of fold {plan.fold}, which no trial trains on")
    print(f"  searched: {', '.join(plan.space)}")
    own_settings = own_values(plan.searched, plan.config)
    if outside := {one.name: getattr(plan.config, one.name) for one in plan.searched if one.name not in own_settings}:
        print(f"  outside the search space, so no trial has it: {settings_text(outside)}")
    if left_out:
        print(f"  set by hand, so not searched: {', '.join(left_out)}")


class _Teller:
    """Prints each trial when it ends."""

    def __init__(self, plan: SearchPlan, data: RunData, study: SearchStudy) -> None:
        self.plan, self.data, self.said = plan, data, {trial.number for trial in study.finished()}

    def __call__(self, study: SearchStudy) -> None:
        for trial in study.finished():
            if trial.number not in self.said:
                self.said.add(trial.number)
                one = trial_result(self.plan, self.data, trial)
                print(f"trial {one.number} ({len(self.said)}/{self.plan.trials}): {one.measured}: {settings_text(one.values)}")


def _confirmed(study: SearchStudy, data: RunData, best: list[TrialResult], parallel: int) -> list[Confirmed]:
    """Train the best on all folds, as far as there is time; the best on all folds comes first."""
    plan = study.plan
    confirmed: list[Confirmed] = []
    print(f"\nconfirming on the other folds: trials {', '.join(str(one.number) for one in best)}")
    try:
        confirm_with(study, parallel, {one.number: one.values for one in best})
        busy = [one for one in best if not _is_confirmed(plan, data, one, confirmed)]
        for one in busy:
            print(f"  trial {one.number} is being confirmed by another process; its result is waited for")
        while busy:  # an owner that dies leaves its run to this process
            time.sleep(POLL_EVERY)
            busy = [one for one in busy if not _is_confirmed(plan, data, one, confirmed)]
    except TimeUp:
        print("  the time budget is used up; run the same command again to resume")
    return sorted(confirmed, key=lambda one: one.everywhere.log_loss)


def _is_confirmed(plan: SearchPlan, data: RunData, one: TrialResult, confirmed: list[Confirmed]) -> bool:
    """Train the other folds of a trial and append its result to `confirmed`; False if another process does this now."""
    try:
        everywhere = confirm_here(plan, one.values, output_here(plan))
    except Owned:
        return False
    confirmed.append(confirmed_result(plan, data, one, everywhere))
    return True


def _written(outcome: SearchOutcome, study: SearchStudy, data: RunData) -> SearchOutcome:
    file, plan = write_outcome(outcome), outcome.plan
    print("\n".join(outcome_lines(outcome)))
    with informing("the page of the search"), study.lock:  # its figures are files for a moment, of each process that ends
        importances = importances_of(study.study, len(outcome.ranked), plan.config.seed)
        print(f"\npage       {write_search_page(outcome, importances, language_of_pages(data.train))}")
    print(f"settings   {file}\nuse them   mcvqa run --config {shlex.quote(str(file))}")
    if (done := len(study.finished())) < plan.trials:
        print(f"{done} of {plan.trials} trials were done; run the same command again for the others")
    return outcome
