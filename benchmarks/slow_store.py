"""Measures how long training waits for a slow `shared_dir`: the time of a step with a resume point after each.

    python benchmarks/slow_store.py --put 0.2

The store is a folder of this machine whose every upload of a file takes `--put` seconds longer. Trains one fold of `tiny`
without a store and with it, and prints seconds per step.
"""
import argparse
import contextlib
import io
import tempfile
import time
from pathlib import Path
from typing import Any

from fsspec.implementations.local import LocalFileSystem

from mcvqa.config import Config, load_config
from mcvqa.run import train
from mcvqa.run.single import train_only
from mcvqa.scenes.dataset import generate_demo


def slow_down(seconds: float) -> None:
    """Let every upload take longer."""
    put = LocalFileSystem.put_file

    def put_slowly(*given: Any, **options: Any) -> None:
        time.sleep(seconds)
        put(*given, **options)

    LocalFileSystem.put_file = put_slowly


def seconds_a_step(config: Config) -> float:
    spent, train_fold = [], train.train_fold

    def timed(job: Any) -> Any:
        began = time.monotonic()
        result = train_fold(job)
        spent.append((time.monotonic() - began) / len(job.log.events("step")))
        return result

    train.train_fold = timed
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        train_only(config)
    train.train_fold = train_fold
    return spent[0]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--put", type=float, default=0.2)
    slow_down(parser.parse_args().put)
    with tempfile.TemporaryDirectory() as name:
        generate_demo(Path(name) / "data", 24, 6, seed=0, size=56)
        config = load_config(changes=dict(
            model_id="tiny", data_dir=f"{name}/data", output_dir=f"{name}/out", n_folds=2, train_folds=(0,), num_epochs=4,
            batch_size=2, grad_accum_steps=1, image_size=56, device="cpu", save_minutes=0.0,
        ))
        for title, shared_dir in (("without a store", ""), ("with it", f"file://{name}/store")):
            seconds = seconds_a_step(config.replace(run_name=title.replace(" ", "-"), shared_dir=shared_dir))
            print(f"{title}: {seconds:.2f} s a step", flush=True)
