"""`mcvqa demo`: the whole pipeline on a generated data set, with no download and no GPU."""
import csv
from pathlib import Path

import numpy as np

from mcvqa.config import Config
from mcvqa.data.questions import LETTERS
from mcvqa.data.scenes import generate_demo
from mcvqa.pipeline import Outcome, run
from mcvqa.project import Project
from mcvqa.scoring.scores import load_scores
from mcvqa.uncertainty import Accuracy, accuracy_of

DEMO_ROWS = (600, 200)  # training, test


def run_demo(config: Config) -> Outcome:
    """Generate the data, run all steps, and compare with the answers of the test rows, which only a demo has."""
    folder = Path(config.output_dir) / config.data_dir
    generate_demo(folder, *DEMO_ROWS, seed=config.seed, size=96, style="shifted")
    config = config.replace(data_dir=str(folder))
    outcome = run(config)
    print("\naccuracy on the test rows (a competition would not tell):")
    for name, accuracy in test_accuracies(config).items():
        print(f"  {name:32} {accuracy}")
    return outcome


def test_accuracies(config: Config) -> dict[str, Accuracy]:
    """What each stage answers on the test rows, against test_answers.csv."""
    project = Project(config)
    with open(project.data.files.root / "test_answers.csv", encoding="utf-8", newline="") as handle:
        answers = np.array([LETTERS.index(row["answer"]) for row in csv.DictReader(handle)])
    scores = project.paths.scores
    found = {"text-only prior": load_scores(scores / "prior-test.npz").predictions()}
    for fold in config.folds_to_train:
        found[f"fold {fold}"] = load_scores(scores / f"fold{fold}-test.npz").predictions()
    with open(project.paths.outputs / "submission_ensemble.csv", encoding="utf-8", newline="") as handle:
        found["submission_ensemble.csv"] = np.array([LETTERS.index(row["answer"]) for row in csv.DictReader(handle)])
    return {name: accuracy_of(predicted, answers) for name, predicted in found.items()}
