"""Runs the cells of a notebook as Jupyter does, one after the other in the namespace of `__main__`.

    python tests/notebook_process.py < cells.json     # ["source of a cell", ...]

By the Python of an environment of its own, so that the package is not found and nothing that the cells install changes another
one. A figure is printed as its file's name. Works with and without IPython.
"""
import importlib.util
import json
import linecache
import sys
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


def show_by_name() -> None:
    """What the cells display is printed: by IPython's own module where there is one, else by a module with as much of it."""
    if importlib.util.find_spec("IPython"):
        import IPython.display as shown
    else:
        shown = types.ModuleType("IPython.display")
        sys.modules |= {"IPython": types.ModuleType("IPython"), "IPython.display": shown}
        # what libraries ask of an IPython that is there: its version (matplotlib), its shell (huggingface_hub)
        sys.modules["IPython"].__dict__.update(display=shown, version_info=(9, 0), get_ipython=lambda: None)
    shown.display, shown.Image, shown.Markdown, shown.HTML = _display, _image, str, str


def run_cell(source: str) -> str:
    """Run a cell, which task keys find in `In` as in a notebook. Returns: its number and first line."""
    namespace = vars(sys.modules["__main__"])
    cells = namespace.setdefault("In", [])
    cells.append(source)
    name = f"cell {len(cells)}: {source.split(chr(10))[0]}"
    linecache.cache[name] = len(source), None, source.splitlines(keepends=True), name  # Triton asks for its functions' source
    exec(compile(source, name, "exec"), namespace)
    return name


def _run_cells() -> None:
    assert importlib.util.find_spec("mcvqa") is None, "the package is here: this would prove nothing"
    show_by_name()
    for source in json.load(sys.stdin):
        run_cell(source)


if __name__ == "__main__":
    _run_cells()
