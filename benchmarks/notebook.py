"""Measures the seconds of each cell of the notebook, run in order in one process without Jupyter, in an empty folder, on the CPU.

    OMP_NUM_THREADS=2 taskset -c 0,1 python benchmarks/notebook.py        # what a machine with two cores takes

What the cells print and display is not shown. Prints a line for each cell of half a second or more, and one for the whole.
"""
import contextlib
import io
import json
import os
import resource
import shutil
import sys
import tempfile
import time
from pathlib import Path
from unittest import mock

sys.path.append(str(Path(__file__).parents[1]))
from tests.notebook_process import run_cell, show_by_name

NOTEBOOK = Path(__file__).parents[1] / "Kaggle_AllInOne_Pro.ipynb"


def without_package() -> None:
    """Hide an installed mcvqa: the notebook defines all of it."""
    here = str(Path(__file__).parent)
    sys.path[:] = [path for path in sys.path if path not in ("", here) and not (Path(path) / "mcvqa").exists()]
    finders = [(finder, f"{getattr(finder, '__module__', '')}{finder}") for finder in sys.meta_path]
    sys.meta_path[:] = [finder for finder, name in finders if "__editable__" not in name]


def processor_seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def run_all() -> list[tuple[float, float, str]]:
    """Run all cells, without what they print. Returns: wall seconds, processor seconds and first line of each."""
    cells, spent = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"], []
    for source in ("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"):
        began = time.perf_counter(), processor_seconds()
        name = run_cell(source)
        spent.append((time.perf_counter() - began[0], processor_seconds() - began[1], name[:80]))
    return spent


def main(shown_from: float = 0.5) -> None:
    """Args: shown_from: seconds of a cell that is shown."""
    sys.argv = ["notebook"]
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    without_package()
    show_by_name()
    which = shutil.which
    with tempfile.TemporaryDirectory() as folder, mock.patch.object(
        shutil, "which", lambda name, *more, **named: None if name == "nvidia-smi" else which(name, *more, **named)
    ), contextlib.redirect_stdout(io.StringIO()):
        os.chdir(folder)
        spent = run_all()
        os.chdir("/")
    for wall, processor, name in spent:
        if wall >= shown_from:
            print(f"{wall:7.1f} s {processor:7.1f} s of the processor  {name}")
    print(f"{sum(s[0] for s in spent):7.1f} s {sum(s[1] for s in spent):7.1f} s of the processor  whole notebook")


if __name__ == "__main__":
    main()
