"""Going on from the output of an earlier session that lies elsewhere, maybe where nothing can be written.

What belongs to the run is copied into output_dir, verified, where it is not there already. No path is kept in a checkpoint, so a
folder may also simply be moved or copied by hand.
"""
import os
import shutil
from pathlib import Path

from mcvqa.base.files import LONG_WAITS, MANIFEST, atomic_path, damaged_file, patiently
from mcvqa.config import settings_hash
from mcvqa.run.project import Project, RunPaths, RunStopped
from mcvqa.run.tasks import Task


def take_over(project: Project) -> None:
    """Copy, once, what `resume_from` holds of this run.

    Raises:
        RunStopped: there is nothing of this run.
    """
    given = project.config.resume_from
    key = settings_hash({"from": str(Path(given).absolute())})
    task = Task("take over", "take over", key)
    if not given or project.records.is_done(task):
        return
    earlier = _output_with(project.config.run, Path(given))
    whole, others = _parts(earlier)
    copied = [_copied(part, project.paths.root / part.relative_to(earlier.root)) for part in (*whole, *others)]
    print(f"  going on from {earlier.root}: {sum(copied)} files and folders of the run {earlier.run!r} taken over")
    project.records.finish(task)


def _output_with(run: str, given: Path) -> RunPaths:
    """The output folder at `given` or up to two folders below it, as Kaggle attaches the output of a notebook."""
    places = (given, *sorted(given.glob("*/")), *sorted(given.glob("*/*/")))
    for place in places:
        if (place / "checkpoints" / run).is_dir():
            return RunPaths(place, run)
    others = sorted({found.name for place in places for found in place.glob("checkpoints/*")})
    raise RunStopped(f"resume_from={str(given)!r} holds no checkpoints/{run}. " + (
        f"It has the runs {', '.join(others)}: give the settings that one of them was trained with." if others else
        "Name the folder that an earlier session wrote to: the one with checkpoints/, experiments/ and logs/ in it."
    ))


def _parts(earlier: RunPaths) -> tuple[list[Path], list[Path]]:
    """Folders with weights that are as they were written, and the other files: results, scores, steps that are done, the log."""
    folders = sorted(manifest.parent for manifest in earlier.checkpoints.rglob(MANIFEST))
    damaged = {folder: file for folder in folders if (file := damaged_file(folder))}
    for folder, file in damaged.items():
        print(f"  {file} is damaged or missing: {folder} is not taken over")
    files = [f for f in (*earlier.checkpoints.rglob("*"), *earlier.experiment.rglob("*"), earlier.log) if f.is_file()]
    return [f for f in folders if f not in damaged], sorted(f for f in files if f.parent not in folders)


def _copied(old: Path, new: Path) -> bool:
    """Whether it was not there yet."""
    if new.exists():
        return False

    def attempt() -> None:
        with atomic_path(new) as part:
            shutil.copyfile(old, part)

    patiently(attempt if old.is_file() else lambda: _copy_folder(old, new), f"copying {old}", LONG_WAITS)
    return True


def _copy_folder(old: Path, new: Path) -> None:
    part = new.with_name(f".{new.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    shutil.copytree(old, part, copy_function=shutil.copyfile)
    os.rename(part, new)
