"""Trains and scores the other seeds of a run (`n_seeds`), each as a separate run on the same folds."""
from pathlib import Path

from mcvqa.base.budget import seconds_for_end, spell_duration
from mcvqa.base.files import read_json
from mcvqa.config import Config
from mcvqa.data.prior import Prior
from mcvqa.model.device import DevicePlan
from mcvqa.model.distributed import by_main
from mcvqa.report.experiments import record_experiment
from mcvqa.run.averages import settle_average
from mcvqa.run.dataset import RunData, restore_records, settle_data
from mcvqa.run.execution import prepare_model
from mcvqa.run.final_fit import fit_finally
from mcvqa.run.folds import write_folds
from mcvqa.run.members import run_member
from mcvqa.run.project import Project, RunStopped, open_project, seconds_of, settle_settings
from mcvqa.run.replaceable import require_replaceable
from mcvqa.run.results import Combined, blended, measure_run
from mcvqa.run.seeds import seed_runs
from mcvqa.run.session import run_session
from mcvqa.run.takeover import output_with

TIME_OF_SEED = 1.5  # time of another seed relative to that of this run's training


def train_seeds(project: Project, data: RunData, prior: Prior, plan: DevicePlan) -> None:
    """Train and score the other seeds; within a time budget, only seeds that fit are started.

    Args:
        project: the run, whose own seed is trained and scored.
        data: its rows, with the folds that all seeds share.
        prior: the text-only prior.
        plan: device and precision.
    """
    for number, config in enumerate(seed_runs(project.config), 2):
        config = config.replace(resume_from=by_main(_earlier_output, config))
        if not by_main(_fits, project, config):
            return
        print(f"\nseed {number} of {project.config.n_seeds}: {config.run}", flush=True)
        with run_session(config, augment=project.augment) as other:
            by_main(_settle_seed, other, data)
            with prepare_model(other, data, plan) as execution:
                training = execution.training()
                for task in training:
                    if task.kind == "train" and task.arguments["fold"] not in execution.trained:
                        by_main(require_replaceable, other, task)
                by_main(restore_records, other, data)
                execution.run(training, [task.name for task in training if task.kind == "train"])
                if config.average == "auto":
                    by_main(settle_average, other, data)
                scoring = execution.scoring(other.config)
                execution.run([*execution.training(), *scoring], [task.name for task in scoring if task.kind == "score"])
                if config.final_fit:
                    fit_finally(execution)
            by_main(record_member, other, data, prior)


def _earlier_output(config: Config) -> str:
    """Return `resume_from` if that output contains this seed; empty: the seed had not been started there."""
    try:
        return config.resume_from and str(output_with(config.run, Path(config.resume_from)).root)
    except RunStopped:
        return ""


def _fits(project: Project, config: Config) -> bool:
    """Check that the remaining time suffices for another seed, or that the seed is to be continued; print a line if not."""
    files = [project.paths.fold(fold) / "result.json" for fold in project.config.folds_to_train]
    if not all(file.exists() for file in files):
        return False
    needed = TIME_OF_SEED * sum(read_json(file, dict)["seconds"] for file in files)
    left = project.seconds_until(seconds_for_end(project.config.budget_seconds))
    if needed <= left or open_project(config).paths.checkpoints.exists():
        return True
    times = f"it takes about {spell_duration(needed)}, and {spell_duration(left)} are left"
    print(f"\n  time budget: no further seed is trained: {times}")
    return False


def _settle_seed(other: Project, data: RunData) -> None:
    settle_settings(other)
    settle_data(other, data)
    write_folds(other, data)


def record_member(project: Project, data: RunData, prior: Prior) -> None:
    """Measure a scored run for the index of runs; as a member of another run, it has no report."""
    member = run_member(project, data)
    metrics = measure_run(project, data, prior, Combined(blended(project, data, (member,)), (member,), None, member.name))
    record_experiment(project.paths.experiment, status="finished", seconds=seconds_of(project), metrics=metrics)
    print(f"  {project.config.run}: accuracy {metrics.overall.accuracy}")
