"""Describes the run with other seeds on the same folds (`n_seeds`): separate runs that resume, answer and export like any run.

Seeds differ only in training: the initial adapters, the order of rows and choices, and dropout.
"""
from mcvqa.config import Config, ConfigError
from mcvqa.ensemble.blend import Member
from mcvqa.run.dataset import RunData
from mcvqa.run.members import run_member
from mcvqa.run.project import Project, RunStopped, open_project
from mcvqa.training.checkpoint import CheckpointError

SEED_STEP = 101  # between two seeds; there are fewer folds, whose first adapters are drawn by seed + fold


def seed_runs(config: Config) -> tuple[Config, ...]:
    """List the settings of the run's other seeds, `<run>-seed<number>`. A time budget never shortens their training.

    Raises:
        ConfigError: `members` names one of them.
    """
    numbers = [(config.training_seed + SEED_STEP * i) % 2**32 for i in range(1, config.n_seeds)]
    runs = tuple(
        config.replace(
            run_name=f"{config.run}-seed{number}", train_seed=number, n_seeds=1, members=(), time_budget="", report_to=())
        for number in numbers
    )
    if twice := {run.run for run in runs} & set(config.members):
        raise ConfigError(f"members: {min(twice)} is one of the {config.n_seeds} seeds, which n_seeds combines: leave it out.")
    return runs


def seed_members(project: Project, data: RunData) -> list[Member]:
    """Make members of the other seeds; within a time budget, of the finished ones.

    Raises:
        RunStopped: one is unfinished.
    """
    members = (_seed_member(project, config, data) for config in seed_runs(project.config))
    return [member for member in members if member is not None]


def _seed_member(project: Project, config: Config, data: RunData) -> Member | None:
    try:
        return run_member(open_project(config), data)
    except (RunStopped, CheckpointError) as error:
        reason = f"the seed {config.train_seed} (run {config.run}) is not finished: {error}"
        if not project.config.time_budget:
            raise RunStopped(f"n_seeds={project.config.n_seeds}: {reason}") from None
        print(f"  left out: {reason}")
        return None
