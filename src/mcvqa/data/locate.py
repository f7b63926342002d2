"""Where the data is: the folder with the CSV files, on Kaggle, on Colab, at home, or inside a .zip archive."""
import hashlib
import os
import re
import shutil
import stat
import tempfile
import zipfile
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from tqdm.auto import tqdm

from mcvqa.data.table import DataError

KAGGLE_INPUT = Path("/kaggle/input")
DATA_FILES = {
    "train": ("train.csv",),
    "test": ("test.csv",),
    "dev": ("dev.csv",),
    "sample_submission": ("sample_submission.csv", "samplesubmission.csv"),
}
SEARCH_DEPTH = 4  # /kaggle/input/datasets/<owner>/<name>/<folder>


@dataclass(frozen=True)
class DataFiles:
    """The data folder and the files in it; None where there is no such file."""

    root: Path
    train: Path | None = None
    test: Path | None = None
    dev: Path | None = None
    sample_submission: Path | None = None


def find_data(
    data_dir: str | Path, unpack_to: Path, kaggle_input: Path = KAGGLE_INPUT, own: Collection[Path] = ()
) -> DataFiles:
    """The one folder with train.csv or test.csv, in or below `data_dir`; an archive is unpacked first.

    Args:
        data_dir: a folder, a .zip archive, or "auto": Kaggle's input folder. That is also searched where the default
            folder "data" holds nothing.
        unpack_to: folder that receives the content of an archive, in a folder of its own.
        own: folders that runs write to; what lies below them is nobody's input.

    Raises:
        DataError: nothing found, several candidates, or an archive that cannot be trusted.
    """
    place = Path(data_dir)
    if str(data_dir) == "auto" or (str(data_dir) == "data" and kaggle_input.is_dir() and not _holds_data(place)):
        place = kaggle_input
    if not place.exists():
        raise DataError(
            f"There is no {place.absolute()}. Expected: a folder (or .zip) with train.csv, test.csv and photographs. "
            "Name it with --set data_dir=FOLDER."
        )
    if place.is_file():
        place = unpack_archive(place, unpack_to)
    skipped = {folder.resolve() for folder in own}
    folders = _folders_with(place, _is_table, skipped)
    if not folders and (archive := _only_archive(place, skipped)):
        place = unpack_archive(archive, unpack_to)
        folders = _folders_with(place, _is_table)
    if len(folders) != 1:
        raise _not_one_folder(place, folders)
    names = {entry.name.lower(): Path(entry) for entry in _listing(folders[0]) if entry.is_file()}
    found = {part: next((names[n] for n in usual if n in names), None) for part, usual in DATA_FILES.items()}
    return DataFiles(folders[0], **found)


def _holds_data(place: Path) -> bool:
    return bool(_folders_with(place, _is_table) or _folders_with(place, _is_archive))


def _is_table(name: str) -> bool:
    return name in DATA_FILES["train"] or name in DATA_FILES["test"]


def _is_archive(name: str) -> bool:
    return name.endswith(".zip")


def _listing(folder: Path) -> list[os.DirEntry[str]]:
    """Visible entries by name. Not Path.iterdir: asking each of 10,000 photographs for its kind is slow on a Drive."""
    try:
        with os.scandir(folder) as entries:
            return sorted((e for e in entries if not e.name.startswith((".", "__"))), key=lambda e: e.name)
    except OSError:  # not there, no folder, or not ours to read: nothing to find here
        return []


def _folders_with(place: Path, wanted: Callable[[str], bool], skipped: Collection[Path] = ()) -> list[Path]:
    """The topmost folders, down to SEARCH_DEPTH and outside of `skipped`, that hold a file with a wanted name (in lower case)."""
    found, level = [], [place]
    for _ in range(SEARCH_DEPTH + 1):
        below: list[Path] = []
        for folder in level:
            entries = _listing(folder)
            if any(wanted(entry.name.lower()) and entry.is_file() for entry in entries):
                found.append(folder)
            else:
                # The generated demo lies in data/demo; it is used when asked for, never taken for the user's data.
                inside = (Path(entry) for entry in entries if entry.is_dir() and entry.name != "demo")
                below += [path for path in inside if not skipped or path.resolve() not in skipped]
        level = below
    return found


def _only_archive(place: Path, skipped: Collection[Path]) -> Path | None:
    folders = _folders_with(place, _is_archive, skipped)
    archives = [Path(entry) for folder in folders for entry in _listing(folder) if _is_archive(entry.name.lower())]
    if len(archives) > 1:
        names = "".join(f"\n  {archive}" for archive in archives)
        raise DataError(f"{place} holds several archives and no train.csv:{names}\nName one with --set data_dir=FILE.")
    return archives[0] if archives else None


def _not_one_folder(place: Path, folders: list[Path]) -> DataError:
    if folders:
        names = "".join(f"\n  {folder}" for folder in folders)
        return DataError(f"Several folders in {place} hold data:{names}\nName one with --set data_dir=FOLDER.")
    seen = ", ".join(entry.name for entry in _listing(place)[:10]) or "nothing"
    return DataError(
        f"There is no train.csv or test.csv in {place}, nor in the folders or a .zip in it (it holds: {seen}). "
        "Name the right folder with --set data_dir=FOLDER."
    )


# %% archives: everything is checked before the first byte is written
MAX_ARCHIVE_RATIO = 100  # unpacked over packed bytes; photographs have 1, CSV files about 5, bombs over 1000
FREE_BYTES = 100 * 2**20  # small archives may have any ratio


def unpack_archive(archive: Path, unpack_to: Path) -> Path:
    """Unpack a .zip into a folder of its own below `unpack_to`, once for the same content.

    Returns: that folder. Its name ends in a hash of the archive's table of contents (names, sizes, checksums), and it
    appears only when everything is unpacked, so its existence is the proof that nothing is left to do.

    Raises:
        DataError: no archive, damaged, encrypted, too large, or with entries that would lie outside of the folder.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            entries = [entry for entry in opened.infolist() if not _is_litter(entry)]
            contents = [(entry.filename, entry.file_size, entry.CRC) for entry in entries]
            target = Path(unpack_to) / f"{archive.stem}-{hashlib.sha256(repr(contents).encode()).hexdigest()[:8]}"
            if target.is_dir():
                return target
            names = [_safe_entry(archive, entry) for entry in entries]
            _check_archive_size(archive, entries, Path(unpack_to))
            with tempfile.TemporaryDirectory(prefix=".unpack-", dir=unpack_to) as scratch:
                content = Path(scratch) / "content"
                content.mkdir()
                progress = tqdm(names, desc=f"unpacking {archive.name}")
                for name, entry in zip(progress, entries, strict=True):
                    _unpack_entry(opened, entry, content / name)
                content.rename(target)
            return target
    except DataError:
        raise
    except Exception as error:  # damage shows as BadZipFile, zlib.error, NotImplementedError, OSError, ...
        raise DataError(f"{archive} cannot be unpacked: {error}. Is it a complete .zip? Download it again.") from None


def _is_litter(entry: zipfile.ZipInfo) -> bool:
    return entry.filename.startswith("__MACOSX/") or entry.filename.endswith(".DS_Store")


def _safe_entry(archive: Path, entry: zipfile.ZipInfo) -> str:
    """The entry's relative path, or DataError: what this archive asks for is refused as a whole."""
    name = _entry_name(entry).replace("\\", "/")
    if name.startswith("/") or re.match(r"[A-Za-z]:", name) or ".." in name.split("/") or "\0" in name:
        raise DataError(f"{archive} is refused: its entry {name!r} lies outside of the archive's folder.")
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise DataError(f"{archive} is refused: its entry {name!r} is a link or a special file.")
    if entry.flag_bits & 1:
        raise DataError(f"{archive} is encrypted. Unpack it by hand and name the folder.")
    return name


def _entry_name(entry: zipfile.ZipInfo) -> str:
    """Windows in Korea writes names in cp949 without saying so; zipfile then takes them for cp437."""
    if entry.flag_bits & 0x800 or entry.filename.isascii():
        return entry.filename
    raw = entry.filename.encode("cp437", errors="replace")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("cp949", errors="replace")


def _check_archive_size(archive: Path, entries: list[zipfile.ZipInfo], unpack_to: Path) -> None:
    packed, unpacked = archive.stat().st_size, sum(entry.file_size for entry in entries)
    if unpacked > max(FREE_BYTES, MAX_ARCHIVE_RATIO * packed):
        raise DataError(
            f"{archive} is refused: {packed / 1e6:.1f} MB would become {unpacked / 1e6:.0f} MB, more than "
            f"{MAX_ARCHIVE_RATIO} times as much. Unpack it by hand if you trust it."
        )
    unpack_to.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(unpack_to).free
    if unpacked > free:
        raise DataError(f"{archive} needs {unpacked / 1e9:.1f} GB in {unpack_to}; {free / 1e9:.1f} GB are free.")


def _unpack_entry(opened: zipfile.ZipFile, entry: zipfile.ZipInfo, path: Path) -> None:
    if entry.is_dir() or entry.filename.endswith("\\"):
        path.mkdir(parents=True, exist_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with opened.open(entry) as source, open(path, "xb") as out:  # zipfile never yields more than file_size bytes
        shutil.copyfileobj(source, out, 1 << 20)
