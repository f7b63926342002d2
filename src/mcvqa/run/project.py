"""Manages a run's settings and folders, and decides whether it may continue with these settings. Does not import torch."""
import dataclasses
import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mcvqa.base.files import DamagedFile, RunLog, existing_folder, read_json, read_yaml, write_text
from mcvqa.config import KOREAN_PROMPT, Config, ConfigError, McvqaError, weight_changes
from mcvqa.data.language import with_prompt
from mcvqa.data.questions import Question
from mcvqa.run.paths import START_FILE, RunPaths
from mcvqa.run.tasks import Task, TaskRecords

STEP_TITLES = (
    "set-up", "config", "data and EDA", "folds", "rows", "model", "training", "scoring", "ensemble", "report",
)


class RunStopped(McvqaError, RuntimeError):
    """Raised if a run cannot go on; finished work is kept, and the message says what to do."""


def heading(title: str, detail: str = "") -> None:
    """Announce one of the ten steps."""
    print(f"\n[{STEP_TITLES.index(title) + 1}/10] {title}" + (f": {detail}" if detail else ""), flush=True)


# %% which run
def settings_of_run(run: str, output_dir: str = ".") -> dict[str, Any]:
    """Read the settings of an existing run.

    Args:
        run: its name, as `mcvqa experiments` shows it, or the path of its folder experiments/<run>.
        output_dir: folder that contains experiments/; needed for a name.

    Raises:
        ConfigError: there is no such run, or its config.yaml is damaged.
    """
    folder = Path(run) if (Path(run) / "config.yaml").exists() else Path(output_dir) / "experiments" / run
    file = folder / "config.yaml"
    if not file.exists():
        known = sorted(path.parent.name for path in (Path(output_dir) / "experiments").glob("*/config.yaml"))
        there = f"Runs in this folder: {', '.join(known)}." if known else "There are no runs here yet."
        raise ConfigError(f"There is no run {run!r}: {file} is missing. {there} Give its name or the path of experiments/<run>.")
    values = read_yaml(file, dict)
    root = folder.absolute().parent.parent
    return {"user_prompt": KOREAN_PROMPT} | {name: value for name, value in values.items() if name in Config.settings()} | {
        "output_dir": os.path.relpath(root), "run_name": folder.absolute().name,
        **({"data_dir": _data_dir_from_here(values, root)} if "data_dir" in values else {}),
    }


def _data_dir_from_here(values: dict[str, Any], root: Path) -> str:
    """Resolve a run's `data_dir`; in config.yaml, a relative one starts from the folder in which the run was started.

    Args:
        values: content of config.yaml.
        root: its `output_dir`, absolute.
    """
    data_dir, parts = str(values["data_dir"]), Path(str(values.get("output_dir", "."))).parts
    started = Path(*root.parts[: len(root.parts) - len(parts)])
    if Path(data_dir).exists() or started.joinpath(*parts) != root or not (started / data_dir).exists():
        return data_dir
    return os.path.relpath(started / data_dir)


# %% the run
@dataclass(frozen=True)
class Project:
    """Holds one run: its settings, folders, task records and log.

    Attributes:
        began: start of the session by time.monotonic() of this process.
        metrics: the user's metrics, name -> function; see `report.own_metrics`.
        augment: the user's augmentation of training rows; see `model.augment`.
    """

    config: Config
    paths: RunPaths
    records: TaskRecords
    log: RunLog
    began: float
    metrics: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    augment: Any = None

    def weights(self, fold: int) -> Path:
        """Return the folder of the weights used for scoring."""
        chosen = self.records.read("average") if self.config.average == "auto" else {}
        return self.paths.fold(fold) / chosen.get("folder", self.config.keep)

    def seconds_until(self, kept: float) -> float:
        """Return the seconds until only `kept` seconds of the time budget are left; infinite without a budget."""
        return self.began + self.config.budget_seconds - kept - time.monotonic()


def open_project(config: Config, seconds_ago: float = 0.0) -> Project:
    """Open the run that `config` names, without writing anything.

    Args:
        config: all settings.
        seconds_ago: duration of the session so far.

    Raises:
        ConfigError: the output folder is not writable, or a URL.
    """
    config = with_kept_prompt(config)
    paths = RunPaths(Path(config.output_dir), config.run)
    if "://" in config.output_dir and Task.__module__ != "__main__":
        raise ConfigError(
            f"output_dir={config.output_dir!r} is a URL, but must be a folder of this machine. To share a run through an object "
            f"store, keep output_dir local: --set shared_dir={config.output_dir}"
        )
    _require_writable(paths.root)
    records = TaskRecords(paths.experiment / "tasks", paths.experiment / "steps", paths.root)
    if config.shared_dir and Task.__module__ != "__main__":
        from mcvqa.run.sharing import SharedRecords

        records = SharedRecords(records.folder, records.old_folder, records.root, config.shared_dir)
    return Project(config, paths, records, RunLog(paths.log), time.monotonic() - seconds_ago)


def _require_writable(root: Path) -> None:
    try:
        with tempfile.TemporaryFile(dir=existing_folder(root)):
            pass
    except OSError as error:
        message = f"output_dir={str(root)!r} is not writable ({error.strerror}). Choose another folder: --set output_dir=FOLDER."
        raise ConfigError(message) from None


# %% step 2: config
def with_kept_prompt(config: Config) -> Config:
    """Adopt the instruction line of the trained run that the settings name, if they set none."""
    paths = RunPaths(Path(config.output_dir), config.run)
    if config.user_prompt or not paths.checkpoints.exists():
        return config
    try:
        before = read_yaml(paths.experiment / "config.yaml", dict)
    except (OSError, McvqaError):  # missing, or damaged, which `settle_settings` reports
        return config
    return config.replace(user_prompt=before.get("user_prompt") or KOREAN_PROMPT, run_name=config.run)


def settle_settings(project: Project, compared: bool = False) -> None:
    """Write config.yaml, unless the run was trained with other settings.

    Args:
        project: the run.
        compared: see `may_record`.

    Raises:
        ConfigError: settings differ; the message names them.
    """
    require_same_settings(project)
    file = project.paths.experiment / "config.yaml"
    if may_record(project, file, compared):
        write_text(file, project.config.to_yaml())


def may_record(project: Project, file: Path, compared: bool) -> bool:
    """Return whether a file that says what a run is trained on may be written.

    Args:
        project: the run.
        file: the file. If it is lost, weights may be of other settings or data, which it would name from then on.
        compared: whether the weights are known to be of these settings and data.
    """
    return compared or file.exists() or not any(project.paths.checkpoints.glob("*/result.json"))


def require_same_settings(project: Project) -> None:
    """Check that a trained run was trained with these settings.

    Raises:
        ConfigError: settings differ; the message names them.
    """
    file = project.paths.experiment / "config.yaml"
    if file.exists() and project.paths.checkpoints.exists():
        try:
            before = read_yaml(file, dict)
        except DamagedFile:
            message = f"{file} is damaged, so it is unknown which settings the run was trained with. {remedy(project)}"
            raise ConfigError(message) from None
        if changed := weight_changes(before, project.config):
            raise ConfigError("\n".join((
                f"The run {project.config.run!r} was trained with other settings:", *changed, remedy(project)
            )))


def settle_prompt(project: Project, questions: Sequence[Question]) -> Project:
    """Set the instruction line in the language of the run's training questions, and record it in config.yaml."""
    if project.config.user_prompt:
        return project
    config, why = with_prompt(project.config, questions)
    print(f"  instruction of the prompt: {why}")
    project = dataclasses.replace(project, config=config)
    settle_settings(project)
    return project


def remedy(project: Project) -> str:
    where = str(project.paths.checkpoints)
    if project.config.shared_dir and Task.__module__ != "__main__":
        where += f", {project.config.shared_dir}/{project.config.run}"
    return f"Choose another name (--set run_name=...), or delete {where} to start over."


# %% what a run began with
def start_print(project: Project, fold: int) -> str:
    """Hash the adapters a fold starts from and the user's augmentation; empty if there are none."""
    file = project.paths.experiment / START_FILE
    recorded = read_json(file, dict) if file.exists() else {}
    return str(recorded.get("weights", {}).get(str(fold), "")) + str(recorded.get("augment", ""))


# %% the log of the weights that are there
def attempts_of(project: Project) -> dict[int, str]:
    """Return the attempt in which each fold of the run was trained."""
    return {
        fold: str(project.records.read(f"train fold {fold}").get("attempt", "")) for fold in project.config.folds_to_train
    }


def seconds_of(project: Project) -> float:
    """Sum the seconds of earlier sessions of the run, without abandoned attempts."""
    attempt = project.log.facts.get("attempt", "")
    return sum(event["seconds"] for event in project.log.events("session", "seconds") if event.get("attempt", "") == attempt)


class CurrentLog(RunLog):
    """Reads a run's log for reports: for each fold only the attempt of the current weights, no abandoned one."""

    def __init__(self, log: RunLog, attempts: Mapping[int, str]) -> None:
        super().__init__(log.path, log.facts)
        self.attempts = attempts

    def events(self, event: str, *fields: str) -> list[dict[str, Any]]:
        events = super().events(event, *fields)
        return [e for e in events if "fold" not in e or e.get("attempt", "") == self.attempts.get(e["fold"])]
