"""Writes the repository's public address where readers look for it: buttons, badges, the package's links, the citation.

    python tools/publish.py OWNER/NAME               # the repository on GitHub; its address will do as well
    python tools/publish.py OWNER/NAME --branch dev  # where the buttons find the notebook; main without it

Until then none of the files names an address, so no link is dead. Each has marks, between which this writes; run again, it
writes the same, and after a move or a new workflow what is true then. Commit what it changed.
"""
import argparse
import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
NOTEBOOK = "Kaggle_AllInOne_Pro.ipynb"
BUTTONS = ("kaggle", "colab")
PLACES = {  # file -> what is written there, by the name of its marks
    "README.md": ("badges", *BUTTONS), "README.ko.md": ("badges", *BUTTONS), "docs/start.md": BUTTONS,
    "docs/ko/start.md": BUTTONS, "pyproject.toml": ("urls",), "CITATION.cff": ("citation",),
}


# %% what is written
def repository(named: str) -> str:
    """OWNER/NAME of what was given, which may be the repository's address.

    Raises:
        SystemExit: it is neither.
    """
    found = re.fullmatch(r"(?:https://github\.com/|git@github\.com:)?([A-Za-z\d-]+/[\w.-]+?)(?:\.git|/)?", named)
    if not found:
        sys.exit(f"'{named}' is no repository on GitHub: give OWNER/NAME or https://github.com/OWNER/NAME.")
    return found[1]


def badge(label: str, picture: str, target: str) -> str:
    return f"[![{label}]({picture})]({target})"


def stated(root: Path, key: str) -> str:
    """What pyproject.toml says under a key of [project]."""
    return re.search(rf'^{key} = "(.+)"', (root / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)[1]


def badges(root: Path, address: str) -> str:
    """One for each workflow, the licence and the Pythons: what the files say."""
    licence, python = stated(root, "license"), stated(root, "requires-python").removeprefix(">=")
    files = f"{address}/blob/HEAD"
    workflows = sorted(path.name for path in (root / ".github" / "workflows").glob("*.y*ml"))
    return "\n".join([
        *(badge(Path(name).stem, f"{address}/actions/workflows/{name}/badge.svg", f"{address}/actions/workflows/{name}")
          for name in workflows),
        badge(licence, f"https://img.shields.io/badge/license-{licence.replace('-', '--')}-blue", f"{files}/LICENSE"),
        badge(f"Python {python}+", f"https://img.shields.io/badge/python-{python}%2B-blue", f"{files}/pyproject.toml"),
    ])


def pieces(root: Path, name: str, branch: str) -> dict[str, str]:
    """Name of the marks -> what belongs between them. Args: name: OWNER/NAME."""
    address = f"https://github.com/{name}"
    return {
        "badges": badges(root, address),
        "kaggle": badge("Open in Kaggle", "https://kaggle.com/static/images/open-in-kaggle.svg",
                        f"https://kaggle.com/kernels/welcome?src={address}/blob/{branch}/{NOTEBOOK}"),
        "colab": badge("Open in Colab", "https://colab.research.google.com/assets/colab-badge.svg",
                       f"https://colab.research.google.com/github/{name}/blob/{branch}/{NOTEBOOK}"),
        "urls": f'[project.urls]\nRepository = "{address}"\nIssues = "{address}/issues"\n'
                f'Changelog = "{address}/blob/HEAD/CHANGELOG.md"',
        "citation": f"repository-code: {address}",
    }


# %% where
def filled(file: Path, text: str, piece: str, written: str) -> str:
    """The text of a file with this between the marks of a piece.

    Raises:
        SystemExit: the marks are not there exactly once.
    """
    marks = re.compile(rf"(^.*published {piece}: begin.*\n)[\s\S]*?(^.*published {piece}: end)", re.MULTILINE)
    text, found = marks.subn(lambda mark: f"{mark[1]}{written}\n{mark[2]}", text)
    if found != 1:
        sys.exit(f"{file}: 'published {piece}: begin' to ': end' is there {found} times, not once; nothing written.")
    return text


def publish(root: Path, name: str, branch: str) -> list[str]:
    """Write the address into all files, or into none. Returns: those that changed."""
    made, changed = pieces(root, name, branch), {}
    for file, wanted in PLACES.items():
        before = text = (root / file).read_text(encoding="utf-8")
        for piece in wanted:
            text = filled(root / file, text, piece, made[piece])
        if text != before:
            changed[file] = text
    for file, text in changed.items():
        (root / file).write_text(text, encoding="utf-8")
    return list(changed)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("repository", metavar="OWNER/NAME")
    parser.add_argument("--branch", default="main", help="where the buttons find the notebook (default: main)")
    given = parser.parse_args()
    changed = publish(ROOT, repository(given.repository), given.branch)
    print(f"written: {', '.join(changed)}" if changed else "nothing to change")


if __name__ == "__main__":
    main()
