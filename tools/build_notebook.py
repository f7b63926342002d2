"""Makes the notebooks in the repository root from the package and the stories beside this file.

    python tools/build_notebook.py            # write them
    python tools/build_notebook.py --check    # only say whether they are as they would be written

A story is Markdown. What stands in it becomes text, and:

    ```python                 an open cell, the user's
    ```python hidden          a cell of the notebook's own code, which starts collapsed; its first line is its title
    <!-- module: project -->  the module's cell, after those of all modules it imports that have not come yet
    <!-- part: pipeline / step 4: folds -->   a cell of what follows this `# %%` marker, which the module's cell then lacks
    @needed@, @needed-gpu@    the requirements that pyproject.toml names
    @defaults@                the defaults of the settings that presets set

Each module becomes one collapsed cell, the first sentence of its docstring first; small modules of one folder share a cell,
whose title names them, and each begins there with a line of its own, `# mcvqa/data/folds.py`. Other docstrings are cut after
their first sentence (methods, private and short functions lose theirs), annotations of functions and `# %%` lines are cut, "text"
is written as 'text', a level is two spaces, lines inside brackets are filled.
Imports inside the package are dropped, and those that an earlier cell has made: in the notebook all names live in one
namespace. Where a function imports a module that stays in the package, its block becomes an error. What the story orders and the
package does not have is an error that names it.
"""
import argparse
import ast
import io
import itertools
import json
import keyword
import re
import sys
import tokenize
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from mcvqa.config import PRESETS, Config

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "mcvqa"
STORIES = {"Kaggle_AllInOne_Pro.ipynb": "story.md", "251023_Baseline.ipynb": "baseline.md"}
NOT_NEEDED = {"typer"}  # the command line's
# modules that stay in the package, with the reason; a name stands for all modules below it too
NOT_IN_NOTEBOOK = {
    "cli": "the command line", "__main__": "the command line",
    **dict.fromkeys(("base.korean", "base.korean_figures", "base.korean_help", "base.translation"), "the command line in Korean"),
    "base.columns": "columns of a terminal, for the command line",
    "run.single": "single steps, for the command line",
    "run.division": "whether a step is large enough to divide, for the pre-flight",
    "run.installation": "what a bug report needs, for the command line",
    "run.check": "the pre-flight, for the command line; the label alignment is shown by run.alignment",
    "model.catalog": "`mcvqa models`", "model.download": "what is to be downloaded, for the pre-flight",
    **dict.fromkeys(("model.delta_layers", "model.experts", "model.grouped", "model.packed_experts"), "mixtures of experts"),
    "model.packed_files": "whether published weights in 4 or 8 bits lack scales: what the hub downloads is whole",
    "model.split_recorded": "recorded stages, for GPUs that are faster than those of notebooks",
    "model.coverage": "which layers get adapters, for the pre-flight",
    "run.of_search": "members of a search",
    "search": "needs optuna, and the hours of many runs",
    "run.demo": "the ladder that shows what each technique brings: five runs one after the other",
    "data.unread": "files that are no tables, archives but .zip: save tables as CSV, unpack archives",
    "data.frames": "tables of Excel, Parquet and Arrow: save them as CSV",
    "data.choice_lists": "choices in one column: give each a column of its own, a, b, c, ...",
    "data.marks": "answers as marks, one column for each choice: write the right letter into one column, answer",
    "data.packed": "packed tables, .csv.gz and the like: unpack them",
    "data.picture_cells": "photographs inside the cells of a table: save them as files",
    "data.pictures_as_png": "pictures in memory, for scripts",
    "data.json_shapes": "JSON files that are no list of objects",
    **dict.fromkeys(("model.augment", "data.image_changes"), "image_augmentation and own augmentation"),
    **dict.fromkeys(
        ("data.trained_on", "model.start", "run.beginning", "run.start"),
        "start_from"),
    "run.in_memory": "tables in memory, for scripts", "run.events": "callbacks, for scripts",
    "report.own_metrics": "own metrics, for scripts",
    "run.trackers": "report_to, which reads the run from a process of the package",
    "scoring.generated": "answers generated as text, answer_by=generate",
    "scoring.parse": "answers written as sentences",
    **dict.fromkeys(
        ("scenes.ask", "scenes.dataset", "scenes.draw", "scenes.scene", "scenes.words"),
        "many kinds of scenes and questions, for training `tiny` and for the ladder; the notebook's demo is scenes.small"),
    **dict.fromkeys(
        ("run.workers.ray", "run.workers.ray_node", "run.shared_session", "run.sharing", "run.point_uploads", "run.store"),
        "a cluster, shared_dir"),
    "insight": "evidence per row, label audit, explorer", "run.insights": "evidence per row, label audit",
    **dict.fromkeys(("run.parts", "run.unfinished"), "test rows that a time budget had no time for: a GPU has"),
    "run.explorer": "the explorer", "data.fixes": "labels that the audit has found",
    "run.guidance": "weights of rows, pseudo labels, a teacher", **dict.fromkeys(("run.seeds", "run.other_seeds"), "n_seeds"),
    **dict.fromkeys(("run.final", "run.final_steps", "run.final_fit"), "final_fit"), "run.averages": "average=auto",
    "run.shards": "the scoring of a fold in shards",
    "run.learned": "evidence=full", "run.replaceable": "trained weights that settings or files no longer fit",
    "run.beside": "other seeds, the choice of weights and the final model in the report", "answer": "the model after training",
}
# the same for single names and methods of other modules: nothing in the notebook uses them
NAMES_NOT_IN_NOTEBOOK = {
    "config": ("parse_changes", "Config.model_copy"),
    "base.files": ("link_or_copy",),  # tables in memory, shared_dir
    "base.uncertainty": ("significantly_worse",),  # the benchmarks
    "run.results": ("explain_rows",),  # the evidence per row
    "run.submissions": ("validate_any",), "run.dataset": ("read_form",),  # the command line
    "run.project": ("settings_of_run", "_data_dir_from_here"),  # the command line
    "report.experiments": ("list_experiments", "_indented"),  # the command line
    "model.source": ("HUB_SECONDS", "without_hub"),  # the pre-flight
    "report.figures": ("draw_ladder",),  # the ladder
    "model.fast.forward": ("AskedRows", "WithLetters"), "model.fast.dropout": ("HasDropout",),  # these stand in annotations alone
    "model.split": ("LossOf", "SplitAnswerModel.can_be_recorded"),
    "report.words": ("ReportWord",), "report.gallery": ("OpenPicture",),
    "model.vision.features": ("bytes_needed",),  # the model after training
    "training.job": ("MeasuredPace", "TrainingSchedule.pace", "TrainingSchedule.steps_total"),
    "run.workers.pool": ("MainSide",), "model.text.prompt": ("Message",),
    "model.distributed": ("Item",), "model.memory": ("RandomState", "Measure"), "model.fast.block": ("Mixed", "Packed", "Stored"),
    # other methods of these protocols are for type checkers alone; answer_by
    "model.rows": (
        *(f"Maker.{one}" for one in ("row", "batch", "positions", "conversation", "prompt_inputs")),
        "RowMaker.prompt_inputs"),
    "model.plain": ("PlainMaker.prompt_inputs",),
    "data.kinds": ("every_kind",), "model.fast.delta_kernels": ("Parts",), "model.fast.kernels": ("Pairs",),
    "data.questions": ("find_column", "PaddedRows"), "data.answers": ("Cell",), "run.workers.inline": ("Allot",),
}

LIBRARY_TITLE = "# @title mcvqa/"  # how a cell of the package begins
LIBRARY_PART = "# mcvqa/"  # how a module begins in a cell that several share
# what makes a cell start collapsed on Kaggle, on Colab (with the title in its first line), in JupyterLab and, by a style that the
# set-up cell writes for cells with this tag, in an exported page
COLLAPSED = {"_kg_hide-input": True, "cellView": "form", "jupyter": {"source_hidden": True}, "tags": ["hide"]}
LANGUAGE = {"name": "python", "file_extension": ".py", "mimetype": "text/x-python"}
KERNEL = {"name": "python3", "display_name": "Python 3", "language": "python"}
KAGGLE = {"accelerator": "nvidiaTeslaT4", "isGpuEnabled": True, "isInternetEnabled": True, "language": "python",
          "sourceType": "notebook", "dataSources": []}


class StoryError(Exception):
    """The story orders something that cannot be had."""


# %% modules
REMOVED = "\0"  # marks a line that goes


@dataclass(frozen=True)
class Module:
    """One module of the package, by its name below it: 'data.folds'."""

    name: str

    @cached_property
    def path(self) -> Path:
        return PACKAGE / f"{self.name.replace('.', '/')}.py"

    @cached_property
    def source(self) -> str:
        return self.path.read_text(encoding="utf-8")

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.source)

    @cached_property
    def _inner_imports(self) -> list[ast.ImportFrom]:
        return [n for n in ast.walk(self.tree) if isinstance(n, ast.ImportFrom) and (n.module or "").startswith("mcvqa.")]

    @property
    def imported(self) -> list[str]:
        """Names of the modules it imports, in order."""
        return [name for node in self._inner_imports if not _in_package_only(node) for name in [_module_of(node)]]

    @cached_property
    def parts(self) -> dict[str, str]:
        """Title of each part -> its code; the first one, docstring included, is called 'start'."""
        lines = self.source.splitlines()
        for node in self._inner_imports:
            last, error = (_end_of_block(self.tree, node), _raised(node)) if _in_package_only(node) else (node.end_lineno, "")
            lines[node.lineno - 1 : last] = [error] + [""] * ((last or node.lineno) - node.lineno)
        for node in filter(never_in_notebook, ast.walk(self.tree)):
            lines[node.lineno - 1 : node.end_lineno] = [""] * (node.end_lineno - node.lineno + 1)
        for name in NAMES_NOT_IN_NOTEBOOK.get(self.name, ()):
            first, last = self._lines_of(name)
            lines[first:last] = [""] * (last - first)
        title, found = "start", {"start": ""}
        for line in lines:
            marker = re.fullmatch(r"# %% (.+)", line)
            title = marker[1] if marker else title
            found[title] = found.get(title, "") + ("" if marker else line + "\n")
        tidy = {title: re.sub(r"\n{4,}", "\n\n\n", code.strip("\n")) for title, code in found.items()}
        return {title: code for title, code in tidy.items() if code}

    def _lines_of(self, name: str) -> tuple[int, int]:
        """From which line to which a top-level name, or Class.method, is defined, with decorators and the comment behind it."""
        of_class, _, name = name.rpartition(".")
        classes = [node.body for node in self.tree.body if isinstance(node, ast.ClassDef) and node.name == of_class]
        for node in itertools.chain(*classes) if of_class else self.tree.body:
            names = [node.name] if isinstance(node, (ast.FunctionDef, ast.ClassDef)) else [
                target.id for target in getattr(node, "targets", ()) if isinstance(target, ast.Name)]
            if name in names:
                return min(one.lineno for one in (node, *getattr(node, "decorator_list", ()))) - 1, node.end_lineno or node.lineno
        raise StoryError(f"{self.name} has no {name!r} (NAMES_NOT_IN_NOTEBOOK in tools/build_notebook.py)")

    def code(self, titles: Iterable[str]) -> str:
        """Of these parts, each under its marker."""
        return "\n\n\n".join(f"# %% {title}\n{self.parts[title]}" if title != "start" else self.parts[title] for title in titles)


def _module_of(node: ast.ImportFrom) -> str:
    return (node.module or "").removeprefix("mcvqa.")


def _in_package_only(node: ast.ImportFrom) -> bool:
    """Whether a function imports this from a module that the notebook leaves out."""
    return node.col_offset > 0 and left_out(_module_of(node))


def never_in_notebook(node: ast.AST) -> bool:
    """Whether it is an `if` that asks for the package, alone or last of several conditions."""
    if not isinstance(node, ast.If) or node.orelse:
        return False
    last = node.test.values[-1] if isinstance(node.test, ast.BoolOp) and isinstance(node.test.op, ast.And) else node.test
    return re.fullmatch(r"(Task|ModelError)\.__module__ != '__main__'", ast.unparse(last)) is not None


def _end_of_block(tree: ast.Module, node: ast.stmt) -> int | None:
    """The last line of the statements that follow this one in its block."""
    return next(parent.body[-1].end_lineno for parent in ast.walk(tree)
                if isinstance(parent, (ast.FunctionDef, ast.If)) and node in parent.body)


def _raised(node: ast.ImportFrom) -> str:
    reason = next(reason for name, reason in NOT_IN_NOTEBOOK.items() if f"{_module_of(node)}.".startswith(f"{name}."))
    return " " * node.col_offset + (
        f'raise McvqaError("Not in the notebook: {reason}. See the end.")')


def without_imports(code: str, gone: Callable[[str, ast.alias], bool]) -> str:
    """The code without the top-level imports for which `gone('from pathlib import ', alias)` holds."""
    lines = code.splitlines()
    for node in ast.parse(code).body:
        if not isinstance(node, (ast.Import, ast.ImportFrom)):
            continue
        source = f"from {node.module} import " if isinstance(node, ast.ImportFrom) else "import "
        kept = [alias for alias in node.names if not gone(source, alias)]
        if len(kept) < len(node.names):
            lines[node.lineno - 1 : node.end_lineno] = [REMOVED] * ((node.end_lineno or node.lineno) - node.lineno + 1)
            if kept:
                lines[node.lineno - 1] = source + ", ".join(map(ast.unparse, kept))
    text = "\n".join(line for line in lines if line != REMOVED)
    return re.sub(r"\n{3,}", "\n\n", text).strip("\n")


def names_read(code: str) -> set[str]:
    """The names that the code reads, and the words of its texts without a space, which may be annotations."""
    read = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Name):
            read.add(node.id)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and " " not in node.value:
            read.update(re.findall(r"\w+", node.value))
    return read


def with_short_docstrings(code: str) -> str:
    """The code with the first sentence of each docstring, and none of functions, private classes and errors: whole ones cost
    150 KB."""
    lines = code.splitlines()
    for node in ast.walk(ast.parse(code)):
        if not isinstance(node, (ast.Module, ast.FunctionDef, ast.ClassDef)) or not ast.get_docstring(node):
            continue
        first, last = node.body[0].lineno - 1, node.body[0].end_lineno or node.body[0].lineno
        text = "\n".join(lines[first:last])
        private = isinstance(node, ast.FunctionDef) or getattr(node, "name", "").startswith("_")
        only_arguments = text.lstrip().startswith(('"""Args:', '"""Raises', '"""Attributes:'))
        if (private or only_arguments) and len(node.body) > 1:
            lines[first:last] = [REMOVED] * (last - first)
        elif isinstance(node, ast.ClassDef) and len(node.body) == 1:  # an error, named for what it is
            lines[first:last] = [text[: len(text) - len(text.lstrip())] + "pass", *[REMOVED] * (last - first - 1)]
        elif text.lstrip("r ").startswith('"""') and (end := re.search(r"\.(?=\s+[^a-z])|:?(?=\s+Args:)|\n\s*\n", text)):
            short = text[: end.start()] + "." * (end[0] == ".") + '"""'
            lines[first:last] = [*short.split("\n"), *[REMOVED] * (last - first)][: last - first]
    return "\n".join(line for line in lines if line != REMOVED)


def with_plain_signatures(code: str) -> str:
    """The code without the annotations of functions and of their variables, which mypy has checked in the package and which cost
    60 KB. A function with a decorator that may read its annotations keeps them."""
    lines = [line.encode() for line in code.split("\n")]  # columns count bytes
    cuts, arguments = [], set[tuple[int, int]]()
    for node in ast.walk(ast.parse(code)):
        if not isinstance(node, ast.FunctionDef) or {*map(_decorator, node.decorator_list)} - READ_NO_ANNOTATIONS:
            continue
        named = (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs, node.args.vararg, node.args.kwarg)
        annotated = {(one.lineno, one.col_offset + len(one.arg.encode())): one.annotation for one in named if one}
        cuts += [(*place, annotation) for place, annotation in annotated.items() if annotation]
        arguments |= {*annotated}
        if node.returns:
            line, column = node.returns.lineno, node.returns.col_offset
            cuts.append((line, lines[line - 1].rindex(b" ->", 0, column), node.returns))
    for one in _annotated_variables(ast.parse(code)):
        cuts.append((one.target.end_lineno or 0, one.target.end_col_offset or 0, one.annotation))
    for first, start, annotation in sorted(cuts, key=lambda cut: cut[:2], reverse=True):
        last, end = annotation.end_lineno or first, annotation.end_col_offset or 0
        rest = lines[last - 1][end:]
        if (first, start) in arguments and rest.startswith(b" = "):  # a default, now without spaces
            rest = b"=" + rest[3:]
        lines[first - 1 : last] = [lines[first - 1][:start] + rest]
    return b"\n".join(lines).decode()


def _decorator(node: ast.expr) -> str:
    """The name of a decorator, without its arguments."""
    return ast.unparse(node.func if isinstance(node, ast.Call) else node)


def with_narrow_indentation(code: str) -> str:
    """The code with two spaces a level, as Colab's editor makes them, for four: 35 KB.

    Raises:
        StoryError: it would mean something else.
    """
    lines, done = code.split("\n"), _lines_inside_texts(code)
    depth, statement = 0, 0
    for token in tokenize.generate_tokens(io.StringIO(code + "\n").readline):
        number, bracket = token.start[0] - 1, token.string if token.type == tokenize.OP else ""
        hanging = depth > 0
        depth += (bracket in OPENING) - (bracket in CLOSING)
        if number in done or not token.string.strip():
            continue
        done.add(number)
        indent = len(lines[number]) - len(lines[number].lstrip())
        statement = statement if hanging else indent
        beyond = indent - statement
        lines[number] = " " * (statement // 2 + (beyond // 2 if beyond % 4 == 0 else beyond)) + lines[number].lstrip()
    text = "\n".join(lines)
    if ast.dump(ast.parse(text)) != ast.dump(ast.parse(code)):
        raise StoryError(f"the indentation cannot be changed: {code.splitlines()[0]}")
    return text


def _lines_inside_texts(code: str) -> set[int]:
    """Numbers of the lines, counted from 0, that begin inside a text of several lines."""
    inside: set[int] = set()
    starts = []
    for token in tokenize.generate_tokens(io.StringIO(code + "\n").readline):
        kind = tokenize.tok_name[token.type]
        if kind == "FSTRING_START":
            starts.append(token.start[0])
        if kind == "STRING" or kind == "FSTRING_END":
            first = starts.pop() if kind == "FSTRING_END" else token.start[0]
            inside |= set(range(first, token.end[0]))
    return inside


LONGEST_LINE = 130
OPENING, CLOSING = tuple("([{"), tuple(")]}")


def with_filled_lines(code: str) -> str:
    """The code with lines inside brackets joined as far as they fit into one line.

    Raises:
        StoryError: it would mean something else.
    """
    filled: list[str] = []
    joinable, without_comma = _lines_to_join(code)
    for number, line in enumerate(code.split("\n"), 1):
        if number in joinable:
            before, closes = filled[-1].removesuffix("," if number in without_comma else "\n"), line.strip()[0] in ")]}"
            joined = before + " " * (before[-1] not in "([{" and not closes) + line.strip()
            if len(joined) <= LONGEST_LINE:
                filled[-1] = joined
                continue
        filled.append(line)
    text = "\n".join(filled)
    if ast.dump(ast.parse(text)) != ast.dump(ast.parse(code)):
        raise StoryError(f"lines cannot be filled: {code.splitlines()[0]}")
    return text


def _lines_to_join(code: str) -> tuple[set[int], set[int]]:
    """Numbers of lines that may stand behind the one before, and of those before which no comma is needed then."""
    joinable, without_comma, commented = set(), set(), set()
    needs_no_comma, last = [], ""  # of each open bracket: whether it is that of a call, a list or a dict
    for token in tokenize.generate_tokens(io.StringIO(code + "\n").readline):
        if token.type == tokenize.OP and token.string in "([{":
            is_behind_name = last in (")", "]") or (last.isidentifier() and not keyword.iskeyword(last))
            needs_no_comma.append(token.string == "{" or (token.string == "(") == is_behind_name)
        elif token.type == tokenize.OP and token.string in ")]}" and needs_no_comma.pop():
            without_comma.add(token.start[0] if not token.line[: token.start[1]].strip() else 0)
        elif token.type == tokenize.COMMENT:
            commented |= {token.start[0], token.start[0] + 1}
        elif token.type == tokenize.NL and needs_no_comma and token.line.strip():
            joinable.add(token.start[0] + 1)
        last = token.string
    empty = {number for number, line in enumerate(code.split("\n"), 1) if not line.strip()}
    return joinable - commented - empty, without_comma


READ_NO_ANNOTATIONS = {
    "property", "cached_property", "classmethod", "staticmethod", "abstractmethod", "contextlib.contextmanager",
    "torch.no_grad", "functools.cache", "functools.lru_cache", "lru_cache", "field_validator", "model_validator",
}


def _annotated_variables(tree: ast.Module) -> set[ast.AnnAssign]:
    """Assignments with an annotation, at the top and in functions: those of a class make its fields."""
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    annotated = [*tree.body, *(node for function in functions for node in ast.walk(function))]
    return {node for node in annotated if isinstance(node, ast.AnnAssign) and node.value}


LITERAL = re.compile(
    r''' *(?P<comment>#[^\n]*)|(?P<quote>"""|\'\'\'|"|\')(?P<body>(?:\\.|(?!(?P=quote)).)*)(?P=quote)''', re.DOTALL)
TOOLS_COMMENT = re.compile(r"# (fmt: skip|noqa: \w+|type: ignore\[[\w-]+\])")


def with_single_quotes(code: str) -> str:
    """The code with 'text' for "text", and without comments that only our tools read.

    A double quote costs two bytes in JSON: all of them cost 14 KB. Text with quotes in it keeps its own.
    """
    def shortened(match: re.Match[str]) -> str:
        comment, quote, body = match["comment"], match["quote"], match["body"]
        if comment:
            behind_code = not code[: match.start()].endswith(("\n", " ")) and match.start() > 0
            return "" if TOOLS_COMMENT.fullmatch(comment) else f" {comment}" if behind_code else match[0]
        if "'" in quote + body or (quote == '"' and '"' in body):
            return match[0]
        return body.join([quote.replace('"', "'")] * 2)

    return re.sub(r"^( *r?)'''([^'\n]+)'''$", r"\1'\2'", LITERAL.sub(shortened, code), flags=re.MULTILINE)


def left_out(name: str) -> bool:
    """Whether this module is one of NOT_IN_NOTEBOOK."""
    return any(name == one or name.startswith(f"{one}.") for one in NOT_IN_NOTEBOOK)


def known_module(name: str, wanted_by: str) -> Module:
    """Raises StoryError: there is no such module, or it is not for the notebook. Args: wanted_by: for the message."""
    module = Module(name)
    if not module.path.is_file():
        raise StoryError(f"{wanted_by}: the package has no module {name!r}")
    if left_out(name):
        raise StoryError(f"{wanted_by}: {name!r} is not for the notebook (NOT_IN_NOTEBOOK in tools/build_notebook.py)")
    return module


def with_imported(name: str, known: set[str], wanted_by: str) -> Iterator[Module]:
    """The modules that `name` imports and that are not in `known`, in import order, then itself; all join `known`."""
    if name not in known:
        known.add(name)
        module = known_module(name, wanted_by)
        for imported in module.imported:
            if (PACKAGE / imported.replace(".", "/")).is_dir():
                raise StoryError(f"{name} imports from {imported!r}, which is a folder: the notebook has modules only")
            yield from with_imported(imported, known, f"import in {name}")
        yield module


def requirements(block: str) -> str:
    """The strings of a list in pyproject.toml, as one Python tuple."""
    listed = re.search(rf"^{block} = \[(.*?)\]$", (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert listed, f"pyproject.toml has no {block}"
    names = [name for name in re.findall(r'"([^"]+)"', listed[1]) if re.split(r"\W", name)[0] not in NOT_NEEDED]
    return "(\n" + "".join(f'    "{name}",\n' for name in names) + ")"


# %% cells
MODULE = re.compile(r"<!-- module: (\S+) -->")
PART = re.compile(r"<!-- part: (\S+) / (.+) -->")
ORDER = re.compile(r"^(```python(?: hidden)?\n.*?^```$|<!-- (?:module|part): .*? -->$)", re.MULTILINE | re.DOTALL)


LARGEST_SHARED_CELL = 50_000  # bytes of modules that share a cell: larger ones would be long to read, smaller ones too many


@dataclass(frozen=True)
class Piece:
    """A module in a library cell, or a part of one.

    Attributes:
        titles: of its parts.
        part: title of the only part; empty: all that no line of the story orders by name.
    """

    module: Module
    titles: tuple[str, ...]
    part: str = ""

    @property
    def folder(self) -> str:
        """'model/fast/'"""
        return self.module.name.replace(".", "/").removesuffix(self.module.name.rpartition(".")[2])

    @property
    def path(self) -> str:
        return f"{self.module.name.replace('.', '/')}.py{f' · {self.part}' if self.part else ''}"

    @property
    def slug(self) -> str:
        name = self.module.name.replace(".", "-")
        return f"{name}-{list(self.module.parts).index(self.part) + 1}" if self.part else name

    def needs(self, other: "Piece") -> bool:
        """Whether it stays behind the other one."""
        return other.module.name in (self.module.name, *self.module.imported)


def by_folder(pieces: list[Piece]) -> list[Piece]:
    """The pieces, those of one folder together as far as each stays behind what it imports.

    Args:
        pieces: in an order in which each stands behind what it imports.
    """
    ordered: list[Piece] = []
    while left := [piece for piece in pieces if piece not in ordered]:
        ready = [piece for at, piece in enumerate(left) if not any(map(piece.needs, left[:at]))]
        folders = Counter(piece.folder for piece in left)  # the folder of which the largest share can stand together
        ordered += max((_of_folder(one.folder, left) for one in ready), key=lambda run: len(run) / folders[run[0].folder])
    return ordered


def _of_folder(folder: str, left: list[Piece]) -> list[Piece]:
    """The pieces of a folder that can come next, one after the other."""
    waiting: list[Piece] = []
    for piece in left:
        if piece.folder != folder or any(map(piece.needs, waiting)):
            waiting.append(piece)
    return [piece for piece in left if piece not in waiting]


def as_shown(code: str) -> str:
    """The code of a collapsed cell with all that makes it shorter and changes nothing."""
    return with_single_quotes(with_filled_lines(with_narrow_indentation(with_plain_signatures(with_short_docstrings(code)))))


class Builder:
    """Turns one story into cells; remembers which modules and parts have come."""

    def __init__(self) -> None:
        self.cells: list[NotebookNode] = []
        self.waiting: list[Piece] = []  # for their cells, which come before the next cell of another kind
        self.known: set[str] = set()
        self.imports: set[str] = set()  # those that library cells have made, one by one: 'from pathlib import Path'
        self.ordered: dict[str, list[str]] = {}  # module -> parts that lines of the story order by name

    def text(self, text: str, name: str) -> None:
        self.library()
        self.cells.append(new_markdown_cell(text, id=name))

    def code(self, code: str, name: str, *, collapsed: bool) -> None:
        self.library()
        self.cells.append(new_code_cell(code, id=name, metadata=COLLAPSED if collapsed else {}))

    def library(self) -> None:
        """The cells of all pieces that wait for theirs."""
        cells: list[list[Piece]] = []
        shown, size = {}, 0
        for piece in by_folder(self.waiting):
            shown[piece] = self.shown(piece)
            size += len(shown[piece].encode())
            if cells and cells[-1][0].folder == piece.folder and size <= LARGEST_SHARED_CELL:
                cells[-1].append(piece)
            else:
                cells.append([piece])
                size = len(shown[piece].encode())
        self.waiting = []
        for pieces in cells:
            first, *others = pieces
            title = LIBRARY_TITLE + ", ".join([first.path, *(piece.path.removeprefix(first.folder) for piece in others)])
            each = [f"{LIBRARY_PART}{piece.path}\n{shown[piece]}" for piece in pieces] if others else [shown[first]]
            self.code("\n\n".join([title, *each]) if others else f"{title}\n{each[0]}", first.slug, collapsed=True)

    def shown(self, piece: Piece) -> str:
        """The code of a piece as its cell shows it."""
        code = as_shown(without_imports(piece.module.code(piece.titles), self._is_made))
        return re.sub(r"^# %% .*\n+", "", code, flags=re.MULTILINE)

    def _is_made(self, source: str, alias: ast.alias) -> bool:
        """Whether an earlier cell has made this import; if not, this one makes it."""
        name = f"{source}{ast.unparse(alias)}"
        made = name in self.imports
        self.imports.add(name)
        return made

    def own_piece(self, module: Module) -> None:
        """All that no line of the story orders by name."""
        titles = tuple(title for title in module.parts if title not in self.ordered.get(module.name, ()))
        if titles:
            self.waiting.append(Piece(module, titles))

    def module(self, name: str, line: str) -> None:
        for module in with_imported(name, self.known, line):
            self.own_piece(module)

    def part(self, name: str, title: str, line: str) -> None:
        """After the module's own cell, where that has not come."""
        module = known_module(name, line)
        if title not in module.parts:
            raise StoryError(f"{line}: {name} has no part {title!r}; it has {', '.join(map(repr, module.parts))}")
        if name not in self.known:
            self.known.add(name)
            self.own_piece(module)
        self.waiting.append(Piece(module, (title,), title))

    def story(self, story: str) -> list[NotebookNode]:
        """Raises StoryError."""
        pieces = ORDER.split(story)
        for piece in pieces:
            if order := PART.fullmatch(piece):
                titles = self.ordered.setdefault(order[1], [])
                if order[2] in titles:
                    raise StoryError(f"a second time: {piece}")
                titles.append(order[2])
        for number, piece in enumerate(pieces):
            if fence := re.fullmatch(r"```python( hidden)?\n(.*)\n```", piece, re.DOTALL):
                kind, code = ("own", as_shown(fence[2])) if fence[1] else ("user", fence[2])
                self.code(code, f"{kind}-{number}", collapsed=bool(fence[1]))
            elif order := MODULE.fullmatch(piece):
                self.module(order[1], piece)
            elif order := PART.fullmatch(piece):
                self.part(order[1], order[2], piece)
            elif unknown := re.search(r"<!--.*?-->", piece):
                raise StoryError(f"not understood: {unknown[0]!r}")
            elif piece.strip():
                self.text(piece.strip(), f"story-{number}")
        self.library()
        used = names_read("\n".join(cell.source for cell in self.cells if cell.cell_type == "code"))
        for cell in self.cells:  # annotations are gone, and with them the use of some imports
            if cell.source.startswith(LIBRARY_TITLE):
                cell.source = without_imports(cell.source, lambda _, one: (one.asname or one.name.split(".")[0]) not in used)
        return self.cells


def build(story: str) -> str:
    """The notebook's file. Raises StoryError. Args: story: the story's text."""
    for place, block in (("@needed-gpu@", "gpu"), ("@needed@", "dependencies")):
        story = story.replace(place, requirements(block))
    delivered = {name: Config.settings()[name].default for preset in PRESETS.values() for name in preset}
    story = story.replace("@defaults@", repr(delivered))
    notebook = new_notebook(cells=Builder().story(story), metadata={
        "kernelspec": KERNEL, "language_info": LANGUAGE, "accelerator": "GPU", "kaggle": KAGGLE,
        "colab": {"provenance": [], "gpuType": "T4", "toc_visible": True},
    })
    nbformat.validate(notebook)
    return written(notebook)


def written(notebook: NotebookNode) -> str:
    """The notebook as JSON. A cell is one line, its text one string: lists of lines, as Jupyter writes, cost 130 KB."""
    whole = json.loads(nbformat.writes(notebook, split_lines=False))
    compact = dict(ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    cells = ",\n".join(json.dumps(cell, **compact) for cell in whole.pop("cells"))
    return f'{{"cells":[\n{cells}\n],\n{json.dumps(whole, **compact)[1:]}\n'


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing, fail when a notebook would change")
    check, stale = parser.parse_args().check, []
    for name, story in STORIES.items():
        try:
            file, made = ROOT / name, build((Path(__file__).parent / story).read_text(encoding="utf-8"))
        except StoryError as error:
            sys.exit(f"tools/{story}: {error}")
        if not check:
            file.write_text(made, encoding="utf-8", newline="\n")
            print(f"{name}: {len(made.encode()) / 1024:.0f} KiB")
        elif not file.exists() or file.read_text(encoding="utf-8") != made:
            stale.append(name)
    if stale:
        sys.exit(f"{', '.join(stale)}: not what the package and the story make. Run: python tools/build_notebook.py")


if __name__ == "__main__":
    main()
