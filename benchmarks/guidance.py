"""Measures the gain of weights, votes, pseudo labels, a teacher, augmentation, robust losses, corrected labels and more models.

    python benchmarks/guidance.py --out OUT              # five seeds; a second call goes on
    python benchmarks/guidance.py --out OUT --table      # only reads
    python benchmarks/guidance.py --out OUT --labels true --first-seed 3 --seeds 1 --only none n_seeds=3     # one process of many

Each seed has its own generated scenes in the style "shifted" (see `mcvqa demo`): rows to learn from, and test rows whose answers
are known here and to no run. In the second set every fifth label is wrong. In the third, train.csv has the votes of five
annotators instead of answers: in half of the rows each of them knows the answer with a probability of 0.95, in the others of 0.2,
and guesses otherwise; some 17 % of the majorities are wrong, nearly all of them with two or three votes, and ties have no answer.
Its column `confidence` is the mean of what they say of themselves: about 0.8 of those who know, 0.4 of those who guess.

Runs are three folds of `tiny`, as in the preset demo; a gain is the difference in accuracy on the test rows to the run without
guidance, with an interval over the seeds (Student's t). The last column is what a run's own accuracy, out of fold, has more than
that on the test rows: were labels of validation rows to leak through a teacher or pseudo labels, it would be larger than without.

Labels are corrected by the fixes.csv that `mcvqa audit` writes for the run without guidance, of whose rows the first are decided,
as many as labels are wrong: a person corrects them by the truth, or what the audit proposes is taken, or they are dropped. "All
labels right" is what corrections can reach at most.

Of two robust losses, generalized cross-entropy (Zhang and Sabuncu 2018, arXiv 1805.07836, q = 0.7 as there) has earned a setting;
symmetric cross-entropy (Wang et al. 2019, arXiv 1908.06112, A = -4, alpha = 0.1 and beta = 1 as there on CIFAR-10) is put in the
place of the run's own loss here.

Accuracies on the test rows are those of the file handed in. Of a run with several seeds, or with a model on all rows, those of
each seed's folds and of each such model alone are written too. Titles that use the run without guidance ("pseudo", "teacher",
"weights", "fixes") are trained after it; all others may be trained side by side in one folder.
"""
import argparse
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from filelock import FileLock
from scipy import stats

from audit import rows_of, write_rows
from mcvqa import run
from mcvqa.base.files import read_json, write_json
from mcvqa.config import Config, load_config
from mcvqa.data.answers import LETTERS
from mcvqa.model.fast.forward import answer_loss
from mcvqa.run.single import audit_only
from mcvqa.scenes.dataset import generate_demo
from mcvqa.scoring.scores import load_scores

ROWS, TEST_ROWS, WRONG = 400, 600, 0.2
VOTERS, HARD, KNOWN = 5, 0.5, (0.95, 0.2)  # share of hard rows; how probably an annotator knows an easy and a hard one
PLAIN = "none"
GUIDANCE = {  # of true labels, of partly wrong ones and of votes -> title -> settings; {plain} is the run without
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
        "final_fit=true": {"final_fit": True},
        "n_seeds=3": {"n_seeds": 3},
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
    "voted": {
        PLAIN: {},
        "row_weights=votes": {"row_weights": "votes"},
        "row_weights=confidence": {"row_weights": "confidence"},
        "min_votes=3": {"min_votes": 3},
        "min_votes=4": {"min_votes": 4},
        "soft_votes=true": {"soft_votes": True},
    },
}


# %% a robust loss, by the probability of the answer letter
def symmetric_cross_entropy(*given: Any, **settings: Any) -> torch.Tensor:
    loss = answer_loss(*given, **settings)
    return 0.1 * loss + 4.0 * (1 - (-loss).exp())


LOSSES = {"symmetric cross-entropy": symmetric_cross_entropy}


# %% rows and runs
def make_rows(folder: Path, seed: int, labels: str) -> None:
    """Labelled rows and test rows, and the answers of these beside the folder."""
    if folder.with_suffix(".answers.csv").exists():
        return
    generate_demo(folder, ROWS, TEST_ROWS, seed=5000 + seed, size=96, style="shifted")
    if labels != "true":
        rows, random = rows_of(folder / "train.csv"), np.random.default_rng(seed)
        write_json(truth_of(folder), {row["id"]: row["answer"] for row in rows})
        write_rows(folder / "train.csv", {"wrong": with_wrong, "voted": with_votes}[labels](rows, random))
    (folder / "test_answers.csv").rename(folder.with_suffix(".answers.csv"))


def with_wrong(rows: list[dict[str, str]], random: np.random.Generator) -> list[dict[str, str]]:
    for i in random.permutation(len(rows))[: round(WRONG * len(rows))].tolist():
        others = [letter for letter in LETTERS[:4] if rows[i].get(letter) and letter != rows[i]["answer"]]
        rows[i]["answer"] = str(random.choice(others))
    return rows


def with_votes(rows: list[dict[str, str]], random: np.random.Generator) -> list[dict[str, str]]:
    """The rows with the votes of five annotators and their mean confidence, instead of the answer: see the text above."""
    voted = []
    for row in rows:
        choices = [letter for letter in LETTERS[:4] if row.get(letter)]
        knows = random.random(VOTERS) < KNOWN[int(random.random() < HARD)]
        votes = np.where(knows, row["answer"], random.choice(choices, VOTERS))
        sure = random.normal(np.where(knows, 0.8, 0.4), 0.2).clip(0, 1).mean()
        columns = {f"answer{number}": vote for number, vote in enumerate(votes.tolist(), 1)}
        voted.append({key: cell for key, cell in row.items() if key != "answer"} | columns | {"confidence": f"{sure:.3f}"})
    return voted


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


def accuracies(config: Config, title: str) -> list[float]:
    """On the test rows, the run's own, out of fold, and on the test rows of its seeds and its models on all rows alone."""
    with mock.patch("mcvqa.training.step.answer_loss", LOSSES.get(title, answer_loss)):
        outcome = run(config)
    experiment, truth = outcome.report.parent, rows_of(Path(config.data_dir).with_suffix(".answers.csv"))
    pairs = zip(rows_of(experiment / "submission.csv"), truth, strict=True)
    test = np.mean([row["answer"] == true["answer"] for row, true in pairs])
    letters = np.array([LETTERS.index(row["answer"]) for row in truth])
    seeds = [experiment, *sorted(experiment.parent.glob(f"{config.run}-seed*"))] if config.n_seeds > 1 or config.final_fit else []
    parts = [sorted((seed / "scores").glob(f"{part}*-test.npz")) for part in ("fold", "final") for seed in seeds]
    alone = [np.mean([load_scores(file).mean() for file in files], axis=0).argmax(-1) == letters for files in parts if files]
    return [float(test), outcome.metrics.overall.accuracy.value, *(float(right.mean()) for right in alone)]


def prepare(config: Config, title: str, plain: Config) -> None:
    """Write the file that the settings name, if they name one, from the run without guidance."""
    if config.row_weights.endswith(".csv"):
        write_weights(config, plain.run)
    if config.fixes:
        write_decisions(config, title, plain)


def measure(out: Path, seed: int, labels: str, file: Path, only: list[str]) -> None:
    """Write title -> accuracies of the runs of one seed, after each run; those that are there stay."""
    out.mkdir(parents=True, exist_ok=True)
    alone = FileLock(file.with_suffix(".lock"))  # no other process of this benchmark
    with alone:
        make_rows(out / "data" / f"{labels}{seed}", seed, labels)
    for title in (title for title in GUIDANCE[labels] if title in only and title not in measured(file)):
        config = settings(out, seed, labels, title)
        prepare(config, title, settings(out, seed, labels, PLAIN))
        found = {title: accuracies(config, title)}
        with alone:
            write_json(file, measured(file) | found)


def measured(file: Path) -> dict[str, list[float]]:
    return read_json(file) if file.exists() else {}


def spell_interval(values: np.ndarray) -> str:
    half = stats.t.ppf(0.975, len(values) - 1) * stats.sem(values) if len(values) > 1 else np.nan
    return f"{values.mean():+.3f} [{values.mean() - half:+.3f}, {values.mean() + half:+.3f}]"


def table(labels: str, results: list[dict[str, list[float]]]) -> str:
    """Markdown, one line a kind of guidance, and the accuracies of the seeds and of the models on all rows alone."""
    lines = ["| guidance | test accuracy | gain | out of fold more than on test rows |", "|---|---|---|---|"]
    alone = []
    for title in (title for title in results[0] if all(title in result for result in results)):
        test, own, plain = (np.array([result[t][i] for result in results]) for t, i in ((title, 0), (title, 1), (PLAIN, 0)))
        gain = "" if title == PLAIN else spell_interval(test - plain)
        lines.append(f"| {title} | {test.mean():.3f} | {gain} | {spell_interval(own - test)} |")
        if len(results[0][title]) > 2:
            parts = np.array([result[title][2:] for result in results])
            seeds = parts[:, :GUIDANCE[labels][title].get("n_seeds", 1)]
            spread = f"; deviation between seeds {np.sqrt(seeds.var(1, ddof=1).mean()):.4f}" if seeds.shape[1] > 1 else ""
            alone.append(f"- {title}, each alone: {', '.join(f'{accuracy:.3f}' for accuracy in parts.mean(0))}{spread}")
    return "\n".join([*lines, "", *alone])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--labels", choices=tuple(GUIDANCE), nargs="+", default=list(GUIDANCE))
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only", nargs="+", metavar="TITLE", default=[title for titles in GUIDANCE.values() for title in titles])
    parser.add_argument("--table", action="store_true", help="train nothing: show what is measured")
    options = parser.parse_args()
    for labels in options.labels:
        results = []
        for seed in range(options.first_seed, options.first_seed + options.seeds):
            file = options.out / f"guidance-{labels}{seed}.json"
            if not options.table:
                measure(options.out, seed, labels, file, options.only)
            results += [measured(file)] if PLAIN in measured(file) else []
        if results:
            print(f"\n{labels} labels, {len(results)} seeds\n\n{table(labels, results)}", flush=True)
