"""Compares the label audit with cleanlab: labels are flipped on purpose, a run is trained on them, and both look for the flips.

    pip install --target CL cleanlab          # AGPL: a peer of this benchmark alone, never a dependency
    PYTHONPATH=CL python benchmarks/audit.py --out OUT --data EASYVQA            # trains; a second call goes on
    PYTHONPATH=CL python benchmarks/audit.py --out OUT --only scenes --shares 10 --seeds 1 --kinds random
    PYTHONPATH=CL python benchmarks/audit.py --out OUT --table                   # only reads
    python benchmarks/audit.py --out OUT --data EASYVQA --true                   # what is expected where no label is wrong

Rows are generated scenes in the style "shifted" (see `mcvqa demo`) and, given its folder, easy-VQA (`--data`). Labels are flipped
at random, or towards look-alikes: to the wrong choice that a run on the true labels finds most probable. Each run has three
folds of `tiny` with four option orders; every estimator reads the same out-of-fold log-probabilities and given labels. What
differs is which orders it gets: the first, or all four (cleanlab: their average). Ours ranks as the normalized margin does; its
constants were chosen on runs of the demo, of guidance.py and of seeds 10 and 11 here (`--first-seed 10`), none on seeds 0 to 4.
Precision is taken among the first 10 rows, half as many as were flipped, and as many as were flipped, where it is recall as well;
the differences to ours have intervals of a bootstrap over photographs.
"""
import argparse
import contextlib
import csv
import io
import itertools
import shutil
from pathlib import Path

import numpy as np

from mcvqa.base.files import read_json, write_json
from mcvqa.config import Config, load_config
from mcvqa.data.answers import LETTERS
from mcvqa.insight.label_noise import estimate_label_noise
from mcvqa.run.dataset import RunData, read_data
from mcvqa.run.folds import split_rows
from mcvqa.run.insights import noise_of_run
from mcvqa.run.members import run_member
from mcvqa.run.project import open_project
from mcvqa.run.single import predict_only, train_only
from mcvqa.scenes.dataset import generate_demo
from mcvqa.scoring.scores import Scores

SHARES = {10: 5, 5: 2, 20: 2}  # percent of the labels that are flipped -> seeds
KINDS = ("random", "look-alike")
OURS = "ours, four orders"
ROWS = {"scenes": 600, "easyvqa": 1000}


# %% data
def make_true_rows(folder: Path, source: str, seed: int, easyvqa: Path | None) -> None:
    """train.csv with true labels, and its photographs."""
    if (folder / "train.csv").exists():
        return
    if source == "scenes":
        generate_demo(folder, ROWS[source], 1, seed=3000 + seed, size=96, style="shifted")
        for name in ("test.csv", "sample_submission.csv", "test_answers.csv"):
            (folder / name).unlink()
        return
    assert easyvqa is not None, "easy-VQA is read from --data FOLDER"
    rows = rows_of(easyvqa / "train.csv")
    pictures = np.random.default_rng(seed).permutation(sorted({row["path"] for row in rows})).tolist()
    taken, place = [], {path: i for i, path in enumerate(pictures)}
    for row in sorted(rows, key=lambda row: place[row["path"]])[: ROWS[source]]:
        (folder / row["path"]).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(easyvqa / row["path"], folder / row["path"])
        taken.append(row)
    write_rows(folder / "train.csv", taken)


def rows_of(file: Path) -> list[dict[str, str]]:
    with open(file, encoding="utf-8-sig", newline="") as handle:  # fixes.csv has the mark for Excel
        return list(csv.DictReader(handle))


def write_rows(file: Path, rows: list[dict[str, str]]) -> None:
    with open(file, "w", encoding="utf-8", newline="") as handle:
        writer = csv.DictWriter(handle, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def with_flips(true: Path, folder: Path, share: int, likely: dict[str, int] | None, seed: int) -> None:
    """The same rows, `share` percent of them with another label. Args: likely: id -> the wrong choice to flip to; None: any."""
    if (folder / "flips.json").exists():
        return
    shutil.copytree(true, folder, dirs_exist_ok=True)
    rows, random = rows_of(true / "train.csv"), np.random.default_rng([seed, share, likely is not None])
    flips = {}
    for i in random.permutation(len(rows))[: round(len(rows) * share / 100)].tolist():
        row = rows[i]
        others = [n for n, letter in enumerate(LETTERS[:4]) if row.get(letter) and letter != row["answer"]]
        flips[row["id"]] = row["answer"]
        row["answer"] = LETTERS[likely[row["id"]] if likely else int(random.choice(others))]
    write_rows(folder / "train.csv", rows)
    write_json(folder / "flips.json", flips)


# %% runs
def config_of(out: Path, name: str, seed: int) -> Config:
    changes = dict(image_size=96, learning_rate=1e-3) if name.startswith("easyvqa") else {}
    return load_config(preset="demo", changes=dict(
        data_dir=str(out / "data" / name), output_dir=str(out), run_name=name, seed=seed, device="cpu", use_swa=False, **changes,
    ))


def out_of_fold(config: Config) -> tuple[RunData, Scores]:
    """Train what is not trained yet, and read its out-of-fold scores."""
    train_only(config)
    predict_only(config)
    project = open_project(config)
    data = split_rows(read_data(project), config)
    scores = run_member(project, data).oof
    assert scores is not None
    return data, scores


def most_likely_wrong(data: RunData, scores: Scores) -> dict[str, int]:
    """Id -> the wrong choice that a run on true labels finds most probable."""
    truth = {q.id: q.answer for q in data.train}
    means = scores.mean()
    means[np.arange(len(means)), [truth[name] for name in scores.ids.tolist()]] = -np.inf
    return dict(zip(scores.ids.tolist(), means.argmax(-1).tolist(), strict=True))


def flipped_run(out: Path, source: str, share: int, kind: str, seed: int, easyvqa: Path | None) -> tuple[RunData, Scores, dict]:
    """A run on flipped labels: its data, out-of-fold scores, and the true letters of the flipped rows."""
    true = out / "data" / f"{source}{seed}"
    make_true_rows(true, source, seed, easyvqa)
    likely = most_likely_wrong(*out_of_fold(config_of(out, f"{source}{seed}", seed))) if kind == "look-alike" else None
    name = f"{source}{seed}-{share}-{kind}"
    with_flips(true, out / "data" / name, share, likely, seed)
    return *out_of_fold(config_of(out, name, seed)), read_json(out / "data" / name / "flips.json")


# %% who suspects which label
def suspicions(scores: Scores, labels: np.ndarray) -> dict[str, np.ndarray]:
    """Estimator -> (N,) suspicion of each label, the highest first; cleanlab's only where it is installed."""
    first = scores.views(np.arange(scores.logprobs.shape[1]) == 0)
    found = {
        "ours, one order": estimate_label_noise([first], labels).suspicion,
        OURS: estimate_label_noise([scores], labels).suspicion,
    }
    for title, some in (("one order", first), ("four orders", scores)):
        found |= {f"{name}, {title}": values for name, values in of_cleanlab(np.exp(some.mean()), labels).items()}
    return found


def of_cleanlab(shares: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
    """Its three scores of labels, and those of its find_label_issues first (prune_by_noise_rate)."""
    try:
        from cleanlab.filter import find_label_issues
        from cleanlab.rank import get_label_quality_scores, get_self_confidence_for_each_label
    except ImportError:
        return {}
    confidence = get_self_confidence_for_each_label(labels, shares)
    found = {"cleanlab self-confidence": -confidence} | {
        f"cleanlab {method.replace('_', ' ')}": -get_label_quality_scores(labels, shares, method=method)
        for method in ("normalized_margin", "confidence_weighted_entropy")
    }
    with contextlib.redirect_stdout(io.StringIO()):
        issues = find_label_issues(labels, shares, filter_by="prune_by_noise_rate", n_jobs=1)
    return found | {"cleanlab find_label_issues": issues - confidence}


# %% how well
def depths_of(flipped: np.ndarray) -> tuple[int, int, int]:
    """10, n / 2 and n of n flips."""
    n = int(flipped.sum())
    return 10, n // 2, n


def precision_at(suspicion: np.ndarray, flipped: np.ndarray, counted: np.ndarray | None = None) -> np.ndarray:
    """Precision at each depth, or the mean of `counted` there: of the probabilities, the precision that is expected."""
    order = np.argsort(-suspicion, kind="stable")
    return np.array([(flipped if counted is None else counted)[order[:k]].mean() for k in depths_of(flipped)])


def resampled(groups: np.ndarray, draws: int = 1000, seed: int = 0) -> list[np.ndarray]:
    """Row indices of bootstrap samples of the photographs."""
    random, rows = np.random.default_rng(seed), [np.flatnonzero(groups == group) for group in np.unique(groups)]
    return [np.concatenate([rows[i] for i in random.integers(len(rows), size=len(rows))]) for _ in range(draws)]


def measured(data: RunData, scores: Scores, flips: dict[str, str]) -> dict[str, list[list[float]]]:
    """Estimator -> its precision at each depth, and the standard error of what ours with four orders has more."""
    row = {q.id: i for i, q in enumerate(data.train)}
    index = [row[name] for name in scores.ids.tolist()]
    labels = np.array([data.train[i].answer for i in index], dtype=int)
    flipped = np.array([name in flips for name in scores.ids.tolist()])
    found, samples = suspicions(scores, labels), resampled(data.groups[index])
    again = {name: np.array([precision_at(each[rows], flipped[rows]) for rows in samples]) for name, each in found.items()}
    wrong = estimate_label_noise([scores], labels, data.groups[index]).wrong
    again["expected by ours"] = np.array([precision_at(found[OURS][rows], flipped[rows], wrong[rows]) for rows in samples])
    precision = {name: precision_at(each, flipped) for name, each in found.items()}
    precision["expected by ours"] = precision_at(found[OURS], flipped, wrong)
    return {name: [value.tolist(), (again[OURS] - again[name]).std(0).tolist()] for name, value in precision.items()}


def off_by(results: list[dict[str, list[list[float]]]]) -> str:
    """The mean absolute error of the expected precision of one run."""
    errors = [np.subtract(result[OURS][0], result["expected by ours"][0]) for result in results]
    return ", ".join(f"{error:.3f}" for error in np.abs(errors).mean(0))


def of_true_labels(out: Path, source: str, seed: int, easyvqa: Path | None) -> str:
    """What the audit expects of a run on true labels: none of them is wrong."""
    make_true_rows(out / "data" / f"{source}{seed}", source, seed, easyvqa)
    data, scores = out_of_fold(config_of(out, f"{source}{seed}", seed))
    noise = noise_of_run(data, [scores])
    first = np.argsort(-noise.suspicion, kind="stable")[:10]
    count, of_first = noise.wrong.sum(), noise.wrong[first].sum()
    return f"{source} {seed}: expected to be wrong: {count:.1f} of {len(noise.wrong):,}, {of_first:.1f} of the first 10"


def table(results: list[dict[str, list[list[float]]]]) -> str:
    """Markdown, one line an estimator: mean precisions over the seeds, and what ours has more, with 95 % intervals."""
    lines = ["| estimator | P@10 | P@n/2 | P@n | ours more: P@10 | P@n/2 | P@n |", "|---|---|---|---|---|---|---|"]
    ours = np.mean([result[OURS][0] for result in results], axis=0)
    for name in results[0]:
        precision = np.mean([result[name][0] for result in results], axis=0)
        error = np.sqrt(np.sum([np.square(result[name][1]) for result in results], axis=0)) / len(results)
        spans = [f"{d:+.3f} [{d - 1.96 * e:+.3f}, {d + 1.96 * e:+.3f}]" for d, e in zip(ours - precision, error, strict=True)]
        cells = [name, *(f"{value:.3f}" for value in precision), *(spans if name != OURS else [""] * 3)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data", type=Path, help="folder of easy-VQA; without it scenes only")
    parser.add_argument("--only", choices=tuple(ROWS))
    parser.add_argument("--shares", type=int, nargs="+", default=list(SHARES))
    parser.add_argument("--kinds", choices=KINDS, nargs="+", default=list(KINDS))
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--seeds", type=int, help="of each share; 5 at 10 percent and 2 at the others by itself")
    parser.add_argument("--table", action="store_true", help="train nothing: show what is measured")
    parser.add_argument("--true", action="store_true", help="measure the estimates on true labels instead")
    options = parser.parse_args()
    for source in [options.only] if options.only else [name for name in ROWS if name == "scenes" or options.data]:
        if options.true:
            for seed in range(options.first_seed, options.first_seed + (options.seeds or SHARES[10])):
                print(of_true_labels(options.out, source, seed, options.data), flush=True)
            continue
        for share, kind in itertools.product(options.shares, options.kinds):
            results = []
            for seed in range(options.first_seed, options.first_seed + (options.seeds or SHARES[share])):
                file = options.out / f"audit-{source}{seed}-{share}-{kind}.json"
                if not file.exists() and not options.table:
                    write_json(file, measured(*flipped_run(options.out, source, share, kind, seed, options.data)))
                results += [read_json(file)] if file.exists() else []
            if results:
                print(f"\n{source}, {share} % flipped ({kind}), {len(results)} seeds\n\n{table(results)}")
                print(f"\nexpected by ours is off by {off_by(results)}", flush=True)
