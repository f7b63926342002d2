"""One run, one owner: a second process in the same run folder is refused, and told who the first one is.

The lock is the operating system's, so a crash, a SIGKILL or a restart of the machine frees it by itself. Beside it stands who
took it. A child process that an owner starts passes the owner's lock where it has the owner's pid in MCVQA_OWNER.
"""
import ctypes
import os
import shlex
import socket
import sys
import time
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from mcvqa.base.files import DamagedFile, read_json, write_json
from mcvqa.config import McvqaError

OWNER = "MCVQA_OWNER"  # environment variable: pid of the owner that started this process
ORPHANS_END = 10.0  # seconds after which the loader processes of an owner that was killed have ended too
OWNER_FACTS = {"host", "pid", "birth", "since", "command"}
QUERY_LIMITED_INFORMATION, STILL_ACTIVE, ACCESS_DENIED = 0x1000, 259, 5  # winnt.h, minwinbase.h, winerror.h


class Owned(McvqaError, RuntimeError):
    """Raised if another process is working on the same run or fold."""


class Ownership:
    """The right to work on something. The same process may take it again, as a notebook does after an interrupt.

    Args:
        lock: the file that is locked; it stays.
        what: is owned, for messages.
    """

    def __init__(self, lock: Path, what: str) -> None:
        self.what, self.facts = what, lock.with_suffix(".json")
        lock.parent.mkdir(parents=True, exist_ok=True)
        self.lock = FileLock(lock, is_singleton=True)  # which counts how often this process has taken it

    def take(self) -> None:
        """Raises Owned where another process that is alive has it."""
        if self._passes():
            return
        try:
            self._acquire()
        except (OSError, NotImplementedError) as error:
            print(f"  {self.lock.lock_file} cannot be locked here ({error}): start no second process on {self.what}")
        write_json(self.facts, {
            "host": socket.gethostname(), "pid": os.getpid(), "birth": _birth(os.getpid()),
            "since": time.strftime("%Y-%m-%d %H:%M:%S"), "command": shlex.join(sys.argv),
        })

    def give_back(self) -> None:
        """Nothing happens where this process has not taken it."""
        if self.lock.lock_counter == 1:
            self.facts.unlink(missing_ok=True)
        self.lock.release()

    def _acquire(self) -> None:
        """Raises Owned; OSError or NotImplementedError where files cannot be locked."""
        try:
            self.lock.acquire(timeout=0)
        except Timeout:
            owner = self._owner()
            if _is_alive(owner):
                raise Owned(self._refusal(owner)) from None
            self._inherit()

    def _inherit(self) -> None:
        """Take over from an owner that is gone, whose lock is held by processes that it forked."""
        try:
            self.lock.acquire(timeout=ORPHANS_END)
        except Timeout:
            Path(self.lock.lock_file).unlink(missing_ok=True)
            self.lock.acquire(timeout=0)

    def _passes(self) -> bool:
        """Whether the owner has started this process."""
        owner = self._owner()
        return os.environ.get(OWNER) == str(owner.get("pid")) and owner.get("host") == socket.gethostname() and _is_alive(owner)

    def _owner(self) -> dict[str, Any]:
        try:
            facts = read_json(self.facts, dict)
        except (OSError, DamagedFile):  # just about to be written or removed, or damaged
            return {}
        return facts if isinstance(facts, dict) and OWNER_FACTS <= facts.keys() else {}

    def _refusal(self, owner: dict[str, Any]) -> str:
        who = "which has just begun or ended."
        if owner:
            who = "on {host}, since {since}: {command}\nStop it with: kill {pid}".format(**owner)
        return f"Another process works on {self.what}, {who}\nWait for it to end, or choose another name: --set run_name=..."


def _is_alive(owner: dict[str, Any]) -> bool:
    """Whether an owner still works; one of another machine, or an unknown one, does as long as its lock is held."""
    if owner.get("host") != socket.gethostname():
        return True
    return _process_runs(owner["pid"]) and _birth(owner["pid"]) == owner["birth"]


def _process_runs(pid: int, platform: str = sys.platform) -> bool:
    """Whether there is a process with this number, of whatever user."""
    if platform == "win32":  # there os.kill(pid, 0) sends Ctrl-C
        return _windows_process_runs(pid)
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # of another user
        return True
    return True


def _windows_process_runs(pid: int) -> bool:
    """A process that has ended stays known while somebody holds a handle of it; then its exit status tells."""
    kernel = getattr(ctypes, "WinDLL")("kernel32", use_last_error=True)  # noqa: B009 - other systems have none
    handle = kernel.OpenProcess(QUERY_LIMITED_INFORMATION, False, pid)
    if not handle:
        return bool(getattr(ctypes, "get_last_error")() == ACCESS_DENIED)  # noqa: B009
    status = ctypes.c_ulong()
    known = kernel.GetExitCodeProcess(handle, ctypes.byref(status))
    kernel.CloseHandle(handle)
    return not known or status.value == STILL_ACTIVE


def _birth(pid: int) -> str:
    """When a process was started, in Linux' own counting: numbers of processes are used again. Elsewhere empty."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[19]
    except OSError:
        return ""
