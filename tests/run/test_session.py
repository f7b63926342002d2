"""Errors of a session that say what to do."""
import itertools
import time

import numpy as np
import pytest
import torch

from mcvqa import run
from mcvqa.base.files import RunLog
from mcvqa.config import Config
from mcvqa.run.project import RunStopped, open_project
from mcvqa.run.session import memory_explained
from tests.conftest import tiny_settings


@pytest.mark.parametrize("fill", [lambda: np.empty(2**60, np.uint8), lambda: torch.empty(2**60, dtype=torch.uint8)])
def test_a_full_memory_of_the_machine_is_explained(fill):
    with pytest.raises(RunStopped, match=r"machine is out of memory.*Reduce image_size \(now 4096\)"), \
            memory_explained(Config(image_size=4096)):
        fill()


def test_other_errors_pass():
    with pytest.raises(RuntimeError, match="something else"), memory_explained(Config()):
        raise RuntimeError("something else")


def test_a_clock_that_is_set_back_makes_no_duration_negative(tmp_path, dataset, monkeypatch):
    clock = itertools.count(2_000_000_000, -3600)
    monkeypatch.setattr(time, "time", lambda: next(clock))
    config = tiny_settings(tmp_path, data_dir=str(dataset), run_name="r", use_kfold=False, num_epochs=1)
    run(config)
    events = RunLog(open_project(config).paths.log).events
    log = [event for kind in ("features", "step", "result", "session") for event in events(kind)]
    durations = [event[name] for event in log for name in ("images_per_s", "rows_per_s", "seconds") if name in event]
    assert len(durations) == 5 and min(durations) > 0
