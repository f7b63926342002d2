"""Errors of a session that say what to do."""
import numpy as np
import pytest
import torch

from mcvqa.config import Config
from mcvqa.run.project import RunStopped
from mcvqa.run.session import memory_explained


@pytest.mark.parametrize("fill", [lambda: np.empty(2**60, np.uint8), lambda: torch.empty(2**60, dtype=torch.uint8)])
def test_a_full_memory_of_the_machine_is_explained(fill):
    with pytest.raises(RunStopped, match=r"machine is out of memory.*Reduce image_size \(now 4096\)"), \
            memory_explained(Config(image_size=4096)):
        fill()


def test_other_errors_pass():
    with pytest.raises(RuntimeError, match="something else"), memory_explained(Config()):
        raise RuntimeError("something else")
