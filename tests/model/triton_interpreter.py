"""Runs Triton's kernels without a GPU, in its interpreter, which has to be asked for before Triton is imported."""
import os
import subprocess
import sys
from importlib.util import find_spec

import pytest

needs_triton = pytest.mark.skipif(not find_spec("triton"), reason="Triton is not installed")


def run_interpreted(program: str) -> None:
    """In a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", program], env=os.environ | {"TRITON_INTERPRET": "1"}, capture_output=True, text=True, timeout=300
    )
    if "only 0-dimensional arrays can be converted" in done.stderr:
        pytest.skip("Triton's interpreter does not work with this version of numpy")
    assert not done.returncode, done.stderr
