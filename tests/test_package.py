"""What `from mcvqa import ...` gives: settings, the run, and every error that a person can meet."""
import ast
import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import mcvqa
from mcvqa.config import McvqaError

PACKAGE = Path(mcvqa.__file__).parent


def all_errors() -> dict[str, type[BaseException]]:
    """Name -> class, of all errors that a module of the package defines and that may leave it."""
    found: dict[str, type[BaseException]] = {}
    for path in PACKAGE.rglob("*.py"):
        if path.name == "__main__.py":  # runs the command line
            continue
        module = importlib.import_module(".".join(("mcvqa", *path.relative_to(PACKAGE).with_suffix("").parts)))
        classes = {name: kind for name, kind in vars(module).items() if inspect.isclass(kind)}
        found |= {name: kind for name, kind in classes.items()
                  if issubclass(kind, (Exception, KeyboardInterrupt)) and kind.__module__ == module.__name__}
    return found


def test_every_error_has_one_base_and_is_exported():
    errors = all_errors()
    assert len(errors) > 15
    for name, kind in errors.items():
        assert issubclass(kind, (McvqaError, KeyboardInterrupt)), name
        assert name in mcvqa.__all__ and getattr(mcvqa, name) is kind, name


@pytest.mark.parametrize(("base", "names"), [
    (ValueError, "AlignmentError BlendError ConfigError DamagedFile DataError FoldError ImageError SubmissionError"),
    (RuntimeError, "CheckpointError DeviceError DiskError FamilyError ModelError NotSaved Owned RunStopped TrainingError"),
    (RuntimeError, "StoreError"),
    (FloatingPointError, "OverflowInModel"),
    (KeyboardInterrupt, "Interrupted"),
])
def test_errors_are_also_of_pythons_kind(base, names):
    assert all(issubclass(getattr(mcvqa, name), base) for name in names.split())


def test_a_type_checker_sees_the_same_names():
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    guarded = next(n for n in tree.body if isinstance(n, ast.If) and getattr(n.test, "id", "") == "TYPE_CHECKING")
    seen = {alias.name: node.module for node in guarded.body for alias in node.names}
    assert seen.pop("run") == "mcvqa.run.steps"
    assert seen == {name: f"mcvqa.{module}" for module, names in mcvqa._MODULES.items() for name in names}
    at_once = {"Config", "ConfigError", "McvqaError", "UnusualFile", "__version__", "load_config", "run"}
    assert set(mcvqa.__all__) == {*seen, *at_once}
    assert (PACKAGE / "py.typed").exists()
    assert '"py.typed"' in (PACKAGE.parents[1] / "pyproject.toml").read_text(encoding="utf-8")


def test_an_unknown_name_is_refused():
    with pytest.raises(AttributeError, match="no attribute 'Trainer'"):
        _ = mcvqa.Trainer


def in_a_new_process(code: str) -> None:
    subprocess.run([sys.executable, "-c", code], check=True)


def test_importing_it_and_its_light_errors_brings_no_torch():
    in_a_new_process(
        "import sys, mcvqa\n"
        "assert set(mcvqa.__all__) <= set(dir(mcvqa))\n"
        "from mcvqa import Config, DataError, DamagedFile, Interrupted, McvqaError, Owned, RunStopped, load_config\n"
        "assert issubclass(DataError, McvqaError)\n"
        "heavy = {'torch', 'transformers', 'pandas', 'sklearn'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )


CALLED = """
from mcvqa import Config, DataError, run
import inspect, pydoc
assert 'config' in inspect.signature(run).parameters and 'Outcome' in str(inspect.signature(run))
assert 'returns an `Outcome`' in pydoc.render_doc(run)
try:
    run(Config(data_dir=f'{folder}/nowhere', output_dir=folder, model_id='tiny', device='cpu'))
except DataError as error:
    assert 'nowhere' in str(error)
else:
    raise SystemExit('it ran')
import mcvqa.run.project
from mcvqa import run as again
assert again is run and callable(mcvqa.run)
"""


@pytest.mark.nightly
def test_run_can_be_called_whatever_was_imported_before(tmp_path):
    """In processes forked from one that has loaded the libraries, which takes seconds, and nothing of the package."""
    in_a_new_process(
        "import os, sys, accelerate, pandas, peft, sklearn.linear_model\n"
        "assert 'mcvqa' not in sys.modules\n"
        "for before in ('', 'import mcvqa.run.project', 'import mcvqa.run', 'from mcvqa.run import steps'):\n"
        "    if child := os.fork():\n"
        "        assert os.waitpid(child, 0)[1] == 0, before\n"
        "    else:\n"
        f"        exec(before + {CALLED!r}, {{'folder': {str(tmp_path)!r}}})\n"
        "        os._exit(0)"
    )


def test_every_file_of_the_package_is_in_the_wheel():
    """Files that are no modules are there only where pyproject.toml names them."""
    wanted = re.search(r'^mcvqa = \[(.*)\]$', (PACKAGE.parents[1] / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)
    named = {file for pattern in re.findall('"([^"]+)"', wanted[1]) for file in PACKAGE.glob(pattern)}
    others = {file for file in PACKAGE.rglob("*") if file.is_file() and file.suffix not in (".py", ".pyc")}
    assert others == named and {file.suffix for file in others} >= {".js", ".css", ".html", ".safetensors"}


def test_the_version_is_that_of_the_citation():
    about = yaml.safe_load((PACKAGE.parents[1] / "CITATION.cff").read_text(encoding="utf-8"))
    assert about["version"] == mcvqa.__version__ and about["license"] == "Apache-2.0" and about["cff-version"] == "1.2.0"


def test_reports_of_faults_ask_for_what_is_needed():
    fields = {}
    for path in (PACKAGE.parents[1] / ".github" / "ISSUE_TEMPLATE").glob("*.yml"):
        form = yaml.safe_load(path.read_text(encoding="utf-8"))
        assert {"name", "description", "body"} <= set(form)
        fields[path.stem] = {part["id"]: part["attributes"]["label"] for part in form["body"]}
    assert "`mcvqa check`" in fields["bug"]["check"] and "`mcvqa version --verbose`" in fields["bug"]["version"]
