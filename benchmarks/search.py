"""Measures what pruning saves: seconds and epochs until a search with and one without it reach the same log-loss.

    python benchmarks/search.py --out OUT              # five seeds; a second call goes on
    python benchmarks/search.py --out OUT --table      # only reads

Each seed has its own generated scenes in the style "shifted" (see `mcvqa demo`) and two searches of `tiny` with as many trials,
one process each, which begin with the same random trials. "Equal" is the worse of the two best log-losses on the fold that
judges: what counts is how long each search takes until it first has a trial that is as good. Seconds are those of whole trials,
with reading the data and loading the model; run nothing beside it. The ratio is the geometric mean over the seeds, with a 95 %
interval (Student's t of its logarithm).
"""
import argparse
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from mcvqa.base.files import read_json, write_json
from mcvqa.config import load_config
from mcvqa.scenes.dataset import generate_demo
from mcvqa.search.results import SearchOutcome
from mcvqa.search.search import search_settings
from mcvqa.search.space import space_as_yaml

SPACE = {
    "learning_rate": {"low": 1e-5, "high": 3e-2, "log": True}, "lora_r": [4, 8, 16, 32],
    "lora_dropout": {"low": 0.0, "high": 0.3}, "effective_batch": [4, 8, 16, 32],
    "label_smoothing": {"low": 0.0, "high": 0.3}, "loss": ["vocabulary", "choices"],
}
WAYS = {"pruned": True, "to the end": False}


def searched(out: Path, seed: int, way: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    """The trials of one search in their order: log-loss (None: pruned or failed), seconds, epochs. Measured once."""
    name = f"{seed}-{way.replace(' ', '-')}"
    file, data = out / "searches" / f"{name}.json", out / "data" / str(seed)
    if file.exists():
        return read_json(file, list)
    if not (data / "train.csv").exists():
        generate_demo(data, options.rows, 10, seed=7000 + seed, size=96, style="shifted")
    (out / "space.yaml").write_text(space_as_yaml(SPACE), encoding="utf-8")
    config = load_config(preset="demo", changes=dict(
        data_dir=str(data), output_dir=str(out / name), run_name="s", seed=seed, num_epochs=options.epochs, use_tta=False,
        use_swa=False, keep="last", image_size=options.image_size,
    ))
    found = search_settings(config, trials=options.trials, space=out / "space.yaml", best=0, prune=WAYS[way])
    write_json(file, trials_of(found))
    return read_json(file, list)


def trials_of(found: SearchOutcome) -> list[dict[str, Any]]:
    return [
        {"log_loss": one.judged.log_loss if one.judged else None, "seconds": one.seconds, "epochs": one.epochs}
        for one in found.trials
    ]


def best_of(trials: list[dict[str, Any]]) -> float:
    return min(one["log_loss"] for one in trials if one["log_loss"] is not None)


def cost_until(trials: list[dict[str, Any]], goal: float, unit: str) -> float:
    """Seconds or epochs of the trials up to the first one that is as good as `goal`."""
    costs = np.cumsum([one[unit] for one in trials])
    first = next(i for i, one in enumerate(trials) if one["log_loss"] is not None and one["log_loss"] <= goal)
    return float(costs[first])


def spelled_ratio(ratios: list[float]) -> str:
    """'3.10 (2.40 to 4.00)'"""
    logs = np.log(ratios)
    mean = f"{np.exp(logs.mean()):.2f}"
    if len(logs) < 2:
        return mean
    half = stats.t.ppf(0.975, len(logs) - 1) * logs.std(ddof=1) / np.sqrt(len(logs))
    return f"{mean} ({np.exp(logs.mean() - half):.2f} to {np.exp(logs.mean() + half):.2f})"


def tell(measured: dict[int, dict[str, list[dict[str, Any]]]]) -> None:
    print("| seed | way | best log-loss | trials | seconds, all | epochs, all | seconds to equal | epochs to equal |")
    print("|---|---|---:|---:|---:|---:|---:|---:|")
    ratios: dict[tuple[str, str], list[float]] = {}
    for seed, searches in measured.items():
        goal = max(map(best_of, searches.values()))
        costs = {}
        for way, trials in searches.items():
            both = ("seconds", "epochs")
            costs[way] = {(unit, "all"): sum(one[unit] for one in trials) for unit in both}
            costs[way] |= {(unit, "equal"): cost_until(trials, goal, unit) for unit in both}
            cells = " | ".join(f"{costs[way][unit, part]:.0f}" for part in ("all", "equal") for unit in both)
            print(f"| {seed} | {way} | {best_of(trials):.4f} | {len(trials)} | {cells} |")
        for key, cost in costs["pruned"].items():
            ratios.setdefault(key, []).append(costs["to the end"][key] / cost)
    print("\ntimes fewer with pruning:")
    for (unit, part), found in ratios.items():
        print(f"  {unit}, {'of all trials' if part == 'all' else 'until an equal log-loss'}: {spelled_ratio(found)}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for data and runs")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--trials", type=int, default=24)
    parser.add_argument("--epochs", type=int, default=9, help="of a whole trial")
    parser.add_argument("--rows", type=int, default=150)
    parser.add_argument("--image_size", type=int, default=112)
    parser.add_argument("--table", action="store_true", help="only read what was measured")
    options = parser.parse_args()
    seeds = range(options.seeds)
    if not options.table:
        for seed in seeds:
            for way in WAYS:
                searched(options.out, seed, way, options)
    whole = {s: {way: searched(options.out, s, way, options) for way in WAYS} for s in seeds
             if all((options.out / "searches" / f"{s}-{way.replace(' ', '-')}.json").exists() for way in WAYS)}
    tell(whole)
