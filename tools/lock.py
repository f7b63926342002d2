"""Makes requirements.txt, requirements-nightly.txt and requirements-docs.txt: one version of every package that install.sh,
`make nightly` and `make docs` use, for each Python it is tested with.

    python tools/lock.py             keeps the versions that the files have; adds what is new, drops what nothing needs
    python tools/lock.py --newest    takes the newest versions that the ranges of pyproject.toml allow

pip resolves the ranges in a new environment of each Python and reports what it would install; nothing is installed. The
Pythons are looked for as `python3.11` and so on, and below ~/.pyenv. Needs Python 3.11 or newer itself.
"""
import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomllib

ROOT = Path(__file__).parents[1]
LOCK = ROOT / "requirements.txt"
PYTHONS = ("3.11", "3.12", "3.13")
BUILD = ("setuptools",)  # installs the package itself
OF_TORCH = re.compile(r"nvidia-|cuda-|triton$")
HEADER = f"""\
# The versions that everything is tested with: Python {PYTHONS[0]} to {PYTHONS[-1]}, Linux. Made by `make lock`, not by hand.
# pyproject.toml has the ranges, which suit Kaggle and Colab. torch is pinned by its own line; the CUDA libraries and Triton
# that come with it (nvidia-*, cuda-*, triton) are left out: each build of torch names the ones it was made with.
"""


@dataclass(frozen=True)
class Addition:
    """What one command installs besides requirements.txt.

    Attributes:
        file: the lock.
        header: its first lines.
        extras: of pyproject.toml.
        tools: further requirements.
    """

    file: Path
    header: str
    extras: tuple[str, ...]
    tools: tuple[str, ...] = ()

    @property
    def ranges(self) -> list[str]:
        extras = project()["optional-dependencies"]
        return [*self.tools, *(line for name in self.extras for line in extras[name])]


ADDITIONS = (
    Addition(
        ROOT / "requirements-nightly.txt",
        "# What `make nightly` installs besides requirements.txt: the extras ray and ui, a driver of browsers and an S3 server\n"
        "# with its client, which most users do without (400 MB). Made by `make lock`, not by hand.\n",
        ("ray", "ui"),  # which hold pillow back below 13, and bring 25 packages
        # for tests/answer/test_serve.py, tests/run/ray_cluster.py (ray[client]) and tests/run/test_sharing.py; moto[server] would
        # bring 40 packages more
        ("playwright>=1.50", "grpcio>=1.66", "flask>=3.0", "flask-cors>=5.0", "moto[s3]>=5.0", "s3fs>=2024.6"),
    ),
    Addition(
        ROOT / "requirements-docs.txt",
        "# What `make docs` installs besides requirements.txt. Made by `make lock`, not by hand.\n", ("docs",),
    ),
)


# %% what pip would install
def find_interpreter(python: str) -> str | None:
    """Path of a Python of this version, '3.12'; None where there is none."""
    wanted = f"import sys; sys.exit('%d.%d' % sys.version_info[:2] != '{python}')"
    installed = sorted(Path.home().glob(f".pyenv/versions/{python}.*/bin/python"))
    for found in (sys.executable, shutil.which(f"python{python}"), *map(str, installed)):
        if found and subprocess.run([found, "-c", wanted], capture_output=True).returncode == 0:
            return found
    return None


def project() -> dict[str, Any]:
    """What pyproject.toml says of the project."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


# not installed by install.sh: torchvision works only beside PyPI's own build of torch, CSV files do not need 50 MB for tables,
# and of the clients of object stores only one is tested, by `make nightly`
NOT_LOCKED = ("vlm", "tables", "object")
HELD = ("python-dateutil<3",)  # by botocore, which s3fs needs: it is resolved after what is in requirements.txt


def runtime_ranges() -> list[str]:
    """What the program asks for, with what is optional, but for NOT_LOCKED and the extras of ADDITIONS."""
    extras = project()["optional-dependencies"]
    elsewhere = ("dev", *NOT_LOCKED, *(name for addition in ADDITIONS for name in addition.extras))
    return [*project()["dependencies"], *(line for name in extras if name not in elsewhere for line in extras[name])]


def tools_ranges() -> list[str]:
    """What tests, checks and installing ask for."""
    return [*project()["optional-dependencies"]["dev"], *BUILD]


def canonical(name: str) -> str:
    """A package's name as pip compares it."""
    return re.sub(r"[-_.]+", "-", name.split("[")[0]).lower()


def resolve(python: str, wanted: Iterable[str], kept: Iterable[str]) -> dict[str, str]:
    """Name -> version of all that a new environment of this Python would get.

    Args:
        wanted: requirements.
        kept: lines of a constraints file.
    """
    interpreter = find_interpreter(python)
    if not interpreter:
        sys.exit(f"Python {python} is needed to make the lock, and there is no python{python} here.")
    with tempfile.TemporaryDirectory() as scratch:
        subprocess.run([interpreter, "-m", "venv", f"{scratch}/env"], check=True)
        report, constraints = Path(scratch) / "report.json", Path(scratch) / "kept.txt"
        constraints.write_text("\n".join((*HELD, *kept)), encoding="utf-8")
        subprocess.run(
            [f"{scratch}/env/bin/python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--dry-run",
             "--ignore-installed", "--report", report, "--constraint", constraints, *wanted], check=True,
        )
        installed = [item["metadata"] for item in json.loads(report.read_text(encoding="utf-8"))["install"]]
    versions = {canonical(about["name"]): about["version"].split("+")[0] for about in installed}
    return {name: version for name, version in sorted(versions.items()) if not OF_TORCH.match(name)}


def resolve_like(python: str, wanted: list[str], kept: list[str], other: dict[str, str]) -> dict[str, str]:
    """As `resolve`, with the versions of another Python for what is not kept, as long as they suit this one too."""
    known = {canonical(re.split(r"[=;\s]", line)[0]) for line in kept}
    same = [f"{name}=={version}" for name, version in other.items() if name not in known]
    try:
        return resolve(python, wanted, [*kept, *same])
    except subprocess.CalledProcessError:
        if not same:
            raise
        return resolve(python, wanted, kept)


# %% the file
def marker(pythons: list[str]) -> str:
    """The condition that holds for these of PYTHONS, which are neighbours; '' for all."""
    first, last = PYTHONS.index(pythons[0]), PYTHONS.index(pythons[-1])
    assert pythons == list(PYTHONS[first : last + 1]), f"not neighbours: {pythons}"
    bounds = [f'python_version >= "{PYTHONS[first]}"'] if first else []
    bounds += [f'python_version < "{PYTHONS[last + 1]}"'] if last + 1 < len(PYTHONS) else []
    return f" ; {' and '.join(bounds)}" if bounds else ""


def lines(name: str, resolved: dict[str, dict[str, str]]) -> list[str]:
    """The lines of one package, one for each version. Args: resolved: Python -> name -> version."""
    versions = {python: found[name] for python, found in resolved.items() if name in found}
    return [
        f"{name}=={version}{marker([python for python in versions if versions[python] == version])}"
        for version in dict.fromkeys(versions.values())
    ]


def lock(resolved: dict[str, dict[str, str]], wanted: Iterable[str], header: str) -> str:
    """The text of a lock. Args: resolved: Python -> name -> version; wanted: requirements."""
    asked_for = {canonical(re.split(r"[<>=!~ ;]", line)[0]) for line in wanted}
    names = sorted({name for found in resolved.values() for name in found})
    blocks = {
        "# what pyproject.toml names": [name for name in names if name in asked_for],
        "# what these need": [name for name in names if name not in asked_for],
    }
    written = {title: [line for name in named for line in lines(name, resolved)] for title, named in blocks.items()}
    return header + "".join("\n".join(["", title, *listed, ""]) for title, listed in written.items())


def kept_lines(file: Path, newest: bool) -> list[str]:
    """The lines of a lock whose versions are kept."""
    return [] if newest or not file.exists() else file.read_text(encoding="utf-8").splitlines()


def resolved_by_python(wanted: list[str], kept: list[str]) -> dict[str, dict[str, str]]:
    """Python -> name -> version. Args: as of `resolve`."""
    resolved: dict[str, dict[str, str]] = {}
    for python in PYTHONS:
        resolved[python] = resolve_like(python, wanted, kept, next(reversed(resolved.values()), {}))
        print(f"Python {python}: {len(resolved[python])} packages")
    return resolved


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--newest", action="store_true", help="do not keep the versions that the files have")
    newest, wanted = parser.parse_args().newest, [*runtime_ranges(), *tools_ranges()]
    base = resolved_by_python(wanted, kept_lines(LOCK, newest))
    LOCK.write_text(lock(base, wanted, HEADER), encoding="utf-8")
    for addition in ADDITIONS:
        kept = [*kept_lines(LOCK, newest=False), *kept_lines(addition.file, newest)]
        whole = resolved_by_python([*wanted, *addition.ranges], kept)
        added = {python: {name: found[name] for name in found if name not in base[python]} for python, found in whole.items()}
        addition.file.write_text(lock(added, addition.ranges, addition.header), encoding="utf-8")


if __name__ == "__main__":
    main()
