"""The structure of the house: directions of import, light rooms, and what the notebook needs of every module."""
import ast
import inspect
import re
import subprocess
import sys
import textwrap
from collections import defaultdict
from importlib import import_module
from pathlib import Path
from typing import Any

import pydantic
import pytest

import mcvqa

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
# how a noun phrase, a question or a bare value begins; a function does something: "Return (N,) ...", "Check that ..."
NO_VERB = ("A", "All", "An", "Each", "How", "One", "The", "There", "What", "Where", "Whether", "Which", "Who", "Why")


def is_property(node: ast.AST) -> bool:
    return any("property" in ast.unparse(decorator) for decorator in getattr(node, "decorator_list", ()))


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_docstrings_begin_with_a_sentence_and_sections_have_lines_of_their_own(path: Path):
    for node in ast.walk(tree(path)):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and (text := ast.get_docstring(node)):
            where = f"{module_name(path)}, {getattr(node, 'name', 'its head')}: {text.splitlines()[0]}"
            assert text.split()[0] not in HEADLESS or text.startswith("Like `"), f"what does it do? {where}"
            is_help = module_name(path) == "cli"  # the command line prints these docstrings
            if isinstance(node, ast.FunctionDef) and not is_property(node) and not is_help:
                assert text[0].isupper() and text.split()[0] not in NO_VERB, f"begin with a verb: {where}"
            lines = [line.strip() for line in text.splitlines()]
            assert all(line in SECTIONS for line in lines if any(name in line for name in SECTIONS)), where


# %% the docstrings of the public interface
def section(text: str, *titles: str) -> str:
    """The lines of these sections of a docstring."""
    parts = re.split(r"^(\w+:)$", text, flags=re.MULTILINE)
    return "".join(body for title, body in zip(parts[1::2], parts[2::2], strict=True) if title.rstrip(":") in titles)


def described(text: str, *titles: str) -> set[str]:
    """Names that these sections describe: 'a' and 'b' of the line '    a, b: ...'."""
    lines = re.findall(r"^    (\w[\w, ]*):", section(text, *titles), re.MULTILINE)
    return {name for line in lines for name in line.split(", ")}


def parameters(function: Any) -> set[str]:
    return set(inspect.signature(function).parameters) - {"self", "cls"}


def raised_by(function: Any) -> set[str]:
    """Names of the exceptions that the function itself raises."""
    nodes = ast.walk(ast.parse(textwrap.dedent(inspect.getsource(function))))
    errors = [node.exc for node in nodes if isinstance(node, ast.Raise) and node.exc]
    return {ast.unparse(error.func if isinstance(error, ast.Call) else error) for error in errors}


def undescribed(function: Any) -> list[str]:
    """What the docstring of a function lacks."""
    text = inspect.getdoc(function) or ""
    missing = [f"Args: {name}" for name in sorted(parameters(function) - described(text, "Args"))]
    if inspect.signature(function).return_annotation not in (None, "None") and not section(text, "Returns", "Yields"):
        missing.append("Returns")
    return missing + [f"Raises: {name}" for name in sorted(raised_by(function) - described(text, "Raises"))]


def undescribed_of_class(kind: type) -> list[str]:
    """What the docstrings of a class, its fields or constructor, and its public methods lack."""
    text = inspect.getdoc(kind) or ""
    if issubclass(kind, pydantic.BaseModel):
        fields = {name for name, field in kind.model_fields.items() if not field.description}
    elif "__dataclass_fields__" in vars(kind):
        fields = set(kind.__dataclass_fields__) - described(text, "Attributes")
    else:
        fields = parameters(kind) - described(text, "Args", "Attributes") if "__init__" in vars(kind) else set()
    missing = [f"Attributes: {name}" for name in sorted(fields)]
    for name, member in vars(kind).items():
        if not name.startswith("_") and isinstance(member, property) and not member.__doc__:
            missing.append(f"docstring of {name}")
        if not name.startswith("_") and inspect.isfunction(method := getattr(member, "__func__", member)):
            missing += [f"{name}, {what}" for what in undescribed(method)]
    return missing


PUBLIC = sorted({*mcvqa.__all__} - {"__version__"})
DOCUMENTED = sorted(set(re.findall(r"^\.\. auto\w+:: mcvqa\.(\w+\.[\w.]+)", (PACKAGE.parents[1] / "docs/python.md").read_text(
    encoding="utf-8"), re.MULTILINE)))


@pytest.mark.parametrize("name", PUBLIC)
def test_the_exported_interface_describes_parameters_results_and_errors(name: str):
    exported = getattr(mcvqa, name)
    if isinstance(exported, type):
        assert not undescribed_of_class(exported)
    else:
        assert not undescribed(exported if inspect.isfunction(exported) else type(exported).__call__)  # a package that is called


@pytest.mark.parametrize("name", DOCUMENTED)
def test_the_python_reference_describes_all_fields(name: str):
    module, _, kind = name.rpartition(".")
    assert not undescribed_of_class(getattr(import_module(f"mcvqa.{module}"), kind))


def test_a_docstring_that_lacks_something_is_seen():
    def silent(rows: int, seed: int) -> int:
        """Count rows.

        Args:
            rows: their number.
        """
        raise ValueError(rows)

    assert undescribed(silent) == ["Args: seed", "Returns", "Raises: ValueError"]


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
