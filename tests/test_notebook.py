"""The notebooks: made from the package, whole in one file, and running from an empty folder where the package is not."""
import ast
import json
import os
import re
import shutil
import subprocess
import sys
import venv
import zipfile
from collections import defaultdict
from pathlib import Path

import pytest
from tools.build_notebook import COLLAPSED, FOLDED, ROOT, STORIES, Module, build

from mcvqa.data.questions import read_questions
from mcvqa.report.submission import validate_submission
from tests.conftest import make_dataset
from tests.test_structure import MODULES, PACKAGE, module_name

NOTEBOOK = ROOT / "Kaggle_AllInOne_Pro.ipynb"
NOT_LIBRARY = {"cli", "__main__"}


def cells_of(file: Path) -> list[dict]:
    cells = json.loads(file.read_text(encoding="utf-8"))["cells"]
    return [cell | {"source": "".join(cell["source"])} for cell in cells]


CELLS = cells_of(NOTEBOOK)
CODE = [cell for cell in CELLS if cell["cell_type"] == "code"]
LIBRARY = [cell for cell in CODE if cell["source"].startswith("# @title mcvqa/")]
OWN = [cell for cell in CODE if cell["id"].startswith("own-")]
USER = [cell for cell in CODE if cell["id"].startswith("user-")]


# %% how it is made
@pytest.mark.parametrize("name", STORIES)
def test_a_notebook_is_what_the_package_and_its_story_make(name):
    made = build((ROOT / "tools" / STORIES[name]).read_text(encoding="utf-8"))
    assert (ROOT / name).read_text(encoding="utf-8") == made, "run: python tools/build_notebook.py"


@pytest.mark.parametrize("name", STORIES)
def test_a_notebook_is_small_and_its_cells_compile(name):
    assert (ROOT / name).stat().st_size < 2**20
    for cell in cells_of(ROOT / name):
        if cell["cell_type"] == "code":
            compile(cell["source"], cell["id"], "exec")
            assert not cell["outputs"]


def test_every_part_of_every_module_is_there_once():
    titles = [cell["source"].split("\n")[0] for cell in LIBRARY]
    names = [name for name in map(module_name, MODULES) if name not in NOT_LIBRARY]
    expected = [f"# @title mcvqa/{name.replace('.', '/')}.py · {part}" for name in names for part in Module(name).parts]
    assert sorted(titles) == sorted(expected)


def test_library_cells_start_collapsed_and_users_cells_open():
    assert all(cell["metadata"] == COLLAPSED for cell in (*LIBRARY, *OWN))
    assert all(cell["source"].startswith("# @title ") for cell in (*LIBRARY, *OWN)), "Colab shows a form's title"
    assert USER and not any(cell["metadata"] for cell in USER)
    assert max(len(line) for cell in USER for line in cell["source"].split("\n")) <= 110, "no line is cut off"
    assert len(USER) <= 12 and len(LIBRARY) + len(OWN) + len(USER) == len(CODE)


def test_no_users_cell_is_folded_away_below_a_modules_heading():
    headings = [cell for cell in CELLS if cell["cell_type"] == "markdown"]
    for cell in USER:
        above = max((h for h in headings if CELLS.index(h) < CELLS.index(cell)), key=CELLS.index)
        assert not above["metadata"].keys() & FOLDED.keys()


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


def test_every_name_is_defined():
    command = [sys.executable, "-m", "ruff", "check", "--isolated", "--select", "F821", "--config", 'builtins=["In"]']
    done = subprocess.run([*command, *(str(ROOT / name) for name in STORIES)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


# %% running
def run_cells(sources: list[str], folder: Path) -> str:
    """What the cells print in a process without the package that works in `folder`."""
    packages = [place for place in sys.path if place.endswith("-packages")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(packages), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-S", str(ROOT / "tests" / "notebook_process.py")], input=json.dumps(sources), cwd=folder,
        env=environment, capture_output=True, text=True, timeout=900,
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
    run_cells([cell["source"] for cell in (*OWN[:1], *LIBRARY, *OWN[1:])], tmp_path)


def write_wheel(folder: Path) -> None:
    """Of a package with one module."""
    folder.mkdir(parents=True)
    about = "mcvqa_trial-1.0.dist-info"
    with zipfile.ZipFile(folder / "mcvqa_trial-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("mcvqa_trial.py", "WORD = 'installed'\n")
        wheel.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: mcvqa-trial\nVersion: 1.0\n")
        wheel.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{about}/RECORD", f"mcvqa_trial.py,,\n{about}/METADATA,,\n{about}/WHEEL,,\n{about}/RECORD,,\n")


def test_what_is_missing_is_installed_from_attached_wheels(tmp_path):
    """Without the internet; and what no wheel has is told."""
    write_wheel(tmp_path / "input" / "wheels")
    venv.create(tmp_path / "env", with_pip=True)
    packages = [place for place in sys.path if place.endswith("-packages")]
    for needed, word in (("mcvqa-trial>=1.0", "installed"), ("mcvqa-trial>=2.0", "attach a folder of wheels")):
        (cell,) = edited(OWN[:1], ATTACHED=f'Path("{tmp_path / "input"}")')
        cell, count = re.subn(r"^NEEDED = \(.*?^\)", f'NEEDED = ("{needed}",)', cell, flags=re.MULTILINE | re.DOTALL)
        done = subprocess.run(
            [tmp_path / "env" / "bin" / "python", "-c", f"{cell}\nimport mcvqa_trial\nprint(mcvqa_trial.WORD)"], cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(packages)}, capture_output=True, text=True, timeout=200,
        )
        assert count == 1 and word in done.stdout + done.stderr, done.stdout + done.stderr


def test_attached_data_are_found_and_looked_at(tmp_path):
    make_dataset(tmp_path / "input" / "competitions" / "vqa", 24, 6)
    here = tmp_path / "working"
    here.mkdir()
    until = place_of("config = with_data(") + 1
    told = run_cells(edited(CODE[:until], ATTACHED=f'Path("{tmp_path / "input"}")'), here)
    assert told.startswith("Kaggle, ") and f"data: {tmp_path / 'input'}" in told and "24" in told
    assert (here / "outputs" / "submission_ensemble.csv").exists()


def test_attached_weights_are_found(tmp_path):
    """The trained `tiny`: in an attached folder, or beside the notebook."""
    told_where = {"source": "config = with_data(config, PRESET, MORE)\nprint(config.model_id)"}
    start = [*CODE[: place_of("config = with_data(")], told_where]
    (tmp_path / "working").mkdir()
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "tiny").symlink_to(PACKAGE / "tiny")
    for attached, home in (("weights", "working"), ("nothing", "weights")):
        told = run_cells(edited(start, ATTACHED=f'Path("{tmp_path / attached}")', DEMO_ROWS="(8, 4)"), tmp_path / home)
        assert told.endswith(f"{tmp_path / 'weights' / 'tiny'}\n")


def test_all_of_it_runs_from_an_empty_folder_and_an_edited_cell_counts(tmp_path):
    """The demo, smaller, two folds side by side; then a library cell is changed and run again with all that follows."""
    small = dict(DEMO_ROWS="(48, 12)", MORE='dict(num_epochs=1, n_folds=2, parallel_folds=2, tta_orders=2, use_swa=False)')
    sources = edited(CODE, **small)
    number = place_of("def score_questions(")
    changed = sources[number].replace(") -> Scores:\n", ') -> Scores:\n    print("the edited cell at work")\n', 1)
    told = run_cells([*sources, changed, *sources[number + 1 :]], tmp_path)
    first, again = told.split("edited: mcvqa/scoring/score.py")
    assert "the weights are random" in first and first.count("tiny: its trained weights") == 1
    assert {"  fold 0: the edited cell at work", "  fold 1: the edited cell at work"} <= set(again.splitlines())
    assert first.count("2 folds at a time, each in a process of its own") == 2
    assert "shown again: PNG" in first and "다음에 할 일" in first and "photographs add nothing" in first
    assert {f"{name}.png" for name in ("confusion", "letters", "groups")} <= {
        Path(line).name for line in first.splitlines() if line.startswith("shown: ")}
    test = read_questions(tmp_path / "data" / "demo" / "test.csv", labelled=False).questions
    assert len(test) == 12 and not validate_submission(tmp_path / "outputs" / "submission_ensemble.csv", test).problems


# %% on Kaggle
EASYVQA = ROOT.parent / "shared" / "data" / "easyvqa"


def share_of(source: Path, folder: Path, **rows: int) -> None:
    """The first rows of train.csv and test.csv, with their photographs."""
    for split, count in rows.items():
        lines = (source / f"{split}.csv").read_text(encoding="utf-8").splitlines()[: count + 1]
        for picture in {line.split(",")[1] for line in lines[1:]}:
            (folder / picture).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source / picture, folder / picture)
        (folder / f"{split}.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


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
    told = run_cells(edited(CODE, ATTACHED=f'Path("{tmp_path / "input"}")', MODEL=model, MORE=more), here)
    assert told.startswith("Kaggle, ") and "All of them: preset `single`" in told and "in a process of its own" not in told
    test = read_questions(EASYVQA / "test.csv", labelled=False).questions[:200]
    for name in ("single", "ensemble"):
        assert not validate_submission(here / "outputs" / f"submission_{name}.csv", test).problems
    assert sorted(path.name for path in here.iterdir()) == ["cache", "checkpoints", "experiments", "logs", "outputs"]
