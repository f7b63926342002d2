"""Finds the data: the folder with the CSV files, on Kaggle, on Colab, at home, or inside a .zip archive."""
import hashlib
import os
import re
import shutil
import stat
import tempfile
import unicodedata
import zipfile
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath

from tqdm.auto import tqdm

from mcvqa.data.table import (
    JSON_SUFFIXES,
    OTHER_SUFFIXES,
    PACKED_SUFFIXES,
    TABLE_NAME,
    TABLE_SUFFIXES,
    TEXT_SUFFIXES,
    DataError,
    table_stem,
)

KAGGLE_INPUT = Path("/kaggle/input")
SEARCH_DEPTH = 4  # /kaggle/input/datasets/<owner>/<name>/<folder>
TABLE_NAMES = {
    "train": ("train",), "test": ("test",), "dev": ("dev", "validation", "valid", "val"),
    "sample_submission": (
        "sample_submission", "samplesubmission", "sample-submission", "sample submission", "submission_sample",
        "submission_format",
    ),
}
WRITTEN_BY_RUNS = ("oof_predictions", "test_predictions", "evidence", "fixes")  # nobody's input, wherever they lie
SPLIT_TABLES = ("metadata", "data")  # what `datasets` calls the table in the folder of a split
SPLIT_WORDS = {"train": {"train", "training"}, "test": {"test", "testing"}, "dev": {"dev", "val", "valid", "validation"}}
OTHER_TABLE = r"\.(csv|tsv|txt|jsonl?|ndjson|parquet|xls[xmb]?|ods|numbers|gsheet|feather|arrow|pkl|pickle)\b"
LIKELY_TABLE = r"\.(csv|tsv|jsonl|ndjson|parquet|xls[xmb]?|ods|numbers|feather)(\.\w+)?$"  # whatever its name
# files that are not read but identified in a message
NOT_READ_ARCHIVE = re.compile(r"\.(tar|t[gbx]z2?|tar\.\w+|7z|rar|zst|alz|egg|z\d\d|zip\.\d+|part|partial|crdownload|download)$")
NOT_READ_NAME = re.compile(
    NOT_READ_ARCHIVE.pattern + r"|\.(xls[bm]?|ods|numbers|gsheet|pdf|html?|xml|sqlite3?|db|hdf5?|h5|np[yz]|orc|pkl|pickle)$"
)
TABLE_NAMING = (
    f"A table is named train or test and ends in {', '.join((*TEXT_SUFFIXES, *JSON_SUFFIXES))} (also packed as "
    f"{', '.join(PACKED_SUFFIXES)}), {', '.join(OTHER_SUFFIXES)}"
)


@dataclass(frozen=True)
class DataFiles:
    """Holds the data folder and its files; None if there is no such file."""

    root: Path
    train: Path | None = None
    test: Path | None = None
    dev: Path | None = None
    sample_submission: Path | None = None


def find_data(
    data_dir: str | Path, unpack_to: Path, kaggle_input: Path = KAGGLE_INPUT, written_by_runs: Collection[Path] = ()
) -> DataFiles:
    """Find the one folder with train.csv or test.csv, in or below `data_dir`; an archive is unpacked first.

    The tables of a split may also be in a folder with its name: train/train.csv and test/test.csv.

    Args:
        data_dir: a folder, a table in it, a .zip archive, or "auto": Kaggle's input folder, which is also searched if the default
            folder "data" is empty.
        unpack_to: folder that receives the content of an archive, in a separate folder.
        kaggle_input: Kaggle's input folder.
        written_by_runs: folders that runs write to; files below them are never input.

    Raises:
        DataError: nothing was found, there are several candidates, or an archive cannot be trusted.
    """
    folder = place_of_data(data_dir, kaggle_input)
    if folder.is_file():
        if _is_table(folder.name.lower()):
            return _files_in(_above_splits(folder.parent))
        if not zipfile.is_zipfile(folder) and not _is_archive(folder.name.lower()):
            raise DataError(f"{folder} is neither a folder nor a .zip archive. {_advice([folder.name])}")
        folder = unpack_archive(folder, unpack_to)
    skipped = {path.resolve() for path in written_by_runs}
    folders = _folders_with_tables(folder, skipped)
    if not folders and (archive := _only_archive(folder, skipped)):
        folders = _folders_with_tables(unpack_archive(archive, unpack_to))
    roots = list(dict.fromkeys(map(_above_splits, folders)))
    if len(roots) != 1:
        raise _not_one_folder(folder, folders)
    return _files_in(roots[0])


def place_of_data(data_dir: str | Path, kaggle_input: Path = KAGGLE_INPUT) -> Path:
    """Return the folder or file that `data_dir` means; see `find_data`.

    Raises:
        DataError: it does not exist.
    """
    folder = Path(data_dir)
    if str(data_dir) == "auto" or (str(data_dir) == "data" and kaggle_input.is_dir() and not _holds_data(folder)):
        folder = kaggle_input
    if not folder.exists():
        raise DataError(
            f"There is no {folder.absolute()}. Expected: a folder (or .zip) with train.csv, test.csv and photographs. "
            "Name it with --data FOLDER (in Python: data_dir)."
        )
    return folder


def _holds_data(folder: Path) -> bool:
    return bool(_folders_with_tables(folder) or _folders_with(folder, _is_archive))


def _folders_with_tables(top: Path, skipped: Collection[Path] = ()) -> list[Path]:
    """List folders with CSV files, else with tables of other kinds, else train/ and test/ as `datasets` has them."""
    return (
        _folders_with(top, lambda name: name in ("train.csv", "test.csv"), skipped) or _folders_with(top, _is_table, skipped)
        or [path for path in _folders_with(top, lambda name: table_stem(name) in SPLIT_TABLES, skipped)
            if _table(path, "train") or _table(path, "test")]
    )


def _is_table(name: str) -> bool:
    return table_stem(name) in ("train", "test")


def _is_archive(name: str) -> bool:
    return name.endswith(".zip") and not table_stem(name)


# %% the tables of a folder
def _files_in(root: Path) -> DataFiles:
    """Find the tables in the folder, or each in a subfolder that is named like its split."""
    below = {split: [path for path in _folders_in(root) if is_named_like(path, split)] for split in SPLIT_WORDS}
    where = {split: [root, *below.get(split, below["test"])] for split in TABLE_NAMES}  # the sample may lie beside test.csv
    return DataFiles(root, **{split: next(filter(None, (_table(one, split) for one in where[split])), None) for split in where})


def _table(folder: Path, split: str) -> Path | None:
    """Find the table of a split in a folder; of one in several parts, the first."""
    matches = {entry.name: match for entry in _listing(folder) if (match := TABLE_NAME.fullmatch(entry.name)) and entry.is_file()}
    words = [name for name in SPLIT_WORDS if is_named_like(folder.absolute(), name)]
    alone = split == "train" and not words and "state.json" in matches  # a Dataset without splits
    stems = (*TABLE_NAMES[split], *(SPLIT_TABLES if alone or words == [split] else ()))
    usual = [
        (stems.index(stem), TABLE_SUFFIXES.index(match["ending"].lower()), name)
        for name, match in matches.items() if (stem := match["stem"].lower()) in stems
    ]
    return folder / min(usual)[-1] if usual else None


def _folders_in(folder: Path) -> list[Path]:
    return [Path(entry) for entry in _listing(folder) if entry.is_dir()]


def is_named_like(path: Path | PurePath, split: str) -> bool:
    """Return whether a folder or archive has the name of this split and of no other: train/, Train_images/, vqa-train.zip."""
    words = {*re.split(r"[\W_\d]+", path.name.lower())}
    return [name for name, usual in SPLIT_WORDS.items() if usual & words] == [split]


def _above_splits(folder: Path) -> Path:
    """Return the folder above one that is named like the split of its only table, if another split has such a folder too."""
    files = {split: _table(folder, split) for split in ("train", "test")}
    here = [split for split, file in files.items() if file]
    if len(here) != 1 or not is_named_like(folder.absolute(), here[0]):
        return folder
    above, other = folder.absolute().parent if folder == Path() else folder.parent, "test" if here[0] == "train" else "train"
    beside = [path for path in _folders_in(above) if is_named_like(path, other) and _table(path, other)]
    return above if beside or _table(above, other) else folder


def missing_table(root: Path, split: str) -> DataError:
    """Make the error for a data folder without the table of a split, whose name may be slightly different."""
    near = near_misses_of(root, split)
    return DataError(f"{root} has no {split}.csv. " + (
        _advice(near, split) if near else "Expected: train.csv with answers and test.csv without."
    ))


def near_misses_of(root: Path, split: str) -> list[str]:
    """List files of the data folder that look like the table of a split but have other names: 'test (1).csv'."""
    return [name for name in _near_misses(root) if split in name.lower()]


def _near_misses(folder: Path) -> list[str]:
    """List files that look like tables but have other names: 'train (1).csv', 'train.xls', or if no name is near, 'data.csv'."""
    known = [*(stem for usual in TABLE_NAMES.values() for stem in usual), "test_answers", *WRITTEN_BY_RUNS]
    names = [e.name for e in _listing(folder) if e.is_file() and table_stem(e.name) not in known]
    names = [name for name in names if not _is_archive(name.lower())]
    of_splits = [name for name in names if re.search("train|test", name.lower()) and re.search(OTHER_TABLE, name.lower())]
    return of_splits or [name for name in names if re.search(LIKELY_TABLE, name.lower())]


def _advice(names: Sequence[str], split: str = "train") -> str:
    """Say what to do with files that are not read: those of other formats are named, others only have to be renamed."""
    if unread := [name for name in names if NOT_READ_NAME.search(name.lower())]:
        return _named_formats(unread)
    if len(names) > 9:
        return f"There are {len(names):,} such files, first {names[0]!r}: put all rows into one table, {split}.csv."
    shown = ", ".join(map(repr, names[:5]))
    return f"There is {shown}: the file name is not recognized. {TABLE_NAMING}; rename it, for example to {split}.csv."


def _named_formats(names: Sequence[str]) -> str:
    from mcvqa.data.unread import unread_format

    return "; ".join(f"{name!r} is {unread_format(name)}" for name in names[:5]) + "."


def packed_beside(folder: Path) -> str:
    """Describe archives other than .zip in a folder, and what to do with them; '' if there are none."""
    names = [entry.name for entry in _listing(folder) if entry.is_file() and NOT_READ_ARCHIVE.search(entry.name.lower())]
    return _named_formats(names) if names else ""


def unread_sample(root: Path) -> str:
    """Return a file that is probably the sample of a submission under another name: 'sample_submission (1).csv'; '' if none."""
    names = [e.name for e in _listing(root) if e.is_file() and re.search(OTHER_TABLE, e.name.lower())]
    return next((name for name in names if re.search("submi|제출", name.lower())), "")


# %% the search
def _listing(folder: Path) -> list[os.DirEntry[str]]:
    """List visible entries by name. Path.iterdir is slow on a Drive, as it asks each of 10,000 photographs for its kind."""
    try:
        with os.scandir(folder) as entries:
            return sorted((e for e in entries if not e.name.startswith((".", "__"))), key=lambda e: e.name)
    except OSError:  # not there, no folder, or not ours to read: nothing to find here
        return []


def _folders_with(top: Path, wanted: Callable[[str], bool], skipped: Collection[Path] = ()) -> list[Path]:
    """List the topmost folders, down to SEARCH_DEPTH and outside of `skipped`, with a file of a wanted name (in lower case)."""
    folders, level = [], [top]
    for _ in range(SEARCH_DEPTH + 1):
        below: list[Path] = []
        for folder in level:
            entries = _listing(folder)
            if any(wanted(entry.name.lower()) and entry.is_file() for entry in entries):
                folders.append(folder)
            else:
                # The generated demo lies in data/demo; it is used when asked for, never taken for the user's data.
                inside = (Path(entry) for entry in entries if entry.is_dir() and entry.name != "demo")
                below += [path for path in inside if not skipped or path.resolve() not in skipped]
        level = below
    return folders


def _only_archive(top: Path, skipped: Collection[Path]) -> Path | None:
    folders = _folders_with(top, _is_archive, skipped)
    archives = [Path(entry) for folder in folders for entry in _listing(folder) if _is_archive(entry.name.lower())]
    if len(archives) > 1 and _near_misses(top):  # tables that only lack their name, with photographs in archives
        return None
    if len(archives) > 1:
        names = "".join(f"\n  {archive}" for archive in archives)
        raise DataError(
            f"{top} holds several archives and no train.csv:{names}\nName the one that holds all tables with "
            "--data FILE (in Python: data_dir), or unpack those with train.csv and test.csv there."
        )
    return archives[0] if archives else None


def _not_one_folder(top: Path, folders: list[Path]) -> DataError:
    if folders:
        names = "".join(f"\n  {folder}" for folder in folders)
        return DataError(f"Several folders in {top} hold data:{names}\nName one with --data FOLDER (in Python: data_dir).")
    missing = f"There is no train.csv or test.csv in {top}, nor in the folders or a .zip in it"
    near = [name for folder in (top, *_folders_in(top)) for name in _near_misses(folder)]
    if near:
        return DataError(f"{missing}. {_advice(near)}")
    if packed := " ".join(filter(None, map(packed_beside, (top, *_folders_in(top))))):
        return DataError(f"{missing}. {packed}")
    seen = ", ".join(entry.name for entry in _listing(top)[:10]) or "nothing"
    return DataError(f"{missing} (it holds: {seen}). Name the right folder with --data FOLDER (in Python: data_dir).")


# %% archives: everything is checked before the first byte is written
MAX_ARCHIVE_RATIO = 100  # unpacked over packed bytes; photographs have 1, CSV files about 5, bombs over 1000
FREE_BYTES = 100 * 2**20  # small archives may have any ratio


def unpack_archive(archive: Path, unpack_to: Path) -> Path:
    """Unpack a .zip into a separate folder below `unpack_to`, once for the same content.

    Args:
        archive: the file.
        unpack_to: parent of the new folder.

    Returns:
        That folder. Its name ends in a hash of the archive's table of contents (names, sizes, checksums). It appears only when
        everything is unpacked, so its existence proves that it is complete.

    Raises:
        DataError: it is not an archive, or it is damaged, encrypted, too large, or has entries outside of the folder.
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


def archived_names(archive: Path, wanted: Collection[str]) -> set[str]:
    """Return which of the wanted file names, with or without extension, are in an archive; empty if it cannot be read."""
    try:
        with zipfile.ZipFile(archive) as opened:
            paths = [PurePosixPath(_entry_name(entry)) for entry in opened.infolist() if not _is_litter(entry)]
    except (OSError, zipfile.BadZipFile):
        return set()
    names = {unicodedata.normalize("NFC", name).casefold() for path in paths for name in (path.name, path.stem)}
    return {name for name in wanted if unicodedata.normalize("NFC", name).casefold() in names}


def _is_litter(entry: zipfile.ZipInfo) -> bool:
    return entry.filename.startswith("__MACOSX/") or entry.filename.endswith(".DS_Store")


def _safe_entry(archive: Path, entry: zipfile.ZipInfo) -> str:
    """Return the entry's relative path. Raises DataError for an unsafe one: the whole archive is refused then."""
    name = _entry_name(entry).replace("\\", "/")
    if name.startswith("/") or re.match(r"[A-Za-z]:", name) or ".." in name.split("/") or "\0" in name:
        raise DataError(f"{archive} is refused: its entry {name!r} points outside the archive's folder.")
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise DataError(f"{archive} is refused: its entry {name!r} is a link or a special file.")
    if entry.flag_bits & 1:
        raise DataError(f"{archive} is encrypted. Unpack it by hand and name the folder.")
    return name


def _entry_name(entry: zipfile.ZipInfo) -> str:
    """Decode an entry's name: Windows in Korea writes cp949 without declaring it, which zipfile reads as cp437."""
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
            f"{archive} is refused: {packed / 1e6:.1f} MB would unpack to {unpacked / 1e6:.0f} MB, more than "
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
