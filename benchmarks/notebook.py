"""Measures the seconds of each cell of the notebook, run in order in one process without Jupyter, in an empty folder, on the CPU.

    OMP_NUM_THREADS=2 taskset -c 0,1 python benchmarks/notebook.py        # what a machine with two cores takes

A stand-in takes what IPython would display. Prints a line for each cell of half a second or more, and one for the whole.
"""
import json
import linecache
import os
import resource
import shutil
import sys
import tempfile
import time
import types
from pathlib import Path
from typing import Any
from unittest import mock

NOTEBOOK = Path(__file__).parents[1] / "Kaggle_AllInOne_Pro.ipynb"


def stand_in() -> dict[str, types.ModuleType]:
    """Make the modules IPython and IPython.display, whose pictures and texts go nowhere."""
    package, shown = types.ModuleType("IPython"), types.ModuleType("IPython.display")
    vars(shown).update(
        display=lambda what, display_id=False: mock.Mock() if display_id else None, Markdown=str, HTML=str,
        Image=lambda filename=None, data=b"", width=0: str(filename))
    vars(package).update(display=shown, version_info=(9, 0), get_ipython=lambda: None)
    return {"IPython": package, "IPython.display": shown}


def without_package() -> None:
    """Hide an installed mcvqa: the notebook defines all of it."""
    here = str(Path(__file__).parent)
    sys.path[:] = [path for path in sys.path if path not in ("", here) and not (Path(path) / "mcvqa").exists()]
    finders = [(finder, f"{getattr(finder, '__module__', '')}{finder}") for finder in sys.meta_path]
    sys.meta_path[:] = [finder for finder, name in finders if "__editable__" not in name]


def processor_seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def run_cells(space: dict[str, Any]) -> list[tuple[float, float, str]]:
    """Run all cells. Returns: wall seconds, processor seconds and first line of each."""
    space["In"], spent, clock, used = [], [], time.perf_counter, processor_seconds
    for number, cell in enumerate(json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"], 1):
        source = "".join(cell["source"])
        if cell["cell_type"] != "code":
            continue
        space["In"].append(source)  # where IPython keeps them, and task keys look for them
        name = f"cell {number}: {source.partition(chr(10))[0][:80]}"
        linecache.cache[name] = len(source), None, source.splitlines(keepends=True), name
        began = clock(), used()
        exec(compile(source, name, "exec"), space)
        spent.append((clock() - began[0], used() - began[1], name))
    return spent


def main(shown_from: float = 0.5) -> None:
    """Args: shown_from: seconds of a cell that is shown."""
    sys.argv = ["notebook"]
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    without_package()
    sys.modules.update(stand_in())
    which = shutil.which
    with tempfile.TemporaryDirectory() as folder, mock.patch.object(
        shutil, "which", lambda name, *more, **named: None if name == "nvidia-smi" else which(name, *more, **named)
    ):
        os.chdir(folder)
        spent = run_cells(vars(sys.modules["__main__"]))
        os.chdir("/")
    for wall, processor, name in spent:
        if wall >= shown_from:
            print(f"{wall:7.1f} s {processor:7.1f} s of the processor  {name}")
    print(f"{sum(s[0] for s in spent):7.1f} s {sum(s[1] for s in spent):7.1f} s of the processor  whole notebook")


if __name__ == "__main__":
    main()
