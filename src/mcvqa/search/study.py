"""Shares a study among all processes that search; Optuna keeps it in a journal file or a database.

A trial is alive as long as its run is owned (run/ownership.py). A trial that is marked as running but whose run has no owner was
killed: it is marked as failed, without a note, and its settings are tried again, resuming from its last save.
"""
import json
import os
import secrets
import shutil
import sys
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from filelock import FileLock

from mcvqa.base.files import DISK_FULL, UNAVAILABLE, read_json, write_json
from mcvqa.config import Config, ConfigError, settings_hash
from mcvqa.run.dataset import RunData
from mcvqa.run.ownership import Owned, Ownership
from mcvqa.run.paths import RunPaths
from mcvqa.run.project import RunStopped
from mcvqa.search.space import Searched, own_values, searched_settings, with_searched

OF_STEPS = 100  # a trial's training in percent: the step that a value is reported for
LEAST_SHARE = 10  # of the training before a trial is first compared with others, in percent
REDUCTION = 3  # one in so many trials goes on
UNFINISHED = ("RUNNING", "WAITING")
ENTRY = b'{"op_code":'  # the beginning of each line of a journal


@dataclass(frozen=True)
class SearchPlan:
    """Holds what the processes of one search have in common.

    Attributes:
        config: the settings, with the original values of those that are searched.
        name: name of the study.
        storage: a journal file, or the URL of a database.
        space: name -> content of the YAML, without what was set by hand.
        trials: number of trials in the study.
        confirm: number of the best trials whose other folds are trained.
        prune: whether trials that fall behind are stopped.
        until: time.time() after which no trial begins.
        end: time.time() of the end of the time budget.
    """

    config: Config
    name: str
    storage: str
    space: dict[str, Any]
    trials: int
    confirm: int
    prune: bool = True
    until: float = float("inf")
    end: float = float("inf")

    @property
    def paths(self) -> RunPaths:
        """Folders of the study."""
        return RunPaths(Path(self.config.output_dir), self.name)

    @property
    def fold(self) -> int:
        """The fold on whose rows trials are judged."""
        return self.config.folds_to_train[0]

    @cached_property
    def searched(self) -> tuple[Searched, ...]:
        return searched_settings(self.space, self.config, ())

    def values_of(self, drawn: Mapping[str, Any]) -> dict[str, Any]:
        """Round drawn values to three digits, as a person would write them; values of the original settings stay unchanged."""
        original = own_values(self.searched, self.config)
        return {
            one.name: drawn[one.name] if drawn[one.name] == original.get(one.name) else one.rounded(drawn[one.name])
            for one in self.searched if one.name in drawn
        }

    def run_of(self, values: Mapping[str, Any]) -> str:
        """Return the run with these settings: equal settings are never trained twice."""
        return f"{self.name}-{settings_hash(dict(values))}"

    def final_config(self, values: Mapping[str, Any]) -> Config:
        """Return the settings of the run on all folds."""
        return with_searched(self.config, values).replace(run_name=self.run_of(values), time_budget="")

    def trial_config(self, values: Mapping[str, Any]) -> Config:
        """Return the settings of the run on the judging fold, in one view."""
        return self.final_config(values).replace(
            train_folds=(self.fold,), use_tta=False, answer_by="letters", executor="inline", report_to=(), members=(),
        )


@dataclass(frozen=True)
class Taken:
    """Describes a trial that this process is to do.

    Attributes:
        trial: trial of Optuna.
        config: settings of its run.
        ownership: ownership of the run, to be given back when the trial is settled.
    """

    trial: Any
    config: Config
    ownership: Ownership


class SearchStudy:
    """Accesses the study of a plan from one process.

    Raises:
        RunStopped: Optuna is missing, or the storage cannot be opened.
    """

    def __init__(self, plan: SearchPlan) -> None:
        self.plan, optuna = plan, required_optuna()
        folder = plan.paths.experiment
        is_new = not folder.exists()
        folder.mkdir(parents=True, exist_ok=True)
        self.lock = FileLock(folder / "study.lock")
        try:
            with self.lock:
                self.study = optuna.create_study(
                    storage=_open_storage(plan.storage), study_name=plan.name, load_if_exists=True, direction="minimize",
                    pruner=pruner_of(plan),
                )
        except RunStopped:
            if is_new:
                shutil.rmtree(folder, ignore_errors=True)
            raise

    @property
    def trials(self) -> list[Any]:
        """List all trials, oldest first, without those that were only enqueued."""
        return [trial for trial in self.study.get_trials(deepcopy=False) if trial.state.name != "WAITING"]

    def finished(self) -> list[Any]:
        """List the trials that count: judged, pruned, or failed for a reason that trying again would not change."""
        return [trial for trial in self.trials if trial.state.name not in UNFINISHED and not was_killed(trial)]

    def running(self) -> list[Any]:
        return [trial for trial in self.trials if trial.state.name == "RUNNING"]

    # %% whose study
    def settle(self, data: RunData) -> None:
        """Record the subject of the study; a study of something else is refused.

        Raises:
            RunStopped: its rows, settings, space or folder differ.
        """
        with self.lock:
            about, before = self._about(data), self.study.user_attrs.get("about")
            if before is None:
                self.study.set_user_attr("about", about)
                # the first trial has the original settings, so the result is no worse
                self.study.enqueue_trial(own_values(self.plan.searched, self.plan.config))
                return
        reasons = {
            "rows": "was made on other data: rows, answers, photographs or folds changed",
            "folder": "belongs to another output folder, and all processes of a search share one",
            "space": "has another search space: " + _differing(before["space"], about["space"], "not searched"),
            "settings": "has other settings: " + _differing(before["settings"], about["settings"], "the default"),
        }
        for name, what in reasons.items():
            if before[name] != about[name]:
                raise RunStopped(f"The study {self.plan.name!r} {what}. Choose another name: --study NAME.")

    def _about(self, data: RunData) -> dict[str, Any]:
        plan, file = self.plan, self.plan.paths.experiment / "study.json"
        if not file.exists():
            write_json(file, {"folder": secrets.token_hex(8)})
        fixed = plan.config.weight_settings() | {name: getattr(plan.config, name) for name in ("keep", "start_from")}
        fixed["fold"] = plan.fold
        return {
            "rows": settings_hash({"rows": data.train_print, "folds": data.folds.tolist(), "validates": data.validates.tolist()}),
            "folder": read_json(file, dict)["folder"], "space": plan.space,
            "settings": {name: _as_in_json(value) for name, value in fixed.items() if name not in plan.space},
        }

    # %% taking a trial
    def take(self) -> Taken | None:
        """Take the next trial, owned by this process; None: there is none to begin now."""
        with self.lock:
            self.mark_killed()
            while len(self.finished()) + len(self.running()) < self.plan.trials and self._has_time():
                self.study.sampler = self._sampler()
                trial = self.study.ask({one.name: one.distribution() for one in self.plan.searched})
                if taken := self._owned(trial):
                    return taken
        return None

    def _owned(self, trial: Any) -> Taken | None:
        """Take ownership of a trial; None: it is settled, as its settings are impossible together or were tried before."""
        values = self.plan.values_of(trial.params)
        run = self.plan.run_of(values)
        twin = next((other for other in self.trials if other.user_attrs.get("run") == run and not was_killed(other)), None)
        try:
            config = self.plan.trial_config(values)
        except ConfigError as error:
            self.fail(trial, str(error))
            return None
        trial.set_user_attr("run", run)
        trial.set_user_attr("values", values)
        if twin is None:
            ownership = Ownership(RunPaths(Path(config.output_dir), run).lock(), f"the run {run!r}")
            ownership.take()
            return Taken(trial, config, ownership)
        if twin.state.name != "COMPLETE":
            self.fail(trial, f"the settings of trial {twin.number + 1}, which was {twin.state.name.lower()}")
            return None
        for name, value in twin.user_attrs.items():
            trial.set_user_attr(name, value)
        trial.set_user_attr("seconds", 0.0)
        self.study.tell(trial, twin.value)
        return None

    def fail(self, trial: Any, note: str) -> None:
        """Settle a trial that trying again would not fix.

        Args:
            trial: trial of Optuna.
            note: why it failed, in a sentence.
        """
        trial.set_user_attr("note", note)
        self.study.tell(trial, state=required_optuna().trial.TrialState.FAIL)

    def mark_killed(self) -> None:
        """Mark trials of dead processes as failed, and enqueue their settings before others."""
        for trial in self.running():
            run = trial.user_attrs.get("run")
            ownership = Ownership(RunPaths(Path(self.plan.config.output_dir), run).lock(), f"the run {run!r}") if run else None
            try:
                if ownership:
                    ownership.take()
            except Owned:
                continue
            self.study.tell(trial.number, state=required_optuna().trial.TrialState.FAIL)
            if ownership:
                ownership.give_back()
                self.study.enqueue_trial(trial.params)
                print(f"  trial {trial.number + 1} was interrupted; it is run again")

    def _has_time(self) -> bool:
        """Return whether a trial as long as the median one ends in time; the first one always begins."""
        seconds = [trial.user_attrs["seconds"] for trial in self.finished() if trial.user_attrs.get("seconds")]
        return time.time() + (float(np.median(seconds)) if seconds else 0.0) < self.plan.until

    def _sampler(self) -> Any:
        """Make TPE, seeded by the number of trials, so that a resumed search does not begin with the same ones again."""
        seed = int(np.random.SeedSequence([self.plan.config.seed, len(self.trials)]).generate_state(1)[0])
        return required_optuna().samplers.TPESampler(
            n_startup_trials=startup_trials(self.plan.trials), multivariate=True, constant_liar=True, seed=seed,
        )


def startup_trials(trials: int) -> int:
    """Return how many trials are drawn at random before the sampler learns from them."""
    return max(4, trials // 5)


def was_killed(trial: Any) -> bool:
    """Return whether a trial has failed because its process ended: all other failures have a note."""
    return trial.state.name == "FAIL" and "note" not in trial.user_attrs


# %% pruning
def pruner_of(plan: SearchPlan) -> Any:
    """Make the pruner: only Hyperband's most eager bracket, which is asynchronous successive halving; one trial in three goes on.

    Trials of a few epochs have two brackets, and the second one, two trials in five, would never be pruned. A Wilcoxon test over
    folds needs six folds to be significant at 5 %. Values are compared at equal shares of each trial's own training, where the
    learning rates have decayed equally.
    """
    pruners = required_optuna().pruners
    if not plan.prune:
        return pruners.NopPruner()
    epochs = max((end for one in plan.searched if one.name == "num_epochs" for end in one.ends), default=plan.config.num_epochs)
    return pruners.SuccessiveHalvingPruner(min_resource=max(LEAST_SHARE, OF_STEPS // epochs), reduction_factor=REDUCTION)


# %% Optuna
def required_optuna() -> Any:
    """Import Optuna. Raises RunStopped if it is not installed."""
    try:
        import optuna
    except ImportError:
        raise RunStopped("The search needs Optuna: pip install 'mcvqa[search]'") from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    return optuna


def _open_storage(storage: str) -> Any:
    """Open the storage. Raises RunStopped if that fails."""
    from optuna.storages import JournalStorage, RDBStorage
    from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock, JournalFileSymlinkLock

    try:
        if "://" in storage:
            return RDBStorage(storage)
        # absolute, as a lock is a link to it, and that of a killed process ends after 30 seconds only if it leads to the file
        file = str(Path(storage).absolute())
        lock = (JournalFileOpenLock if sys.platform == "win32" else JournalFileSymlinkLock)(file)  # links need rights there
        _mend_journal(Path(file), lock)
        return JournalStorage(JournalFileBackend(file, lock))
    except RunStopped:
        raise
    except Exception as error:  # of each database's own driver
        if isinstance(error, OSError) and error.errno in DISK_FULL | UNAVAILABLE:
            raise
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise RunStopped(
            f"The storage {_without_password(storage)} cannot be opened: {reason.rstrip('.')}. "
            "Expected: a file in a folder that exists, or a URL such as sqlite:///study.db whose database driver is installed."
        ) from None


def _mend_journal(file: Path, lock: Any) -> None:
    """Remove what a process wrote of its last entry before a power cut: Optuna would append the next one to the same line.

    Args:
        file: the journal, which may not exist yet.
        lock: Optuna's lock of it.

    Raises:
        RunStopped: the file is something else, or damaged.
    """
    if not file.exists():
        return
    lock.acquire()
    try:
        *lines, rest = file.read_bytes().split(b"\n")
        wrong = [number for number, line in enumerate(lines, 1) if not _is_entry(line)]
        if wrong or not ENTRY.startswith(rest[: len(ENTRY)]):
            raise RunStopped(
                f"{file} is not a journal of Optuna, or damaged in line {wrong[0] if wrong else len(lines) + 1}. Restore it, or "
                "start another study in another file: --study NAME."
            )
        if rest:
            os.truncate(file, file.stat().st_size - len(rest))
    finally:
        lock.release()


def _is_entry(line: bytes) -> bool:
    try:
        return line.startswith(ENTRY) and isinstance(json.loads(line), dict)
    except ValueError:
        return False


def _without_password(storage: str) -> str:
    password = urlsplit(storage).password
    return storage.replace(f":{password}@", ":***@") if password else storage


def _differing(before: Mapping[str, Any], now: Mapping[str, Any], absent: str) -> str:
    """Describe differences in words, such as 'n_folds was 3, is 5'.

    Args:
        absent: text for a missing value.
    """
    def spelled(values: Mapping[str, Any], name: str) -> str:
        return repr(values[name]) if name in values else absent

    names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    return ", ".join(f"{name} was {spelled(before, name)}, is {spelled(now, name)}" for name in names)


def _as_in_json(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


