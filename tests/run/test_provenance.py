"""What is said of a result: its commit."""
import subprocess
from pathlib import Path
from types import SimpleNamespace

from mcvqa.run import provenance


def test_the_commit_is_that_of_the_code_and_not_of_a_repository_that_holds_the_environment(tmp_path, monkeypatch):
    package = tmp_path / ".venv" / "mcvqa"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    monkeypatch.setattr(provenance, "find_spec", lambda name: SimpleNamespace(origin=str(package / "__init__.py")))

    def git(*words: str, folder: Path = tmp_path) -> None:
        subprocess.run(["git", "-c", "user.name=n", "-c", "user.email=e", *words], cwd=folder, check=True, capture_output=True)

    git("init")
    git("commit", "--allow-empty", "-m", "of the user's own project")
    assert provenance.code_commit() == "unknown"
    git("add", "-f", ".")
    git("commit", "-m", "now the package is part of it")
    commit = provenance.code_commit()
    assert commit not in ("unknown", "")
    (tmp_path / "results.md").write_text("before")
    git("add", ".")
    git("commit", "-m", "a file that runs write")
    (tmp_path / "results.md").write_text("after")
    assert not provenance.code_commit().endswith("-dirty"), "the code is that of the commit"
    (package / "__init__.py").write_text("changed = True")
    assert provenance.code_commit().endswith("-dirty")
