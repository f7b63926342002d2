"""Compares scoring with the weights of the last step, their EMA and their SWA, and measures the gain of choosing among them.

    python benchmarks/average.py --out OUT --data EASYVQA   # five seeds of each kind of rows; a second call goes on
    python benchmarks/average.py --out OUT --only scenes
    python benchmarks/average.py --out OUT --table            # only reads

Each seed has rows of its own: 400 to learn from, and 600 test rows whose answers are known here and to no run. These are
generated scenes in the style "shifted" (see `mcvqa demo`) and, given its folder, easy-VQA (`--data`). A run is three folds of
`tiny` for two epochs, as in the preset demo; each kind of weights then answers the test rows with the mean of the three folds.
"auto" is the kind with the lowest log-loss out of fold, all folds pooled, one choice a run: what `average=auto` chooses. A gain
is the difference in test accuracy to EMA, which is the default; intervals are over the seeds (Student's t). The last columns are
what the accuracy out of fold has more than that on the test rows, and the log-losses out of fold and on the test rows.
"""
import argparse
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from audit import rows_of, write_rows
from guidance import spell_interval
from mcvqa.answer.trained import TrainedModels, TrainedRun, find_trained
from mcvqa.base.files import read_json, write_json
from mcvqa.config import Config, load_config
from mcvqa.run.dataset import RunData, read_data
from mcvqa.run.folds import split_rows
from mcvqa.run.project import open_project
from mcvqa.run.single import train_only
from mcvqa.scenes.dataset import generate_demo
from mcvqa.scoring.scores import joined, load_scores, log_softmax

ROWS, TEST_ROWS = 400, 600
KINDS, DEFAULT, AUTO = ("raw", "ema", "swa"), "ema", "auto"
SETTINGS = {"scenes": {}, "easyvqa": dict(learning_rate=1e-3)}


# %% rows
def make_rows(folder: Path, source: str, seed: int, easyvqa: Path | None) -> None:
    """Labelled rows and test rows, and the answers of these beside the folder."""
    answers = folder.with_suffix(".answers.csv")
    if answers.exists():
        return
    if source == "scenes":
        generate_demo(folder, ROWS, TEST_ROWS, seed=7000 + seed, size=96, style="shifted")
        (folder / "test_answers.csv").rename(answers)
        return
    assert easyvqa is not None, "easy-VQA is read from --data FOLDER"
    for split, count in (("train", ROWS), ("test", TEST_ROWS)):
        rows = rows_of(easyvqa / f"{split}.csv")
        pictures = np.random.default_rng(seed).permutation(sorted({row["path"] for row in rows})).tolist()
        place = {path: i for i, path in enumerate(pictures)}
        taken = sorted(rows, key=lambda row: place[row["path"]])[:count]
        for path in {row["path"] for row in taken}:
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(easyvqa / path, folder / path)
        write_rows(folder / f"{split}.csv", taken)
    write_rows(answers, rows_of(easyvqa / "test_answers.csv"))


# %% runs
def config_of(out: Path, source: str, seed: int) -> Config:
    name = f"{source}{seed}"
    return load_config(preset="demo", changes=SETTINGS[source] | dict(
        data_dir=str(out / "data" / name), output_dir=str(out), run_name=f"average-{name}", seed=seed, device="cpu",
        use_tta=False,
    ))


@dataclass(frozen=True)
class OfKind(TrainedRun):
    """A run with one kind of its weights at the end of training."""

    kind: str = ""

    def weights(self, fold: int) -> Path:
        folder = self.project.paths.fold(fold)
        return folder / self.kind if (folder / self.kind).exists() else folder / "last"


def measure(out: Path, source: str, seed: int, easyvqa: Path | None) -> dict[str, list[float]]:
    """Kind of weights -> accuracy and log-loss on the test rows and out of fold."""
    config = config_of(out, source, seed)
    make_rows(Path(config.data_dir), source, seed, easyvqa)
    train_only(config)
    project = open_project(config)
    data = split_rows(read_data(project), config)
    truth = {row["id"]: row["answer"] for row in rows_of(Path(config.data_dir).with_suffix(".answers.csv"))}
    found = {}
    for kind in KINDS:
        models = TrainedModels(OfKind(**vars(find_trained(config)), kind=kind), records=dict(data.records))
        test = [models.score(fold, data.test, f"{kind}, fold {fold}") for fold in config.folds_to_train]
        mean = log_softmax(np.mean([scores.mean() for scores in test], axis=0))
        answers = np.array([ord(truth[name]) - ord("a") for name in test[0].ids.tolist()])
        found[kind] = [*figures(mean, answers), *out_of_fold(data, project.paths.scores, config, kind)]
    return found


def figures(logprobs: np.ndarray, answers: np.ndarray) -> tuple[float, float]:
    """Accuracy and log-loss of N rows."""
    return float((logprobs.argmax(-1) == answers).mean()), float(-logprobs[np.arange(len(answers)), answers].mean())


def out_of_fold(data: RunData, folder: Path, config: Config, kind: str) -> tuple[float, float]:
    scores = joined([load_scores(folder / f"fold{fold}-{kind}.npz") for fold in config.folds_to_train])
    answers = {q.id: q.answer for q in data.train}
    return figures(log_softmax(scores.mean()), np.array([answers[name] for name in scores.ids.tolist()], dtype=int))


# %% table
def with_auto(result: dict[str, list[float]]) -> dict[str, list[float]]:
    return result | {AUTO: result[min(KINDS, key=lambda kind: result[kind][3])]}


def table(results: list[dict[str, list[float]]]) -> str:
    """Markdown, one line a kind of weights."""
    lines = [
        "| weights | test accuracy | gain on EMA | out of fold more than on test rows | log-loss, out of fold | on test rows |",
        "|---|---|---|---|---|---|",
    ]
    results = [with_auto(result) for result in results]
    for kind in (*KINDS, AUTO):
        test, loss, own, own_loss = np.array([result[kind] for result in results]).T
        gain = "" if kind == DEFAULT else spell_interval(test - np.array([result[DEFAULT][0] for result in results]))
        lines.append(
            f"| {kind} | {test.mean():.3f} | {gain} | {spell_interval(own - test)} | {own_loss.mean():.3f} | {loss.mean():.3f} |")
    chosen = [min(KINDS, key=lambda kind: result[kind][3]) for result in results]
    return "\n".join([*lines, "", f"auto chose: {', '.join(chosen)}"])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data", type=Path, help="folder of easy-VQA; without it scenes only")
    parser.add_argument("--only", choices=tuple(SETTINGS))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--table", action="store_true", help="train nothing: show what is measured")
    options = parser.parse_args()
    for source in [options.only] if options.only else [name for name in SETTINGS if name == "scenes" or options.data]:
        results = []
        for seed in range(options.seeds):
            file = options.out / f"average-{source}{seed}.json"
            if not file.exists() and not options.table:
                write_json(file, measure(options.out, source, seed, options.data))
            results += [read_json(file)] if file.exists() else []
        if results:
            print(f"\n{source}, {len(results)} seeds\n\n{table(results)}", flush=True)
