"""Runs the cells of a notebook as Jupyter does, one after the other in the namespace of `__main__`.

    python -S tests/notebook_process.py < cells.json     # ["source of a cell", ...]

A process of its own, started without the site module, so that an editable install of the package is not found. Figures are
told by their file's name.
"""
import importlib.util
import json
import linecache
import sys
import tempfile
import types
from pathlib import Path


class Shown:
    """What a display that can be changed later gives back."""

    def update(self, what: str) -> None:
        print(f"shown again: {what}")


def _display(what: object, display_id: bool = False) -> Shown | None:
    print(f"shown: {what}")
    return Shown() if display_id else None


def _image(filename: str | None = None, data: bytes = b"", width: int = 0) -> str:
    return str(Path(filename).resolve(strict=True)) if filename else data[1:4].decode()


def _run_cells() -> None:
    assert importlib.util.find_spec("mcvqa") is None, "the package is here: this would prove nothing"
    starter = Path(tempfile.mkdtemp()) / "python"
    starter.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S "$@"\n')
    starter.chmod(0o755)
    sys.executable = str(starter)  # processes that the cells start do not find it either
    shown = types.ModuleType("IPython.display")
    shown.display, shown.Image, shown.Markdown = _display, _image, str
    sys.modules |= {"IPython": types.ModuleType("IPython"), "IPython.display": shown}
    sys.modules["IPython"].__dict__.update(display=shown, version_info=(9, 0))  # matplotlib asks for the version
    namespace = vars(sys.modules["__main__"])
    namespace["In"] = []
    for source in json.load(sys.stdin):
        namespace["In"].append(source)
        name = f"cell {len(namespace['In'])}: {source.split(chr(10))[0]}"
        linecache.cache[name] = len(source), None, source.splitlines(keepends=True), name  # Triton asks for its functions' source
        exec(compile(source, name, "exec"), namespace)


_run_cells()
