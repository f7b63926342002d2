"""install.sh in a clone of its own: a small package and a small lock, installed for real and without the internet."""
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import packaging
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import mcvqa

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pytest brings it along

ROOT = Path(__file__).parents[1]
BASE = getattr(sys, "_base_executable", sys.executable)
PYPROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
[project]
name = "mcvqa"
version = "1.0"
"""
BACKEND = '''
import zipfile
from pathlib import Path

def build_editable(folder, config_settings=None, metadata_directory=None):
    about = "mcvqa-1.0.dist-info"
    with zipfile.ZipFile(Path(folder) / "mcvqa-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("mcvqa.pth", str(Path.cwd()))
        wheel.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\\nName: mcvqa\\nVersion: 1.0\\n")
        wheel.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\\nGenerator: test\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr(f"{about}/entry_points.txt", "[console_scripts]\\nmcvqa = small:main\\n")
        wheel.writestr(f"{about}/RECORD", "")
    return "mcvqa-1.0-py3-none-any.whl"
'''


def write_torch(folder: Path) -> None:
    """A wheel of a package by that name, with the little that install.sh asks of it."""
    folder.mkdir()
    about = "torch-1.0.dist-info"
    with zipfile.ZipFile(folder / "torch-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("torch.py", "import numbers\n__version__ = '1.0+cpu'\ndef ones(n):\n    return torch\n"
                                   "class torch:\n    sum = staticmethod(lambda: 2)\n")
        wheel.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: torch\nVersion: 1.0\n")
        wheel.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{about}/RECORD", "")


@pytest.fixture
def clone(tmp_path) -> Path:
    shutil.copy(ROOT / "install.sh", tmp_path)
    write_torch(tmp_path / "wheels")
    (tmp_path / "pyproject.toml").write_text(PYPROJECT)
    (tmp_path / "backend.py").write_text(BACKEND)
    (tmp_path / "small.py").write_text("import torch\ndef main():\n    print('mcvqa with torch', torch.__version__)\n")
    (tmp_path / "requirements.txt").write_text("--no-index\n--find-links wheels\ntorch==1.0\n")
    return tmp_path


def shell(commands: str, folder: Path) -> str:
    """What they print in a shell whose `python3` is the Python below this one's environment."""
    kept = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "PYTHONPATH", "PYTHON")}
    environment = kept | {"PATH": f"{Path(BASE).parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-ec", commands], cwd=folder, env=environment, capture_output=True, text=True, timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def sees_system_packages(clone: Path) -> bool:
    return "include-system-site-packages = true" in (clone / ".venv" / "pyvenv.cfg").read_text()


@pytest.mark.nightly
@pytest.mark.skipif(not (3, 11) <= sys.version_info[:2] <= (3, 13), reason="requirements.txt is for Python 3.11 to 3.13")
def test_an_activated_environment_is_not_rebuilt_on_itself(clone):
    if subprocess.run([BASE, "-c", "import torch"], capture_output=True).returncode == 0:
        pytest.skip("the Python below has a torch of its own, which install.sh keeps")
    first = shell("bash install.sh", clone)
    assert "mcvqa with torch 1.0+cpu" in first and "stays as it is" not in first and not sees_system_packages(clone)
    activated = "source .venv/bin/activate\n"
    assert "nothing changed" in shell(f"{activated}bash install.sh", clone)
    assert "nothing changed" in shell("PYTHON=.venv/bin/python bash install.sh", clone)
    (clone / "pyproject.toml").write_text(f"{PYPROJECT}# changed\n")
    again = shell(f"{activated}bash install.sh", clone)
    assert "installing the tested versions" in again and "stays as it is" not in again and not sees_system_packages(clone)


# %% the wheel
@pytest.mark.nightly
@pytest.mark.skipif(Version(packaging.__version__) < Version("24.2"), reason="setuptools needs packaging 24.2 to build a wheel")
def test_the_wheel_is_whole_and_works_without_the_repository(tmp_path):
    """Built offline from a copy, installed beside the libraries that are there, and asked from an empty folder."""
    source, target = tmp_path / "source", tmp_path / "target"
    shutil.copytree(ROOT / "src", source / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", tmp_path, source], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    files = {p.relative_to(ROOT / "src").as_posix() for p in (ROOT / "src" / "mcvqa").rglob("*") if p.is_file()}
    files = {name for name in files if "__pycache__" not in name}
    with zipfile.ZipFile(wheel) as packed:
        assert files == {name for name in packed.namelist() if name.startswith("mcvqa/")}
    subprocess.run([*pip, "install", "--no-deps", "--no-index", "--target", target, wheel], check=True)
    (tmp_path / "empty").mkdir()
    asked = subprocess.run(
        [sys.executable, "-m", "mcvqa", "version"], cwd=tmp_path / "empty", env=os.environ | {"PYTHONPATH": str(target)},
        capture_output=True, text=True, check=True,
    )
    assert asked.stdout.split() == ["mcvqa", mcvqa.__version__] and f"mcvqa-{mcvqa.__version__}-" in wheel.name


# %% the lock
LOCKS = ("requirements.txt", "requirements-nightly.txt", "requirements-docs.txt")


def locked(*files: str) -> dict[str, list[Requirement]]:
    """Name -> its lines."""
    found: dict[str, list[Requirement]] = {}
    for line in "\n".join((ROOT / file).read_text(encoding="utf-8") for file in files).splitlines():
        if line and not line.startswith("#"):
            found.setdefault(canonicalize_name(Requirement(line).name), []).append(Requirement(line))
    return found


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
def test_the_lock_has_one_version_of_all_that_the_project_names(python):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras, locks = project["optional-dependencies"], locked(*LOCKS)
    for line in (*project["dependencies"], *extras["dev"], *extras["ray"], *extras["ui"], *extras["docs"], "setuptools"):
        wanted = Requirement(line)
        lines = [one for one in locks[canonicalize_name(wanted.name)]
                 if not one.marker or one.marker.evaluate({"python_version": python})]
        (version,) = {re.fullmatch("==(.*)", str(one.specifier))[1] for one in lines}
        assert wanted.specifier.contains(version), f"{line}, but the lock has {version}: make lock"


def test_the_lock_names_torch_and_not_what_its_builds_bring():
    names = set(locked(*LOCKS))
    assert "torch" in names and not [name for name in names if name.startswith(("nvidia-", "cuda-")) or name == "triton"]
