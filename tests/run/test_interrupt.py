"""Signals: real ones, to this process and to whole commands."""
import contextlib
import fcntl
import os
import pty
import signal
import subprocess
import sys
import termios
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from typer.testing import CliRunner

from mcvqa.base.budget import working_alone
from mcvqa.base.files import RunLog
from mcvqa.base.informing import printable_output
from mcvqa.base.interrupt import RUN_ME_AGAIN, Interrupted, StopRequest, ignore_signals, stop_is_asked
from mcvqa.base.translation import translated_output
from mcvqa.cli import app
from mcvqa.config import Config, ConfigError
from mcvqa.run import model_side, score, single
from mcvqa.run.project import open_project
from mcvqa.run.single import train_only
from mcvqa.scoring.scores import load_scores
from mcvqa.training import checkpoint
from mcvqa.training.checkpoint import adapter_hash, newest_point
from mcvqa.training.evaluate import Evaluator
from mcvqa.training.resume import RESUME
from tests.conftest import tiny_settings

STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def send(number: int) -> None:
    os.kill(os.getpid(), number)


# %% this process
@pytest.mark.parametrize("number", STOPPING)
def test_the_first_signal_waits_for_the_end_of_the_block(number, capfd):
    before, reached = [signal.getsignal(n) for n in STOPPING], False
    with pytest.raises(KeyboardInterrupt, match=r"Finished work is saved\."), StopRequest() as stop:
        send(number)
        reached = stop.asked
    assert reached and [signal.getsignal(n) for n in STOPPING] == before
    assert f"{signal.Signals(number).name}: stopping after this step" in capfd.readouterr().err


def test_in_a_korean_command_the_answer_to_a_signal_is_korean(capfd):
    with translated_output("ko"), printable_output(), pytest.raises(KeyboardInterrupt), StopRequest():
        send(signal.SIGINT)
    assert "SIGINT: 이 스텝이 끝나면 멈춥니다" in capfd.readouterr().err


@pytest.mark.parametrize("at_once", [True, False])
def test_the_second_signal_or_with_nothing_to_lose_the_first_leaves_at_once(at_once):
    with pytest.raises(Interrupted, match="Stopped at once by SIGTERM"), StopRequest(at_once=at_once):
        for _ in range(1 if at_once else 2):
            send(signal.SIGTERM)
        pytest.fail("still here")


def test_after_nohup_a_closed_terminal_stops_nothing():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopRequest() as stop:
            send(signal.SIGHUP)
            assert not stop.asked
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_without_hangups_nothing_breaks(monkeypatch):
    """As on Windows."""
    monkeypatch.delattr(signal, "SIGHUP")
    with pytest.raises(Interrupted), StopRequest() as stop:
        send(signal.SIGTERM)
        assert stop.asked


def test_where_others_wait_the_first_signal_waits_for_them(monkeypatch, capfd):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(Interrupted, match=r"Finished work is saved\."), StopRequest(at_once=True):
        assert not stop_is_asked()
        send(signal.SIGTERM)
        assert stop_is_asked()
    assert not stop_is_asked() and "stopping as soon as all processes can" in capfd.readouterr().err
    with pytest.raises(Interrupted, match="Stopped at once"), StopRequest(at_once=True), working_alone():
        send(signal.SIGTERM)
        pytest.fail("still here")


def test_another_error_is_not_hidden():
    with pytest.raises(ZeroDivisionError), StopRequest():
        send(signal.SIGINT)
        _ = 1 / 0


def test_without_a_signal_nothing_happens_and_requests_stand_in_each_other():
    with StopRequest(at_once=True):
        outer = signal.getsignal(signal.SIGTERM)
        with StopRequest():
            assert signal.getsignal(signal.SIGTERM) != outer
        assert signal.getsignal(signal.SIGTERM) == outer


def test_in_another_thread_signals_are_left_alone():
    before, seen = signal.getsignal(signal.SIGTERM), []

    def work():
        with StopRequest() as stop:
            seen.append((signal.getsignal(signal.SIGTERM), stop.asked))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(before, False)]


def test_processes_forked_from_this_one_go_on():
    """Those that make batches, before they ignore signals and after it."""
    with StopRequest(at_once=True):
        child = os.fork()
        if child == 0:
            try:
                send(signal.SIGTERM)
                ignore_signals()
                send(signal.SIGINT)
            finally:
                os._exit(0 if signal.getsignal(signal.SIGTERM) is signal.SIG_IGN else 1)
        assert os.waitpid(child, 0)[1] == 0


# %% whole commands
def settings_in(folder: Path, data: Path) -> Config:
    config = tiny_settings(
        folder, data_dir=str(data), run_name="r", use_kfold=False, num_epochs=2, batch_size=2, lora_dropout=0.1, use_swa=True,
        num_workers=1, save_minutes=0.0,
    )
    (folder / "settings.yaml").write_text(config.to_yaml(), encoding="utf-8")
    return config


def trained_in(config: Config) -> SimpleNamespace:
    train_only(config)
    paths = open_project(config).paths
    assert not (paths.fold(0) / RESUME).exists(), "a finished fold needs none"
    names = ("raw", "ema", "swa")
    return SimpleNamespace(
        hashes=[adapter_hash(paths.fold(0) / name) for name in ("best", "last", "raw", "ema")],
        scores=[load_scores(paths.scores / f"fold0-{name}.npz").logprobs for name in names],
        steps={event["step"]: event["loss"] for event in RunLog(paths.log).events("step")},
    )


def stopped_by(number: int, config: Config, more_steps: int) -> tuple[int, str]:
    """Start `mcvqa train`, and signal all of its processes after so many steps: (exit status, what it said)."""
    folder, log = Path(config.output_dir), RunLog(open_project(config).paths.log)
    before = len(log.events("step"))
    command = [sys.executable, "-m", "mcvqa", "train", "--config", str(folder / "settings.yaml")]
    with open(folder / "said.txt", "w+b") as said, subprocess.Popen(
        command, stdout=said, stderr=said, start_new_session=True, env=os.environ | {"OMP_NUM_THREADS": "1"},
    ) as process:
        until = time.monotonic() + 120
        while len(log.events("step")) < before + more_steps and process.poll() is None and time.monotonic() < until:
            time.sleep(0.02)
        os.killpg(process.pid, number)
        status = process.wait(timeout=60)
    return status, (folder / "said.txt").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def whole(dataset, tmp_path_factory) -> SimpleNamespace:
    """What a run leaves that nothing disturbed."""
    return trained_in(settings_in(tmp_path_factory.mktemp("whole"), dataset))


def require_whole(found: SimpleNamespace, whole: SimpleNamespace) -> None:
    assert (found.hashes, found.steps) == (whole.hashes, whole.steps)
    for one, other in zip(found.scores, whole.scores, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.nightly
def test_a_command_that_was_stopped_and_killed_ends_as_if_it_had_not(dataset, whole, tmp_path_factory):
    """Stopped by SIGTERM, started again, killed, and started again."""
    config = settings_in(tmp_path_factory.mktemp("cut"), dataset)
    status, said = stopped_by(signal.SIGTERM, config, 3)
    assert status == RUN_ME_AGAIN == 75, said
    assert "SIGTERM: stopping after this step" in said and "Traceback" not in said
    assert "Stopped after step" in said and said.rstrip().endswith("Run the same command again to continue from there.")

    status, said = stopped_by(signal.SIGKILL, config, 3)
    assert status == -signal.SIGKILL and "fold 0 resumes after step" in said

    with pytest.raises(ConfigError, match=r"trained with other settings:\n  learning_rate: was 0.001, now 0.002"):
        train_only(config.replace(learning_rate=2e-3))
    require_whole(trained_in(config.replace(num_workers=0)), whole)


@pytest.mark.torture
def test_a_closed_terminal_saves_and_ends_with_75(dataset, tmp_path):
    """A real terminal: what is written to it afterwards is an error of the system."""
    config = settings_in(tmp_path, dataset).replace(save_minutes=1000.0, num_epochs=500)
    (tmp_path / "settings.yaml").write_text(config.to_yaml(), encoding="utf-8")
    screen, terminal = pty.openpty()
    log = RunLog(open_project(config).paths.log)
    with subprocess.Popen(
        [sys.executable, "-m", "mcvqa", "train", "--config", str(tmp_path / "settings.yaml")], stdin=terminal, stdout=terminal,
        stderr=terminal, start_new_session=True, env=os.environ | {"OMP_NUM_THREADS": "1"},
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    ) as process:
        os.close(terminal)
        os.set_blocking(screen, False)
        until = time.monotonic() + 120
        while len(log.events("step")) < 3 and process.poll() is None and time.monotonic() < until:
            time.sleep(0.02)
            with contextlib.suppress(BlockingIOError):  # a terminal that nobody reads fills up
                os.read(screen, 1 << 16)
        os.close(screen)
        assert process.wait(timeout=60) == RUN_ME_AGAIN
    point = newest_point(open_project(config).paths.fold(0) / RESUME)
    assert point is not None and int(point.name.split("-")[-1]) == log.events("step")[-1]["step"] >= 3


MOMENTS = {  # what is called, on what, when the signal comes; what is said; one session each, in this order
    "loading": (model_side, "load_base", "", "Stopped at once"),
    "saving a resume point": (checkpoint, "save_file", ".0-0000-00000001.part", "Stopped after step"),
    "evaluating": (Evaluator, "validate", "", "Stopped at once"),
    "saving weights": (checkpoint, "file_hash", ".best.part", "Stopped at once"),
}


@pytest.mark.nightly
def test_a_signal_at_any_moment_leaves_a_durable_checkpoint_and_75(dataset, whole, tmp_path, monkeypatch):
    """A real SIGTERM while loading, saving, evaluating and scoring; at the end all is as if there had been none."""
    config = settings_in(tmp_path, dataset).replace(num_workers=0)
    (tmp_path / "settings.yaml").write_text(config.to_yaml(), encoding="utf-8")
    points = open_project(config).paths.fold(0) / RESUME
    for moment, (place, name, on, message) in MOMENTS.items():
        reached, plain = [], getattr(place, name)

        def signalled(*given, plain=plain, reached=reached, on=on, **named):
            if not reached and on in " ".join(map(str, given)):
                reached.append(1)
                send(signal.SIGTERM)
            return plain(*given, **named)

        with monkeypatch.context() as patch:
            patch.setattr(place, name, signalled)
            ended = CliRunner().invoke(app, ["train", "--config", str(tmp_path / "settings.yaml")])
        assert reached and ended.exit_code == RUN_ME_AGAIN and message in ended.output, (moment, ended.output)
        assert points.exists() == (moment != "loading") and (moment == "loading" or newest_point(points)), moment
        assert not list(points.parent.glob("**/.*.part")), "nothing half written"
    require_whole(trained_in(config), whole)

    monkeypatch.setattr(score, "score_questions", lambda *given, **named: send(signal.SIGTERM))
    ended = CliRunner().invoke(app, ["predict", "--config", str(tmp_path / "settings.yaml")])
    assert ended.exit_code == RUN_ME_AGAIN and "Stopped at once by SIGTERM. What was saved before is intact" in ended.output


def test_outside_of_training_a_run_leaves_at_once_and_has_not_failed(dataset, tmp_path, monkeypatch):
    config = settings_in(tmp_path, dataset)
    monkeypatch.setattr("mcvqa.run.dataset.settle_data", lambda project, data: send(signal.SIGTERM))
    with pytest.raises(Interrupted, match="Stopped at once by SIGTERM"):
        train_only(config)
    assert not (tmp_path / "experiments" / "README.md").exists(), "it stands nowhere as failed"


@pytest.mark.parametrize(("raised", "message"), [(KeyboardInterrupt(), "Stopped."), (Interrupted("Saved."), "Saved.")])
def test_a_command_says_that_it_goes_on_and_exits_with_75(monkeypatch, raised, message):
    def stopped(*given):
        raise raised

    monkeypatch.setattr(single, "train_only", stopped)
    ended = CliRunner().invoke(app, ["train"])
    assert ended.exit_code == 75 and ended.output.strip() == f"{message} Run the same command again to continue from there."
