"""Runs single steps for the command line: eda, folds, train, predict, ensemble, report, audit, explore."""
import time
from pathlib import Path

from mcvqa.base.informing import counted
from mcvqa.config import Config
from mcvqa.data.fixes import read_decisions
from mcvqa.data.prior import Prior
from mcvqa.insight.audit import FIXES, spell_audit, write_audit
from mcvqa.insight.explorer import ExploredRun, write_explorer
from mcvqa.model.device import plan_device
from mcvqa.model.distributed import by_each, by_main, join_processes
from mcvqa.run.dataset import RunData, fit_text_prior, read_run_data, require_photographs, restore_records
from mcvqa.run.execution import prepare_model
from mcvqa.run.exploration import explore_files
from mcvqa.run.explorer import EXPLORER_PAGE, explored_run, explorer_task
from mcvqa.run.folds import fold_summary, split_rows, write_folds
from mcvqa.run.insights import audit_of_run
from mcvqa.run.project import Project, RunStopped, open_project, require_same_settings, settle_prompt, settle_settings
from mcvqa.run.provenance import device_named
from mcvqa.run.results import Combined, Outcome, combine, require_members, run_members, write_results
from mcvqa.run.score import require_weights
from mcvqa.run.seeds import seed_runs
from mcvqa.run.session import owning, run_session
from mcvqa.run.steps import prior_note, score_folds, train_folds
from mcvqa.run.submissions import submit_prior
from mcvqa.run.tasks import Task


# %% with a model
def train_only(config: Config, fold: int | None = None) -> None:
    """Run steps 1 to 7.

    Args:
        config: all settings.
        fold: the only fold to train; None: all.

    Raises:
        RunStopped: there is no such fold.
    """
    join_processes(config)
    by_main(_require_fold, config, fold)
    with run_session(config) as project:
        by_main(settle_settings, project)
        data, prior = by_main(_prepare_data, project)
        project = by_main(settle_prompt, project, data.train)
        by_main(_first_submission, project, data, prior)
        with prepare_model(project, data, by_each(plan_device, config)) as execution:
            train_folds(execution, fold)
    for other in seed_runs(config) if fold is None else ():
        train_only(other)


def _require_fold(config: Config, fold: int | None) -> None:
    if fold is not None and fold not in config.folds_to_train:
        raise RunStopped(f"There is no fold {fold}: the settings have folds {', '.join(map(str, config.folds_to_train))}.")


def _first_submission(project: Project, data: RunData, prior: Prior) -> None:
    submit_prior(project, data, prior)
    require_photographs(project, data, prior_note(project, prior) if data.test else "")


def _prepare_data(project: Project) -> tuple[RunData, Prior]:
    """Check settings and data against those of the run, assign folds and fit the prior."""
    require_same_settings(project)
    data = split_rows(read_run_data(project), project.config)
    write_folds(project, data)
    return data, fit_text_prior(project, data)


def predict_only(config: Config) -> None:
    """Run step 8 for trained folds."""
    for other in seed_runs(config):  # first: submission_single.csv is to hold this run's answers
        predict_only(other)
    with run_session(config) as project:
        by_main(settle_settings, project)
        data, _ = by_main(_prepare_data, project)
        by_main(require_weights, project, [] if config.time_budget else config.folds_to_train)
        with prepare_model(project, data, by_each(plan_device, config)) as execution:
            score_folds(execution)


def combine_only(config: Config, *, force: bool = False) -> Combined:
    """Run step 9 for scored folds.

    Args:
        config: all settings.
        force: replace the file to hand in even if it holds better answers.
    """
    with run_session(config) as project:
        return by_main(_combine_scores, project, force)[2]


def report_only(config: Config) -> Outcome:
    """Run steps 9 and 10 for scored folds."""
    started = time.monotonic()
    with run_session(config) as project:
        data, prior, combined = by_main(_combine_scores, project, False)
        return by_main(write_results, project, data, prior, combined, device_named(plan_device(config)), started)


def _combine_scores(project: Project, force: bool) -> tuple[RunData, Prior, Combined]:
    data, prior = _prepare_data(project)
    require_members(project)
    combined = combine(project, data, prior, force=force)
    restore_records(project, data)  # only now: refused settings are not those of the run
    return data, prior, combined


# %% without a model
def audit_only(config: Config, out: Path | None = None) -> str:
    """Rank the labels of a scored run, the most suspicious first (`mcvqa audit`). The run is not changed.

    Args:
        config: all settings.
        out: file for the proposals; None: experiments/<run>/fixes.csv.

    Returns:
        The audit, and what to do with the file.

    Raises:
        RunStopped: the run is not scored, or was trained with other settings or data.
        DataError: the file contains decisions.
    """
    project = open_project(config)
    with owning(project):
        data, _ = _prepare_data(project)
        require_members(project)
        members = run_members(project, data)
    decided = [one for one in read_decisions(Path(config.fixes)) if one.word] if config.fixes else []
    audit = audit_of_run(data, members, {one.id for one in decided})
    return f"{spell_audit(audit)}\n{write_audit(audit, out or project.paths.experiment / FIXES, decided)}"


def explorer_only(config: Config, other: Config | None = None, out: Path | None = None) -> str:
    """Write the explorer of a scored run (`mcvqa explore`) from the scores of its current weights. The run is not changed.

    Args:
        config: all settings.
        other: settings of a second run to compare; None: no comparison.
        out: the page; None: experiments/<run>/explore.html.

    Returns:
        Text about the written page.

    Raises:
        RunStopped: a run is not scored, or was trained with other settings or data; or both are the same.
        DataError: the runs have different data.
    """
    project = open_project(config)
    if other is not None and open_project(other).paths.experiment.absolute() == project.paths.experiment.absolute():
        raise RunStopped(f"The run {config.run!r} cannot be compared with itself: name two runs.")
    (first, written), second = _explored(project), None if other is None else _explored(open_project(other))[0]
    file = out or project.paths.experiment / EXPLORER_PAGE
    write_explorer(file, first, second)
    if out is None:
        project.records.finish(written)
    size = f"{counted(len(first.rows), 'row')}, {file.stat().st_size / 1e6:.1f} MB"
    return f"written: {file} ({size}). Open it in a browser; it needs neither a server nor the internet."


def _explored(project: Project) -> tuple[ExploredRun, Task]:
    """Prepare a run for the explorer, and the task that writes its page."""
    with owning(project):
        data, prior = _prepare_data(project)
        require_members(project)
        return explored_run(project, data, prior, run_members(project, data)), explorer_task(project, data)


def explore_only(config: Config) -> str:
    """Make tables and figures of the data (`mcvqa eda`); if there is no run, in experiments/data/eda.

    Returns:
        The summary.

    Raises:
        RunStopped: the run was trained on other data.
    """
    project = _project_for_data(config)
    with owning(project):
        data = read_run_data(project)
        return explore_files(project, data, fit_text_prior(project, data)).summary()


def split_only(config: Config) -> tuple[str, Path]:
    """Write the split (`mcvqa folds`); if there is no run, to experiments/data/folds.csv.

    Returns:
        One line per fold, and the file.

    Raises:
        RunStopped: the run was trained with other settings or data.
    """
    project = _project_for_data(config)
    with owning(project):
        if project.config.run != DATA_FOLDER:
            settle_settings(project)
        data = split_rows(read_run_data(project), config)
        return fold_summary(data, config.n_folds), write_folds(project, data)


DATA_FOLDER = "data"  # folder in experiments/ for results without a run


def _project_for_data(config: Config) -> Project:
    """Open the run that the settings name, if it exists, else DATA_FOLDER."""
    project = open_project(config)
    named = config.run_name or project.paths.experiment.exists()
    return project if named else open_project(config.replace(run_name=DATA_FOLDER))
