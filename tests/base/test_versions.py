"""Notes on installed versions: of real packages in folders of their own."""
import re
import subprocess
import sys
from pathlib import Path

import pytest

from mcvqa.base.versions import TESTED, installed_version, version_notes

ROOT = Path(__file__).parents[2]


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """installed(name, version): from now on the package is installed in this version."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def install(name: str, version: str) -> None:
        about = tmp_path / f"{name}-{version}.dist-info"
        about.mkdir()
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")

    return install


def notes_about(name: str) -> list[str]:
    return [note for note in version_notes() if note.startswith(f"{name} ")]


def test_the_tested_versions_are_those_of_the_lock():
    lock = dict(re.findall(r"^(\w+)==(\S+)", (ROOT / "requirements.txt").read_text(encoding="utf-8"), re.MULTILINE))
    assert {name: lock[name] for name in TESTED} == TESTED


@pytest.mark.parametrize(("name", "version", "said"), [
    ("pillow", "11.3.0", "fixed in 12.3"), ("pillow", "12.3.0", None), ("torch", "2.9.1+cu128", "fixed in 2.10"),
    ("torch", "2.11.0+cu128", None), ("transformers", "5.24.0", "newer than 5.23.0"), ("transformers", "5.23.9", None),
    ("transformers", "5.15.0", None), ("peft", "1.0.0", "newer than 0.21.2"),
])
def test_a_note_is_given_where_there_is_something_to_know(installed, name, version, said):
    installed(name, version)
    assert installed_version(name) == version
    notes = notes_about(name)
    assert len(notes) == (said is not None) and all(said in note for note in notes)


def test_what_is_not_installed_has_no_version():
    assert installed_version("mcvqa-is-not-this") is None


def test_no_library_is_imported_for_it():
    code = "import sys, mcvqa.base.versions as v; v.version_notes(); assert not {'torch', 'PIL', 'peft'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
