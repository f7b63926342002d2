"""Callbacks and trackers: what they are told of a run, and that they cannot harm it."""
import ast
import json
import os
import re
import shutil
import struct
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from accelerate.tracking import LOGGER_TYPE_TO_CLASS
from tensorboardX.proto.event_pb2 import Event

from mcvqa import Callback, run
from mcvqa.base.files import RunLog
from mcvqa.config import ConfigError
from mcvqa.run.events import LogReader, watched
from mcvqa.run.paths import RunPaths
from mcvqa.run.single import report_only
from mcvqa.run.trackers import require_trackers, tracked, values_of
from mcvqa.scoring.scores import load_scores
from tests.conftest import make_dataset, tiny_settings
from tests.model.other_families import save_family


class Told(Callback):
    """Remembers everything."""

    def __init__(self):
        self.steps, self.epochs, self.scores, self.outcomes = [], [], [], []

    def on_step(self, event):
        self.steps.append(event)

    def on_epoch(self, event):
        self.epochs.append(event)

    def on_scores(self, event):
        self.scores.append(event)

    def on_end(self, outcome):
        self.outcomes.append(outcome)


class Broken:
    """Has one method only, which fails."""

    calls = 0

    def on_step(self, event):
        Broken.calls += 1
        raise ZeroDivisionError(f"in step {event['step']}")


def small_run(folder, callbacks, metrics=None, augment=None, **changes):
    """(settings, outcome, what was said)"""
    data, said = make_dataset(folder / "data", 16, 4), []
    config = tiny_settings(folder / "out", data_dir=str(data), use_kfold=False, run_name="seen", **changes)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("builtins.print", lambda *text, **_: said.append(" ".join(map(str, text))))
        outcome = run(config, callbacks=callbacks, metrics=metrics, augment=augment)
    return config, outcome, "\n".join(said)


@pytest.fixture(scope="module")
def watched_run(tmp_path_factory):
    received, shown = Told(), arguments_in_document()
    callbacks = [received, Broken(), *shown["callbacks"]]
    return received, *small_run(tmp_path_factory.mktemp("watched"), callbacks, shown["metrics"], shown["augment"])


def arguments_in_document() -> dict:
    """What the examples in docs/callbacks.md give to `run`, by name."""
    space, given = {}, {}
    text = (Path(__file__).parents[2] / "docs" / "callbacks.md").read_text(encoding="utf-8")
    for block in re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        *definitions, call = ast.parse(block).body
        exec(ast.unparse(ast.Module(definitions, [])), space)
        assert isinstance(call, ast.Expr) and call.value.func.id == "run"
        given |= {keyword.arg: eval(ast.unparse(keyword.value), space) for keyword in call.value.keywords}
    return given


def test_callbacks_are_called_for_every_step_epoch_and_scoring(watched_run):
    received, config, outcome, _ = watched_run
    log = RunLog(folder_of(config) / "logs" / "seen.jsonl")
    assert received.steps == log.events("step") and len(received.steps) > 0
    assert {"loss", "lr", "rows_per_s"} <= set(received.steps[0])
    assert received.epochs == log.events("epoch") and received.epochs[-1]["accuracy"] >= 0
    assert {event["split"] for event in received.scores} == {"oof", "test"}
    assert all((folder_of(config) / event["file"]).suffix == ".npz" for event in received.scores)
    assert received.outcomes == [outcome]


def test_own_metrics_are_in_tables_and_report(watched_run):
    _, config, outcome, said = watched_run
    (value, error), folder = outcome.metrics.own["macro recall"], folder_of(config) / "experiments"
    assert 0 <= value <= 1 and error > 0 and f"macro recall {value:.3f} ± " in said
    assert f"macro recall | {value:.3f} ± " in (folder / "seen/REPORT.md").read_text(encoding="utf-8")
    assert "macro recall" in (folder / "seen/report.html").read_text(encoding="utf-8")
    assert f"macro recall {value:.3f}" in (folder / "README.md").read_text(encoding="utf-8")
    assert json.loads((folder / "seen/metrics.json").read_text(encoding="utf-8"))["metrics"]["own"]["macro recall"][0] == value


def test_an_own_augmentation_belongs_to_the_run(watched_run, tmp_path):
    received, first, outcome, _ = watched_run
    shutil.copytree(folder_of(first), tmp_path / "copy")  # its report is written anew here, without the own metrics
    config, shown = first.replace(output_dir=str(tmp_path / "copy")), arguments_in_document()["augment"]
    with pytest.raises(ConfigError, match="with another augment=, or without one"):
        run(config, augment=lambda image, question: (image, question))
    with pytest.raises(ConfigError, match="set executor=inline"):
        run(config.replace(executor="processes"), augment=shown)
    assert report_only(config).accuracy == outcome.accuracy, "what is trained needs it no more"
    assert run(config, augment=shown).accuracy == outcome.accuracy
    assert len(RunLog(folder_of(config) / "logs" / "seen.jsonl").events("step")) == len(received.steps)


@pytest.mark.nightly
def test_photographs_that_are_changed_are_learned_from_alike_in_other_processes(tmp_path):
    losses, scored = {}, {}
    for name, changes in {"plain": {}, "here": {"executor": "inline"}, "there": {"executor": "processes"}}.items():
        if name != "plain":
            changes |= {"image_augmentation": ("crop", "flip", "light")}
        config, *_ = small_run(tmp_path / name, [], **changes)
        losses[name] = [event["loss"] for event in RunLog(folder_of(config) / "logs" / "seen.jsonl").events("step")]
        scored[name] = load_scores(folder_of(config) / "experiments/seen/scores/fold0-oof.npz").logprobs
    assert losses["here"] == losses["there"] != losses["plain"]
    np.testing.assert_array_equal(scored["here"], scored["there"])


@pytest.mark.nightly
def test_an_own_augmentation_without_a_fast_path(tmp_path):
    seen = []

    def noted(image, question):
        seen.append(question.id)
        return image.rotate(5), question

    model = save_family("idefics3", tmp_path / "model")
    config, outcome, _ = small_run(tmp_path, [], augment=noted, model_id=model, image_size=64, num_workers=0)
    table = (folder_of(config) / "experiments/seen/oof_predictions.csv").read_text(encoding="utf-8")
    scored = {row.split(",")[0] for row in table.splitlines()[1:]}
    assert outcome.submission.exists() and seen and not scored & set(seen), "rows that validate are never changed"


def folder_of(config):
    return Path(config.output_dir)


def test_a_callback_that_fails_is_named_and_not_called_again(watched_run):
    *_, outcome, said = watched_run
    assert Broken.calls == 1 and said.count("the callback Broken.on_step raised ZeroDivisionError: in step 1") == 1
    assert "test_events.py, line" in said and outcome.submission.exists()


@pytest.mark.nightly
def test_a_tracker_has_losses_accuracies_and_figures(tmp_path):
    config, _, said = small_run(tmp_path, [], report_to=("tensorboard",))
    files = list((folder_of(config) / "trackers").rglob("events.out.tfevents*"))
    tags = {tag for file in files for tag in tags_of(file)}
    assert {"fold0/loss", "fold0/lr", "fold0/ema/accuracy", "result/accuracy"} <= tags, tags
    assert any("confusion" in tag for tag in tags), tags
    assert "report_to" not in said, (folder_of(config) / "logs" / "seen-trackers.txt").read_text()


RECORDING = """
import json, pathlib, sys
config, log_file = {}, pathlib.Path(__file__).with_name("told.jsonl")
def init(**given): return sys.modules[__name__]
def log(values, **given): log_file.open("a").write(json.dumps(values) + chr(10))
def finish(): log({"finished": True})
"""


@pytest.mark.skipif("trackio" not in LOGGER_TYPE_TO_CLASS, reason="this accelerate is older than trackio")
def test_trackers_that_start_on_each_process_work_also_under_a_launcher(tmp_path, monkeypatch):
    (tmp_path / "trackio.py").write_text(RECORDING)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(tmp_path), os.getenv("PYTHONPATH", ""))))
    monkeypatch.setattr("mcvqa.run.trackers.by_main", lambda *_: None)  # trackio is not installed, nor are others to be joined
    monkeypatch.setattr("mcvqa.run.trackers.is_main_process", lambda: True)
    monkeypatch.setattr("mcvqa.run.trackers.FINISHING", 60)
    for name, value in dict(RANK="0", LOCAL_RANK="0", WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT="29").items():
        monkeypatch.setenv(name, value)
    config = tiny_settings(tmp_path / "out", run_name="r", report_to=("trackio",))
    paths = RunPaths(tmp_path / "out", "r")
    with tracked(SimpleNamespace(config=config, paths=paths)):
        RunLog(paths.log).write("step", fold=0, step=1, loss=0.5)
    said = (paths.log.parent / "r-trackers.txt").read_text()
    told = [json.loads(line) for line in (tmp_path / "told.jsonl").read_text().splitlines()]
    assert told == [{"fold0/loss": 0.5}, {"finished": True}], said


def tags_of(file):
    """Names of what a TensorBoard file holds: length, checksum, record, checksum."""
    content, at = file.read_bytes(), 0
    while at < len(content):
        (length,) = struct.unpack("<Q", content[at : at + 8])
        event = Event.FromString(content[at + 12 : at + 12 + length])
        yield from (value.tag for value in event.summary.value)
        at += 16 + length


def test_an_error_is_passed_on_as_an_end_without_outcome(tmp_path):
    received = Told()
    config = tiny_settings(tmp_path / "out", data_dir=str(tmp_path / "none"), run_name="r")
    with pytest.raises(Exception, match="none"):
        run(config, callbacks=[received])
    assert received.outcomes == [None] and not received.steps


def test_only_what_is_added_is_read_and_only_whole_lines(tmp_path):
    path = tmp_path / "logs" / "r.jsonl"
    reader = LogReader(path, 0)
    assert reader.new_events() == []
    log = RunLog(path)
    log.write("step", step=1)
    assert [event["step"] for event in reader.new_events()] == [1]
    line = json.dumps({"event": "step", "step": 2, "text": "줄"}, ensure_ascii=False).encode()
    with open(path, "ab") as file:
        file.write(line[:-3])
        file.flush()
        assert reader.new_events() == []
        file.write(line[-3:] + b"\nnot JSON\n[1]\n")
    assert [event["step"] for event in reader.new_events()] == [2] and reader.new_events() == []


def test_events_of_an_earlier_session_are_not_reported_again(tmp_path):
    log, received = RunLog(tmp_path / "r.jsonl"), Told()
    log.write("step", step=1)
    with watched(log.path, [received]):
        log.write("step", step=2)
    assert [event["step"] for event in received.steps] == [2]


def test_a_callback_that_hangs_is_not_waited_for_without_end(tmp_path, monkeypatch, capsys):
    log, free = RunLog(tmp_path / "r.jsonl"), threading.Event()

    class Hanging:
        def on_step(self, event):
            free.wait(60)

    monkeypatch.setattr("mcvqa.run.events.READ_EVERY", 0.01)
    monkeypatch.setattr("mcvqa.run.events.HANGING", 0.2)
    began = time.monotonic()
    with watched(log.path, [Hanging()]):
        log.write("step", step=1)
        time.sleep(0.1)
    free.set()
    assert time.monotonic() - began < 30 and "the run ends without it" in capsys.readouterr().out


@pytest.mark.parametrize(("name", "message"), [
    ("tensorbord", "not a tracker that accelerate supports. Choose from .*tensorboard, (trackio, )?wandb"),
    ("comet_ml", "needs the package comet-ml: pip install comet-ml"),
])
def test_a_tracker_that_cannot_be_had_is_named_before_the_run(tmp_path, name, message):
    with pytest.raises(ConfigError, match=message):
        require_trackers(tiny_settings(tmp_path, report_to=(name,)))


def test_events_without_figures_are_not_sent():
    assert values_of({"event": "session", "seconds": 3}) == {}
    assert values_of({"event": "step", "fold": 1, "loss": 0.5}) == {"fold1/loss": 0.5}, "an edited line"
    assert values_of({"event": "result", "accuracy": 0.5, "standard_error": 0.1, "seconds": 9, "gains": {"ema": 0.1}}) == {
        "result/accuracy": 0.5, "result/standard_error": 0.1, "result/seconds": 9, "gain/ema": 0.1}
