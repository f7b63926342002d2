"""Measures the gain of each technique for `tiny` with real runs: five data sets, five seeds, 600 test rows each.

    python benchmarks/ablation.py --out FOLDER [--seeds 5] [--rows 600]   # trains; a second call goes on
    python benchmarks/ablation.py --out FOLDER --table                    # only reads

Each seed has its own training and test scenes of the style "shifted" (see `mcvqa demo`), a run of three folds, a second
model (other pixels, other rows), and a fold trained without shuffled choices. A gain is the difference of two accuracies on
the same test rows; its interval is Student's, over the seeds, so it covers the draw of the data and of the training.
"""
import argparse
from pathlib import Path

import numpy as np
from scipy.stats import t as student

from mcvqa.base.files import read_json, write_json
from mcvqa.config import Config, load_config
from mcvqa.ensemble.blend import BLEND_METHODS, blend_members
from mcvqa.ensemble.calibrate import fit_temperature
from mcvqa.model.device import plan_device
from mcvqa.report.metrics import reliability
from mcvqa.run.dataset import RunData, read_data
from mcvqa.run.demo import answers_of_test, asked_of_folds, asked_once, second_model, together
from mcvqa.run.folds import split_rows
from mcvqa.run.members import run_member
from mcvqa.run.model_side import ModelSide, plan_weights
from mcvqa.run.project import Project, open_project
from mcvqa.run.single import predict_only, train_only
from mcvqa.scenes.dataset import generate_demo
from mcvqa.scoring.scores import Scores, log_softmax

PAIRS = {  # technique: (with, without)
    "fine-tuning, one fold": ("one fold", "zero-shot"),
    "choices shuffled in training": ("one fold, averaged weights", "one fold, not shuffled"),
    "the same, scored over 4 orders": ("one fold, 4 orders", "one fold, not shuffled, 4 orders"),
    "EMA, one fold": ("one fold, EMA", "one fold"),
    "SWA, one fold": ("one fold, averaged weights", "one fold"),
    "3 folds instead of 1": ("3 folds", "one fold"),
    "EMA, 3 folds": ("3 folds, EMA", "3 folds"),
    "SWA, 3 folds": ("3 folds, averaged weights", "3 folds"),
    "TTA: 4 orders, one fold": ("one fold, 4 orders", "one fold, averaged weights"),
    "TTA: 4 orders, 3 folds": ("3 folds, 4 orders", "3 folds, averaged weights"),
    "a second model (geometric mean)": ("two models, geometric", "3 folds, 4 orders"),
    **{f"{m} instead of geometric mean": (f"two models, {m}", "two models, geometric")
       for m in BLEND_METHODS if m != "geometric"},
}


# %% one seed
def config_of(out: Path, seed: int) -> Config:
    return load_config(preset="demo").replace(
        data_dir=str(out / f"data{seed}"), output_dir=str(out), seed=seed, run_name=f"seed{seed}", device="cpu"
    )


def measured(out: Path, seed: int, rows: int) -> dict[str, list[int]]:
    """Right (1) or wrong (0) on every test row, of each way to answer."""
    config = config_of(out, seed)
    generate_demo(config.data_dir, 600, rows, seed=1000 + seed, size=96, style="shifted")
    unshuffled = config.replace(run_name=f"seed{seed}-unshuffled", shuffle_choices=False, train_folds=(0,))
    for each in (config, second_model(config), unshuffled):
        train_only(each)
        predict_only(each)
    project, data = opened(config)
    answers, other = answers_of_test(data), run_member(*opened(unshuffled)).test[0]
    predicted = answered(project, data) | {
        "one fold, not shuffled": first_order(other).predictions(), "one fold, not shuffled, 4 orders": other.predictions(),
    }
    return {name: (choices == answers).astype(int).tolist() for name, choices in predicted.items()}


def opened(config: Config) -> tuple[Project, RunData]:
    project = open_project(config)
    return project, split_rows(read_data(project), config)


def answered(project: Project, data: RunData) -> dict[str, np.ndarray]:
    """(N,) answers to the test rows, of each way to answer."""
    side = ModelSide(project, data, plan_weights(project, plan_device(project.config)), keep_features=True)
    variants = {name: asked_of_folds(side, name) for name in ("raw", "ema", "swa")}
    own, other = run_member(project, data), run_member(*opened(second_model(project.config)))
    truth = {q.id: q.answer for q in data.train if q.answer is not None}
    found = {
        "zero-shot": asked_once(side, None, "zero-shot").predictions(),
        "one fold, 4 orders": own.test[0].predictions(), "3 folds, 4 orders": together(own.test),
    }
    for name, title in (("raw", ""), ("ema", ", EMA"), ("swa", ", averaged weights")):
        found |= {f"one fold{title}": variants[name][0].predictions(), f"3 folds{title}": together(variants[name])}
    for method in BLEND_METHODS:
        blend = blend_members([own, other], truth, method, seed=project.config.seed)
        found[f"two models, {method}"] = blend.predictions
    return found


def first_order(scores: Scores) -> Scores:
    return scores.views(np.arange(scores.logprobs.shape[1]) == 0)


def calibration(out: Path, seed: int) -> np.ndarray:
    """(2, 2) loss in nats and expected calibration error on the test rows, before and after one temperature for all three
    folds, fitted out of fold."""
    project, data = opened(config_of(out, seed))
    own, answers = run_member(project, data), answers_of_test(data)
    truth = {q.id: q.answer for q in data.train}
    temperature = fit_temperature(own.oof.mean(), np.array([truth[i] for i in own.oof.ids.tolist()]))
    folds = np.mean([scores.mean() for scores in own.test], 0)  # (N, C)
    found = [reliability(np.exp(log_softmax(folds / t)), answers) for t in (1, temperature)]
    return np.array([[each.nll, each.ece] for each in found])


# %% the table
def table(results: list[dict[str, list[int]]]) -> str:
    """Markdown: accuracies without and with each technique, and the gain with its interval over the seeds."""
    lines = ["| technique | without | with | gain | 95 % interval |", "|---|---|---|---|---|"]
    for title, (after, before) in PAIRS.items():
        lines.append(line(title, np.array([[np.mean(result[before]), np.mean(result[after])] for result in results])))
    return "\n".join(lines)


def line(title: str, values: np.ndarray) -> str:
    """Args: values: (seeds, 2) without and with."""
    without, with_it = values.mean(0)
    gains = values[:, 1] - values[:, 0]
    half = student.ppf(0.975, len(gains) - 1) * gains.std(ddof=1) / np.sqrt(len(gains))
    return (
        f"| {title} | {without:.3f} | {with_it:.3f} | {gains.mean():+.3f} "
        f"| {gains.mean() - half:+.3f} to {gains.mean() + half:+.3f} |"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rows", type=int, default=600, help="test rows of each seed")
    parser.add_argument("--table", action="store_true", help="train nothing: show what is measured")
    options = parser.parse_args()
    results, calibrations = [], []
    for seed in range(options.seeds):
        file = options.out / f"ablation{seed}.json"
        if not file.exists() and not options.table:
            write_json(file, measured(options.out, seed, options.rows))
        if file.exists():
            results.append(read_json(file))
            calibrations.append(calibration(options.out, seed))
    print(f"\n{len(results)} seeds of {len(results[0]['zero-shot'])} test rows\n\n{table(results)}")
    for number, title in enumerate(("one temperature: loss in nats", "one temperature: calibration error (ECE)")):
        print(line(title, np.array(calibrations)[:, :, number]))
