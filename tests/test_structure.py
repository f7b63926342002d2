"""The structure of the house: directions of import, light rooms, and what the notebook needs of every module."""
import ast
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "src" / "mcvqa"
MODULES = sorted(p for p in PACKAGE.rglob("*.py") if p.name != "__init__.py")
# the rooms, as DESIGN lists them, from the bottom up: imports run downward only
ROOMS = ("config", "base", "data", "scenes", "model", "scoring", "training", "ensemble", "report", "insight", "run", "search",
         "answer", "cli", "__main__")
NO_TORCH = ("config", "base", "data", "scenes", "ensemble", "report", "insight", "run.project", "run.takeover",
            "run.ownership", "scoring.scores", "scoring.orders", "scoring.parse")
FILE_LINES, CLASS_LINES = 450, 200  # at most, in the rooms that are read most
AT_THE_ROOT = {"__init__.py", "__main__.py", "cli.py", "config.py"}


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


def room(module: str) -> str:
    return module.split(".")[0]


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imports_of(path: Path) -> list[ast.ImportFrom]:
    return [n for n in ast.walk(tree(path)) if isinstance(n, ast.ImportFrom) and (n.module or "").startswith("mcvqa.")]


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_imports_run_downward(path: Path):
    for node in imports_of(path):
        imported = node.module.removeprefix("mcvqa.")
        above, below = room(module_name(path)), room(imported)
        assert ROOMS.index(below) <= ROOMS.index(above), f"{module_name(path)} imports {imported}, which is above it"


def test_only_the_doors_and_the_settings_lie_at_the_root():
    assert {path.name for path in PACKAGE.glob("*.py")} == AT_THE_ROOT


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_modules_fit_into_notebook_cells(path: Path):
    parsed = tree(path)
    assert ast.get_docstring(parsed), "a module begins with its heading"
    for node in ast.walk(parsed):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("mcvqa"):
            assert all(alias.asname is None for alias in node.names), "imports inside the package have no alias"
        if isinstance(node, ast.Import):
            assert not any(alias.name.startswith("mcvqa") for alias in node.names), "write: from mcvqa.x import name"
        assert not (isinstance(node, ast.Name) and node.id == "__file__"), "a notebook has no __file__"
        assert not isinstance(node, ast.Global), "no mutable module state"
        if isinstance(node, ast.arguments):
            for default in [*node.defaults, *(d for d in node.kw_defaults if d)]:
                called = isinstance(default, ast.Call) and getattr(default.func, "id", "") == "Config"
                assert not called, "no Config() as a default argument"


@pytest.mark.parametrize("path", [p for p in MODULES if room(module_name(p)) in ("run", "training")], ids=module_name)
def test_files_and_classes_of_run_and_training_stay_short(path: Path):
    """A file that grows beyond this has two ideas: cut it along them."""
    assert len(path.read_text(encoding="utf-8").splitlines()) <= FILE_LINES
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.ClassDef):
            assert (node.end_lineno or 0) - node.lineno + 1 <= CLASS_LINES, f"class {node.name}"


SECTIONS = ("Args:", "Returns:", "Raises:", "Yields:", "Attributes:")
HEADLESS = ("As", "At", "By", "For", "From", "In", "Like", "Of", "On", "Those", "To", "With", *SECTIONS)


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_docstrings_begin_with_a_sentence_and_sections_have_lines_of_their_own(path: Path):
    for node in ast.walk(tree(path)):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and (text := ast.get_docstring(node)):
            where = f"{module_name(path)}, {getattr(node, 'name', 'its head')}: {text.splitlines()[0]}"
            assert text.split()[0] not in HEADLESS or text.startswith("Like `"), f"what does it do? {where}"
            lines = [line.strip() for line in text.splitlines()]
            assert all(line in SECTIONS for line in lines if any(name in line for name in SECTIONS)), where


def top_level_names(path: Path) -> list[str]:
    names = []
    for node in tree(path).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.append(node.name)
        elif isinstance(node, ast.Assign):
            names += [t.id for t in node.targets if isinstance(t, ast.Name)]
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.append(node.target.id)
    return names


def test_top_level_names_are_unique_across_the_package():
    homes = defaultdict(list)
    for path in MODULES:
        if module_name(path) != "cli":  # the command line is not part of the notebook
            for name in set(top_level_names(path)):
                homes[name].append(module_name(path))
    assert not {name: found for name, found in homes.items() if len(found) > 1}


def test_light_rooms_import_no_torch_and_no_pyplot():
    modules = [m for m in map(module_name, MODULES) if any(m == light or m.startswith(f"{light}.") for light in NO_TORCH)]
    code = "import sys, " + ", ".join(f"mcvqa.{m}" for m in modules) + "\n"
    code += "found = {'torch', 'transformers', 'matplotlib.pyplot', 'sklearn'} & set(sys.modules); assert not found, found"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_heavy_libraries_stay_in_their_room():
    for path in MODULES:
        for node in ast.walk(tree(path)):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module or ""] if isinstance(
                node, ast.ImportFrom) else []
            for name in names:
                home = room(module_name(path))
                if name.split(".")[0] in ("transformers", "peft", "bitsandbytes"):
                    assert home in ("model", "answer"), f"{module_name(path)} imports {name}"
                if name.split(".")[0] in ("gradio", "starlette"):
                    assert module_name(path) == "answer.serve" and node.col_offset > 0, f"{module_name(path)} imports {name}"
                if name.split(".")[0] == "matplotlib":
                    assert module_name(path) == "base.plots", f"{module_name(path)} imports {name}: use mcvqa.base.plots"


def test_nothing_is_pickled():
    for path in MODULES:
        text = path.read_text(encoding="utf-8")
        for word in ("pickle.", "import pickle", "torch.load(", "torch.save(", "allow_pickle=True", "trust_remote_code=True"):
            assert word not in text, f"{module_name(path)} uses {word}"
