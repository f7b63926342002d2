"""Draws which part of the package imports which, between two marks in CONTRIBUTING.md, as Mermaid text.

    python tools/imports.py            # write the pictures
    python tools/imports.py --check    # only say whether they are as they would be written

Imports are read from the source, those within functions too; those for type checkers only are left out. An arrow that a
chain of other arrows implies is left out as well: training -> data where training -> model -> data is drawn.
"""
import ast
import re
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "mcvqa"
PAGE = ROOT / "CONTRIBUTING.md"
BEGIN, END = "<!-- imports: begin -->", "<!-- imports: end -->"

Graph = dict[str, set[str]]  # importer -> what it imports


# %% what is imported
def module_name(path: Path, package: Path) -> str:
    """src/mcvqa/run/workers/inline.py -> 'run.workers.inline'"""
    return ".".join(path.relative_to(package).with_suffix("").parts)


def imported_modules(path: Path) -> Iterator[str]:
    """Names below the package of what a module imports from it."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    guards = [node for node in ast.walk(tree) if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"]
    for_types = {id(node) for guard in guards for statement in guard.body for node in ast.walk(statement)}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "mcvqa" and id(node) not in for_types:
            below = (node.module or "").partition(".")[2]
            yield below
            yield from (f"{below}.{alias.name}".removeprefix(".") for alias in node.names)  # a name may be a module


def module_graph(package: Path = PACKAGE) -> Graph:
    """Module -> the modules that it imports. A package goes by its name, without `.__init__`."""
    files = {module_name(path, package): path for path in sorted(package.rglob("*.py"))}
    graph: Graph = {name.removesuffix(".__init__"): set() for name in files}
    for name, path in files.items():
        for imported in imported_modules(path):
            if imported in graph:
                graph[name.removesuffix(".__init__")].add(imported)
    return graph


def part_graph(modules: Graph) -> Graph:
    """Part of the package -> the parts that it imports: 'run.score' belongs to 'run'."""
    graph: Graph = {}
    for name, imported in modules.items():
        part = name.split(".")[0]
        graph.setdefault(part, set()).update(other.split(".")[0] for other in imported if other.split(".")[0] != part)
    return {part: imported for part, imported in graph.items() if part not in ("__init__", "__main__")}


def graph_within(modules: Graph, part: str) -> Graph:
    """The modules of one part, by their names below it."""
    names = {name for name in modules if name.startswith(f"{part}.") and (modules[name] or not _is_package(name, modules))}
    return {
        name.removeprefix(f"{part}."): {other.removeprefix(f"{part}.") for other in modules[name] & names}
        for name in sorted(names)
    }


def _is_package(name: str, modules: Graph) -> bool:
    return any(other.startswith(f"{name}.") for other in modules)


# %% the pictures
def reduced(graph: Graph) -> Graph:
    """The graph without the arrows that a chain of others implies.

    Raises:
        CycleError: modules import one another in a circle.
    """
    reached: Graph = {}
    for name in TopologicalSorter(graph).static_order():
        reached[name] = set().union(*({other} | reached[other] for other in graph.get(name, ())))
    return {
        name: {other for other in imported if not any(other in reached[between] for between in imported)}
        for name, imported in graph.items()
    }


def mermaid(graph: Graph) -> str:
    """One line for each module that imports others: `run.steps --> execution & results`."""
    lines = ["```mermaid", "flowchart TD"]
    for name, imported in sorted(reduced(graph).items()):
        lines.append(f"    {name}" + (f" --> {' & '.join(sorted(imported))}" if imported else ""))
    return "\n".join([*lines, "```"])


def pictures(package: Path = PACKAGE) -> str:
    modules = module_graph(package)
    return (
        f"The parts of `src/mcvqa`; an arrow that others imply is left out:\n\n{mermaid(part_graph(modules))}\n\n"
        f"The modules of `run/`:\n\n{mermaid(graph_within(modules, 'run'))}"
    )


def with_pictures(page: str, drawn: str) -> str:
    return re.sub(rf"{BEGIN}\n.*?{END}", lambda _: f"{BEGIN}\n{drawn}\n{END}", page, flags=re.DOTALL)


def main(arguments: list[str]) -> int:
    page = PAGE.read_text(encoding="utf-8")
    wanted = with_pictures(page, pictures())
    if wanted == page:
        return 0
    if "--check" in arguments:
        print(f"{PAGE.name} shows other imports than there are: make imports")
        return 1
    PAGE.write_text(wanted, encoding="utf-8")
    print(f"{PAGE.name}: written")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
