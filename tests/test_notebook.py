"""The notebooks: made from the package, whole in one file, and running from an empty folder where the package is not."""
import ast
import atexit
import contextlib
import difflib
import functools
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import types
import venv
import zipfile
from collections import defaultdict
from graphlib import TopologicalSorter
from pathlib import Path

import numpy as np
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from tools.build_notebook import (
    COLLAPSED,
    LIBRARY_PART,
    LIBRARY_TITLE,
    NAMES_NOT_IN_NOTEBOOK,
    NOT_IN_NOTEBOOK,
    ROOT,
    STORIES,
    Module,
    Piece,
    StoryError,
    build,
    by_folder,
    left_out,
    never_in_notebook,
    requirements,
    with_filled_lines,
    with_narrow_indentation,
    with_plain_signatures,
    with_single_quotes,
)

from mcvqa.config import OTHER_NAMES, PRESETS, Config, ConfigError, load_config
from mcvqa.data.questions import Question, read_questions
from mcvqa.report.submission import validate_submission
from mcvqa.run.project import RunStopped, open_project
from mcvqa.run.score import scored_folds, valid_scores
from mcvqa.scoring.scores import load_scores
from mcvqa.training.checkpoint import CheckpointError
from tests.conftest import make_dataset
from tests.test_structure import MODULES, PACKAGE, module_name

NOTEBOOK = ROOT / "Kaggle_AllInOne_Pro.ipynb"
MOST_BYTES, MOST_CELLS = 800_000, 120


def cells_of(file: Path) -> list[dict]:
    cells = json.loads(file.read_text(encoding="utf-8"))["cells"]
    return [cell | {"source": "".join(cell["source"])} for cell in cells]


CELLS = cells_of(NOTEBOOK)
CODE = [cell for cell in CELLS if cell["cell_type"] == "code"]
LIBRARY = [cell for cell in CODE if cell["source"].startswith(LIBRARY_TITLE)]
OF_MODULE = defaultdict(list)  # module -> its pieces, which are cells or share one with others of its folder
for cell in LIBRARY:
    title, code = cell["source"].split("\n", 1)
    for piece in code.strip().split(f"\n{LIBRARY_PART}") if ", " in title else [f"{title.removeprefix(LIBRARY_TITLE)}\n{code}"]:
        path, code = piece.removeprefix(LIBRARY_PART).split("\n", 1)
        OF_MODULE[path.split(".py")[0].replace("/", ".")].append(code)
OWN = [cell for cell in CODE if cell["id"].startswith("own-")]
USER = [cell for cell in CODE if cell["id"].startswith("user-")]


# %% how it is made
@pytest.mark.parametrize("name", STORIES)
def test_a_notebook_is_what_the_package_and_its_story_make(name):
    made = build((ROOT / "tools" / STORIES[name]).read_text(encoding="utf-8"))
    assert (ROOT / name).read_text(encoding="utf-8") == made, "run: python tools/build_notebook.py"


@pytest.mark.parametrize("name", STORIES)
def test_a_notebook_is_small_and_its_cells_compile(name):
    assert (ROOT / name).stat().st_size <= MOST_BYTES and len(cells_of(ROOT / name)) <= MOST_CELLS
    for cell in cells_of(ROOT / name):
        if cell["cell_type"] == "code":
            compile(cell["source"], cell["id"], "exec")
            assert not cell["outputs"]


def stays_in_package(node: ast.stmt) -> bool:
    """Whether it imports what the notebook leaves out, or is the error that the notebook has there."""
    return (isinstance(node, ast.ImportFrom) and left_out((node.module or "").removeprefix("mcvqa."))) or (
        isinstance(node, ast.Raise) and "Not in the notebook" in ast.unparse(node))


def code_of(source: str, without: tuple[str, ...] = ()) -> list[str]:
    """Its top-level statements without imports, spaces, comments and docstrings. Args: without: names that are left out."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.If)):
            node.body = [one for one in node.body if not never_in_notebook(one)]
            first = next((at for at, one in enumerate(node.body) if stays_in_package(one)), len(node.body))
            node.body[first:] = [ast.Pass()] * (first < len(node.body))
            node.body = [one for one in node.body if not (
                isinstance(one, ast.ImportFrom) and (one.module or "").startswith("mcvqa."))]
        if isinstance(node, (ast.Module, ast.FunctionDef, ast.ClassDef)) and ast.get_docstring(node):
            node.body = node.body[1:] or [ast.Pass()]
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            methods = {name.partition(".")[2] for name in without if name.startswith(f"{node.name}.")}
            node.body = [one for one in node.body if getattr(one, "name", "") not in methods]
    body = [node for node in tree.body if not isinstance(node, (ast.Import, ast.ImportFrom))
            and not set(without) & bound_names(ast.unparse(node)).keys()]
    return [ast.dump(node) for node in body if not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")]


def test_no_module_imports_itself_by_way_of_others():
    """Imports within functions count; only what the notebook leaves out may import the module that calls it."""
    TopologicalSorter({name: Module(name).imported for name in map(module_name, MODULES)}).prepare()


def test_every_part_of_every_module_is_there_once():
    """But for the modules that NOT_IN_NOTEBOOK names, each with its reason, and single names that the notebook never uses."""
    assert OF_MODULE.keys() == {name for name in map(module_name, MODULES) if not left_out(name)}
    for name, cells in OF_MODULE.items():
        made = [statement for cell in cells for statement in code_of(cell)]
        source = with_plain_signatures(Module(name).source)
        assert sorted(made) == sorted(code_of(source, NAMES_NOT_IN_NOTEBOOK.get(name, ()))), name
        assert cells[0].startswith(('"', "'")), f"{name}: the docstring comes first"
    assert len(LIBRARY) == len({cell["source"].split("\n")[0] for cell in LIBRARY})


def test_what_stays_in_the_package_is_refused_where_it_is_asked_for():
    """Generated answers and answers written as sentences: a run is refused with its settings, before hours of training."""
    raised = [line.strip() for cell in LIBRARY for line in cell["source"].splitlines() if "Not in the notebook" in line]
    assert all(line.startswith("raise McvqaError(") for line in raised)
    reasons = {reason for reason in NOT_IN_NOTEBOOK.values() if any(f"Not in the notebook: {reason}." in line for line in raised)}
    assert reasons == {NOT_IN_NOTEBOOK[name] for name in (
        "scoring.generated", "scoring.parse", "data.frames", "data.unread", "data.packed", "data.json_shapes",
        "data.choice_lists", "run.trackers", "data.fixes", "run.start", "data.picture_cells",
        "report.own_metrics", "model.augment", "model.experts", "run.workers.ray", "model.split_recorded",
        "run.guidance", "data.marks", "run.of_search", "run.shared_session",
        "run.seeds", "run.final_fit", "run.averages", "run.learned",
    )}
    space = {"checked_settings": lambda *_: Config(answer_by="generate"), "ConfigError": ConfigError, "Config": Config}
    own = next(cell["source"] for cell in OWN if "def with_data" in cell["source"])
    exec(ast.unparse(next(node for node in ast.parse(own).body if getattr(node, "name", "") == "with_data")), space)
    with pytest.raises(ConfigError, match="Only the package has it"):
        space["with_data"]("auto", "quick", {})


def test_what_is_not_in_the_notebook_is_in_the_package_or_planned():
    planned = {"insight", "answer", "search", "run.workers.ray"}
    assert set(NOT_IN_NOTEBOOK) - set(map(module_name, MODULES)) <= planned and all(NOT_IN_NOTEBOOK.values())


def test_signatures_are_plain():
    """A function with a decorator, which may read its annotations, stays as it is."""
    code = """def shown(a: int) -> str: ...
@decorated
def _read(a: int) -> str: ...
class Room:
    def __init__(self, a: int) -> None: ...
    def _inner(
        self, a: "dict[str, int]" = {}, *rest: tuple[
            int, ...], 한글: str = "->", **more: Callable[[int], str],
    ) -> dict[str, int]:
        b: int = 1
        return b
"""
    shorter = with_plain_signatures(code)
    assert ast.dump(ast.parse(shorter)) == ast.dump(ast.parse("""def shown(a): ...
@decorated
def _read(a: int) -> str: ...
class Room:
    def __init__(self, a): ...
    def _inner(self, a = {}, *rest, 한글 = "->", **more):
        b = 1
        return b
"""))


@pytest.mark.parametrize(("code", "shorter"), [
    ('x = "a"  # an "a"', "x = 'a' # an \"a\""),
    ('f(r"\\d", f"{x[\'a\']}", "it\'s", \'"\', "\\"")', 'f(r\'\\d\', f"{x[\'a\']}", "it\'s", \'"\', "\\"")'),
    ('"""Says "no"."""', "'Says \"no\".'"),
    ('"""Says\nno."""', "'''Says\nno.'''"),
    ('"""It\'s."""', '"""It\'s."""'),
    ('x = {"#": 1}  # fmt: skip', "x = {'#': 1}"),
])
def test_a_text_is_written_with_single_quotes_where_it_holds_none(code, shorter):
    assert with_single_quotes(code) == shorter
    assert ast.dump(ast.parse(code)) == ast.dump(ast.parse(shorter))


@pytest.mark.parametrize(("code", "filled"), [
    ("x = f(\n    a,\n    b,\n)", "x = f(a, b)"),
    ("x = (\n    a,\n)", "x = (a,)"),
    ("x = [\n    a,\n]\ny = x[\n    a,\n]", "x = [a]\ny = x[a,]"),
    ("x = f(a,  # why\n      b)", "x = f(a,  # why\n      b)"),
    ("x = f(\n    # why\n    a,\n    b)", "x = f(\n    # why\n    a, b)"),
    ("x = f(\'\'\'a\n  b\'\'\',\n    c)", "x = f(\'\'\'a\n  b\'\'\', c)"),
    ("if a:\n    b()", "if a:\n    b()"),
    (f"x = f(\n    {'a' * 80},\n    {'b' * 80},\n)", f"x = f({'a' * 80},\n    {'b' * 80})"),
])
def test_lines_inside_brackets_are_filled(code, filled):
    assert with_filled_lines(code) == filled
    assert ast.dump(ast.parse(code)) == ast.dump(ast.parse(filled))


@pytest.mark.parametrize(("code", "narrower"), [
    ("if a:\n    if b:\n        c()", "if a:\n  if b:\n    c()"),
    ("def f():\n    return g(\n        a, [\n            b,\n        ],\n    )",
     "def f():\n  return g(\n    a, [\n      b,\n    ],\n  )"),
    ("if a:\n    b = (c,\n         d)", "if a:\n  b = (c,\n       d)"),
    ("if a:\n    # why\n    b()", "if a:\n  # why\n  b()"),
    ("if a:\n    b = '''c\n    d'''\n    e()", "if a:\n  b = '''c\n    d'''\n  e()"),
    ("if a:\n    b = f'''{c}\n    d'''\n    e()", "if a:\n  b = f'''{c}\n    d'''\n  e()"),
])
def test_a_level_is_two_spaces(code, narrower):
    assert with_narrow_indentation(code) == narrower
    assert ast.dump(ast.parse(code)) == ast.dump(ast.parse(narrower))


def test_small_modules_of_a_folder_share_a_cell():
    """As far as each stays behind what it imports: scores imports base.files alone, budget and informing nothing of scoring."""
    names = ("base.files", "scoring.scores", "base.informing", "run.tasks", "base.budget")
    pieces = [Piece(Module(name), ("start",)) for name in names]
    assert [piece.module.name for piece in by_folder(pieces)] == [
        "base.files", "base.informing", "base.budget", "scoring.scores", "run.tasks"]
    made = build("<!-- module: base.informing -->\n<!-- module: base.files -->")
    cell = json.loads(made)["cells"][-1]["source"]
    first, _, second, *_ = cell.split("\n")
    assert first == f"{LIBRARY_TITLE}base/files.py, informing.py" and second == f"{LIBRARY_PART}base/files.py"
    assert f"\n\n{LIBRARY_PART}base/informing.py\n'" in cell


@pytest.mark.parametrize(("line", "said"), [
    ("<!-- module: base.nothing -->", "no module 'base.nothing'"),
    ("<!-- part: base.nothing / step 1 -->", "no module 'base.nothing'"),
    ("<!-- part: base.plots / step 4: folds -->", "base.plots has no part 'step 4: folds'; it has 'start', 'style', 'figures'"),
    ("<!-- module: cli -->", "'cli' is not for the notebook"),
    ("<!-- modul: base.plots -->", "not understood: '<!-- modul: base.plots -->'"),
    ("<!-- part: base.plots / style -->\n<!-- part: base.plots / style -->", "a second time: <!-- part: base.plots / style -->"),
    ("<!-- module: base.files -->\n<!-- module: base.files -->", None),
])
def test_an_order_that_cannot_be_met_is_named(line, said):
    if said is None:
        assert build(line).count("# @title mcvqa/base/files.py") == 1
        return
    with pytest.raises(StoryError) as error:
        build(f"# A story\n\n{line}\n")
    assert said in str(error.value)


def test_library_cells_start_collapsed_and_users_cells_open():
    assert all(cell["metadata"] == COLLAPSED for cell in (*LIBRARY, *OWN))
    assert all(cell["source"].startswith("# @title ") for cell in (*LIBRARY, *OWN)), "Colab shows a form's title"
    assert USER and not any(cell["metadata"] for cell in USER)
    assert max(len(line) for cell in USER for line in cell["source"].split("\n")) <= 110, "no line is cut off"
    assert len(USER) <= 11 and len(LIBRARY) + len(OWN) + len(USER) == len(CODE)


def test_what_is_to_be_edited_comes_within_the_first_cells():
    """Before the program, for who sees the notebook as one long page."""
    (edits,) = [number for number, cell in enumerate(CELLS) if cell["source"].startswith("DATA = ")]
    assert edits < 10 and sum(cell["source"].count("\n") for cell in CELLS[:edits]) < 250


# %% one namespace
def bound_names(source: str) -> dict[str, str]:
    """Top-level name -> what it is bound to: an import's full name, or 'here'."""
    found: dict[str, str] = {}
    for node in ast.parse(source).body:
        for one in node.body if isinstance(node, ast.If) else [node]:
            if isinstance(one, ast.Import):
                found |= {a.asname or a.name.split(".")[0]: a.name if a.asname else a.name.split(".")[0] for a in one.names}
            elif isinstance(one, ast.ImportFrom):
                found |= {a.asname or a.name: f"{one.module}.{a.name}" for a in one.names}
            elif isinstance(one, (ast.FunctionDef, ast.ClassDef)):
                found[one.name] = "here"
            else:
                found |= {n.id: "here" for n in ast.walk(one) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    return found


def test_a_name_means_one_thing_in_all_library_cells():
    meanings: dict[str, set[str]] = defaultdict(set)
    for cell in LIBRARY:
        for name, meaning in bound_names(cell["source"]).items():
            meanings[name].add(cell["id"] if meaning == "here" else meaning)
    assert not {name: found for name, found in meanings.items() if len(found) > 1}


def test_other_cells_take_no_name_of_the_library():
    library = {name: meaning for cell in LIBRARY for name, meaning in bound_names(cell["source"]).items()}
    for cell in (*OWN, *USER):
        taken = {n for n, meaning in bound_names(cell["source"]).items() if library.get(n, meaning) != meaning or (
            n in library and meaning == "here")}
        assert not taken, cell["id"]


def test_no_name_of_ours_is_taken_for_a_setting():
    """NUM_EPOCHS in a user's cell is a setting: no constant may be called so."""
    settings = {name.upper() for name in Config.model_fields}
    (config_cell,) = [cell for cell in USER if "PRESET = " in cell["source"]]
    ours = {name for cell in CODE if cell != config_cell for name in bound_names(cell["source"])}
    assert not ours & settings
    assert bound_names(config_cell["source"]).keys() <= settings | {"DATA", "PRESET", "MORE"}


def test_every_name_is_defined():
    command = [sys.executable, "-m", "ruff", "check", "--isolated", "--select", "F821", "--config", 'builtins=["In"]']
    done = subprocess.run([*command, *(str(ROOT / name) for name in STORIES)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


# %% section 2
def section_2(folder: Path, *cells: str, **values: object) -> dict:
    """The functions that read section 2, in a namespace with its values. Args: cells: that were run."""
    source = next(cell["source"] for cell in OWN if "def with_data" in cell["source"])
    wanted = {"settings_chosen", "names_given_values", "check_names", "allowed", "checked_settings", "data_folder",
              "require_unchanged", "require_scored"}
    space = {
        "Config": Config, "ConfigError": ConfigError, "PRESETS": PRESETS, "OTHER_NAMES": OTHER_NAMES, "load_config": load_config,
        "re": re, "ast": ast, "difflib": difflib, "Path": Path, "host": "Kaggle", "ATTACHED": folder, "run_cells": lambda: cells,
        "_holds_data": lambda place: (place / "train.csv").exists(), "DATA": "auto", "PRESET": "quick", "MORE": {}, **values,
    }
    tree = ast.parse(source)
    tree.body = [node for node in tree.body if getattr(node, "name", "") in wanted]
    exec(ast.unparse(tree), space)
    return space


def test_the_seeds_settings_are_lines_of_the_config_cell():
    """None takes the preset's value, a value wins, and MORE wins over both."""
    (config_cell,) = [cell["source"] for cell in USER if "PRESET = " in cell["source"]]
    seeds = ["MODEL_ID", "IMAGE_SIZE", "N_FOLDS", "USE_KFOLD", "TRAIN_FOLDS", "NUM_EPOCHS", "BATCH_SIZE", "GRAD_ACCUM_STEPS",
             "LEARNING_RATE", "LORA_R", "USE_AMP", "USE_EMA", "USE_SWA", "USE_TTA", "TTA_SCALES", "USE_SAMPLE", "SAMPLE_SIZE"]
    assert [line.split(" = None  # preset; seed: ")[0] for line in config_cell.split("\n") if " = None" in line] == seeds
    space = section_2(Path("nowhere"), NUM_EPOCHS=5, TRAIN_FOLDS=[0], USE_TTA=None, MORE={"LORA_R": 4, "NUM_EPOCHS": 2})
    assert space["settings_chosen"]() == ("auto", "quick", {"num_epochs": 2, "train_folds": [0], "lora_r": 4})
    assert space["checked_settings"]("best", {"num_epochs": 2}) == load_config(preset="best", changes={"num_epochs": 2})


@pytest.mark.parametrize(("preset", "more", "said"), [
    ("fast", {}, "'2 설정'의 PRESET = 'fast': quick, single, "),
    ("quick", {"num_epochs": "five"}, "'2 설정'의 NUM_EPOCHS = 'five': 0부터 1000까지 쓸 수 있습니다.\nnum_epochs='five' is"),
    ("quick", {"num_epoch": 5}, "'2 설정'의 NUM_EPOCH = 5: 이런 설정은 없습니다. NUM_EPOCHS를 찾으셨나요?\nThere is no setting"),
    ("quick", {"quantization": "4bits"}, "'2 설정'의 QUANTIZATION = '4bits': auto, 4bit, none 중에서 고르세요."),
    ("quick", {"tta_scales": 1.0}, "'2 설정'의 TTA_SCALES = 1.0: [0.9, 1.0, 1.1]처럼 목록으로 적으세요. 값은 0.25부터 4까지"),
    ("quick", {"time_budget": "8"}, "'2 설정'의 TIME_BUDGET = '8': 쓸 수 없는 값입니다.\ntime_budget='8' is not a length"),
    ("quick", {"use_amp": "maybe"}, "'2 설정'의 USE_AMP = 'maybe': True나 False를 적으세요."),
    ("ensemble", {"train_folds": [7]}, "'2 설정'의 TRAIN_FOLDS = [7]: 다른 설정과 맞지 않습니다.\ntrain_folds=[7]: "),
])
def test_what_section_2_cannot_hold_is_said_in_its_words(preset, more, said, tmp_path):
    with pytest.raises(ConfigError, match="^" + re.escape(said)) as error:
        section_2(tmp_path)["checked_settings"](preset, more)
    assert "mcvqa" not in str(error.value) and "--" not in str(error.value), "no advice for the command line"


def test_data_that_are_not_there_are_said_before_anything_else(tmp_path):
    space = section_2(tmp_path)
    assert space["data_folder"]("auto") == ""
    for data in ("nowhere", "/content/drive/MyDrive/data.zip"):
        with pytest.raises(ConfigError, match=f"^'2 설정'의 DATA = '{data}': 그런 폴더나 .zip이 없습니다"):
            space["data_folder"](data)
    (tmp_path / "train.csv").touch()
    assert space["data_folder"]("") == space["data_folder"]("auto") == space["data_folder"](str(tmp_path)) == str(tmp_path)


def test_a_changed_working_folder_is_said_and_so_are_changed_settings(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folds = types.SimpleNamespace(folds=np.zeros(4, int))
    space = section_2(tmp_path, home=tmp_path, chosen=("auto", "quick", {}), data=folds)
    space["require_unchanged"]()
    monkeypatch.chdir("/")
    with pytest.raises(ConfigError, match=re.escape(f"os.chdir({str(tmp_path)!r})")):
        space["require_unchanged"]()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="바뀌었습니다"):
        section_2(tmp_path, home=tmp_path, chosen=("auto", "best", {}))["require_unchanged"]()
    before_folds = types.SimpleNamespace(folds=np.empty(0))
    with pytest.raises(ConfigError, match="먼저 '4 폴드'의 셀을 실행하세요"):
        section_2(tmp_path, home=tmp_path, chosen=("auto", "quick", {}), data=before_folds)["require_unchanged"]()


def test_section_2_that_was_not_run_is_a_missing_name(tmp_path):
    """So that the hint to run the cells above follows it."""
    space = section_2(tmp_path)
    del space["DATA"]
    with pytest.raises(NameError, match="'DATA'"):
        space["check_names"]() or space["settings_chosen"]()


def test_what_to_run_before_combining_is_said_in_the_notebooks_words(tmp_path):
    project = open_project(Config(model_id="tiny", output_dir=str(tmp_path)))
    space = section_2(
        tmp_path, project=project, data=None, scored_folds=scored_folds, valid_scores=valid_scores, contextlib=contextlib,
        CheckpointError=CheckpointError, RunStopped=RunStopped,
    )
    with pytest.raises(RunStopped, match=r"'▶ 학습하기'와 '▶ 채점하기' 셀을 먼저 실행하세요\.\nThere is nothing to combine yet"):
        space["require_scored"]()


@pytest.mark.parametrize(("name", "value", "said"), [
    ("MORE", "NUM_EPOCHS=5", "'2 설정'의 MORE: dict(SEED=1)처럼 적으세요."),
    ("DATA", None, "'2 설정'의 DATA: \"auto\"처럼 적으세요."),
])
def test_section_2_with_a_value_of_the_wrong_kind(name, value, said, tmp_path):
    with pytest.raises(ConfigError, match=re.escape(said)):
        section_2(tmp_path, **{name: value})["settings_chosen"]()


def test_a_name_in_section_2_that_is_no_setting_and_values_above_it_are_said(tmp_path, capsys):
    for line, meant in (("NUM_EPOCH = 5", "NUM_EPOCHS"), ('MODEL = "tiny"', "MODEL_ID")):
        with pytest.raises(ConfigError, match=f"^'2 설정'의 {line.split()[0]}: 이런 설정은 없습니다. {meant}를 찾으셨나요"):
            section_2(tmp_path, f'PRESET = "quick"\n{line}', "check_names()")["check_names"]()
    now = 'PRESET = "quick"\nNUM_EPOCHS = None'
    section_2(tmp_path, "NUM_EPOCHS = 5; mine = 1; MINE = 2", now, "check_names()")["check_names"]()
    assert capsys.readouterr().out.startswith("! NUM_EPOCHS: '2 설정'보다 위의 셀에 적은 값은 쓰지 않습니다.")
    older = 'PRESET = "quick"\nNUM_EPOCHS = 5'
    section_2(tmp_path, older, now, "LORA_R = 4", "check_names()")["check_names"]()
    assert capsys.readouterr().out == ""


# %% running
@functools.cache
def own_environment() -> Path:
    """An empty environment: what the notebook installs never gets into the one that the tests run in."""
    folder = Path(tempfile.mkdtemp(prefix="notebook-"))
    atexit.register(shutil.rmtree, folder)
    venv.create(folder)
    return folder


def run_cells(sources: list[str], folder: Path, environment: Path | None = None) -> str:
    """What the cells print in a process that works in `folder`, with all packages that are here but this one.

    Args:
        environment: the process is of this one, which is empty but for what its cells installed; that of all tests if None.
    """
    packages = [place for place in sys.path if place.endswith("-packages")]
    variables = os.environ | {"PYTHONPATH": os.pathsep.join(packages), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    python = (environment or own_environment()) / "bin" / "python"
    done = subprocess.run(
        [python, str(ROOT / "tests" / "notebook_process.py")], input=json.dumps(sources), cwd=folder,
        env=variables, capture_output=True, text=True, timeout=900,
    )
    assert done.returncode == 0, f"{done.stdout[-3000:]}{done.stderr[-3000:]}"
    return done.stdout


def edited(cells: list[dict], **changes: str) -> list[str]:
    """The cells' sources, in which each assignment NAME = ... is replaced."""
    sources = [cell["source"] for cell in cells]
    for name, value in changes.items():
        lines = {line for source in sources for line in source.split("\n") if line.startswith(f"{name} = ")}
        (old,) = lines
        sources = [source.replace(old, f"{name} = {value}") for source in sources]
    return sources


def place_of(text: str) -> int:
    """Number of the one code cell that holds `text`."""
    (found,) = [number for number, cell in enumerate(CODE) if text in cell["source"]]
    return found


def test_nothing_is_used_before_it_is_defined(tmp_path):
    set_up = CODE[: place_of("def install_missing(") + 1]
    rest = [cell for cell in (*LIBRARY, *OWN) if cell not in set_up]
    run_cells([cell["source"] for cell in (*set_up, *rest)], tmp_path)


# %% what the first cells install
def write_wheel(folder: Path, name: str, version: str, *requires: str) -> None:
    """Of a package with one module, which knows its version."""
    folder.mkdir(parents=True, exist_ok=True)
    module = name.replace("-", "_")
    about, needs = f"{module}-{version}.dist-info", "".join(f"Requires-Dist: {line}\n" for line in requires)
    with zipfile.ZipFile(folder / f"{module}-{version}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{module}.py", f"VERSION = {version!r}\n")
        wheel.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}")
        wheel.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{about}/RECORD", f"{module}.py,,\n{about}/METADATA,,\n{about}/WHEEL,,\n{about}/RECORD,,\n")


class Session:
    """A machine with some packages and attached wheels, on which the first cells run."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.environment, self.wheels = folder, folder / "env", folder / "input" / "wheels"
        self.internet = folder / "internet"  # what pip finds without wheels
        venv.create(self.environment)

    def has(self, name: str, version: str, *requires: str) -> None:
        """A package is installed."""
        (packages,) = self.environment.glob("lib/python*/site-packages")
        write_wheel(self.folder / "there", name, version, *requires)
        with zipfile.ZipFile(self.folder / "there" / f"{name.replace('-', '_')}-{version}-py3-none-any.whl") as wheel:
            wheel.extractall(packages)

    def run(self, *needed: str, before: str = "", after: str = "", times: int = 1) -> str:
        """What the first cells print, as often as they are run in one session; 'refused: ...' for an error.

        Args:
            needed: stand for the requirements of pyproject.toml.
            before, after: code around them.
        """
        library, cell = (cell["source"] for cell in CODE[:2])
        cell = edited([{"source": cell}], ATTACHED=f'Path("{self.folder / "input"}")', OPTIONAL='("mcvqa-font",)')[0]
        for name, lines in (("NEEDED", needed), ("NEEDED_ON_GPU", ())):
            cell, count = re.subn(rf"^{name} = \(.*?\)$", f"{name} = {lines!r}", cell, flags=re.MULTILINE | re.DOTALL)
            assert count == 1
        internet = {"PIP_INDEX_URL": self.internet.as_uri(), "PIP_EXTRA_INDEX_URL": "", "PIP_CONFIG_FILE": os.devnull}
        before = f"import os\nos.environ |= {internet}\n{before}"
        again = f"try:\n    exec({cell!r})\nexcept RuntimeError as error:\n    print('refused:', error)"
        return run_cells([before, library, *[again] * times, after], self.folder, self.environment)


@pytest.fixture
def session(tmp_path) -> Session:
    return Session(tmp_path)


@pytest.mark.nightly
def test_what_is_missing_is_installed_from_attached_wheels(session):
    write_wheel(session.wheels, "mcvqa-trial", "1.0")
    assert session.run("mcvqa-trial>=1.0", after="import mcvqa_trial; print(mcvqa_trial.VERSION)").endswith("1.0\n")
    assert "installing" not in session.run("mcvqa-trial>=1.0", "numpy>=1.0")
    assert importlib.util.find_spec("mcvqa_trial") is None, "not into the environment of the tests"


def test_what_no_wheel_has_is_said_with_the_way_to_get_it(session):
    write_wheel(session.wheels, "mcvqa-trial", "1.0")
    said = session.run("mcvqa-trial>=2.0")
    assert "refused: 설치하지 못했습니다" in said and "-d wheels mcvqa-trial\n" in said and "70 MB" in said
    assert "No matching distribution found for mcvqa-trial>=2.0" in said


def test_what_attached_wheels_lack_comes_from_the_internet(session):
    """Any attached data set may hold a wheel of something else."""
    write_wheel(session.wheels, "mcvqa-other", "1.0")
    offered = session.internet / "mcvqa-trial"
    write_wheel(offered, "mcvqa-trial", "1.0")
    (offered / "index.html").write_text("".join(f'<a href="{wheel.name}">{wheel.name}</a>' for wheel in offered.glob("*.whl")))
    said = session.run("mcvqa-trial>=1.0", after="import mcvqa_trial; print(mcvqa_trial.VERSION)")
    assert "refused" not in said and said.endswith("1.0\n")


def test_nothing_that_will_do_is_upgraded(session):
    session.has("mcvqa-base", "1.0")
    for version in ("1.0", "2.0"):
        write_wheel(session.wheels, "mcvqa-base", version)
    write_wheel(session.wheels, "mcvqa-trial", "1.0", "mcvqa-base")
    write_wheel(session.wheels, "mcvqa-trial", "2.0", "mcvqa-base>=2")
    print_version = "import mcvqa_trial; print(mcvqa_trial.VERSION)"
    said = session.run("mcvqa-base>=1", "mcvqa-trial", before="import mcvqa_base", after=print_version)
    assert said.endswith("1.0\n") and "refused" not in said and "mcvqa-base" not in said


@pytest.mark.nightly
def test_a_module_in_use_that_had_to_be_replaced_asks_for_a_new_session_until_there_is_one(session):
    session.has("mcvqa-base", "1.0")
    write_wheel(session.wheels, "mcvqa-base", "2.0")
    said = session.run("mcvqa-base>=2", before="import mcvqa_base", times=2)
    assert said.count("refused: mcvqa_base: ") == 2 and said.count("installing") == 1
    assert "refused" not in session.run("mcvqa-base>=2", before="import mcvqa_base; print(mcvqa_base.VERSION)")


@pytest.mark.nightly
def test_a_package_that_an_upgrade_breaks_is_named(session):
    session.has("mcvqa-base", "1.0")
    session.has("mcvqa-other", "1.0", "mcvqa-base<2")
    session.has("mcvqa-old-trouble", "1.0", "mcvqa-nowhere")
    write_wheel(session.wheels, "mcvqa-base", "2.0")
    said = session.run("mcvqa-base>=2")
    assert "needs what was replaced: mcvqa-other 1.0 has requirement mcvqa-base<2, but you have mcvqa-base 2.0" in said
    assert "mcvqa-nowhere" not in said and "refused" not in said


@pytest.mark.nightly
def test_a_font_that_cannot_be_had_stops_nothing(session):
    write_wheel(session.wheels, "mcvqa-trial", "1.0")
    said = session.run("mcvqa-font>=1", "mcvqa-trial", after="import mcvqa_trial; print(mcvqa_trial.VERSION)")
    assert "No Korean font" in said and "refused" not in said and said.endswith("1.0\n")


def test_nothing_is_too_old_on_colab():
    """But for what it does not have."""
    lines = (ROOT / "tools" / "platforms" / "colab.txt").read_text(encoding="utf-8").splitlines()
    there = {canonicalize_name(line.split("==")[0]): line.split("==")[1] for line in lines if "==" in line}
    needed = [Requirement(line) for line in ast.literal_eval(requirements("dependencies"))]
    too_old = [str(one) for one in needed if not one.specifier.contains(there.get(canonicalize_name(one.name), "99"))]
    assert len(needed) > 10 and not too_old


# %% data and weights
@pytest.mark.nightly
def test_attached_data_are_found_and_looked_at(tmp_path):
    make_dataset(tmp_path / "input" / "competitions" / "vqa", 24, 6)
    here = tmp_path / "working"
    here.mkdir()
    until = place_of("config = with_data(") + 1
    output = run_cells(edited(CODE[:until], ATTACHED=f'Path("{tmp_path / "input"}")', MODEL_ID='"tiny"'), here)
    assert output.startswith("Kaggle, ") and f"data: {tmp_path / 'input'}" in output and "24" in output
    assert (here / "outputs" / "submission_ensemble.csv").exists()


@pytest.mark.nightly
def test_attached_weights_are_found(tmp_path):
    """The trained `tiny`: in an attached folder, or beside the notebook."""
    told_where = {"source": "config = with_data(DATA, PRESET, MORE)\nprint(config.model_id)"}
    start = [*CODE[: place_of("config = with_data(")], told_where]
    (tmp_path / "working").mkdir()
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "tiny").symlink_to(PACKAGE / "tiny")
    for attached, home in (("weights", "working"), ("nothing", "weights")):
        output = run_cells(edited(start, ATTACHED=f'Path("{tmp_path / attached}")', SMALL_DEMO_ROWS="(8, 4)"), tmp_path / home)
        assert output.endswith(f"{tmp_path / 'weights' / 'tiny'}\n")


@pytest.mark.nightly
def test_a_variable_called_like_a_setting_is_one_and_a_default_that_the_preset_overrides_is_said(tmp_path):
    """NUM_EPOCHS = 5 above the config cell, as in the original notebook; the default in the collapsed cell edited."""
    last = {"source": "config = with_data(*settings_chosen())\nprint(config.num_epochs, config.lora_r, config.learning_rate)"}
    cells = [*CODE[: place_of("config = with_data(")], last]
    number = place_of("class Config(")
    more = dict(SMALL_DEMO_ROWS="(8, 4)", PRESET='"single"', MORE="dict(LORA_R=4)")
    output = run_cells(edited(cells, **more), tmp_path)
    assert output.splitlines()[-1].split()[1] == "4" and "! num_epochs" not in output
    assert "changed from the preset: LORA_R 16 → 4\n" in output
    sources = edited(cells, **more)
    sources[number] = re.sub(r"(num_epochs: int = Field\(\s*default=)1", r"\g<1>7", sources[number])
    output = run_cells([*sources[:number], *sources[number:-1], "LORA_R = 2; LEARNING_RATE = 3e-4", sources[-1]], tmp_path)
    assert "! num_epochs: " in output and "(7)" in output and "The preset wins" in output
    assert output.splitlines()[-1].split()[1:] == ["4", "0.0003"], "MORE wins over a variable"


@pytest.mark.nightly
def test_all_of_it_runs_from_an_empty_folder_and_an_edited_cell_counts(tmp_path):
    """The demo, smaller, two folds side by side; then a library cell is changed and run again with all that follows."""
    small = dict(SMALL_DEMO_ROWS="(48, 12)", MORE='dict(num_epochs=1, n_folds=2, parallel_folds=2, tta_orders=2, use_swa=False)')
    sources = edited(CODE, **small, COPY_TO='"/proc/nowhere"')
    number = place_of("def score_questions(")
    changed = re.sub(r"(def score_questions\([^)]*\):\n)", r'\1  print("the edited cell at work")\n', sources[number])
    assert changed != sources[number]
    features, training = place_of("class FeatureStore"), place_of("with live_curves(project):")
    commented = [sources[features] + "\n# a comment", 'print("only a comment")', sources[training]]
    asked = "one = data.test[0]; answer_one(str(data.records[one.image].path), one.text, *one.choices)"
    output = run_cells([*sources, changed, *sources[number + 1 :], *commented, asked], tmp_path)
    output, comment = output.split("only a comment\n")
    assert comment.count("already trained") == 2 and "image features" not in comment and "changed since" not in comment
    first, again = output.split("fold 0: already trained", 1)  # an edit of the scoring trains nothing again
    assert "복사 · the copy could not be made" in first and "다음에 할 일" in first.split("복사 ·")[0]
    assert not (tmp_path / "experiments" / "demo").exists(), "with other settings it is another run than the demo"
    assert "the weights are random" in first and first.count("tiny: the trained weights") == 1
    assert {"  fold 0: the edited cell at work", "  fold 1: the edited cell at work"} <= set(again.splitlines())
    assert first.count("2 workers, each in a process of its own") == 2 and "the code has changed since" in again
    assert "fold 1: already trained" in again and "step/s" not in again
    assert "shown again: PNG" in first and "다음에 할 일" in first and "photographs add nothing" in first
    assert {f"{name}.png" for name in ("confusion", "letters", "groups")} <= {
        Path(line).name for line in first.splitlines() if line.startswith("shown: ")}
    assert first.count('<article class="card">') > 5, "the gallery of errors"
    assert first.count('<img src="data:image/jpeg;base64,') == first.count('<article class="card">'), "each with its photograph"
    test = read_questions(tmp_path / "data" / "demo" / "test.csv", labelled=False).questions
    (scores,) = (tmp_path / "experiments").glob("*/scores/fold0-test.npz")
    shares = [f"{share:.1%}" for share in np.exp(load_scores(scores).mean()[0]) if share]
    assert bars_under(first, test[0]) == bars_under(comment, test[0]) == shares
    assert len(test) == 12 and not validate_submission(tmp_path / "outputs" / "submission_ensemble.csv", test).problems


# %% on Kaggle
EASYVQA = ROOT.parent / "shared" / "data" / "easyvqa"


def bars_under(output: str, question: Question) -> list[str]:
    """The shares that the last open cell shows below a question."""
    below = output[output.rindex(f"\n{question.text}\n") :].splitlines()[2:]
    lines = [re.fullmatch(rf"{letter} +(\S+) (█*) (.+)", line) for letter, line in zip("abcd", below, strict=False)]
    found = [line for line in lines if line][: len(question.choices)]
    assert [line[3] for line in found] == list(question.choices)
    assert all(len(line[2]) == round(0.3 * float(line[1][:-1])) for line in found)
    return [line[1] for line in found]


def share_of(source: Path, folder: Path, **rows: int) -> None:
    """The first rows of train.csv and test.csv, with their photographs."""
    for split, count in rows.items():
        lines = (source / f"{split}.csv").read_text(encoding="utf-8").splitlines()[: count + 1]
        for picture in {line.split(",")[1] for line in lines[1:]}:
            (folder / picture).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source / picture, folder / picture)
        (folder / f"{split}.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.mark.torture
@pytest.mark.skipif(not EASYVQA.is_dir(), reason=f"easy-VQA is not here: {EASYVQA}")
def test_real_data_laid_out_as_kaggle_does_it(tmp_path):
    """Data and model as attached data sets, Run all: a valid submission of all test rows. Loader processes, one fold."""
    share_of(EASYVQA, tmp_path / "input" / "easyvqa", train=400, test=200)
    (tmp_path / "input" / "tiny-weights").mkdir()
    (tmp_path / "input" / "tiny-weights" / "tiny").symlink_to(PACKAGE / "tiny")
    here = tmp_path / "working"
    here.mkdir()
    more = "dict(IMAGE_SIZE=112, BATCH_SIZE=16, GRAD_ACCUM_STEPS=1, LEARNING_RATE=1e-3, NUM_WORKERS=2)"
    model = f'"{tmp_path / "input" / "tiny-weights" / "tiny"}"'
    asked = "one = data.test[0]\nanswer_one('nowhere.jpg', '?', 'a', 'b')\nprint('again')\n"
    asked += "answer_one(str(data.records[one.image].path), one.text, *one.choices)"
    output = run_cells([*edited(CODE, ATTACHED=f'Path("{tmp_path / "input"}")', MODEL_ID=model, MORE=more), asked], here)
    output, again = output.split("again\n")
    assert "could not be made, continuing without it: ImageError: nowhere.jpg: no such file" in output.splitlines()[-1]
    assert output.startswith("Kaggle, ") and "To use all rows: preset `single`" in output\
        and "in a process of its own" not in output
    test = read_questions(EASYVQA / "test.csv", labelled=False).questions[:200]
    for name in ("single", "ensemble"):
        assert not validate_submission(here / "outputs" / f"submission_{name}.csv", test).problems
    assert bars_under(output, test[0]) == bars_under(again, test[0]), "a question of the data, and a photograph of one's own"
    assert sorted(path.name for path in here.iterdir()) == ["cache", "checkpoints", "experiments", "logs", "outputs"]
