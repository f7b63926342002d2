"""Runs the cells of a notebook as Jupyter does, one after the other in the namespace of `__main__`.

    python -S tests/notebook_process.py < cells.json     # ["source of a cell", ...]

A process of its own, started without the site module, so that an editable install of the package is not found. Figures are
told by their file's name.
"""
import importlib.util
import json
import sys
import types
from pathlib import Path


def _run_cells() -> None:
    assert importlib.util.find_spec("mcvqa") is None, "the package is here: this would prove nothing"
    shown = types.ModuleType("IPython.display")
    shown.display = lambda what: print(f"shown: {what}")
    shown.Image = lambda filename, width: str(Path(filename).resolve(strict=True))
    sys.modules |= {"IPython": types.ModuleType("IPython"), "IPython.display": shown}
    sys.modules["IPython"].__dict__.update(display=shown, version_info=(9, 0))  # matplotlib asks for the version
    namespace = vars(sys.modules["__main__"])
    namespace["In"] = []
    for source in json.load(sys.stdin):
        namespace["In"].append(source)
        exec(compile(source, source.split("\n")[0], "exec"), namespace)


_run_cells()
