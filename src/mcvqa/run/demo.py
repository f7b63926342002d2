"""Runs the whole pipeline on generated data, without a download or a GPU, and measures each technique (`mcvqa demo`).

The data are scenes in colours, textures and wordings that `tiny` has not seen. Unlike in a competition, the test rows have
answers, so that every rung of the ladder can be measured: the untouched model, one fold, all folds, then one more technique at a
time.
"""
import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mcvqa.base.files import write_text
from mcvqa.base.plots import save_figure
from mcvqa.base.uncertainty import Accuracy, Gain, accuracy_of, paired_gain, spell_interval
from mcvqa.config import Config
from mcvqa.data.answers import LETTERS
from mcvqa.data.folds import question_groups
from mcvqa.ensemble.blend import Member, blend_members
from mcvqa.model.device import plan_device
from mcvqa.report.figures import draw_ladder
from mcvqa.run.dataset import RunData, fit_text_prior, read_data
from mcvqa.run.folds import split_rows
from mcvqa.run.members import run_member
from mcvqa.run.model_side import ModelSide, plan_weights
from mcvqa.run.other_seeds import record_member
from mcvqa.run.project import Project, open_project
from mcvqa.run.results import Outcome
from mcvqa.run.single import predict_only, report_only, train_only
from mcvqa.run.steps import run
from mcvqa.scenes.dataset import write_demo_data
from mcvqa.scoring.score import score_questions
from mcvqa.scoring.scores import Scores, load_scores

LADDER_PAGE = """# Gain of each technique

Measured on the {rows} test rows, whose answers a competition would not reveal; from the line of the folds on, these answer
together. The accuracy in [REPORT.md](REPORT.md) and [report.html](report.html) is a different one: out of fold, on the training
rows, each answered by the one model that was not trained on it.

{table}

![ladder](ladder.png)
"""


@dataclass(frozen=True)
class Rung:
    """Holds one rung of the ladder: its accuracy on the test rows, and its gain over the rung below."""

    name: str
    accuracy: Accuracy
    gain: Gain | None


# %% the demo
def run_demo(config: Config) -> Outcome:
    """Generate the data, run all steps, combine the run with a second model, and climb the ladder."""
    folder = Path(config.output_dir) / config.data_dir
    write_demo_data(folder, config.seed)
    config = config.replace(data_dir=str(folder))
    outcome = run(config)

    second = second_model(config)
    print(f"\na second model for the ensemble, {second.run}: steps 5 to 8 once more, for one fold at {second.image_size} pixels")
    train_only(second)
    predict_only(second)
    record_second(second)
    print(f"\nboth models together: {config.run} and {second.run}")
    report_only(config.replace(members=(*config.members, second.run)))

    print("\ngain of each technique on the test rows (accuracies in the report are out of fold, on training rows)")
    project = open_project(config)
    data = split_rows(read_data(project), config)
    answers = answers_of_test(data)
    predicted = climb(project, data) | {"+ ensemble": read_submission(project)}
    groups = question_groups(data.test, data.image_groups)
    rungs = measure_rungs(predicted, answers, groups)
    blind = accuracy_of(load_scores(project.paths.scores / "prior-test.npz").predictions(), answers, groups)
    print(f"\n{ladder_table(rungs, blind)}\n")
    page, figure = project.paths.experiment / "LADDER.md", project.paths.experiment / "ladder.png"
    save_figure(draw_ladder({rung.name: rung.accuracy for rung in rungs}, blind), figure)
    write_text(page, LADDER_PAGE.format(rows=len(answers), table=ladder_table(rungs, blind)))
    print(f"ladder      {page}, {figure}")
    return outcome


def second_model(config: Config) -> Config:
    """Make the settings of another member of the ensemble: other image size, another seed, one fold of other rows."""
    return config.replace(
        run_name=f"{config.run}-second", image_size=config.image_size * 5 // 4, seed=config.seed + 1, train_folds=(0,)
    )


def record_second(config: Config) -> None:
    """Record the accuracy of the second model, which has no report, in the index of runs."""
    project = open_project(config)
    data = split_rows(read_data(project), config)
    record_member(project, data, fit_text_prior(project, data))


def answers_of_test(data: RunData) -> np.ndarray:
    """Read the answers (N,) of the test rows from test_answers.csv, which only generated data have."""
    return _letters(data.files.root / "test_answers.csv")


def read_submission(project: Project) -> np.ndarray:
    return _letters(project.paths.outputs / "submission_ensemble.csv")


def _letters(file: Path) -> np.ndarray:
    with open(file, encoding="utf-8", newline="") as handle:
        return np.array([LETTERS.index(row["answer"]) for row in csv.DictReader(handle)])


# %% the ladder
def climb(project: Project, data: RunData) -> dict[str, np.ndarray]:
    """Answer the test rows on each rung of the ladder.

    Args:
        project: a run that is trained and scored.
        data: its rows, with folds.

    Returns:
        Rung -> (N,) answers: of the untouched model, one fold, all folds, all folds with each average of the weights instead of
        the last ones, and with all option orders.
    """
    plan = plan_weights(project, plan_device(project.config))
    side, folds = ModelSide(project, data, plan, keep_features=True), project.config.folds_to_train
    rungs = {"zero-shot": asked_once(side, None, "zero-shot").predictions()}
    for variant in ("raw", *(name for name in ("ema", "swa") if getattr(project.config, f"use_{name}"))):
        scored = asked_of_folds(side, variant)
        if variant == "raw":
            rungs["single fold"] = scored[0].predictions()
        rungs[f"{len(folds)} folds" if variant == "raw" else f"+ {variant.upper()}"] = together(scored)
    return rungs | {"+ TTA": together(run_member(project, data).test)}


def asked_once(side: ModelSide, folder: Path | None, title: str) -> Scores:
    """Score the test rows in their original order of choices.

    Args:
        side: the model.
        folder: weights to use; None: the untouched model.
        title: title of the progress bar.
    """
    loaded = side.load()
    model = loaded.base.model if folder is None else side.with_weights(folder)
    once = side.project.config.replace(use_tta=False)
    scores = score_questions(model, loaded.base, loaded.maker, side.data.test, once, {}, title=title)
    side.release()
    return scores


def asked_of_folds(side: ModelSide, variant: str) -> tuple[Scores, ...]:
    """Score the test rows with the 'raw', 'ema' or 'swa' weights of each fold at the end of training."""
    return tuple(
        asked_once(side, weights_folder(side.project, fold, variant), f"fold {fold} {variant}")
        for fold in side.project.config.folds_to_train
    )


def weights_folder(project: Project, fold: int, variant: str) -> Path:
    """Return the folder of the weights at the end of training; those used for scoring are in last/."""
    folder = project.paths.fold(fold)
    return folder / variant if (folder / variant).exists() else folder / "last"


def together(folds: tuple[Scores, ...]) -> np.ndarray:
    """Average several folds and return their answers (N,)."""
    return blend_members([Member("folds", None, folds)], {}, "geometric").predictions


def measure_rungs(predicted: dict[str, np.ndarray], answers: np.ndarray, groups: np.ndarray | None = None) -> list[Rung]:
    """Measure each rung's accuracy and its gain over the rung below.

    Args:
        predicted: rung -> (N,) answers.
        answers: (N,) true answers.
        groups: (N,) image groups of the rows; None: every row is its own group.
    """
    rungs: list[Rung] = []
    below = None
    for name, choices in predicted.items():
        right = choices == answers
        gain = None if below is None else paired_gain(right, below, groups)
        rungs.append(Rung(name, accuracy_of(choices, answers, groups), gain))
        below = right
    return rungs


def ladder_table(rungs: list[Rung], blind: Accuracy) -> str:
    """Write the ladder as Markdown: accuracy, its 95 % interval, and the gain over the rung below with its interval.

    Args:
        rungs: from the bottom up.
        blind: accuracy of the text-only prior.
    """
    lines = ["| | accuracy | 95 % interval | gain over the line above |", "|---|---|---|---|"]
    for name, accuracy, gain in [("text-only prior", blind, None), *((r.name, r.accuracy, r.gain) for r in rungs)]:
        lines.append(f"| {name:15} | {accuracy.value:.3f} | {spell_interval(*accuracy.interval)} | {gain or ''!s:22} |")
    return "\n".join(lines)
