"""Finds and verifies a trained run without its data, and loads its models: the base with the weights of one fold at a time."""
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from mcvqa.base.files import RunLog, read_json, read_yaml
from mcvqa.config import Config, ConfigError, settings_hash, weight_changes
from mcvqa.data.folds import FINAL, fold_title
from mcvqa.data.images import ImageRecord
from mcvqa.data.questions import Question
from mcvqa.model.adapters import vision_is_frozen
from mcvqa.model.device import plan_device
from mcvqa.model.distributed import by_each, by_main, process_share
from mcvqa.model.load import load_base, remove_adapters
from mcvqa.model.rows import KnownPasses
from mcvqa.model.vision.features import bytes_needed
from mcvqa.run.model_side import LoadedModel, plan_weights, with_photographs
from mcvqa.run.paths import RunPaths
from mcvqa.run.project import Project, RunStopped
from mcvqa.run.space import free_space
from mcvqa.run.tasks import TaskRecords, content_print
from mcvqa.run.train import require_same_base
from mcvqa.scoring.orders import tta_plan
from mcvqa.scoring.score import score_questions
from mcvqa.scoring.scores import Scores
from mcvqa.training.checkpoint import CheckpointError, adapter_hash, load_trained, verified


# %% which run
@dataclass(frozen=True)
class TrainedRun:
    """Describes a run with verified weights.

    Attributes:
        project: the run. Its settings name a writable folder for cache/; nothing else is written.
        folds: folds that answer; FINAL is the model on all rows (final_fit).
        unverified: folds trained by version 0.1, which recorded less.
        style: how the competition writes answers, one of SUBMISSION_STYLES.
    """

    project: Project
    folds: tuple[int, ...]
    unverified: tuple[int, ...]
    style: str

    def weights(self, fold: int) -> Path:
        return self.project.weights(fold)

    @property
    def cache(self) -> Path:
        return Path(self.project.config.output_dir) / "cache"


def find_trained(config: Config, fold: int | None = None) -> TrainedRun:
    """Find a run and verify its weights and base model, without its data.

    Args:
        config: settings that name the run; the base model may have been moved since training.
        fold: the only fold to use, or FINAL; None: all that answer the run's test rows.

    Raises:
        ConfigError: there is no such run, or it was trained with other settings.
        RunStopped: a fold is not trained, or the base model consists of other files.
        CheckpointError: weights are missing, damaged, or not those that were recorded.
    """
    paths = RunPaths(Path(config.output_dir).absolute(), config.run)
    _require_same_settings(paths, config)
    writable = paths.root if os.access(paths.root, os.W_OK) else Path.cwd()  # an attached data set is not
    config = config.replace(output_dir=str(writable), run_name=config.run)
    records = TaskRecords(paths.experiment / "tasks", paths.experiment / "steps", paths.root)
    project = Project(config, paths, records, RunLog(paths.log), time.monotonic())
    folds = _trained_folds(project, fold)
    for each in folds:
        _require_recorded_weights(project, each)
    require_same_base(project)
    if config.average == "auto" and not records.is_current("average"):
        raise RunStopped(
            f"average=auto: the run {config.run!r} has been trained since its weights were chosen, or they never were: mcvqa "
            f"predict {config.run} chooses them."
        )
    return TrainedRun(project, folds, tuple(f for f in folds if _is_of_0_1(project, f)), _style_of_run(paths))


# the base model is identified by its content, and new tables may have other columns
MAY_DIFFER = ("model_id", "revision", "id_column", "image_column", "question_column", "answer_column")


def _require_same_settings(paths: RunPaths, config: Config) -> None:
    file = paths.experiment / "config.yaml"
    if not file.exists():
        raise ConfigError(f"There is no run {paths.run!r}: {file} is missing. mcvqa experiments lists the runs.")
    before = read_yaml(file, dict)
    may_differ = {name: before[name] for name in MAY_DIFFER if name in before}
    if changed := weight_changes(before, config.replace(**may_differ)):
        raise ConfigError("\n".join((f"The run {paths.run!r} was trained with other settings:", *changed, "Leave them out.")))


def _trained_folds(project: Project, only: int | None) -> tuple[int, ...]:
    config = project.config
    there = (*config.folds_to_train, *((FINAL,) if config.final_fit else ()))
    if only is not None and only not in there:
        has = " and ".join(filter(None, (
            f"folds {', '.join(map(str, config.folds_to_train))}", "a final model" if config.final_fit else "")))
        none = "no final model (final_fit=true trains one)" if only == FINAL else f"no {fold_title(only)}"
        raise RunStopped(f"There is {none}: the run has {has}.")
    asked = there if only is None else (only,)
    trained = tuple(fold for fold in asked if _is_trained(project, fold))
    if not trained or (len(trained) < len(asked) and not config.time_budget):
        missing = models_named([fold for fold in asked if fold not in trained])
        instead = f", or answer with one fold: --fold {trained[0]}" if trained else ""
        raise RunStopped(f"The run {config.run!r} lacks {missing}: finish it (mcvqa run){instead}.")
    return trained


def models_named(folds: Sequence[int]) -> str:
    """Spell the models: 'fold 1', 'folds 0, 1 and the final model'."""
    numbers = [str(fold) for fold in folds if fold != FINAL]
    parts = [f"fold{'s' * (len(numbers) > 1)} {', '.join(numbers)}"] if numbers else []
    return " and ".join([*parts, *(["the final model"] if FINAL in folds else [])])


def fold_number(text: str) -> int:
    """Parse '2' or 'final' as the number of a fold. Raises ConfigError for anything else."""
    if text.strip().lower() == "final":
        return FINAL
    if text.strip().isdecimal() and int(text) < FINAL:
        return int(text)
    raise ConfigError(f"--fold {text}: write the number of a fold, counted from 0, or final.")


def _is_trained(project: Project, fold: int) -> bool:
    """Return whether a fold is trained; the final model is not if folds that it follows were trained again since."""
    return project.records.is_current(f"train {fold_title(fold)}") or _is_of_0_1(project, fold)


def _is_of_0_1(project: Project, fold: int) -> bool:
    return project.records.is_of_0_1(f"train {fold_title(fold)}") and project.paths.fold(fold).exists()


def _require_recorded_weights(project: Project, fold: int) -> None:
    """Raises CheckpointError if weights are damaged or were replaced after training."""
    folder = project.weights(fold)
    verified(folder)
    results = project.records.read(f"train {fold_title(fold)}").get("made", {})
    recorded = [value for path, value in results.items() if Path(path).name == folder.name]
    if recorded and recorded != [content_print(folder)]:
        raise CheckpointError(
            f"{folder} does not hold the weights that were recorded when the fold was trained. Restore the run's original "
            "folder, or delete it and train this fold again."
        )


def _style_of_run(paths: RunPaths) -> str:
    """Return how the competition writes answers; letters for a run that did not record it."""
    file = paths.experiment / "data.json"
    return str(read_json(file, dict).get("style", "lower")) if file.exists() else "lower"


# %% its models
@dataclass
class TrainedModels:
    """Holds the base model of a run, loaded by the first question, with the weights of the fold used last.

    Attributes:
        keep_features: whether image features are kept in cache/, so that no photograph is encoded twice.
        records: survey of the photographs, by the names that questions use; grows with new questions.
    """

    trained: TrainedRun
    keep_features: bool = True
    records: dict[str, ImageRecord] = field(default_factory=dict)
    _loaded: LoadedModel | None = None
    _on_base: tuple[int, nn.Module] | None = None
    _passes: KnownPasses = field(default_factory=KnownPasses)

    def load(self) -> LoadedModel:
        """Return the base model, loading it if necessary."""
        if self._loaded is None:
            project = self.trained.project
            plan = by_each(plan_device, project.config)
            base = by_each(load_base, project.config, by_each(plan_weights, project, plan))
            kept = self.keep_features and vision_is_frozen(project.config)
            features = self.trained.cache / "features" if kept else None
            self._loaded = with_photographs(base, self.records, project.config, features)
        return self._loaded

    def score(self, fold: int, questions: Sequence[Question], title: str) -> Scores:
        """Score questions by a fold's weights, in the option orders and image scales of the settings.

        Args:
            fold: number of the fold.
            questions: questions whose photographs are in `records`.
            title: title of the progress bar.
        """
        config = self.trained.project.config
        for scale in tta_plan(config)[1]:
            self._make_features([question.image for question in questions], scale)
        loaded, model = self.load(), self._with_weights(fold)
        facts, passes = self._provenance(fold), self._passes
        return score_questions(model, loaded.base, loaded.maker, questions, config, facts, title=title, passes=passes)

    def _make_features(self, images: Sequence[str], scale: float) -> None:
        """Compute missing image features; if the disk has no space for them, none are kept from here on."""
        loaded = self.load()
        store = loaded.store
        if store is None or not (missing := by_main(store.missing, images, scale)):
            return
        if by_main(lambda: bytes_needed(store, missing, scale) > free_space(self.trained.cache)):
            print(f"  image features are not cached: {self.trained.cache} has no space for them")
            loaded.base.vision.to(loaded.base.plan.device)  # which `fill` may have left on the CPU
            self._loaded = with_photographs(loaded.base, self.records, self.trained.project.config, None)
            return
        by_each(lambda: store.fill(loaded.base, missing, scale, share=process_share()))
        if loaded.base.plan.device == "cuda":
            for weight in loaded.base.vision.parameters():  # the next new photograph takes them to the GPU again
                weight.data = weight.data.pin_memory()

    def _with_weights(self, fold: int) -> nn.Module:
        if self._on_base is None or self._on_base[0] != fold:
            self._release()
            self._on_base = fold, load_trained(self.load().base, self.trained.weights(fold))
        return self._on_base[1]

    def _release(self) -> None:
        if self._on_base is not None:
            remove_adapters(self.load().base, self._on_base[1])
            self._on_base = None

    def _provenance(self, fold: int) -> dict[str, Any]:
        config, plan = self.trained.project.config, self.load().base.plan
        return {
            "run": config.run, "fold": fold, "split": "asked", "adapter": adapter_hash(self.trained.weights(fold)),
            "config": settings_hash(config.weight_settings()), "precision": str(plan.dtype).removeprefix("torch."),
            "four_bit": bool(plan.four_bit),
        }
