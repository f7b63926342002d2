"""Files that are never half written: temporary neighbour, flush to disk, rename."""
import contextlib
import errno
import hashlib
import json
import os
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

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
            part.write_text(text, encoding="utf-8", newline="\n")

    patiently(attempt, f"writing {path}", LONG_WAITS)


def write_json(path: str | Path, value: Any) -> None:
    write_text(path, as_json(value))


def as_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=1) + "\n"


def read_json(path: str | Path) -> Any:
    return json.loads(Path(path).read_text(encoding="utf-8"))


# %% drives that drop for a while
AWAY = {getattr(errno, known, None) for known in (  # what a drive answers while it is away; not every system knows all of them
    "ENOTCONN", "EIO", "ESTALE", "ETIMEDOUT", "EHOSTDOWN", "EHOSTUNREACH", "ENODEV", "ENXIO", "EREMOTEIO",
)} - {None}
NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
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
    except (FileNotFoundError, json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, AttributeError):
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
        self.path.parent.mkdir(parents=True, exist_ok=True)

    def with_facts(self, **facts: Any) -> "RunLog":
        """The same log, with more facts in every event."""
        return RunLog(self.path, self.facts | facts)

    def write(self, event: str, **figures: Any) -> None:
        entry = {"time": round(time.time(), 3), "event": event, **self.facts, **figures}
        self.waiting += json.dumps(entry, ensure_ascii=False) + "\n"
        try:
            with open(self.path, "a", encoding="utf-8") as handle:
                handle.write(self.waiting)
            self.waiting, self.away = "", False
        except OSError as error:
            if not self.away:
                print(f"\n  {self.path} cannot be written now: {error}. Its lines wait in memory")
                self.waiting = "\n" + self.waiting  # the first may be there in part
            self.away = True

    def events(self, event: str) -> list[dict[str, Any]]:
        """All lines of one kind, oldest first; a line cut off by a crash is passed over."""
        if not self.path.exists():
            return []
        found = []
        for line in self.path.read_text(encoding="utf-8").splitlines():
            with contextlib.suppress(json.JSONDecodeError):
                entry = json.loads(line)
                if entry["event"] == event:
                    found.append(entry)
        return found
