"""Measures the gain of row weights, pseudo labels, a teacher, augmented photographs, robust losses and corrected labels.

    python benchmarks/guidance.py --out OUT              # five seeds; a second call goes on
    python benchmarks/guidance.py --out OUT --table      # only reads

Each seed has its own generated scenes in the style "shifted" (see `mcvqa demo`): rows to learn from, and test rows whose answers
are known here and to no run. In the second set every fifth label is wrong. Runs are three folds of `tiny`, as in the preset demo;
a gain is the difference in accuracy on the test rows to the run without guidance, with an interval over the seeds (Student's t).
The last column is what a run's own accuracy, out of fold, has more than that on the test rows: were labels of validation rows to
leak through a teacher or pseudo labels, it would be larger than without.

Labels are corrected by the fixes.csv that `mcvqa audit` writes for the run without guidance, of whose rows the first are decided,
as many as labels are wrong: a person corrects them by the truth, or what the audit proposes is taken, or they are dropped. "All
labels right" is what corrections can reach at most.

Of two robust losses, generalized cross-entropy (Zhang and Sabuncu 2018, arXiv 1805.07836, q = 0.7 as there) has earned a setting;
symmetric cross-entropy (Wang et al. 2019, arXiv 1908.06112, A = -4, alpha = 0.1 and beta = 1 as there on CIFAR-10) is put in the
place of the run's own loss here.
"""
import argparse
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from scipy import stats

from audit import rows_of, write_rows
from mcvqa import run
from mcvqa.base.files import read_json, write_json
from mcvqa.config import Config, load_config
from mcvqa.data.answers import LETTERS
from mcvqa.model.fast.forward import answer_loss
from mcvqa.run.single import audit_only
from mcvqa.scenes.dataset import generate_demo

ROWS, TEST_ROWS, WRONG = 400, 600, 0.2
PLAIN = "none"
GUIDANCE = {  # of true and of partly wrong labels -> title -> settings; {plain} is the run without
    "true": {
        PLAIN: {},
        "pseudo, hard, 0.9": {"pseudo": "{plain}"},
        "pseudo, soft, all": {"pseudo": "{plain}", "pseudo_targets": "soft", "pseudo_min": 0.0},
        "teacher, half": {"teacher": "{plain}"},
        "photographs cropped": {"image_augmentation": ("crop",)},
        "photographs flipped": {"image_augmentation": ("flip",)},
        "photographs lightened": {"image_augmentation": ("light",)},
        "all three": {"image_augmentation": ("crop", "flip", "light")},
        "generalized cross-entropy": {"label_noise_loss": 0.7},
    },
    "wrong": {
        PLAIN: {},
        "pseudo, soft, all": {"pseudo": "{plain}", "pseudo_targets": "soft", "pseudo_min": 0.0},
        "teacher, half": {"teacher": "{plain}"},
        "weights: label probably right": {"row_weights": "{weights}"},
        "label_smoothing=0.1": {"label_smoothing": 0.1},
        "generalized cross-entropy": {"label_noise_loss": 0.7},
        "symmetric cross-entropy": {},
        "fixes: corrected by the truth": {"fixes": "{fixes}"},
        "fixes: as proposed": {"fixes": "{fixes}"},
        "fixes: dropped": {"fixes": "{fixes}"},
        "all labels right": {"fixes": "{fixes}"},
    },
}


# %% a robust loss, by the probability of the answer letter
def symmetric_cross_entropy(*given: Any, **settings: Any) -> torch.Tensor:
    loss = answer_loss(*given, **settings)
    return 0.1 * loss + 4.0 * (1 - (-loss).exp())


LOSSES = {"symmetric cross-entropy": symmetric_cross_entropy}


# %% rows and runs
def make_rows(folder: Path, seed: int, wrong: bool) -> None:
    """Labelled rows and test rows, and the answers of these beside the folder."""
    if (folder / "train.csv").exists():
        return
    generate_demo(folder, ROWS, TEST_ROWS, seed=5000 + seed, size=96, style="shifted")
    (folder / "test_answers.csv").rename(folder.with_suffix(".answers.csv"))
    if wrong:
        rows, random = rows_of(folder / "train.csv"), np.random.default_rng(seed)
        write_json(truth_of(folder), {row["id"]: row["answer"] for row in rows})
        for i in random.permutation(len(rows))[: round(WRONG * len(rows))].tolist():
            others = [letter for letter in LETTERS[:4] if rows[i].get(letter) and letter != rows[i]["answer"]]
            rows[i]["answer"] = str(random.choice(others))
        write_rows(folder / "train.csv", rows)


def truth_of(folder: Path) -> Path:
    """File of the true letters of the labelled rows, some of which train.csv has wrong."""
    return folder.with_suffix(".truth.json")


def settings(out: Path, seed: int, labels: str, title: str) -> Config:
    plain = f"{labels}{seed}"
    name = plain if title == PLAIN else f"{plain}-{list(GUIDANCE[labels]).index(title)}"
    files = dict(plain=plain, weights=out / f"{name}.weights.csv", fixes=out / f"{name}.fixes.csv")
    changes = {key: value.format(**files) if isinstance(value, str) else value for key, value in GUIDANCE[labels][title].items()}
    return load_config(preset="demo", changes=dict(
        data_dir=str(out / "data" / plain), output_dir=str(out), run_name=name, seed=seed, device="cpu", use_swa=False,
        use_tta=False, **changes,
    ))


def write_weights(config: Config, plain: str) -> None:
    """Write the file of row weights: the probability that a label is right, by the evidence of the run without guidance."""
    evidence = rows_of(Path(config.output_dir) / "experiments" / plain / "evidence.csv")
    write_rows(Path(config.row_weights), [
        {"id": row["id"], "weight": f"{1 - float(row['label_wrong']):.4f}"} for row in evidence if row["label_wrong"]
    ])


def write_decisions(config: Config, title: str, plain: Config) -> None:
    """Write the file of fixes: see the text above."""
    truth = read_json(truth_of(Path(config.data_dir)))
    given = {row["id"]: row["answer"] for row in rows_of(Path(config.data_dir) / "train.csv")}
    wrong = {name for name, letter in given.items() if letter != truth[name]}
    audited = Path(config.fixes).with_suffix(".audit.csv")
    audit_only(plain, audited)
    rows = rows_of(audited)[: len(wrong)]
    decided = {
        "fixes: corrected by the truth": [(row["id"], "fix" if row["id"] in wrong else "keep", truth[row["id"]]) for row in rows],
        "fixes: as proposed": [(row["id"], "fix", row["proposed"]) for row in rows],
        "fixes: dropped": [(row["id"], "drop", "") for row in rows],
        "all labels right": [(name, "fix", truth[name]) for name in sorted(wrong)],
    }
    write_rows(Path(config.fixes), [
        {"id": name, "now": given[name], "proposed": letter, "decision": word} for name, word, letter in decided[title]
    ])


def accuracies(config: Config, title: str) -> tuple[float, float]:
    """On the test rows, and the run's own, out of fold."""
    with mock.patch("mcvqa.training.step.answer_loss", LOSSES.get(title, answer_loss)):
        outcome = run(config)
    truth = {row["id"]: row["answer"] for row in rows_of(Path(config.data_dir).with_suffix(".answers.csv"))}
    answered = rows_of(outcome.report.parent / "test_predictions.csv")
    return float(np.mean([row["answer"] == truth[row["id"]] for row in answered])), outcome.metrics.overall.accuracy.value


def prepare(config: Config, title: str, plain: Config) -> None:
    """Write the file that the settings name, if they name one, from the run without guidance."""
    if config.row_weights:
        write_weights(config, plain.run)
    if config.fixes:
        write_decisions(config, title, plain)


def measure(out: Path, seed: int, labels: str, file: Path) -> None:
    """Write title -> accuracies of the runs of one seed, after each run; those that are there stay."""
    make_rows(out / "data" / f"{labels}{seed}", seed, labels == "wrong")
    measured = read_json(file) if file.exists() else {}
    for title in (title for title in GUIDANCE[labels] if title not in measured):
        config = settings(out, seed, labels, title)
        prepare(config, title, settings(out, seed, labels, PLAIN))
        write_json(file, measured := measured | {title: accuracies(config, title)})


def spell_interval(values: np.ndarray) -> str:
    half = stats.t.ppf(0.975, len(values) - 1) * stats.sem(values) if len(values) > 1 else np.nan
    return f"{values.mean():+.3f} [{values.mean() - half:+.3f}, {values.mean() + half:+.3f}]"


def table(results: list[dict[str, list[float]]]) -> str:
    """Markdown, one line a kind of guidance."""
    lines = ["| guidance | test accuracy | gain | out of fold more than on test rows |", "|---|---|---|---|"]
    for title in (title for title in results[0] if all(title in result for result in results)):
        test, own, plain = (np.array([result[t][i] for result in results]) for t, i in ((title, 0), (title, 1), (PLAIN, 0)))
        gain = "" if title == PLAIN else spell_interval(test - plain)
        lines.append(f"| {title} | {test.mean():.3f} | {gain} | {spell_interval(own - test)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--labels", choices=tuple(GUIDANCE), nargs="+", default=list(GUIDANCE))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--table", action="store_true", help="train nothing: show what is measured")
    options = parser.parse_args()
    for labels in options.labels:
        results = []
        for seed in range(options.seeds):
            file = options.out / f"guidance-{labels}{seed}.json"
            if not options.table:
                measure(options.out, seed, labels, file)
            results += [read_json(file)] if file.exists() else []
        if results:
            print(f"\n{labels} labels, {len(results)} seeds\n\n{table(results)}", flush=True)
