"""Scores a fold's validation rows and the test rows in all views.

It also checks that scores belong to the current weights.
"""
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from mcvqa.config import Config, settings_hash
from mcvqa.data.folds import fold_title
from mcvqa.data.meta_choices import order_rule
from mcvqa.data.own_letters import letter_rule
from mcvqa.data.questions import Question
from mcvqa.model.distributed import by_main
from mcvqa.model.rows import KnownPasses
from mcvqa.run.dataset import RunData, weights_key
from mcvqa.run.model_side import ModelSide, images_seen
from mcvqa.run.project import Project, RunStopped
from mcvqa.run.tasks import CODE_OF_SCORING, Task, code_print
from mcvqa.run.train import result_of
from mcvqa.scoring.orders import tta_plan
from mcvqa.scoring.score import score_questions
from mcvqa.scoring.scores import Scores, load_scores
from mcvqa.training.checkpoint import adapter_hash, verified

SPLITS = {"test": "test", "oof": "out of fold"}


def splits_of(data: RunData) -> tuple[str, ...]:
    """List the splits to score: the test rows, if there are any, and the validation rows (oof)."""
    return tuple(split for split in SPLITS if split == "oof" or data.test)


# %% the task
def score_task(
    project: Project, data: RunData, config: Config, fold: int, split: str, needs: Sequence[str] = (), sample: int = 0
) -> Task:
    """Make the task that scores the validation rows ('oof') or the test rows ('test') with a fold's model.

    Args:
        project: the run.
        data: its rows, with folds.
        config: with the option orders and scales.
        fold: number of the fold.
        split: 'oof' or 'test'.
        needs: tasks that encode images.
        sample: number of validation rows if time is short; 0: all.
    """
    sample = sample if split == "oof" and sample < data.validated(fold).sum() else 0
    orders, scales = tta_plan(config)
    key = settings_hash({
        "weights": weights_key(project, data, fold), "keep": project.weights(fold).name, "code": code_print(CODE_OF_SCORING),
        "orders": orders, "scales": scales, "rows": data.test_print if split == "test" else "",
        "answer_by": [config.answer_by, config.max_new_tokens], **({"sample": sample} if sample else {}),
        **letter_rule(q.choices for q in (data.test if split == "test" else data.train)),
        **(order_rule(data.test if split == "test" else data.train) if orders > 1 else {}),
    })
    return Task(
        "score", f"score {fold_title(fold)} {split}", key,
        makes=(f"experiments/{config.run}/scores/{project.paths.fold(fold).name}-{split}.npz",),
        needs=(f"train {fold_title(fold)}", *needs),
        arguments={
            "fold": fold, "split": split, "sample": sample,
            "settings": {name: getattr(config, name) for name in TTA_SETTINGS},
        },
        of_0_1=(f"score fold {fold}", _keys_of_0_1(project, data, config, fold)),
    )


TTA_SETTINGS = ("use_tta", "tta_orders", "tta_scales")  # settings that determine the views of a row


def _keys_of_0_1(project: Project, data: RunData, config: Config, fold: int) -> tuple[str, ...]:
    """List the keys of version 0.1, one per precision, which was part of the key."""
    folder = project.weights(fold)
    orders, scales = tta_plan(config)
    try:
        adapter = adapter_hash(folder)
    except (OSError, ValueError, KeyError):
        return ()
    return tuple(
        settings_hash({
            "weights": [weights_key(project, data, fold), adapter], "test": data.test_print, "orders": orders, "scales": scales,
            "answer_by": [config.answer_by, config.max_new_tokens], "precision": [f"torch.{dtype}", four_bit],
        })
        for dtype in ("float32", "float16", "bfloat16") for four_bit in (False, True, None)
    )


# %% scoring
def do_score(side: ModelSide, task: Task) -> None:
    """Score one split of a fold and save the scores.

    Raises:
        CheckpointError: weights are missing or damaged.
    """
    by_main(save_scores, side.project, task, score_split(side, task))


def score_split(side: ModelSide, task: Task, share: Callable[[list[int]], list[int]] = list) -> Scores:
    """Score one split of a fold; see `read_rows` for `share`."""
    project, fold, split = side.project, int(task.arguments["fold"]), str(task.arguments["split"])
    config = project.config.replace(**task.arguments["settings"])
    loaded, folder = side.load(), project.weights(fold)
    rows = scored_rows(side.data, task, config.seed)
    for scale in tta_plan(config)[1]:
        side.make_features([question.image for question in rows], scale, among=images_seen(side.data))
    model = side.with_weights(folder)
    facts = {
        "run": config.run, "fold": fold, "split": split, "adapter": adapter_hash(folder), "task": task.key,
        "config": settings_hash(config.weight_settings()), "precision": str(side.plan.dtype).removeprefix("torch."),
        "four_bit": bool(side.plan.four_bit),
    }

    title, passes = f"{fold_title(fold)} {SPLITS.get(split, split)}", KnownPasses()

    def score(part: Sequence[Question]) -> Scores:
        started = time.monotonic()
        scores = score_questions(model, loaded.base, loaded.maker, part, config, facts, title=title, passes=passes, share=share)
        if side.schedule and tta_plan(config) == (1, (1.0,)):
            side.schedule.pace.read = (time.monotonic() - started) / len(part)
        return scores

    if side.schedule and split == "test" and Task.__module__ != "__main__":
        from mcvqa.run.parts import score_in_parts

        return score_in_parts(project, task, rows, score, side.schedule.pace)
    return score(rows)


def scored_rows(data: RunData, task: Task, seed: int) -> Sequence[Question]:
    """Select the rows that a task scores; a sample is the same in all sessions.

    Args:
        data: rows of the run.
        task: the scoring task.
        seed: seed of the sample.
    """
    fold, sample = int(task.arguments["fold"]), int(task.arguments["sample"])
    if task.arguments["split"] == "test":
        return data.test
    if task.arguments["split"] == "train":
        return data.learned_rows(fold)
    return data.validation_rows(fold, sample, seed)


def save_scores(project: Project, task: Task, scores: Scores) -> None:
    orders, scales = tta_plan(project.config.replace(**task.arguments["settings"]))
    scores.save(project.paths.root / task.makes[0])
    project.records.finish(
        task, orders=orders, scales=list(scales), sample=task.arguments["sample"], adapter=scores.provenance["adapter"],
        code=code_print(CODE_OF_SCORING),
    )
    facts = {name: scores.provenance[name] for name in ("fold", "split")}
    project.log.write("scored", **facts, rows=len(scores.ids), file=str(task.makes[0]))


# %% existing scores
def expected_task(project: Project, data: RunData, fold: int, split: str) -> Task:
    """Make the scoring task for the settings or, within a time budget, for the views and rows recorded as scored."""
    record = project.records.read(f"score fold {fold} {split}")
    sample = int(record.get("sample", 0)) if project.config.time_budget else 0
    return score_task(project, data, _expected_config(project, fold, split), fold, split, sample=sample)


def _expected_config(project: Project, fold: int, split: str) -> Config:
    """Return the settings; within a time budget, with the orders and scales that were scored."""
    config, record = project.config, project.records.read(f"score fold {fold} {split}")
    orders, scales = tta_plan(config)
    if not config.time_budget or not record.get("finished"):
        return config
    if "orders" not in record or record["orders"] > orders or not set(record["scales"]) <= {*scales, 1.0}:
        return config
    return config.replace(use_tta=True, tta_orders=record["orders"], tta_scales=tuple(record["scales"]))


def is_scored(project: Project, data: RunData, config: Config, fold: int, sample: int = 0) -> bool:
    """Return whether both splits have scores of the current weights and rows, in the views of `config`."""
    tasks = (score_task(project, data, config, fold, split, sample=sample) for split in splits_of(data))
    return all(map(project.records.is_done, tasks))


def scored_folds(project: Project, data: RunData) -> tuple[int, ...]:
    """List the folds that make the run's predictions: all, or within a time budget those with valid scores."""
    folds = project.config.folds_to_train
    if not project.config.time_budget:
        return folds
    return tuple(fold for fold in folds if _why_invalid(project, data, fold) is None)


def unmeasured_folds(project: Project, data: RunData) -> dict[int, str]:
    """Map folds whose models may have been trained on their validation rows to the reason."""
    reasons = {fold: result_of(project, fold).not_measured for fold in scored_folds(project, data)}
    return {fold: reason for fold, reason in reasons.items() if reason}


def valid_scores(project: Project, data: RunData, fold: int) -> tuple[Scores, Scores]:
    """Read the scores of a fold.

    Returns:
        Out-of-fold and test scores; the latter have no rows if there is no test file.

    Raises:
        CheckpointError: the fold has no weights.
        RunStopped: there are no scores of these weights, rows and settings.
    """
    reason = _why_invalid(project, data, fold)
    if reason is not None:
        verified(project.weights(fold))
        raise RunStopped(
            f"Fold {fold} of the run {project.config.run!r} {reason}. Score it first, with the settings given here: "
            f"mcvqa predict {project.config.run}"
        )
    scores = {split: load_scores(project.paths.scores_of(fold, split)) for split in splits_of(data)}
    return scores["oof"], scores.get("test", scores["oof"].rows(np.arange(0)))


def _why_invalid(project: Project, data: RunData, fold: int) -> str | None:
    """Describe what is wrong with the scores of a fold, as a predicate; None: they match the current weights, rows and
    settings."""
    config = project.config
    try:
        adapter = adapter_hash(project.weights(fold))
    except (OSError, ValueError, KeyError):
        return "has no weights"
    for split in splits_of(data):
        task = expected_task(project, data, fold, split)
        done, record = project.records.is_done(task), project.records.read(task.name)
        if done and record.get("adapter") in (None, adapter):
            continue
        if not record.get("finished"):
            return "is not scored"
        train = f"train fold {fold}"
        if record.get("adapter") not in (None, adapter) or record["used"].get(train) != project.records.print_of(train):
            return "was scored with weights other than the current ones"
        orders, scales = tta_plan(config)
        if record.get("orders") and (record["orders"], record["scales"]) != (orders, list(scales)):
            return (f"was scored in {record['orders']} option orders at scales {record['scales']}, while the settings ask for "
                    f"{orders} at {list(scales)}")
        return "was scored on other rows or photographs or by another answer_by, or its scores are damaged"
    return None


def variant_scores(project: Project, folds: Sequence[int], name: str, attempts: Mapping[int, str]) -> list[Scores]:
    """Read the validation scores of one kind of weights, from the attempts of the current weights; empty if a fold lacks them.

    Args:
        project: the run.
        folds: their numbers.
        name: 'raw', 'ema' or 'swa'.
        attempts: fold -> attempt of its current weights.
    """
    files = [project.paths.scores_of(fold, name) for fold in folds]
    if not all(file.exists() for file in files):
        return []
    parts = [load_scores(file) for file in files]
    current = all(part.provenance.get("attempt", "") == attempts[fold] for part, fold in zip(parts, folds, strict=True))
    return parts if current else []


def require_weights(project: Project, folds: Sequence[int]) -> None:
    """Verify the weights of the folds.

    Raises:
        CheckpointError: a fold has no weights, or they are damaged.
    """
    for fold in folds:
        verified(project.weights(fold))


