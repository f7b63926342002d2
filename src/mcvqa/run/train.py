"""Trains a fold: the task, its dependencies, and its results."""
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mcvqa.base.budget import READ_SHARE
from mcvqa.base.files import read_json, write_json
from mcvqa.base.informing import counted, informing
from mcvqa.base.uncertainty import Accuracy
from mcvqa.config import settings_hash
from mcvqa.data.folds import FINAL, fold_title
from mcvqa.data.meta_choices import order_rule
from mcvqa.data.own_letters import letter_rule
from mcvqa.data.questions import Question
from mcvqa.model.content import base_differences, base_print
from mcvqa.model.distributed import by_main
from mcvqa.model.rows import Maker, RowMaker, epoch_windows
from mcvqa.report.experiments import update_index
from mcvqa.report.metrics import Selection, read_epochs, selection_of, spell_selection
from mcvqa.run.dataset import RunData, question_scores, rows_key, weights_key
from mcvqa.run.model_side import FeaturesAhead, LoadedModel, ModelSide
from mcvqa.run.project import Project, RunStopped, remedy
from mcvqa.run.session import owning
from mcvqa.run.tasks import CODE_OF_TRAINING, Task, code_print
from mcvqa.scoring.score import score_questions
from mcvqa.scoring.scores import Scores
from mcvqa.training.checkpoint import CheckpointError, adapter_hash
from mcvqa.training.job import FoldJob
from mcvqa.training.loop import FoldResult, train_fold
from mcvqa.training.resume import RESUME

PACE_ROWS = 32  # rows that the untrained model scores to estimate the pace
MADE_OF_ALL_FOLDS = (  # files in experiments/<run>
    "metrics.json", "REPORT.md", "report.html", "evidence.csv", "oof_predictions.csv", "test_predictions.csv",
)
KINDS_OF_WEIGHTS = ("best", "last", "raw", "ema", "swa")  # folders of a fold


# %% the task
def train_task(project: Project, data: RunData, fold: int, needs: Sequence[str] = ()) -> Task:
    """Make the task that trains a fold.

    Args:
        project: the run.
        data: its rows, with folds.
        fold: number of the fold.
        needs: tasks that encode images.
    """
    key_of_0_1 = weights_key(project, data, fold)
    folder = f"checkpoints/{project.config.run}/{project.paths.fold(fold).name}"
    steps: dict[str, Any] = {}
    folds: tuple[int, ...] = ()
    if fold == FINAL:
        from mcvqa.run.final_steps import final_steps

        steps, folds = {"steps": final_steps(project, data)}, project.config.folds_to_train
    rules = letter_rule(q.choices for q in data.train) | (order_rule(data.train) if project.config.shuffle_choices else {})
    return Task(
        "train", f"train {fold_title(fold)}",
        settings_hash({"weights": key_of_0_1, "code": code_print(CODE_OF_TRAINING)} | rules | steps),
        makes=(f"{folder}/result.json", f"{folder}/best", f"{folder}/last"), needs=(*(f"train fold {n}" for n in folds), *needs),
        arguments={"fold": fold} | steps,
        of_0_1=(f"train fold {fold}", (key_of_0_1,)),
    )


# %% training
def do_train(side: ModelSide, task: Task) -> None:
    """Train a fold from its beginning, or continue an interrupted session, and save its results.

    Raises:
        TrainingError, NotSaved, Interrupted: from `train_fold`.
    """
    project, fold = side.project, int(task.arguments["fold"])
    train, validation = side.data.fold_rows(fold)
    with owning(project, fold):
        side.release()
        loaded = side.load()
        maker, learner = loaded.maker, loaded.maker
        if project.augment or project.config.image_augmentation:
            learner = _augmenting(side, loaded)
        attempt, begins = by_main(start_attempt, project, task, fold), by_main(_beginning, project, side.data, fold)
        with project.records.sharing_points(task.name) as share_point:
            result = train_fold(FoldJob(
                project.config, loaded.base, learner, train, validation, fold, project.paths.fold(fold),
                project.log.with_facts(attempt=attempt), side.memory, rows_key(side.data, fold),
                None if fold == FINAL else side.schedule,
                side.data.groups[side.data.validated(fold)], _features_ahead(side, fold) if task.arguments.get("ahead") else None,
                *begins, maker, tuple(task.arguments.get("steps", ())), share_point,
            ))
        side.free_base(result.model)
        by_main(_save_result, project, side.data, task, result, attempt)


def _augmenting(side: ModelSide, loaded: LoadedModel) -> Maker:
    """Make a maker of training rows that applies augmentations of photographs; cached image features cannot be used then."""
    from mcvqa.model.augment import augmenting

    if isinstance(loaded.maker, RowMaker):
        loaded.base.vision.to(loaded.base.plan.device)  # which computing features has left on the CPU
    return augmenting(loaded.maker, side.project.augment, side.project.config.image_augmentation)


def _beginning(project: Project, data: RunData, fold: int) -> tuple[Path | None, str, dict[str, str]]:
    """Return the adapters to start from, why the accuracy is then not measured, and the files to store next to the weights."""
    if Task.__module__ != "__main__":
        from mcvqa.run.beginning import beginning_of

        return beginning_of(project, data, fold)
    return None, "", {}  # the notebook begins with fresh adapters


def _features_ahead(side: ModelSide, fold: int) -> FeaturesAhead:
    """Encode images as training reaches their rows, as part of the session's plan."""
    config, schedule, (train, validation) = side.project.config, side.schedule, side.data.fold_rows(fold)
    if not by_main(lambda: schedule.pace.learn):  # until training has measured it
        schedule.pace.learn = _measure_scoring_pace(side) / READ_SHARE
    by_main(schedule.most)
    sample = by_main(schedule.validation_rows, len(validation))
    first_use = {q.image: 0.0 for q in side.data.validation_rows(fold, sample, config.seed)}
    order = np.concatenate(list(epoch_windows(len(train), 0, config)))
    for position, row in enumerate(order.tolist()):
        first_use.setdefault(train[row].image, position / len(order))
    ahead = FeaturesAhead(side, first_use)
    schedule.unencoded = ahead.unencoded
    by_main(schedule.announce)
    return ahead


def _measure_scoring_pace(side: ModelSide) -> float:
    """Measure the seconds per row of scoring with the untrained model, a first estimate until training is measured."""
    config, loaded = side.project.config.replace(use_tta=False, answer_by="letters"), side.load()
    rows = (side.data.test or side.data.train)[: 1 + PACE_ROWS]
    side.make_features([question.image for question in rows], 1.0)  # test rows are encoded already
    started = 0.0
    for part in (rows[:1], rows[1:]):  # the first call includes compilation and allocation
        started = time.monotonic()
        if part:
            score_questions(loaded.base.model, loaded.base, loaded.maker, part, config, {}, title="pace")
    return (time.monotonic() - started) / max(1, len(rows) - 1)


def start_attempt(project: Project, task: Task, fold: int) -> str:
    """Return the attempt of this training; a new one first deletes the results of earlier attempts."""
    record, resume = project.records.read(task.name), project.paths.fold(fold) / RESUME
    continues = resume.exists() and any(resume.iterdir())
    if continues and record and record["key"] != task.key:
        print(f"  {fold_title(fold)}: its task has changed since it was interrupted, so it starts over")
        continues = False
    if not continues:  # first: a kill must not leave these results to the new attempt
        remove_results(project, fold)
    return project.records.begin(task, base=base_print(project.config))


def remove_results(project: Project, fold: int) -> None:
    """Delete weights, scores and records of a fold, so that they cannot be mistaken for those of the next attempt.

    If it was trained before, so is what was made of all folds. Submissions stay: each has a record of whose answers it holds.
    """
    folder, experiment = project.paths.fold(fold), project.paths.experiment
    trained = (folder / "result.json").exists() or project.records.read(f"train {fold_title(fold)}").get("finished")
    for name in (*KINDS_OF_WEIGHTS, RESUME):
        shutil.rmtree(folder / name, ignore_errors=True)
    (folder / "result.json").unlink(missing_ok=True)
    for file in project.paths.scores.glob(f"{folder.name}-*.npz"):
        file.unlink()
    for split in ("oof", "test", "train"):
        project.records.forget(f"score {fold_title(fold)} {split}")
    if trained:
        project.records.forget("average")
        for name in MADE_OF_ALL_FOLDS:
            (experiment / name).unlink(missing_ok=True)
        with informing("the index of runs"):
            update_index(experiment.parent)


def _save_result(project: Project, data: RunData, task: Task, result: FoldResult, attempt: str) -> None:
    fold = result.fold
    for name, validation in result.variants.items() if result.validated else ():
        facts = {"run": project.config.run, "fold": fold, "variant": name, "attempt": attempt}
        _variant_scores(result.validated, validation.logprobs, facts).save(project.paths.scores_of(fold, name))
    write_json(project.paths.fold(fold) / "result.json", _result_facts(result))
    weights = adapter_hash(project.paths.fold(fold) / project.config.keep)
    project.records.finish(task, adapter=weights, base=base_print(project.config))
    forget_progress(project, fold)
    trouble = f" ({result.skipped} skipped, {counted(result.rollbacks, 'rollback')})"
    skipped = trouble if result.skipped or result.rollbacks else ""
    optimism = spell_selection(_selection(project, data, fold, attempt))
    if fold == FINAL:
        return
    accuracy = ", ".join(filter(None, (str(result.accuracy), "" if result.accuracy.not_measured else optimism)))
    print(
        f"  fold {fold}: accuracy {accuracy}, best epoch {result.best_epoch + 1}, {counted(result.steps, 'step')}{skipped}, "
        f"{result.rows_per_second:.1f} rows/s"
    )


def _selection(project: Project, data: RunData, fold: int, attempt: str) -> Selection | None:
    """Estimate the optimism of choosing the best epoch of a fold; None: nothing was chosen."""
    if project.config.keep != "best":
        return None
    events = (e for e in project.log.events("epoch") if e.get("fold") == fold and e.get("attempt", "") == attempt)
    groups = data.groups[data.validated(fold)]
    return selection_of(read_epochs(events), np.full(len(groups), fold), groups)


def forget_progress(project: Project, fold: int) -> None:
    """Delete the resume points of a finished fold."""
    shutil.rmtree(project.paths.fold(fold) / RESUME, ignore_errors=True)


def _variant_scores(questions: Sequence[Question], logprobs: list[np.ndarray], provenance: dict[str, Any]) -> Scores:
    table = np.full((len(questions), max(map(len, logprobs))), -np.inf)
    for i, values in enumerate(logprobs):
        table[i, : len(values)] = values
    return question_scores(questions, table, provenance)


def _result_facts(result: FoldResult) -> dict[str, Any]:
    return {
        "fold": result.fold, "best_epoch": result.best_epoch, "accuracy": result.accuracy.record,
        "variants": {k: v.accuracy.record for k, v in result.variants.items()}, "steps": result.steps,
        "skipped": result.skipped, "rollbacks": result.rollbacks, "seconds": round(result.seconds, 1),
        "trained_parameters": result.trained_parameters,
    }


# %% existing results
def require_same_base(project: Project) -> None:
    """Check that the base model's files are those that all folds were trained on.

    Raises:
        RunStopped: they are not.
    """
    current = base_print(project.config)
    for fold in project.config.folds_to_train:
        recorded = str(project.records.read(f"train fold {fold}").get("base", ""))
        known = '"config.json"' in recorded and '"config.json"' in current  # only the name of a hub model before download
        if not known or not project.paths.fold(fold).exists():
            continue
        if differing := base_differences(recorded, current):
            raise RunStopped("\n".join((
                f"Fold {fold} of the run {project.config.run!r} was trained on different files of the base model "
                f"{project.config.model_id!r}:", *(f"  {line}" for line in differing), f"Restore them. {remedy(project)}",
            )))


def require_untouched_0_1(project: Project, task: Task) -> None:
    """Check that training would not replace damaged results of version 0.1 without being asked.

    Raises:
        RunStopped: it would.
    """
    fold, old = int(task.arguments["fold"]), project.records.file_of_0_1(task.of_0_1[0])
    if old.exists() and not project.records.read(task.name) and (project.paths.fold(fold) / "result.json").exists():
        raise RunStopped(
            f"Fold {fold} was trained by version 0.1 with other settings or data, or its weights are damaged. mcvqa does not "
            f"overwrite it: delete {project.paths.fold(fold)} and {old} to train it again, or choose another name (--set "
            "run_name=...)."
        )


def result_of(project: Project, fold: int) -> Accuracy:
    """Read the accuracy of a trained fold on its validation rows.

    Raises:
        CheckpointError: there is no result, or it is damaged.
    """
    file = project.paths.fold(fold) / "result.json"
    try:
        return Accuracy.from_record(read_json(file)["accuracy"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{file} is damaged or missing ({error}): delete {file.parent} and train this fold again."
        ) from None
