"""Runs the suite and the notebook with other Pythons and versions, and ends with a table: what passed and what could not be run.

    python tools/platforms.py                  all of them, one after the other; hours, and several GB each
    python tools/platforms.py colab lowest     these; `--list` names them

Each gets an environment of its own below build/platforms/, which a later call takes up again. The Pythons are looked for as
`python3.11` and so on, and below ~/.pyenv.
"""
import argparse
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from lock import LOCK, PYTHONS, find_interpreter, runtime_ranges, tools_ranges

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "build" / "platforms"
COLAB = Path(__file__).parent / "platforms" / "colab.txt"
NEEDED_SPACE = 12e9  # bytes: a CUDA build of torch, and what pip unpacks on the way
FIRST_SUPPORTED = "3.10"


@dataclass(frozen=True)
class Platform:
    """A Python and the versions that its environment has.

    Attributes:
        pins: lines for pip.
    """

    name: str
    python: str
    pins: list[str]

    @property
    def folder(self) -> Path:
        return FOLDER / self.name

    def pip(self, *arguments: str) -> None:
        """Raises CalledProcessError."""
        command = [self.folder / "bin" / "python", "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments]
        subprocess.run(command, check=True, stderr=subprocess.PIPE, text=True)

    def install(self, interpreter: str) -> None:
        """Raises CalledProcessError."""
        subprocess.run([interpreter, "-m", "venv", self.folder], check=True)
        pins = self.folder / "pins.txt"
        pins.write_text("\n".join(self.pins) + "\n", encoding="utf-8")
        self.pip("install", "-r", str(pins))
        self.pip("install", "-c", str(pins), *runtime_ranges(), *tools_ranges())  # what the pins leave out
        self.pip("install", "--no-deps", "-e", str(ROOT))  # built apart: setuptools wants a newer packaging than we do
        self.pip("check")

    def test(self) -> str:
        """pytest's last line; all that it prints goes to a file."""
        log = FOLDER / f"{self.name}.log"
        options = ["-n", "2", "--dist", "loadfile", "-m", "", "-p", "no:cacheprovider"]
        command = [self.folder / "bin" / "python", "-m", "pytest", *options]
        print(f"{self.name}: testing, see {log}", flush=True)
        with log.open("w", encoding="utf-8") as out:
            subprocess.run(command, cwd=ROOT, stdout=out, stderr=subprocess.STDOUT, env=os.environ | {"ORDER_SEED": "1"})
        return (log.read_text(encoding="utf-8").strip().splitlines() or ["pytest printed nothing"])[-1].strip("= ")

    def result(self) -> str:
        """What the suite says here, or why it could not be run."""
        interpreter = find_interpreter(self.python)
        if not interpreter:
            return f"not run: there is no Python {self.python} here"
        FOLDER.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(FOLDER).free
        if free < NEEDED_SPACE:
            return f"not run: {free / 1e9:.0f} GB free, {NEEDED_SPACE / 1e9:.0f} needed"
        try:
            self.install(interpreter)
        except subprocess.CalledProcessError as error:
            said = [line for line in (error.stderr or "").splitlines() if line.startswith("ERROR")]
            return f"not run: not installed: {said[-1] if said else error}"
        return self.test()


def lowest() -> list[str]:
    """The lower bounds of pyproject.toml as pins."""
    return [re.sub(r">=", "==", line) for line in runtime_ranges()]


def platforms() -> list[Platform]:
    return [
        Platform("colab", "3.13", COLAB.read_text(encoding="utf-8").splitlines()),
        Platform("lowest", FIRST_SUPPORTED, lowest()),
        *(Platform(f"lock-{python}", python, LOCK.read_text(encoding="utf-8").splitlines()) for python in PYTHONS),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", help="all of them if none is given")
    parser.add_argument("--list", action="store_true", help="print their names")
    given, known = parser.parse_args(), {platform.name: platform for platform in platforms()}
    if given.list:
        print("\n".join(f"{platform.name}: Python {platform.python}, {len(platform.pins)} pins" for platform in known.values()))
        return
    if unknown := set(given.names) - known.keys():
        sys.exit(f"no such platform: {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    results = {name: known[name].result() for name in given.names or known}
    print("\n" + "\n".join(f"{name:<10} Python {known[name].python:<5} {result}" for name, result in results.items()))
    sys.exit(any("failed" in result or "error" in result for result in results.values()))


if __name__ == "__main__":
    main()
