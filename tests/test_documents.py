"""The documents name commands, settings and files that exist, and both languages say the same."""
import importlib
import inspect
import re
import shlex
import sys
from pathlib import Path

import pytest
import yaml
from typer.main import get_command

import mcvqa
from mcvqa.cli import app, one_change_each
from mcvqa.config import PRESETS, Config, load_config, parse_changes

ROOT = Path(__file__).parents[1]
README_NAMES = ("README.md", "README.ko.md")
OVERVIEWS = ("docs/overview.md", "docs/ko/overview.md")
PAGES = sorted(p.relative_to(ROOT).as_posix() for p in (ROOT / "docs").rglob("*.md") if p.name != "LOG.md")  # names of its day
DOCUMENT_NAMES = (*README_NAMES, "PROJECT_SUMMARY.md", "DECISIONS.md", *PAGES)
PAIRS = (README_NAMES, *((page.replace("docs/ko/", "docs/"), page) for page in PAGES if page.startswith("docs/ko/")))
COMMAND = re.compile(r"(?:^|!|&& |\.venv/bin/|`)mcvqa ([^`#&\n]+)", re.MULTILINE)


def document(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def code_blocks(text: str) -> list[str]:
    return re.findall(r"^```\w*\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def without_blocks(text: str) -> str:
    return re.sub(r"^```\w*\n.*?^```$", "```", text, flags=re.MULTILINE | re.DOTALL)


# %% commands and settings
def check_command(written: str) -> None:
    """Parse one command line as the program would, and its settings as a run would."""
    name, *words = one_change_each(shlex.split(written.partition(" > ")[0]))
    command = get_command(app).commands[name]
    given = command.make_context(name, words).params
    load_config(None, given.get("preset"), parse_changes(given.get("set_") or []))


@pytest.mark.parametrize("name", DOCUMENT_NAMES)
def test_commands_parse(name):
    for written in COMMAND.findall(document(name)):
        check_command(written)


@pytest.mark.parametrize("name", OVERVIEWS)
def test_every_command_is_described(name):
    described = {written.split()[0] for written in COMMAND.findall(without_blocks(document(name)))}
    assert described == set(get_command(app).commands)


@pytest.mark.parametrize("wrong", ["runn --data x", "run --dta x", "run --set num_epoch=3", "run --preset fast", "validate"])
def test_a_wrong_command_is_seen(wrong):
    with pytest.raises(Exception, match=r"(?i)runn|no such option|no setting|no preset|missing"):
        check_command(wrong)


@pytest.mark.parametrize("name", DOCUMENT_NAMES)
def test_settings_exist(name):
    for change in re.findall(r"`(\w+=[^`]+)`", without_blocks(document(name))):
        if not change.endswith("=N"):
            Config().replace(**parse_changes([change]))


@pytest.mark.parametrize("name", README_NAMES)
def test_the_python_example_makes_a_config(name):
    calls = re.findall(r"run\((Config\(.*?\))\)", document(name))
    assert calls and all(isinstance(eval(call, {"Config": Config}), Config) for call in calls)


@pytest.mark.parametrize("name", (*DOCUMENT_NAMES, "CONTRIBUTING.md", "CHANGELOG.md"))
def test_make_targets_exist(name):
    for target in re.findall(r"(?:^|`)(?:\w+=\w+ )?make (\w+)", document(name), re.MULTILINE):
        assert re.search(rf"^{target}:", document("Makefile"), re.MULTILINE), target


def test_every_make_target_is_described():
    targets = set(re.findall(r"^(\w+):", document("Makefile"), re.MULTILINE))
    assert targets == set(re.findall(r"^\| `make (\w+)`", document("CONTRIBUTING.md"), re.MULTILINE)) | {"install", "demo"}


@pytest.mark.parametrize("name", OVERVIEWS)
def test_the_presets_are_those_of_the_program(name):
    rows = re.findall(r"^\| `(\w+)` \| (`\w+=.*?) \|", document(name), re.MULTILINE)
    shown = {preset: parse_changes(re.findall(r"`([^`]+)`", cell)) for preset, cell in rows}
    assert {preset: set(values) for preset, values in shown.items()} == {p: set(values) for p, values in PRESETS.items()}
    for preset, values in shown.items():
        assert Config().replace(**values) == load_config(preset=preset)


# %% files
def tree_of(name: str) -> dict[str, str]:
    """Path from the root -> what is said about it."""
    block = next(block for block in code_blocks(document(name)) if "src/mcvqa/\n" in block)
    folders: list[str] = []
    found = {}
    for line in block.splitlines():
        indent, path, said = re.fullmatch(r"( *)(\S+) *(.*)", line).groups()
        folders = [*folders[: len(indent) // 2], path]
        found["".join(folders)] = said
    return found


@pytest.mark.parametrize("name", OVERVIEWS)
def test_the_tree_is_whole(name):
    shown = tree_of(name)
    assert not [path for path in shown if not (ROOT / path).exists()]
    package = ROOT / "src" / "mcvqa"
    rooms = {f"src/mcvqa/{path.name}{'/' * path.is_dir()}" for path in package.iterdir() if path.name != "__pycache__"}
    assert rooms == {path for path in shown if path.startswith("src/mcvqa/") and path != "src/mcvqa/"}
    assert all(said for path, said in shown.items() if path != "src/mcvqa/")


@pytest.mark.parametrize("name", (*DOCUMENT_NAMES, "CONTRIBUTING.md", "benchmarks/RESULTS.md"))
def test_files_named_in_the_text_exist(name):
    text = without_blocks(document(name))
    links = {target.partition("#")[0] for target in re.findall(r"\]\(([^)]+)\)", text) if "://" not in target}
    for path in links - {""}:
        assert (ROOT / name).parent.joinpath(path).exists(), path
    modules = set(re.findall(r"(?<![\w./])[\w/]+\.py\b", re.sub(r"\[[^]]*\]\([^)]*\)", "", text)))
    for path in {path for path in modules if "NAME" not in path} - {"infer.py"}:  # which an export writes
        assert any((ROOT / folder / path).exists() for folder in ("", "src", "src/mcvqa")), path


# %% two languages, one document
def outline(text: str) -> list[str]:
    """Levels of the headings, the starts of code blocks, the widths of table rows and the list items, in order."""
    marks = re.findall(r"^(?:(#+) |(```)|(\|.*)\|$|(- |\d+\. ))", without_blocks(text), re.MULTILINE)
    return [heading or block or item or f"{row.count('|')} cells" for heading, block, row, item in marks]


@pytest.mark.parametrize(("english", "korean"), PAIRS)
def test_both_languages_have_the_same_parts(english, korean):
    assert outline(document(english)) == outline(document(korean))


def test_an_outline_has_headings_blocks_lists_and_tables():
    assert {"##", "```", "- ", "1. ", "5 cells"} <= set(outline(document("README.md")))


@pytest.mark.parametrize(("english", "korean"), PAIRS)
def test_both_languages_give_the_same_commands_settings_and_figures(english, korean):
    one, other = map(document, (english, korean))
    assert list(map(str.strip, COMMAND.findall(one))) == list(map(str.strip, COMMAND.findall(other)))
    for pattern in (r"`\w+=[^`]+`", r"0\.\d+", r"\b[0-9a-f]{7}\b", r"\d[\d,]+\d"):
        assert sorted(re.findall(pattern, one)) == sorted(re.findall(pattern, other)), pattern


def test_both_trees_have_the_same_files():
    english, korean = map(tree_of, OVERVIEWS)
    assert list(english) == list(korean)


@pytest.mark.parametrize("name", README_NAMES)
def test_a_readme_is_short_and_shows_its_picture_in_both_colour_schemes(name):
    assert len(document(name).splitlines()) < 150
    for picture in re.findall(r'(?:src|srcset)="([^"]+)"', document(name)):
        assert (ROOT / picture).exists(), picture
    assert document(name).index("<picture>") < document(name).index("```bash")


@pytest.mark.parametrize("name", README_NAMES)
def test_what_the_demo_prints_is_what_was_measured(name):
    shown = re.findall(r"^\| [^|]+ \| 0\.\d+ \|.*$", document(name), re.MULTILINE)
    assert len(shown) == 8 and set(shown) <= set(document("benchmarks/RESULTS.md").splitlines())


@pytest.mark.parametrize("name", README_NAMES)
def test_the_test_command_is_that_of_continuous_integration(name):
    assert re.search(r"^make test\b", document(".ci/run"), re.MULTILINE)
    assert any(re.search(r"^make test\b", block, re.MULTILINE) for block in code_blocks(document(name)))


def test_start_and_tutorials_are_in_both_languages():
    written = {page for page in PAGES if page.startswith(("docs/tutorials/", "docs/start"))}
    assert len(written) >= 5 and written <= {english for english, _ in PAIRS}


# %% pages made from the code
def imported_tool(name):
    """A fixture: the script tools/<name>.py as a module, which no later test finds imported."""
    @pytest.fixture
    def tool(monkeypatch):
        monkeypatch.syspath_prepend(str(ROOT / "tools"))
        yield importlib.import_module(name)
        sys.modules.pop(name)

    return tool


reference_tool, figures_tool, imports_tool, publish_tool = map(imported_tool, ("reference", "figures", "imports", "publish"))


def test_every_setting_and_command_is_on_its_page(reference_tool):
    assert document("docs/settings.md") == reference_tool.settings_page(), "make docs"
    assert document("docs/commands.md") == reference_tool.commands_page(), "make docs"
    named = re.findall(r"^\| `(\w+)`", document("docs/settings.md"), re.MULTILINE)
    assert sorted(named) == sorted(Config.model_fields)
    assert re.findall(r"^## (\w+)", document("docs/commands.md"), re.MULTILINE) == list(get_command(app).commands)


def test_every_exported_name_is_in_the_python_reference():
    page = document("docs/python.md")
    assert {name for name in mcvqa.__all__ if not name.startswith("_")} <= set(re.findall(r":: mcvqa\.(\w+)", page))
    assert set(re.findall(r":param (?:mcvqa\.Config )?(\w+):", page)) == set(inspect.signature(mcvqa.run).parameters)


@pytest.mark.nightly
def test_the_figures_are_what_the_code_draws(figures_tool):
    assert {f"{name}.svg" for name in figures_tool.DRAWN} == {path.name for path in figures_tool.FIGURES.glob("*.svg")}
    for name, draw in figures_tool.DRAWN.items():
        assert document(f"docs/figures/{name}.svg") == str(draw()), "make docs"


# %% the public address
@pytest.fixture
def unpublished(publish_tool, tmp_path):
    """A folder with the files that name the address, and a workflow."""
    for file in (*publish_tool.PLACES, ".github/workflows/tests.yml"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text(document(file) if (ROOT / file).exists() else "name: tests", encoding="utf-8")
    return tmp_path


def written_in(folder, file):
    return (folder / file).read_text(encoding="utf-8")


def test_the_public_address_is_written_by_one_command(publish_tool, unpublished):
    publish_tool.publish(unpublished, "other/place", "dev")
    assert publish_tool.publish(unpublished, "me/mcvqa", "main") == list(publish_tool.PLACES)
    texts = {file: written_in(unpublished, file) for file in publish_tool.PLACES}
    assert not [file for file, text in texts.items() if "other/place" in text or "/dev/" in text]
    for file in ("README.md", "README.ko.md", "docs/start.md", "docs/ko/start.md"):
        links = re.findall(r"\]\((https[^)]*me/mcvqa[^)]*)\)", texts[file])
        assert {link.partition("me/")[0] for link in links} >= {
            "https://kaggle.com/kernels/welcome?src=https://github.com/", "https://colab.research.google.com/github/"}
        files = re.findall(r"me/mcvqa/blob/(?:main|HEAD)/(\S+?)\)", texts[file])
        assert len(files) >= 2 and all((ROOT / path).exists() for path in files)
    assert texts["README.md"].count("actions/workflows/tests.yml") == 2
    assert yaml.safe_load(texts["CITATION.cff"])["repository-code"] == "https://github.com/me/mcvqa"
    assert '\n[project.urls]\nRepository = "https://github.com/me/mcvqa"\n' in texts["pyproject.toml"]
    for english, korean in (("README.md", "README.ko.md"), ("docs/start.md", "docs/ko/start.md")):
        assert outline(texts[english]) == outline(texts[korean])


def test_the_address_written_again_changes_nothing_but_what_is_no_longer_true(publish_tool, unpublished):
    publish_tool.publish(unpublished, "me/mcvqa", "main")
    assert publish_tool.publish(unpublished, "me/mcvqa", "main") == []
    for workflow in (unpublished / ".github" / "workflows").iterdir():
        workflow.unlink()
    assert publish_tool.publish(unpublished, "me/mcvqa", "main") == ["README.md", "README.ko.md"]
    assert "actions" not in written_in(unpublished, "README.md")


def test_the_address_is_written_everywhere_or_nowhere(publish_tool, unpublished):
    (unpublished / "CITATION.cff").write_text("title: without marks", encoding="utf-8")
    before = written_in(unpublished, "README.md")
    with pytest.raises(SystemExit, match=r"CITATION.cff: 'published citation: begin' .* 0 times, .* nothing written"):
        publish_tool.publish(unpublished, "someone/else", "main")
    assert written_in(unpublished, "README.md") == before


@pytest.mark.parametrize("start", ["", "https://github.com/", "git@github.com:"])
@pytest.mark.parametrize("end", ["", ".git"])
def test_a_repository_is_named_by_its_owner_or_its_address(publish_tool, start, end):
    assert publish_tool.repository(f"{start}me/mcvqa{end}") == "me/mcvqa"


@pytest.mark.parametrize("named", ["mcvqa", "me/", "https://example.org/me/mcvqa", "me/mcvqa/tree/main"])
def test_what_names_no_repository_is_refused(publish_tool, named):
    with pytest.raises(SystemExit, match="give OWNER/NAME"):
        publish_tool.repository(named)


# %% the pictures of the imports
def test_the_pictures_show_the_imports_that_there_are(imports_tool):
    page = document("CONTRIBUTING.md")
    assert page.count("```mermaid") == 2
    assert imports_tool.with_pictures(page, imports_tool.pictures()) == page, "make imports"


def test_a_new_import_changes_the_pictures(imports_tool, tmp_path):
    for name, text in {
        "base/files.py": "", "data/folds.py": "from mcvqa.base.files import read", "run/__init__.py": "",
        "run/score.py": "import os\nfrom typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from mcvqa.run.steps import run",
        "run/steps.py": "def run():\n    from mcvqa.data.folds import split\n    from mcvqa.run import score",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    before = imports_tool.pictures(tmp_path)
    assert before.count("-->") == 3
    assert all(arrow in before for arrow in ("    data --> base\n", "    run --> data\n", "    steps --> score\n"))
    (tmp_path / "data" / "folds.py").write_text("")
    assert "    data\n" in imports_tool.pictures(tmp_path)
    (tmp_path / "run" / "steps.py").write_text("from mcvqa.data.folds import split\nfrom mcvqa.base.files import read")
    assert "    run --> base & data\n" in imports_tool.pictures(tmp_path)


def test_implied_arrows_are_left_out_and_circles_refused(imports_tool):
    assert imports_tool.reduced({"c": {"b", "a"}, "b": {"a"}, "a": set()}) == {"c": {"b"}, "b": {"a"}, "a": set()}
    with pytest.raises(ValueError, match="cycle"):
        imports_tool.reduced({"a": {"b"}, "b": {"a"}})
