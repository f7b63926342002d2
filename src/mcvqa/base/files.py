"""Writes files atomically (temporary file, fsync, rename), and reads the files of a run."""
import contextlib
import errno
import hashlib
import json
import math
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from mcvqa.config import McvqaError, UnusualFile, load_yaml

Result = TypeVar("Result")


@contextlib.contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`, renamed to `path` when the block ends without an error."""
    path = Path(path)
    require_storage()
    path.parent.mkdir(parents=True, exist_ok=True)
    # a random name: on a shared folder a process of another machine may have the same id
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        yield part
        sync(part)
        os.replace(part, path)
    except OSError as error:
        error.filename = error.filename or str(path)  # a write to a full disk names none
        raise
    finally:
        with contextlib.suppress(OSError):  # not there; or a read-only disk, whose first error says more
            part.unlink()


def link_or_copy(source: Path, target: Path) -> Path:
    """Give a file another name too, or copy it where the file system has no hard links. What is there already stays.

    Returns:
        The target.
    """
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(source, target)
        except OSError:
            with atomic_path(target) as part:
                shutil.copyfile(source, part)
    return target


def sync(path: str | Path) -> None:
    """Flush a file, or the entries of a folder, to disk."""
    is_folder = Path(path).is_dir()
    # Windows cannot open folders, some drives cannot sync them
    with contextlib.suppress(OSError) if is_folder else contextlib.nullcontext():
        handle = os.open(path, os.O_RDONLY if is_folder else os.O_RDWR)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def write_text(path: str | Path, text: str) -> None:
    def attempt() -> None:
        with atomic_path(path) as part:
            part.write_bytes(text.encode("utf-8", "backslashreplace"))  # a file name may hold bytes that are not text

    patiently(attempt, f"writing {path}", LONG_WAITS)


def write_json(path: str | Path, value: Any) -> None:
    write_text(path, as_json(value))


def as_json(value: Any, indent: int | None = 1) -> str:
    """Write a value as JSON text with a final newline; NaN and infinity become null.

    Undecodable bytes of a file name are escaped, so that the name survives the round trip.

    Args:
        value: data for JSON.
        indent: spaces per level; None: one line.
    """
    text = json.dumps(_without_nan(value), ensure_ascii=False, indent=indent, allow_nan=False)
    return re.sub("[\ud800-\udfff]", lambda match: f"\\u{ord(match[0]):x}", text) + "\n"


def _without_nan(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _without_nan(v) for key, v in value.items()}
    return [_without_nan(v) for v in value] if isinstance(value, (list, tuple)) else value


def or_nan(number: float | None) -> float:
    """Return a number read from JSON; null means NaN."""
    return math.nan if number is None else number


class DamagedFile(McvqaError, ValueError):
    """Raised for a file of a run that cannot be read because it was truncated or changed.

    Attributes:
        path: the file.
        reason: what is wrong with it.
    """

    def __init__(self, path: str | Path, reason: str) -> None:
        super().__init__(path, reason)
        self.path, self.reason = Path(path), reason

    def __str__(self) -> str:
        return (f"{self.path} is damaged: {self.reason}. Restore a copy, or move it away and run the same command again: "
                "whatever can be rebuilt from other files is rebuilt.")


def read_json(path: str | Path, kind: type = object) -> Any:
    """Read a JSON file.

    Args:
        path: the file.
        kind: the required type, dict or list.

    Raises:
        DamagedFile: it is not valid JSON, or contains another type.
    """
    return _parsed(path, lambda file: json.loads(Path(file).read_text(encoding="utf-8")), kind)


def read_yaml(path: str | Path, kind: type = object) -> Any:
    """Read a YAML file; see `read_json` for arguments and errors."""
    return _parsed(path, load_yaml, kind)


def _parsed(path: str | Path, read: Callable[[str | Path], Any], kind: type) -> Any:
    try:
        value = patiently(lambda: read(path), f"reading {path}", LONG_WAITS)
    except UnusualFile as error:
        raise DamagedFile(path, str(error.strerror)) from None
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError and JSONDecodeError are ValueErrors
        raise DamagedFile(path, " ".join(str(error).split())) from None
    if not isinstance(value, kind):
        raise DamagedFile(path, f"it holds {'nothing' if value is None else type(value).__name__}, not a {kind.__name__}")
    return value


# %% CSV cells for spreadsheets
FORMULA = re.compile("'*[=+\\-@\t\r\n＝＋－＠]")  # start of a formula (OWASP, CSV injection), also behind quotes that we added


def as_spreadsheet_cell(value: Any) -> Any:
    """Quote a value for a CSV file: text that a spreadsheet would run as a formula gets a leading quote."""
    return f"'{value}" if isinstance(value, str) and FORMULA.match(value) else value


def from_spreadsheet_cell(cell: str) -> str:
    """Undo `as_spreadsheet_cell`."""
    return cell[1:] if cell.startswith("'") and FORMULA.match(cell) else cell


# %% drives that are unavailable for a while
UNAVAILABLE = {getattr(errno, name, None) for name in (  # errors of a disconnected drive; not every system has all of them
    "ENOTCONN", "EIO", "ESTALE", "ETIMEDOUT", "EHOSTDOWN", "EHOSTUNREACH", "ENODEV", "ENXIO", "EREMOTEIO",
)} - {None}
DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
PROTECTED = {errno.EACCES, errno.EPERM, errno.EROFS}
DISK_ADVICE = (
    "Finished work is kept. Free some space (cache/ may be deleted) or reconnect the disk, then run the same command again."
)


class DiskError(McvqaError, RuntimeError):
    """Raised if the disk is full or protected, a folder's name is taken, or a mounted drive is unavailable."""


@contextlib.contextmanager
def disk_errors_explained() -> Iterator[None]:
    """Within the block, convert errors of a full, protected or unavailable disk and long names to DiskErrors with advice."""
    try:
        yield
    except OSError as error:
        elsewhere = "choose another folder: --set output_dir=FOLDER. Then run the same command again."
        if error.errno in PROTECTED:
            raise DiskError(f"{error}. Allow access to it, or {elsewhere}") from error
        if error.errno in (errno.EEXIST, errno.ENOTDIR):
            raise DiskError(
                f"{error}. A folder is needed there, but a file or a broken link has its name. Move it away, or {elsewhere}"
            ) from error
        if error.errno == errno.EISDIR:
            raise DiskError(f"{error}. A file is needed there, but a folder has its name. Choose another name.") from error
        if error.errno == errno.ENAMETOOLONG:
            raise DiskError(f"{error}. Name another file or folder.") from error
        if error.errno not in DISK_FULL | UNAVAILABLE:
            raise
        raise DiskError(f"The disk is full or unavailable: {error}. {DISK_ADVICE}") from error


def existing_folder(folder: Path) -> Path:
    """Return the folder, or its nearest existing parent."""
    return next(p for p in (folder.absolute(), *folder.absolute().parents) if p.exists())


SHORT_WAITS = (0.5, 1.0, 2.0, 4.0)  # seconds between attempts, for what may be skipped
LONG_WAITS = (*SHORT_WAITS, 10.0, 20.0, 40.0, 80.0, 160.0)  # for what must not be lost: five minutes


def patiently(work: Callable[[], Result], what: str, waits: Sequence[float], say: Callable[[str], Any] = print) -> Result:
    """Return `work()`, retried while a mounted drive is unavailable.

    Args:
        work: the function to call.
        what: what it does, for the message ("writing x.json").
        waits: seconds before each further attempt.
        say: prints the message.

    Raises:
        OSError: from the last attempt, or one that waiting does not fix, such as a full disk.
    """
    def attempt() -> Result:
        try:
            return work()
        except FileNotFoundError:
            require_storage()
            raise

    for wait in waits:
        try:
            return attempt()
        except OSError as error:
            if error.errno not in UNAVAILABLE:
                raise
            say(f"  {what}: {error}. Trying again in {wait:g} s")
        time.sleep(wait)
    return attempt()


STORAGE = "MCVQA_STORAGE"  # names a file that exists while the output folder is mounted


def require_storage() -> None:
    """Check that the output folder is mounted. Raises OSError if it is not: nothing must be written into an empty mount point."""
    if (file := os.environ.get(STORAGE)) and not Path(file).exists():
        raise OSError(errno.ENODEV, "The output folder is not mounted", file)


def file_stamp(path: Path) -> list[int]:
    """Return size, modification time and ctime of a file; a change alters the last one, which users cannot set."""
    facts = path.stat()
    return [facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns]


def file_hash(path: str | Path) -> str:
    """Hash a file by SHA-256, 64 hex digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as handle:
        while block := handle.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


MANIFEST = "manifest.json"  # size and SHA-256 of each file of a folder that was written atomically


def damaged_file(folder: Path) -> Path | None:
    """Find the first file of a folder that does not match its manifest; None: all files match."""
    try:
        for name, facts in read_json(folder / MANIFEST)["files"].items():
            file = folder / name
            if not file.exists() or file.stat().st_size != facts["bytes"] or file_hash(file) != facts["sha256"]:
                return file
    except (FileNotFoundError, DamagedFile, KeyError, TypeError, AttributeError):
        return folder / MANIFEST
    return None


def read_events(log: bytes) -> list[dict[str, Any]]:
    """Return the events of a log, oldest first; damaged lines, such as one truncated by a crash, are skipped."""
    events = []
    for line in log.split(b"\n"):  # not splitlines: a text may contain other line ends (U+2028)
        with contextlib.suppress(ValueError, RecursionError):  # not JSON, or not UTF-8
            if isinstance(event := json.loads(line.decode("utf-8")), dict):
                events.append(event)
    return events


class RunLog:
    """Writes `logs/<run>.jsonl`: one JSON line per event, with its time (seconds since 1970).

    A line that cannot be written because the disk is full or unavailable is kept in memory and written with the next one.

    Args:
        path: the file.
        facts: fields of every event, such as the attempt it belongs to.
    """

    def __init__(self, path: str | Path, facts: dict[str, Any] | None = None) -> None:
        self.path, self.facts, self.pending, self.is_failing = Path(path), facts or {}, "", False

    def with_facts(self, **facts: Any) -> "RunLog":
        """Return the same log with more fields in every event."""
        return RunLog(self.path, self.facts | facts)

    def write(self, event: str, **figures: Any) -> None:
        self.pending += as_json({"time": round(time.time(), 3), "event": event, **self.facts, **figures}, indent=None)
        try:
            require_storage()
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with open(self.path, "a", encoding="utf-8") as handle:
                handle.write(self.pending)
            self.pending, self.is_failing = "", False
        except OSError as error:
            if not self.is_failing:
                print(f"\n  {self.path} cannot be written at the moment: {error}. Its lines are kept in memory")
                self.pending = "\n" + self.pending  # the first line may be partly written
            self.is_failing = True

    def events(self, event: str, *fields: str) -> list[dict[str, Any]]:
        """Return all events of one kind that have the given fields, oldest first."""
        if not self.path.exists():
            return []
        return [e for e in read_events(self.path.read_bytes()) if e.get("event") == event and e.keys() >= {*fields}]
