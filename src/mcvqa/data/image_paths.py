"""Resolves image paths: as written from the data folder, else next to their table, else in the folder of their split.

Both splits may use the same names: `0001.jpg` of train.csv and that of test.csv are two photographs.
"""
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from mcvqa.base.informing import counted
from mcvqa.data.images import ImageError, ImageFolder
from mcvqa.data.locate import SPLIT_WORDS, archived_names, is_named_like, packed_beside, unpack_archive
from mcvqa.data.questions import Question

CELLS_FOLDER = "cells"  # folder of photographs from cells, relative to the data folder
MAYBE_PICTURE = re.compile(r"\s*(data:image/.*|[\w+/=\s-]{64,})", re.DOTALL)  # a cell that may hold a photograph in base64


@dataclass(frozen=True)
class SplitRows:
    """Holds the rows of one table and their file.

    Attributes:
        split: 'train', 'dev' or 'test'.
    """

    split: str
    file: Path
    questions: tuple[Question, ...]


def find_photographs(root: Path, tables: Sequence[SplitRows], unpack_to: Path) -> tuple[ImageFolder, list[SplitRows], list[str]]:
    """Look for the photographs of all rows; archives next to the tables are unpacked if they contain missing ones.

    Args:
        root: the data folder.
        tables: the rows.
        unpack_to: folder for the content of archives.

    Returns:
        The files of the data folder; the tables with resolved paths; lines about what was done.
    """
    folder, notes = ImageFolder(root), []
    tables, cells = _pictures_out_of_cells(tables, unpack_to / CELLS_FOLDER)
    if cells:
        folder.add(unpack_to / CELLS_FOLDER, PurePosixPath(CELLS_FOLDER))
        there = counted(cells, "photograph is", "photographs are")
        notes.append(f"{there} embedded in the tables: written to {unpack_to / CELLS_FOLDER}")
    meant = [_meant_paths(root, folder, table, tables) for table in tables]
    missing, folders = _missing_names(folder, meant), sorted({root, *(table.file.parent for table in tables)})
    for archive in (path for top in folders for path in sorted(top.glob("*.zip"))):
        if archived_names(archive, missing):
            unpacked = unpack_archive(archive, unpack_to)
            split = next((split for split in SPLIT_WORDS if is_named_like(Path(archive.stem), split)), "")
            folder.add(unpacked, _from_top(folder, archive.parent) / split)
            meant = [_meant_paths(root, folder, table, tables) for table in tables]
            notes.append(f"photographs: {archive} is unpacked in {unpacked}")
    if left := len(_missing_names(folder, meant)):
        packed = filter(None, map(packed_beside, folders))
        notes += [f"photographs: {counted(left, 'is', 'are')} not found; {archives}" for archives in packed]
    resolved = []
    for table, paths in zip(tables, meant, strict=True):
        changed = Counter(str(PurePosixPath(paths[q.image]).parent) for q in table.questions if paths[q.image] != q.image)
        notes += [
            f"{table.file.name}: the image paths of {counted(count, 'row')} point into {at}/ (they are absolute, or exist in "
            "several folders)" for at, count in changed.items()
        ]
        resolved.append(replace(table, questions=tuple(
            q if paths[q.image] == q.image else replace(q, image=paths[q.image]) for q in table.questions
        )))
    return folder, resolved, notes


def _missing_names(folder: ImageFolder, meant: Sequence[dict[str, str]]) -> set[str]:
    """List the file names of the photographs that were not found."""
    return {
        PurePosixPath(path).name for paths in meant for path in paths.values()
        if not folder.holds(path) and _matching_file(folder, path) is None
    }


def _pictures_out_of_cells(tables: Sequence[SplitRows], into: Path) -> tuple[Sequence[SplitRows], int]:
    if not any(MAYBE_PICTURE.fullmatch(question.image) for table in tables for question in table.questions):
        return tables, 0
    from mcvqa.data.picture_cells import write_picture_cells

    written = [write_picture_cells(table.questions, into) for table in tables]
    return [replace(table, questions=rows) for table, (rows, _) in zip(tables, written, strict=True)], sum(n for _, n in written)


def _meant_paths(root: Path, folder: ImageFolder, table: SplitRows, tables: Sequence[SplitRows]) -> dict[str, str]:
    """Map written paths to paths from the data folder; unchanged if a path leads to the same file, or to none."""
    own_folder = [path for path in (_from_top(folder, table.file.parent),) if path.parts]
    named = [path for path in sorted(folder.folders()) if is_named_like(path, table.split)]
    named = named if len(named) < 20 else []  # train_0001/, train_0002/, ...: each photograph has a separate folder
    shared = {q.image for other in tables if other.split != table.split for q in other.questions}
    meant = {}
    for written in dict.fromkeys(q.image for q in table.questions):
        path = _from_root(root, folder, written)
        if not folder.holds(path):
            path = _in_own_folder(folder, path, (own_folder, named), table.split, shared=written in shared)
        meant[written] = path
    return meant


def _from_top(folder: ImageFolder, path: Path) -> PurePosixPath:
    """Return a folder relative to the root; the root itself for one outside of it, reached by a link."""
    real = path.resolve()
    return PurePosixPath(real.relative_to(folder.root).as_posix() if real.is_relative_to(folder.root) else ".")


def _from_root(root: Path, folder: ImageFolder, written: str) -> str:
    """Make an absolute path inside the data folder relative; `../input/x/a.jpg` too, if x/a.jpg or a.jpg is in it."""
    text = written.strip().replace("\\", "/")
    if (inside := re.sub(r"^(\.\./)+", "", text)) != text and _matching_file(folder, inside):
        return inside
    tops = (f"{top.as_posix().rstrip('/')}/" for top in (root.absolute(), folder.root))
    return next((text.removeprefix(top) for top in tops if text.startswith(top)), written)


def _in_own_folder(
    folder: ImageFolder, path: str, tried: Sequence[Sequence[PurePosixPath]], split: str, *, shared: bool
) -> str:
    """Return `path`, or the one file that it means in the first folders that have one.

    Args:
        shared: whether another split has this path too.
    """
    file = _matching_file(folder, path)
    for tops in tried:
        inside = {match for top in tops if (match := _matching_file(folder, f"{top}/{path}")) and top in match.parents}
        if len(inside) == 1:
            return path if inside == {file} else str(inside.pop())
    others = [other for other in SPLIT_WORDS if other != split]
    if shared and file and any(is_named_like(above, other) for above in file.parents for other in others):
        return f"{split}/{path}"  # the file is the other split's: this one's is missing
    return path


def _matching_file(folder: ImageFolder, path: str) -> PurePosixPath | None:
    try:
        return folder.match(path)
    except ImageError:
        return None
