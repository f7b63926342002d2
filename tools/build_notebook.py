"""Makes the notebooks in the repository root from the package and the stories beside this file.

    python tools/build_notebook.py            # write them
    python tools/build_notebook.py --check    # only say whether they are as they would be written

A story is Markdown. What stands in it becomes text, and:

    ```python                 an open cell, the user's
    ```python hidden          a cell of the notebook's own code, which starts collapsed; its first line is its title
    <!-- module: project -->  the module's cells, after those of all modules it imports that have not come yet
    <!-- part: pipeline / step 4: folds -->   only the cell that starts at this `# %%` marker
    @needed@, @needed-gpu@    the requirements that pyproject.toml names

A module's docstring is its heading, `# %%` marks a cell boundary, imports inside the package are dropped: in the notebook
all names live in one namespace.
"""
import argparse
import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "mcvqa"
STORIES = {"Kaggle_AllInOne_Pro.ipynb": "story.md", "251023_Baseline.ipynb": "baseline.md"}
NOT_IN_NOTEBOOK = {"typer"}  # the command line's

# what makes a cell start collapsed on Kaggle, on Colab (with the title in its first line) and in JupyterLab
COLLAPSED = {"_kg_hide-input": True, "cellView": "form", "jupyter": {"source_hidden": True}}
FOLDED = {"jp-MarkdownHeadingCollapsed": True}  # JupyterLab: the cells below a module's heading too
LANGUAGE = {"name": "python", "file_extension": ".py", "mimetype": "text/x-python"}
KERNEL = {"name": "python3", "display_name": "Python 3", "language": "python"}
KAGGLE = {"accelerator": "nvidiaTeslaT4", "isGpuEnabled": True, "isInternetEnabled": True, "language": "python",
          "sourceType": "notebook", "dataSources": []}


# %% modules
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
        return [node.module.removeprefix("mcvqa.") for node in self._inner_imports if node.module]

    @property
    def heading(self) -> str:
        return f"##### `mcvqa/{self.name.replace('.', '/')}.py`\n{ast.get_docstring(self.tree)}"

    @cached_property
    def parts(self) -> dict[str, str]:
        """Title of each cell -> its code; the first one, before any marker, is called 'start'."""
        lines = self.source.splitlines()
        for node in (self.tree.body[0], *self._inner_imports):  # the docstring is the heading
            lines[node.lineno - 1 : node.end_lineno] = [""] * (node.end_lineno - node.lineno + 1)
        title, found = "start", {"start": ""}
        for line in lines:
            marker = re.fullmatch(r"# %% (.+)", line)
            title = marker[1] if marker else title
            found[title] = found.get(title, "") + ("" if marker else line + "\n")
        tidy = {title: re.sub(r"\n{4,}", "\n\n\n", code.strip("\n")) for title, code in found.items()}
        return {title: code for title, code in tidy.items() if code}


def with_imported(name: str, known: set[str]) -> Iterator[str]:
    """The modules that `name` imports and that are not in `known`, in import order, then itself; all join `known`."""
    if name not in known:
        known.add(name)
        for imported in Module(name).imported:
            yield from with_imported(imported, known)
        yield name


def requirements(block: str) -> str:
    """The strings of a list in pyproject.toml, as one Python tuple."""
    listed = re.search(rf"^{block} = \[(.*?)\]$", (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert listed, f"pyproject.toml has no {block}"
    names = [name for name in re.findall(r'"([^"]+)"', listed[1]) if re.split(r"\W", name)[0] not in NOT_IN_NOTEBOOK]
    return "(\n" + "".join(f'    "{name}",\n' for name in names) + ")"


# %% cells
ORDER = re.compile(r"^(```python(?: hidden)?\n.*?^```$|<!-- (?:module|part): .*? -->$)", re.MULTILINE | re.DOTALL)


class Builder:
    """Turns one story into cells; remembers which modules have come."""

    def __init__(self) -> None:
        self.cells: list[NotebookNode] = []
        self.known: set[str] = set()
        self.begun: set[str] = set()

    def text(self, text: str, name: str, **metadata: object) -> None:
        self.cells.append(new_markdown_cell(text, id=name, metadata=metadata))

    def code(self, code: str, name: str, **metadata: object) -> None:
        self.cells.append(new_code_cell(code, id=name, metadata=metadata))

    def part(self, module: Module, title: str) -> None:
        """One cell of a module, after its heading and its first cell where these have not come yet."""
        slug = module.name.replace(".", "-")
        if module.name not in self.begun:
            self.begun.add(module.name)
            self.text(module.heading, f"{slug}-text", **FOLDED)
            if title != "start" and "start" in module.parts:
                self.part(module, "start")
        place = list(module.parts).index(title) + 1
        code = f"# @title mcvqa/{module.name.replace('.', '/')}.py · {title}\n{module.parts[title]}"
        self.code(code, f"{slug}-{place}", **COLLAPSED)

    def module(self, name: str) -> None:
        for found in with_imported(name, self.known):
            module = Module(found)
            for title in module.parts:
                self.part(module, title)

    def story(self, story: str) -> list[NotebookNode]:
        for number, piece in enumerate(ORDER.split(story)):
            if fence := re.fullmatch(r"```python( hidden)?\n(.*)\n```", piece, re.DOTALL):
                self.code(fence[2], f"{'own' if fence[1] else 'user'}-{number}", **(COLLAPSED if fence[1] else {}))
            elif order := re.fullmatch(r"<!-- module: (\S+) -->", piece):
                self.module(order[1])
            elif order := re.fullmatch(r"<!-- part: (\S+) / (.+) -->", piece):
                self.known.add(order[1])
                self.part(Module(order[1]), order[2])
            elif piece.strip():
                self.text(piece.strip(), f"story-{number}")
        return self.cells


def build(story: str) -> str:
    """The notebook's file. Args: story: the story's text."""
    for place, block in (("@needed-gpu@", "gpu"), ("@needed@", "dependencies")):
        story = story.replace(place, requirements(block))
    cells = Builder().story(story)
    folded = [cell.id for cell in cells if cell.metadata == FOLDED]
    for cell in cells:
        if cell.id in folded:
            cell.metadata["id"] = cell.id  # by which Colab knows its collapsed sections
    notebook = new_notebook(cells=cells, metadata={
        "kernelspec": KERNEL, "language_info": LANGUAGE, "accelerator": "GPU", "kaggle": KAGGLE,
        "colab": {"provenance": [], "gpuType": "T4", "toc_visible": True, "collapsed_sections": folded},
    })
    nbformat.validate(notebook)
    return nbformat.writes(notebook) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing, fail when a notebook would change")
    check, stale = parser.parse_args().check, []
    for name, story in STORIES.items():
        file, made = ROOT / name, build((Path(__file__).parent / story).read_text(encoding="utf-8"))
        if not check:
            file.write_text(made, encoding="utf-8", newline="\n")
            print(f"{name}: {len(made.encode()) / 1024:.0f} KiB")
        elif not file.exists() or file.read_text(encoding="utf-8") != made:
            stale.append(name)
    if stale:
        sys.exit(f"{', '.join(stale)}: not what the package and the story make. Run: python tools/build_notebook.py")


if __name__ == "__main__":
    main()
