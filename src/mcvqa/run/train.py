"""Train a fold: the task, what it depends on, and what it leaves behind."""
import shutil
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from mcvqa.base.budget import READ_SHARE
from mcvqa.base.files import read_json, write_json
from mcvqa.base.uncertainty import Accuracy
from mcvqa.config import settings_hash
from mcvqa.data.meta_choices import order_rule
from mcvqa.data.own_letters import letter_rule
from mcvqa.data.questions import Question
from mcvqa.model.content import base_differences, base_print
from mcvqa.model.distributed import by_main
from mcvqa.model.rows import epoch_windows
from mcvqa.report.metrics import Selection, read_epochs, selection_of, spell_selection
from mcvqa.run.dataset import RunData, question_scores, rows_key, weights_key
from mcvqa.run.model_side import FeaturesAhead, ModelSide
from mcvqa.run.project import Project, RunStopped, way_out
from mcvqa.run.session import owning
from mcvqa.run.tasks import CODE_OF_TRAINING, Task, code_print
from mcvqa.scoring.score import score_questions
from mcvqa.scoring.scores import Scores
from mcvqa.training.checkpoint import CheckpointError, adapter_hash
from mcvqa.training.job import FoldJob
from mcvqa.training.loop import FoldResult, train_fold
from mcvqa.training.resume import RESUME

PACE_ROWS = 32  # read by the untrained model where time is short
KINDS_OF_WEIGHTS = ("best", "last", "raw", "ema", "swa")  # folders of a fold


# %% the task
def train_task(project: Project, data: RunData, fold: int, needs: Sequence[str] = ()) -> Task:
    """Args: needs: tasks that make image features."""
    old_key = weights_key(project, data, fold)
    folder = f"checkpoints/{project.config.run}/fold{fold}"
    rules = letter_rule(q.choices for q in data.train) | (order_rule(data.train) if project.config.shuffle_choices else {})
    return Task(
        "train", f"train fold {fold}", settings_hash({"weights": old_key, "code": code_print(CODE_OF_TRAINING)} | rules),
        makes=(f"{folder}/result.json", f"{folder}/best", f"{folder}/last"), needs=tuple(needs), arguments={"fold": fold},
        of_0_1=(f"train fold {fold}", (old_key,)),
    )


# %% doing it
def do_train(side: ModelSide, task: Task) -> None:
    """Train a fold from freshly initialised adapters, or from where an earlier session was cut off.

    Raises:
        TrainingError, NotSaved, Interrupted: as `train_fold` does.
    """
    project, fold = side.project, int(task.arguments["fold"])
    train, validation = side.data.fold_rows(fold)
    with owning(project, fold):
        side.release()
        loaded = side.load()
        attempt = by_main(_begin, project, task, fold)
        job = FoldJob(
            project.config, loaded.base, loaded.maker, train, validation, fold, project.paths.fold(fold),
            project.log.with_facts(attempt=attempt), side.memory, rows_key(side.data, fold), side.schedule,
            side.data.groups[side.data.validated(fold)], _features_ahead(side, fold) if task.arguments.get("ahead") else None,
        )
        result = train_fold(job)
        side.free_base(result.model)
        by_main(_keep_result, project, side.data, task, result, attempt)


def _features_ahead(side: ModelSide, fold: int) -> FeaturesAhead:
    """Image features as training reaches their rows, counted in the session's plan."""
    config, schedule, (train, validation) = side.project.config, side.schedule, side.data.fold_rows(fold)
    if not by_main(lambda: schedule.pace.learn):  # how long reading takes is then estimated from what learning really takes
        schedule.pace.learn = _pace_of_reading(side) / READ_SHARE
    by_main(schedule.most)
    sample = by_main(schedule.validation_rows, len(validation))
    first_read = {q.image: 0.0 for q in side.data.validation_rows(fold, sample, config.seed)}
    order = np.concatenate(list(epoch_windows(len(train), 0, config)))
    for position, row in enumerate(order.tolist()):
        first_read.setdefault(train[row].image, position / len(order))
    ahead = FeaturesAhead(side, first_read)
    schedule.unencoded = ahead.unencoded
    by_main(schedule.announce)
    return ahead


def _pace_of_reading(side: ModelSide) -> float:
    """Seconds that the model, as it is, takes for a row: what fits is planned from it until training has measured more."""
    config, loaded = side.project.config.replace(use_tta=False, answer_by="letters"), side.load()
    rows = (side.data.test or side.data.train)[: 1 + PACE_ROWS]
    side.make_features([question.image for question in rows], 1.0)  # those of test rows are there
    started = 0.0
    for part in (rows[:1], rows[1:]):  # the first call compiles, allocates and so on
        started = time.monotonic()
        if part:
            score_questions(loaded.base.model, loaded.base, loaded.maker, part, config, {}, title="pace")
    return (time.monotonic() - started) / max(1, len(rows) - 1)


def _begin(project: Project, task: Task, fold: int) -> str:
    """The attempt this is; a new one starts without anything that an earlier attempt left."""
    before, resume = project.records.read(task.name), project.paths.fold(fold) / RESUME
    attempt = project.records.begin(task, base=base_print(project.config))
    goes_on = resume.exists() and any(resume.iterdir())
    if goes_on and before and before["key"] != task.key:
        print(f"  fold {fold}: the code was changed since it was cut off, so it starts from the beginning")
        goes_on = False
    if not goes_on:
        remove_results(project, fold)
    return attempt


def remove_results(project: Project, fold: int) -> None:
    """Weights, scores and records of a fold; nothing later may take them for those of the next attempt."""
    folder = project.paths.fold(fold)
    for name in (*KINDS_OF_WEIGHTS, RESUME):
        shutil.rmtree(folder / name, ignore_errors=True)
    (folder / "result.json").unlink(missing_ok=True)
    for file in project.paths.scores.glob(f"fold{fold}-*.npz"):
        file.unlink()
    for split in ("oof", "test"):
        project.records.forget(f"score fold {fold} {split}")


def _keep_result(project: Project, data: RunData, task: Task, result: FoldResult, attempt: str) -> None:
    fold = result.fold
    for name, found in result.variants.items():
        facts = {"run": project.config.run, "fold": fold, "variant": name, "attempt": attempt}
        _variant_scores(result.validated, found.logprobs, facts).save(project.paths.scores / f"fold{fold}-{name}.npz")
    write_json(project.paths.fold(fold) / "result.json", _result_facts(result))
    weights = adapter_hash(project.paths.fold(fold) / project.config.keep)
    project.records.finish(task, adapter=weights, base=base_print(project.config))
    forget_progress(project, fold)
    lost = f" ({result.skipped} skipped, {result.rollbacks} rollbacks)" if result.skipped or result.rollbacks else ""
    chosen = spell_selection(_selection(project, data, fold, attempt))
    accuracy = ", ".join(filter(None, (str(result.accuracy), chosen)))
    print(
        f"  fold {fold}: accuracy {accuracy}, best epoch {result.best_epoch + 1}, {result.steps} steps{lost}, "
        f"{result.rows_per_second:.1f} rows/s"
    )


def _selection(project: Project, data: RunData, fold: int, attempt: str) -> Selection | None:
    """What choosing the best epoch adds to the accuracy of a fold."""
    if project.config.keep != "best":
        return None
    events = (e for e in project.log.events("epoch") if e["fold"] == fold and e.get("attempt", "") == attempt)
    groups = data.groups[data.validated(fold)]
    return selection_of(read_epochs(events), np.full(len(groups), fold), groups)


def forget_progress(project: Project, fold: int) -> None:
    """A fold that is finished needs no resume points."""
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


# %% what there is
def require_same_base(project: Project) -> None:
    """Raises RunStopped where the files of the base model are others than those that a fold was trained on."""
    now = base_print(project.config)
    for fold in project.config.folds_to_train:
        before = str(project.records.read(f"train fold {fold}").get("base", ""))
        known = '"config.json"' in before and '"config.json"' in now  # of a hub model that is not downloaded only the name is
        if not known or not project.paths.fold(fold).exists():
            continue
        if differing := base_differences(before, now):
            raise RunStopped("\n".join((
                f"Fold {fold} of the run {project.config.run!r} was trained on other files of the base model "
                f"{project.config.model_id!r}:", *(f"  {line}" for line in differing), f"Put them back. {way_out(project)}",
            )))


def require_untouched_0_1(project: Project, task: Task) -> None:
    """Raises RunStopped where version 0.1 trained the fold and what it left is damaged: it is not removed without being asked."""
    fold, name = int(task.arguments["fold"]), task.of_0_1[0]
    old = project.records.old_folder / f"{name.replace(' ', '-')}.json"
    if old.exists() and not project.records.read(task.name) and (project.paths.fold(fold) / "result.json").exists():
        raise RunStopped(
            f"Fold {fold} was trained by version 0.1 with other settings or data, or its weights are damaged. It is not replaced "
            f"without being asked: delete {project.paths.fold(fold)} and {old} to train it again, or choose another name "
            "(--set run_name=...)."
        )


def result_of(project: Project, fold: int) -> Accuracy:
    """Accuracy of a trained fold on its validation rows.

    Raises:
        CheckpointError: there is no result, or it is damaged.
    """
    file = project.paths.fold(fold) / "result.json"
    try:
        right, n, *clusters = read_json(file)["accuracy"]
        return Accuracy(int(right), int(n), *clusters)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{file} is damaged or missing ({error}): delete {file.parent} and train this fold again."
        ) from None
