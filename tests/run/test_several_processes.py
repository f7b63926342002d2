"""`mcvqa run` in two real processes: the same as in one."""
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mcvqa import run
from mcvqa.base.files import RunLog, or_nan
from mcvqa.base.plots import draw_each
from mcvqa.config import Config
from mcvqa.run.project import open_project
from mcvqa.run.single import train_only
from mcvqa.scenes.dataset import generate_demo
from mcvqa.scoring.scores import load_scores
from tests.conftest import tiny_settings
from tests.model.test_distributed import side_by_side
from tests.run.conftest import figures_made_by


def files_of(folder: Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


def launched(
    *words: str, program: tuple[str, ...] = ("-m", "mcvqa"), processes: int = 2, status: int = 0
) -> tuple[str, str]:
    """What `mcvqa ...` prints in several processes, to stdout and stderr. Args: status: that the launcher must end with."""
    launcher = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes))
    with subprocess.Popen(
        [*launcher, *program, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8",
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    ) as process:
        try:
            said = process.communicate(timeout=400)
        finally:
            process.terminate()  # where it hangs: the launcher takes its processes along
    assert process.returncode == status, said
    return said


def assert_same_steps(one: Config, two: Config) -> list[dict]:
    """Those of the two runs, in their logs; returned are those of the first."""
    first, second = (RunLog(open_project(config).paths.log).events("step") for config in (one, two))
    assert len(first) == len(second) > 1
    for alone, divided in zip(first, second, strict=True):
        np.testing.assert_allclose(*([or_nan(s[k]) for k in ("step", "loss", "grad_norm")] for s in (alone, divided)), rtol=1e-4)
    return first


@pytest.mark.nightly
def test_two_processes_do_what_one_does(tmp_path):
    """Nothing divides evenly: windows of 11 rows, a last one of 1, and passes of one batch, which one process reads alone."""
    generate_demo(tmp_path / "data", 26, 9, seed=0, size=64)
    settings = dict(
        data_dir=str(tmp_path / "data"), run_name="r", n_folds=2, num_epochs=1, lora_r=8, batch_size=1, grad_accum_steps=11,
        eval_batch_size=12, use_tta=True, tta_orders=2,
    )
    one, two = (tiny_settings(tmp_path / name, **settings) for name in ("one", "two"))
    with figures_made_by(draw_each):  # as the two processes do, whose files are compared with these
        outcome = run(one)
    (tmp_path / "two.yaml").write_text(two.to_yaml(), encoding="utf-8")
    out, err = launched("run", "--config", str(tmp_path / "two.yaml"))
    assert re.findall(r"^\[(\d+)/10\]", out, re.MULTILINE) == [str(n) for n in range(1, 11)]
    assert out.count("valid: 9 rows") == 1
    assert len(re.findall(r"image features x1: 100%", err)) == 1, "one display"

    paths = [open_project(config).paths for config in (one, two)]
    for file in sorted(paths[0].scores.glob("*.npz")):
        alone, divided = load_scores(file), load_scores(paths[1].scores / file.name)
        np.testing.assert_array_equal(alone.ids, divided.ids)
        np.testing.assert_array_equal(alone.orders, divided.orders)
        np.testing.assert_allclose(alone.logprobs, divided.logprobs, atol=1e-4)
    for name in ("single", "ensemble"):
        assert len({(p.outputs / f"submission_{name}.csv").read_bytes() for p in paths}) == 1
    assert files_of(tmp_path / "one") == files_of(tmp_path / "two")

    noted = ([len(RunLog(p.log).events(event)) for event in ("step", "epoch", "scored", "session")] for p in paths)
    assert next(noted) == next(noted), "each event is noted once"
    assert_same_steps(one, two)
    assert outcome.accuracy.n == 26


SHORT_OF_MEMORY = """
import os, torch
from mcvqa.cli import app
from mcvqa.model.fast.forward import AnswerModel
plain = AnswerModel.forward
def forward(self, batch):
    if self.training and os.environ["RANK"] == "1" and len(batch.ids) > 2:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory.")
    return plain(self, batch)
AnswerModel.forward = forward
app()
"""


@pytest.mark.torture
def test_where_one_process_is_short_of_memory_both_halve(tmp_path):
    """Nobody waits for the one that failed, and no row is lost: the losses are those of one process."""
    generate_demo(tmp_path / "data", 26, 9, seed=0, size=64)
    settings = dict(data_dir=str(tmp_path / "data"), run_name="r", use_kfold=False, num_epochs=1, batch_size=8)
    one, two = (tiny_settings(tmp_path / name, **settings) for name in ("one", "two"))
    train_only(one)
    (tmp_path / "two.yaml").write_text(two.to_yaml(), encoding="utf-8")
    (tmp_path / "short.py").write_text(SHORT_OF_MEMORY, encoding="utf-8")
    out, _ = launched("train", "--config", str(tmp_path / "two.yaml"), program=(str(tmp_path / "short.py"),))
    assert out.count("out of GPU memory with micro-batch 4 without checkpointing. The step is repeated with micro-batch 2") == 1
    assert_same_steps(one, two)


LOST_STEPS = """
import os
from mcvqa.cli import app
from mcvqa.training import resume, step
plain = step.Stepper.backward
def backward(self, batch, weight):
    lost = int(os.environ["RANK"]) == int(os.environ["WORLD_SIZE"]) - 1 and self.state.step > 3 and not self.state.rollbacks
    return plain(self, batch, float("nan") if lost else weight)
step.Stepper.backward, resume.SKIPS_ON_END = backward, 2
app()
"""


@pytest.mark.torture
def test_where_one_process_loses_its_steps_all_go_back(tmp_path):
    generate_demo(tmp_path / "data", 26, 9, seed=0, size=64)
    settings = dict(data_dir=str(tmp_path / "data"), run_name="r", use_kfold=False, num_epochs=2, batch_size=4)
    one, two = (tiny_settings(tmp_path / name, **settings) for name in ("one", "two"))
    script = tmp_path / "lost.py"
    script.write_text(LOST_STEPS, encoding="utf-8")
    for config in (one, two):
        (tmp_path / "r.yaml").write_text(config.to_yaml(), encoding="utf-8")
        out, _ = launched("train", "--config", str(tmp_path / "r.yaml"), program=(str(script),), processes=1 + (config is two))
        assert out.count("no finite gradient in 2 steps in a row, up to step 6. Back to step 0") == 1
    assert len(assert_same_steps(one, two)) == 16, "six steps, four of them good, and then all ten"


UNEQUAL_CLOCKS = """
import os
from mcvqa.base.budget import Alarm
from mcvqa.cli import app
from mcvqa.training.job import StepPlan
begin, early = Alarm.__init__, 0.7 * int(os.environ["RANK"])
Alarm.__init__ = lambda self, seconds, *given: begin(self, seconds - early, *given)
StepPlan.ask = lambda self, step: None  # nothing is planned to end sooner
app()
"""


@pytest.mark.parametrize("budget", [
    pytest.param("7s", marks=pytest.mark.nightly), pytest.param("17s", marks=pytest.mark.torture),
])
def test_a_time_budget_ends_all_processes(tmp_path, budget):
    """Wherever they are by then. Once the process whose time was up first left alone, and the others waited for it."""
    generate_demo(tmp_path / "data", 26, 9, seed=0, size=64)
    config = tiny_settings(
        tmp_path / "out", data_dir=str(tmp_path / "data"), run_name="r", use_kfold=False, num_epochs=1000, time_budget=budget
    )
    (tmp_path / "r.yaml").write_text(config.to_yaml(), encoding="utf-8")
    (tmp_path / "clocks.py").write_text(UNEQUAL_CLOCKS, encoding="utf-8")
    out, err = launched("run", "--config", str(tmp_path / "r.yaml"), program=(str(tmp_path / "clocks.py"),), status=1)
    assert out.count(f"the time budget of {budget} is used up") == 1
    assert err.count(f"error: Within the time budget of {budget} no fold was trained and scored") == 1


STOPPED_ALONE = """
import os, signal
from mcvqa.cli import app
from mcvqa.training.step import Stepper
plain = Stepper.step
def step(self, *given):
    if os.environ["RANK"] == "1" and self.state.step == 3:
        os.kill(os.getpid(), signal.SIGTERM)
    return plain(self, *given)
Stepper.step = step
app()
"""

FAILING_ALONE = """
import os
from mcvqa.cli import app
from mcvqa.training.step import Stepper
plain = Stepper.backward
def backward(self, *given):
    if os.environ["RANK"] == "1" and self.state.step == 3:
        raise ValueError("a broken adapter")
    return plain(self, *given)
Stepper.backward = backward
app()
"""


KILLED_ALONE = STOPPED_ALONE.replace("SIGTERM", "SIGKILL")


@pytest.mark.parametrize(("script", "statuses", "message"), [
    pytest.param(STOPPED_ALONE, [75, 75], "Stopped after step 4 of fold 0; saved in", marks=pytest.mark.nightly),
    pytest.param(FAILING_ALONE, [1, 0], "ValueError: a broken adapter", marks=pytest.mark.torture),
    pytest.param(KILLED_ALONE, [1, -9], "error: A process of this run has ended, so all stop;", marks=pytest.mark.torture),
])
def test_what_one_process_meets_in_a_step_ends_all(tmp_path, script, statuses, message):
    """A signal or an error. Without a launcher nobody else would end those that wait."""
    generate_demo(tmp_path / "data", 26, 9, seed=0, size=64)
    config = tiny_settings(tmp_path / "out", data_dir=str(tmp_path / "data"), run_name="r", use_kfold=False, num_epochs=3)
    (tmp_path / "r.yaml").write_text(config.to_yaml(), encoding="utf-8")
    (tmp_path / "alone.py").write_text(script, encoding="utf-8")
    ended = side_by_side(str(tmp_path / "alone.py"), "train", "--config", str(tmp_path / "r.yaml"))
    assert [status for status, *_ in ended] == statuses, ended
    assert message in ended[0][1] + ended[0][2]
