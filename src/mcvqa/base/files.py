"""Files that are never half written: temporary neighbour, flush to disk, rename."""
import contextlib
import errno
import hashlib
import json
import math
import os
import re
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from mcvqa.config import McvqaError, UnusualFile, load_yaml

Result = TypeVar("Result")


@contextlib.contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """A temporary path beside `path` to write to; it takes the name of `path` when the block ends without an error."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # not by process number: on a shared folder another machine's process may have the same
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        yield part
        sync(part)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def sync(path: str | Path) -> None:
    """Force a file to the disk, or the names in a folder."""
    if Path(path).is_dir():
        with contextlib.suppress(OSError):  # Windows opens no folder, and some mounted drives cannot force one
            _sync(path, os.O_RDONLY)
    else:
        _sync(path, os.O_RDWR)


def _sync(path: str | Path, how: int) -> None:
    handle = os.open(path, how)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_text(path: str | Path, text: str) -> None:
    def attempt() -> None:
        with atomic_path(path) as part:
            part.write_bytes(text.encode("utf-8", "backslashreplace"))  # a name of a file may hold bytes that are no text

    patiently(attempt, f"writing {path}", LONG_WAITS)


def write_json(path: str | Path, value: Any) -> None:
    write_text(path, as_json(value))


def as_json(value: Any, indent: int | None = 1) -> str:
    """`value` as JSON text that ends its last line; NaN and infinity, which JSON does not know, become null.

    Bytes in a file's name that are no text are escaped, so that the name is read back as it was.
    """
    text = json.dumps(_without_nan(value), ensure_ascii=False, indent=indent, allow_nan=False)
    return re.sub("[\ud800-\udfff]", lambda found: f"\\u{ord(found[0]):x}", text) + "\n"


def _without_nan(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _without_nan(v) for key, v in value.items()}
    return [_without_nan(v) for v in value] if isinstance(value, (list, tuple)) else value


def or_nan(number: float | None) -> float:
    """A number read from JSON, where null stands for NaN."""
    return math.nan if number is None else number


class DamagedFile(McvqaError, ValueError):
    """A file of a run that cannot be read: cut off, or changed by something else.

    Attributes:
        path: of the file.
        reason: what is wrong with it.
    """

    def __init__(self, path: str | Path, reason: str) -> None:
        super().__init__(path, reason)
        self.path, self.reason = Path(path), reason

    def __str__(self) -> str:
        return (f"{self.path} is damaged: {self.reason}. Put a copy back, or move it away and run the same command again: "
                "what can be made from other files is made again.")


def read_json(path: str | Path, kind: type = object) -> Any:
    """What a JSON file holds.

    Args:
        kind: dict or list, where nothing else will do.

    Raises:
        DamagedFile: it is no JSON, or holds something else.
    """
    return _parsed(path, lambda file: json.loads(Path(file).read_text(encoding="utf-8")), kind)


def read_yaml(path: str | Path, kind: type = object) -> Any:
    """What a YAML file holds; arguments and errors as for `read_json`."""
    return _parsed(path, load_yaml, kind)


def _parsed(path: str | Path, read: Callable[[str | Path], Any], kind: type) -> Any:
    try:
        value = read(path)
    except UnusualFile as error:
        raise DamagedFile(path, str(error.strerror)) from None
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError and JSONDecodeError are ValueErrors
        raise DamagedFile(path, " ".join(str(error).split())) from None
    if not isinstance(value, kind):
        raise DamagedFile(path, f"it holds {'nothing' if value is None else type(value).__name__}, not a {kind.__name__}")
    return value


# %% tables that a spreadsheet opens
FORMULA = re.compile("'*[=+\\-@\t\r\n＝＋－＠]")  # what makes a cell one (OWASP, CSV injection), also behind quotes of ours


def as_spreadsheet_cell(value: Any) -> Any:
    """A value for a CSV file that people open in a spreadsheet: text that it would run as a formula gets a quote in front."""
    return f"'{value}" if isinstance(value, str) and FORMULA.match(value) else value


def from_spreadsheet_cell(cell: str) -> str:
    """What `as_spreadsheet_cell` was given."""
    return cell[1:] if cell.startswith("'") and FORMULA.match(cell) else cell


# %% drives that drop for a while
AWAY = {getattr(errno, known, None) for known in (  # what a drive answers while it is away; not every system knows all of them
    "ENOTCONN", "EIO", "ESTALE", "ETIMEDOUT", "EHOSTDOWN", "EHOSTUNREACH", "ENODEV", "ENXIO", "EREMOTEIO",
)} - {None}
NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
DISK_ADVICE = (
    "What is finished is kept: make space (cache/ may be deleted), or see that the disk is there, and give the same command "
    "again."
)


class DiskError(McvqaError, RuntimeError):
    """The disk is full, or a mounted drive is away."""


@contextlib.contextmanager
def disk_errors_explained() -> Iterator[None]:
    """Run the block; where the disk is full or away, a DiskError says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno not in NO_ROOM | AWAY:
            raise
        raise DiskError(f"The disk is full or away: {error}. {DISK_ADVICE}") from error


SHORT_WAITS = (0.5, 1.0, 2.0, 4.0)  # seconds between tries, for what may be skipped
LONG_WAITS = (*SHORT_WAITS, 10.0, 20.0, 40.0, 80.0, 160.0)  # for what must not be lost: five minutes


def patiently(work: Callable[[], Result], what: str, waits: Sequence[float], say: Callable[[str], Any] = print) -> Result:
    """What `work()` returns, tried again while a mounted drive is away.

    Args:
        what: is done, for the message.
        waits: seconds before each further try.

    Raises:
        OSError: of the last try, or one that waiting does not mend, such as a full disk.
    """
    for wait in waits:
        try:
            return work()
        except OSError as error:
            if error.errno not in AWAY:
                raise
            say(f"  {what}: {error}. Once more in {wait:g} s")
        time.sleep(wait)
    return work()


def file_hash(path: str | Path) -> str:
    """SHA-256 of the content, 64 hex digits."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else _digest(handle)


def _digest(handle: Any) -> str:  # Python 3.10
    digest = hashlib.sha256()
    while block := handle.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()


MANIFEST = "manifest.json"  # of a folder that was written whole: size and SHA-256 of each of its files


def damaged_file(folder: Path) -> Path | None:
    """The first file of a folder that is not as it was written; None: all of them are."""
    try:
        files = read_json(folder / MANIFEST)["files"].items()
        for name, facts in files:
            file = folder / name
            if not file.exists() or file.stat().st_size != facts["bytes"] or file_hash(file) != facts["sha256"]:
                return file
    except (FileNotFoundError, DamagedFile, KeyError, TypeError, AttributeError):
        return folder / MANIFEST
    return None


class RunLog:
    """`logs/<run>.jsonl`: one JSON line per event, with the time it happened (seconds since 1970).

    A line that cannot be written, because the disk is full or away, waits in memory for the next one and stops nobody.

    Args:
        facts: written with every event, such as the attempt it belongs to.
    """

    def __init__(self, path: str | Path, facts: dict[str, Any] | None = None) -> None:
        self.path, self.facts, self.waiting, self.away = Path(path), facts or {}, "", False

    def with_facts(self, **facts: Any) -> "RunLog":
        """The same log, with more facts in every event."""
        return RunLog(self.path, self.facts | facts)

    def write(self, event: str, **figures: Any) -> None:
        self.waiting += as_json({"time": round(time.time(), 3), "event": event, **self.facts, **figures}, indent=None)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with open(self.path, "a", encoding="utf-8") as handle:
                handle.write(self.waiting)
            self.waiting, self.away = "", False
        except OSError as error:
            if not self.away:
                print(f"\n  {self.path} cannot be written now: {error}. Its lines wait in memory")
                self.waiting = "\n" + self.waiting  # the first may be there in part
            self.away = True

    def events(self, event: str) -> list[dict[str, Any]]:
        """All lines of one kind, oldest first; damaged lines are passed over, such as one that a crash cut off."""
        if not self.path.exists():
            return []
        found = []
        for line in self.path.read_bytes().split(b"\n"):  # not splitlines: a text may hold other ends of lines (U+2028)
            with contextlib.suppress(ValueError, RecursionError):  # no JSON, or no UTF-8
                entry = json.loads(line.decode("utf-8"))
                if isinstance(entry, dict) and entry.get("event") == event:
                    found.append(entry)
        return found
