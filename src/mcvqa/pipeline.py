"""run(config): the ten steps from CSV files and photographs to a validated submission.

Each step is skipped when its result is already there for the same settings, and says so.
"""
import dataclasses
import platform
import subprocess
import time
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mcvqa.config import Config, settings_hash
from mcvqa.data.images import open_image
from mcvqa.data.questions import Question
from mcvqa.ensemble.blend import Blend, Member, blend_members, read_predictions
from mcvqa.files import file_hash, read_json, write_json
from mcvqa.model.device import DevicePlan, plan_device
from mcvqa.model.forward import AnswerModel
from mcvqa.model.load import BaseModel, load_adapter, load_base, remove_adapters, vision_is_frozen
from mcvqa.model.rows import RowMaker
from mcvqa.model.vision import FeatureStore, ImageInputs
from mcvqa.project import Project, RunStopped, heading
from mcvqa.report.experiments import record_experiment, update_index
from mcvqa.report.figures import draw_figures
from mcvqa.report.metrics import Metrics, measure
from mcvqa.report.page import ReportInput, write_report
from mcvqa.report.submission import SubmissionReport
from mcvqa.scoring.score import score_questions, tta_plan
from mcvqa.scoring.scores import Scores, joined, load_scores, plain_scores
from mcvqa.training.checkpoint import adapter_hash, verified
from mcvqa.training.loop import FoldResult, FoldTrainer
from mcvqa.uncertainty import Accuracy


@dataclass(frozen=True)
class Outcome:
    """What a finished run leaves behind.

    Attributes:
        accuracy: out of fold; None when no training row was scored.
        submission: the CSV file to hand in.
        report: the page to read.
    """

    run: str
    accuracy: Accuracy | None
    submission: Path
    report: Path
    metrics: Metrics | None


# %% the ten steps
def run(config: Config) -> Outcome:
    """Everything, from the data to the submission.

    Raises:
        ConfigError, DataError, RunStopped, DeviceError, ModelError, TrainingError: told for people; what was reached
            so far stays on disk and the same call goes on from there.
    """
    started = time.time()
    project = Project(config)
    try:
        outcome = _all_steps(project, started)
    except BaseException as error:
        if project.paths.experiment.exists() and not isinstance(error, KeyboardInterrupt):
            told = str(error).splitlines()[0] if str(error) else type(error).__name__
            record_experiment(project.paths.experiment, status="failed", seconds=time.time() - started, note=told)
            update_index(project.paths.experiment.parent)
        raise
    return outcome


def _all_steps(project: Project, started: float) -> Outcome:
    heading("set-up", f"Python {platform.python_version()}, torch {torch.__version__}")
    plan = plan_device(project.config)
    print("\n".join(f"  {reason}" for reason in plan.reasons))
    heading("config", f"run {project.config.run}")
    project.settle()
    explore_data(project)
    project.require_photographs()
    make_folds(project)
    bench = Bench(project, plan)
    train_folds(project, bench)
    score_folds(project, bench)
    blend = combine(project)
    return write_results(project, blend, plan, started)


# %% step 3: data and EDA
def explore_data(project: Project) -> None:
    """Tables, figures, the prior, and its submission as the first valid one."""
    heading("data and EDA", str(project.config.data_dir))
    data = project.data
    key = settings_hash({"data": data.fingerprint, "rows": [q.id for q in data.train]})
    summary = project.paths.experiment / "eda" / "summary.txt"
    if project.steps.done("eda", key, [summary]):
        print(f"  already done: {summary.parent}")
    else:
        print(project.explore().summary())
        project.steps.remember("eda", key)
    report = project.submit_prior()
    if report is not None:
        print(f"  first submission: the text-only prior's, {report.rows} rows, accuracy {project.prior.accuracy} out of fold")


# %% step 4: folds
def make_folds(project: Project) -> None:
    heading("folds", f"{project.config.n_folds} folds" if project.config.use_kfold else "one stratified split")
    print(project.fold_summary())


# %% steps 5 and 6: rows and model
class Bench:
    """The model side of a run: base model, rows and image features, each made when first needed."""

    def __init__(self, project: Project, plan: DevicePlan) -> None:
        self.project, self.plan, self.config = project, plan, project.config

    @cached_property
    def base(self) -> BaseModel:
        heading("model", self.config.model_id)
        return load_base(self.config, self.plan)

    @cached_property
    def images(self) -> ImageInputs:
        return ImageInputs(
            self.project.data.records, self.base.processor, image_size=self.config.image_size, patch=self.base.patch,
            merge=self.base.merge,
        )

    @cached_property
    def store(self) -> FeatureStore | None:
        """Features kept on disk, or None where the vision tower is trained or the disk is too small."""
        if not vision_is_frozen(self.config):
            print("  image features are made anew in every step: the vision tower is trained")
            return None
        store = FeatureStore(self.project.paths.cache / "features", self.base, self.images)
        data = self.project.data
        needed = [q.image for q in (*data.train, *data.test) if not data.records[q.image].problem]
        scales = tta_plan(self.config)[1]
        missing = {scale: store.missing(needed, scale) for scale in {1.0, *scales}}
        size = sum(store.bytes_needed(images, scale) for scale, images in missing.items())
        if size > store.free_bytes():
            print(f"  image features are made anew in every step: {size / 2**30:.1f} GiB do not fit on the disk")
            return None
        if size:
            print(f"  image features: {sum(map(len, missing.values()))} to compute, {size / 2**20:.0f} MiB in {store.folder}")
        for scale, images in missing.items():
            store.fill(self.base, images, scale)
        return store

    @cached_property
    def maker(self) -> RowMaker:
        heading("rows", "prompts, option orders, image features")
        return RowMaker(self.base.encoder, self.images, self.store, self.base.pad_id)

    def renew_base(self) -> None:
        """Load the base model again after its own weights were trained (lora_r=0)."""
        if self.config.lora_r == 0:
            self.__dict__["base"] = load_base(self.config, self.plan)


# %% step 7: training
def train_folds(project: Project, bench: Bench) -> None:
    """Train every fold that has no result yet, each from freshly initialised adapters."""
    heading("training", f"folds {', '.join(map(str, project.config.folds_to_train))}")
    for fold in project.config.folds_to_train:
        key, folder = project.weights_key(fold), project.paths.fold(fold)
        if project.steps.done(f"train fold {fold}", key, [folder / "result.json"]):
            facts = read_json(folder / "result.json")
            print(f"  fold {fold}: already trained, accuracy {Accuracy(*facts['accuracy'])}")
            continue
        _train_fold(project, bench, fold)
        project.steps.remember(f"train fold {fold}", key)


def _train_fold(project: Project, bench: Bench, fold: int) -> None:
    train, validation = project.fold_rows(fold)
    maker = bench.maker
    trainer = FoldTrainer(
        project.config, bench.base, maker, train, validation, fold, project.paths.fold(fold), project.log
    )
    result = trainer.run()
    remove_adapters(bench.base, trainer.model)
    bench.renew_base()
    for name, found in result.variants.items():
        _variant_scores(validation, found.logprobs, {"run": project.config.run, "fold": fold, "variant": name}).save(
            project.paths.scores / f"fold{fold}-{name}.npz"
        )
    write_json(project.paths.fold(fold) / "result.json", _result_facts(result))
    print(
        f"  fold {fold}: accuracy {result.accuracy}, best epoch {result.best_epoch + 1}, {result.steps} steps, "
        f"{result.skipped} skipped, {result.rows_per_second:.1f} rows/s, {result.trained_parameters:,} parameters trained"
    )


def _variant_scores(questions: list[Question], logprobs: list[np.ndarray], provenance: dict[str, Any]) -> Scores:
    counts = np.array([len(q.choices) for q in questions])
    table = np.full((len(questions), counts.max()), -np.inf)
    for i, values in enumerate(logprobs):
        table[i, : len(values)] = values
    return plain_scores(np.array([q.id for q in questions], dtype=np.str_), table, counts, provenance)


def _result_facts(result: FoldResult) -> dict[str, Any]:
    return {
        "fold": result.fold, "best_epoch": result.best_epoch, "accuracy": [result.accuracy.right, result.accuracy.n],
        "variants": {k: [v.accuracy.right, v.accuracy.n] for k, v in result.variants.items()}, "steps": result.steps,
        "skipped": result.skipped, "seconds": round(result.seconds, 1), "trained_parameters": result.trained_parameters,
    }


# %% step 8: scoring
def score_folds(project: Project, bench: Bench) -> None:
    """Out-of-fold and test Scores of every fold."""
    orders, scales = tta_plan(project.config)
    heading("scoring", f"{orders} option orders, scales {', '.join(f'{s:g}' for s in scales)}")
    for fold in project.config.folds_to_train:
        folder = project.paths.fold(fold) / project.config.keep
        verified(folder)
        settings = {k: getattr(project.config, k) for k in ("answer_by", "max_new_tokens", "precision")}
        key = settings_hash({"weights": adapter_hash(folder), "orders": orders, "scales": scales, **settings})
        files = [project.paths.scores / f"fold{fold}-{split}.npz" for split in ("oof", "test")]
        if project.steps.done(f"score fold {fold}", key, files):
            print(f"  fold {fold}: already scored")
        else:
            _score_fold(project, bench, fold, folder, files)
            project.steps.remember(f"score fold {fold}", key)
        if fold == project.config.folds_to_train[0]:
            project.submit("single", load_scores(files[1]).predictions(), f"fold {fold} of {project.config.run}")


def _score_fold(project: Project, bench: Bench, fold: int, folder: Path, files: list[Path]) -> None:
    maker, config = bench.maker, project.config
    model = load_adapter(bench.base, folder)
    _, validation = project.fold_rows(fold)
    facts = {"run": config.run, "fold": fold, "adapter": adapter_hash(folder), "config": settings_hash(config.weight_settings())}
    for split, questions, file in (("oof", validation, files[0]), ("test", project.data.test, files[1])):
        scores = score_questions(model, bench.base, maker, questions, config, facts | {"split": split})
        scores.save(file)
        project.log.write("scored", fold=fold, split=split, rows=len(questions))
    remove_adapters(bench.base, model)
    bench.renew_base()


# %% step 9: ensemble
def run_member(project: Project, name: str | None = None) -> Member:
    """The folds of a run as one member: every row out of fold by its own fold's model, test rows by all of them."""
    folder = project.paths.scores if name is None else project.paths.experiment.parent / name / "scores"
    oof, test = sorted(folder.glob("fold*-oof.npz")), sorted(folder.glob("fold*-test.npz"))
    if not test:
        raise RunStopped(f"The run {name or project.config.run!r} has no scores in {folder}: finish it first (mcvqa run).")
    wanted = project.config.folds_to_train if name is None else range(len(test))
    oof, test = [oof[f] for f in wanted], [test[f] for f in wanted]
    return Member(name or project.config.run, joined(list(map(load_scores, oof))), tuple(map(load_scores, test)))
