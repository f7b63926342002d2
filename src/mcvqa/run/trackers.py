"""Sends losses, rates, accuracies and figures of a run to TensorBoard, W&B, MLflow, trackio and others (`report_to`).

Trackers run in a separate process, which reads the run's log: training never waits for them, a tracker that hangs or fails stops
no run, and worker processes do not know of them.
"""
import contextlib
import json
import os
import subprocess
import sys
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from accelerate.state import PartialState
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers
from PIL import Image

from mcvqa.config import Config, ConfigError
from mcvqa.data.folds import fold_title
from mcvqa.model.distributed import by_main, is_main_process
from mcvqa.run.events import READ_EVERY, LogReader, log_size
from mcvqa.run.project import Project

FINISHING = 120  # seconds for trackers to upload the rest at the end
OWN_STEPS = ("tensorboard", "mlflow")  # accept steps that restart with each fold; others need increasing numbers
# By which a launcher tells its processes of each other; the trackers' process would wait to be joined by the others of them.
OF_LAUNCHERS = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
PACKAGES = {"comet_ml": "comet-ml"}  # if they are not called like the tracker


# %% in the run's process
def require_trackers(config: Config) -> None:
    """Check that the trackers can be used.

    Raises:
        ConfigError: report_to names an unknown tracker, or one that is not installed.
    """
    installed = {str(getattr(one, "value", one)) for one in get_available_trackers()}
    for name in config.report_to:
        if name not in LOGGER_TYPE_TO_CLASS:
            known = ", ".join(sorted(LOGGER_TYPE_TO_CLASS))
            raise ConfigError(f"report_to={name!r} is not a tracker that accelerate supports. Choose from {known}.")
        if name not in installed:
            package = PACKAGES.get(name, name)
            raise ConfigError(f"report_to={name} needs the package {package}: pip install {package}, or leave report_to empty.")


@contextlib.contextmanager
def tracked(project: Project) -> Iterator[None]:
    """Within the block, send the run's events to its trackers. Their output is in logs/<run>-trackers.txt.

    Args:
        project: the run; its report_to names the trackers.

    Raises:
        ConfigError: see `require_trackers`.
    """
    by_main(require_trackers, project.config)
    if not is_main_process():
        yield
        return
    config, paths = project.config, project.paths
    output = paths.log.with_name(f"{config.run}-trackers.txt")
    output.parent.mkdir(parents=True, exist_ok=True)
    given = dict(
        trackers=config.report_to, run=config.run, log=str(paths.log), position=log_size(paths.log),
        folder=str(paths.root / "trackers"), figures=str(paths.experiment), settings=plain_settings(config),
    )
    with open(output, "w", encoding="utf-8") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "mcvqa.run.trackers", json.dumps(given)], stdin=subprocess.PIPE, stdout=file,
            stderr=subprocess.STDOUT, env={name: value for name, value in os.environ.items() if name not in OF_LAUNCHERS},
        )
    try:
        yield
    finally:
        _finish(process, output)


def plain_settings(config: Config) -> dict[str, Any]:
    """Convert settings to what trackers accept: numbers, texts and booleans."""
    values = config.as_dict().items()
    return {name: value if isinstance(value, (bool, int, float, str)) else json.dumps(value) for name, value in values}


def _finish(process: "subprocess.Popen[bytes]", output: Path) -> None:
    """Let the trackers finish: closing their standard input tells them that the run is over."""
    assert process.stdin is not None
    with contextlib.suppress(OSError):
        process.stdin.close()
    try:
        ended = process.wait(FINISHING)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        print(f"\n  report_to: the trackers had not finished {FINISHING} s after the run and were stopped; see {output}")
        return
    if ended:
        print(f"\n  report_to: not everything was reported; see {output}")


# %% in the trackers' process
class Trackers:
    """Holds the trackers that have not failed.

    Attributes:
        failed: whether one has failed.
    """

    def __init__(self, names: list[str], run: str, folder: str, settings: dict[str, Any]) -> None:
        self.active: dict[str, Any] = {}
        self.failed = False
        for name in names:
            kind = LOGGER_TYPE_TO_CLASS[name]
            arguments = (run, folder) if kind.requires_logging_directory else (run,)
            with self.guarded(name):
                tracker = kind(*arguments)
                if hasattr(tracker, "start"):  # those of older versions of accelerate start when they are made
                    tracker.start()
                tracker.store_init_configuration(settings)
                self.active[name] = tracker

    @contextlib.contextmanager
    def guarded(self, name: str) -> Iterator[None]:
        """Within the block, print an error and stop using the tracker."""
        try:
            yield
        except Exception:
            print(f"{name}:\n{traceback.format_exc()}", flush=True)
            self.failed = True
            self.active.pop(name, None)

    def log(self, values: dict[str, Any], own_step: int | None, step: int) -> None:
        """Send values to the trackers.

        Args:
            values: numbers and texts by their names.
            own_step: step of the fold.
            step: step of all folds together.
        """
        for name, tracker in list(self.active.items()):
            with self.guarded(name):
                tracker.log(values, step=own_step if name in OWN_STEPS and own_step is not None else step)

    def finish(self, figures: list[Path], step: int) -> None:
        """Send the figures and close the trackers.

        Args:
            figures: image files.
            step: step of all folds together.
        """
        for name, tracker in list(self.active.items()):
            with self.guarded(name):
                for file in figures:
                    if name == "tensorboard":
                        pixels_1HWC = np.asarray(Image.open(file).convert("RGB"))[None]
                        tracker.log_images({file.stem: pixels_1HWC}, step=step, dataformats="NHWC")
                    elif hasattr(tracker, "log_images"):
                        tracker.log_images({file.stem: [Image.open(file)]}, step=step)
                    elif hasattr(tracker, "log_artifact"):
                        tracker.log_artifact(str(file))
                tracker.finish()


def values_of(event: dict[str, Any]) -> dict[str, Any]:
    """Convert an event to values with names such as fold0/loss and fold0/ema/accuracy; empty: nothing to send."""
    fold, kind = fold_title(event.get("fold", -1)).replace(" ", ""), str(event.get("event"))
    group, names = {
        "step": (fold, ("loss", "lr", "grad_norm", "rows_per_s")),
        "epoch": (f"{fold}/{event.get('variant')}", ("accuracy", "standard_error", "nll")),
        "result": ("result", ("accuracy", "standard_error", "seconds")),
    }.get(kind, ("", ()))
    left_out = ("accuracy", "standard_error") if event.get("not_measured") else ()
    values = {f"{group}/{name}": event.get(name) for name in names if name not in left_out}
    if kind == "result":
        values |= {f"gain/{name}": gain for name, gain in event.get("gains", {}).items()}
    return {name: value for name, value in values.items() if value is not None}


def _set_at_end_of_input(over: threading.Event) -> None:
    sys.stdin.read()
    over.set()


def main() -> None:
    """Pass on events until standard input ends, then the figures. Exits with 1 if a tracker has failed."""
    given = json.loads(sys.argv[1])
    PartialState(cpu=True)  # without it, trackers that start on every process (W&B, trackio, SwanLab) raise an error
    over = threading.Event()
    threading.Thread(target=_set_at_end_of_input, args=(over,), daemon=True).start()
    trackers = Trackers(given["trackers"], given["run"], given["folder"], given["settings"])
    reader = LogReader(Path(given["log"]), given["position"])
    last: dict[int, int] = {}  # step of each fold
    total, is_last = 0, False
    while not is_last:
        is_last = over.wait(READ_EVERY)
        for event in reader.new_events():
            if event.get("event") == "step" and event.keys() >= {"fold", "step"}:
                last[event["fold"]] = event["step"]
                total += 1
            if values := values_of(event):
                trackers.log(values, last.get(event.get("fold", -1)), total)
    trackers.finish(sorted(Path(given["figures"]).glob("*.png")), total)
    sys.exit(trackers.failed)


if __name__ == "__main__":
    main()
