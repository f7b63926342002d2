"""Files that are never half written, and the log of a run."""
import errno
import hashlib
import json
import math
import os
import pickle
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcvqa.base.files import (
    DamagedFile,
    DiskError,
    RunLog,
    as_spreadsheet_cell,
    atomic_path,
    disk_errors_explained,
    file_hash,
    from_spreadsheet_cell,
    or_nan,
    patiently,
    read_json,
    read_yaml,
    write_json,
    write_text,
)
from mcvqa.config import UnusualFile, read_user_file
from tests.faults import drop_drive, small_disk, unmount


def test_an_error_leaves_the_old_file_and_no_litter(tmp_path):
    file = tmp_path / "deep" / "x.json"
    write_json(file, {"한글": 1})
    with pytest.raises(RuntimeError), atomic_path(file) as part:
        part.write_text("half")
        raise RuntimeError
    assert read_json(file) == {"한글": 1}
    assert [p.name for p in file.parent.iterdir()] == ["x.json"]


def test_file_hash_is_sha256(tmp_path):
    file = tmp_path / "x"
    file.write_bytes(b"abc" * 1_000_000)
    assert file_hash(file) == hashlib.sha256(b"abc" * 1_000_000).hexdigest()


def test_the_log_survives_a_line_cut_off_by_a_crash(tmp_path):
    log = RunLog(tmp_path / "logs" / "run.jsonl")
    log.write("step", loss=1.5)
    with open(log.path, "a") as handle:
        handle.write('{"event": "step", "lo\n')
    log.write("step", loss=0.5)
    log.write("epoch", accuracy=0.9)
    assert [e["loss"] for e in log.events("step")] == [1.5, 0.5]


def strictly(text: str):
    """Parsed as JSON, without Python's own additions to it."""
    def refuse(word: str):
        raise AssertionError(f"{word} is no JSON")

    return json.loads(text, parse_constant=refuse)


def test_json_holds_no_nan_and_no_infinity(tmp_path):
    file = tmp_path / "x.json"
    write_json(file, {"a": math.nan, "b": [1.5, (math.inf, "NaN")], "c": {"d": -math.inf}})
    assert strictly(file.read_text()) == {"a": None, "b": [1.5, [None, "NaN"]], "c": {"d": None}}
    log = RunLog(tmp_path / "run.jsonl")
    log.write("epoch", nll=math.nan, epochs=[math.inf])
    assert strictly(log.path.read_text())["nll"] is None and log.events("epoch")[0]["epochs"] == [None]
    assert or_nan(0.0) == 0.0 and math.isnan(or_nan(None))


def test_what_version_0_1_wrote_is_still_read(tmp_path):
    (tmp_path / "x.json").write_text('{"loss": NaN}')
    assert math.isnan(read_json(tmp_path / "x.json")["loss"])


@pytest.mark.parametrize("content", [b"", b'{"a": [1, ', b'"\xea\xb0', b"[" * 100_000, b"[1, 2]", b"null", b"a: 2001-99-99"])
@pytest.mark.parametrize("read", [read_json, read_yaml])
def test_a_damaged_file_is_named_with_what_to_do(read, content, tmp_path):
    file = tmp_path / "data.json"
    file.write_bytes(content)
    with pytest.raises(DamagedFile) as error:
        read(file, dict)
    message = str(error.value)
    assert message.startswith(f"{file} is damaged: ") and "Restore a copy, or move it away" in message and "\n" not in message
    again = pickle.loads(pickle.dumps(error.value))
    assert str(again) == message and again.path == file


def test_a_name_with_bytes_that_are_no_text_is_read_back_from_json(tmp_path):
    name = os.fsdecode("사진".encode("cp949"))
    write_json(tmp_path / "x.json", {name: [name, "\ud800", "한글"]})
    assert strictly((tmp_path / "x.json").read_text("utf-8")) == {name: [name, "\ud800", "한글"]}
    write_text(tmp_path / "x.md", f"{name} 한글")
    assert (tmp_path / "x.md").read_text("utf-8").endswith(" 한글")


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r", "\n=1", "＝1", "'=1", "''@x"])
def test_formulas_become_text_for_a_spreadsheet(text):
    assert as_spreadsheet_cell(text) == f"'{text}" and from_spreadsheet_cell(f"'{text}") == text


@given(st.text(alphabet="'=+-@\t\ra1한"))
def test_any_text_comes_back_from_a_spreadsheet(text):
    cell = as_spreadsheet_cell(text)
    assert from_spreadsheet_cell(cell) == text and not cell.startswith(tuple("=+-@\t\r"))


def test_numbers_and_other_texts_stay_as_they_are_for_a_spreadsheet():
    for value in (-1, -0.5, "", "a", "a=b", "'tis", "'", 1.0, None):
        assert as_spreadsheet_cell(value) is value
    assert [from_spreadsheet_cell(cell) for cell in ("'tis", "=1", "'", "")] == ["'tis", "=1", "'", ""]


def test_only_regular_files_of_a_usual_size_are_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").write_bytes(bytes(3000))
    kinds = {tmp_path / "pipe": "a named pipe, not a file", tmp_path: "a folder, not a file", "/dev/zero": "a device, not a file",
             tmp_path / "file": "file of 3 KiB; at most 2 are read"}
    for path, reason in kinds.items():
        with pytest.raises(UnusualFile) as error:
            read_user_file(path, 2048)
        assert error.value.strerror == reason
    assert read_user_file(tmp_path / "file") == bytes(3000)
    with pytest.raises(FileNotFoundError):
        read_user_file(tmp_path / "none")
    with pytest.raises(UnusualFile, match="at most 1 are read"):
        read_user_file("/proc/self/status", 1024)  # its size is said to be 0


def test_a_file_that_is_not_there_is_not_damaged(tmp_path):
    for read in (read_json, read_yaml):
        with pytest.raises(FileNotFoundError):
            read(tmp_path / "none")


@pytest.mark.parametrize("line", [
    b'["step"]', b'{"loss": 1}', b"7", b"null", b'{"event": "step", "t": "\xea\xb0', b'{"event": "step", "lo', b"[" * 100_000,
])
def test_the_log_passes_over_what_is_no_event(line, tmp_path):
    log = RunLog(tmp_path / "run.jsonl")
    log.write("step", number=0)
    with open(log.path, "ab") as handle:
        handle.write(line + b"\n")
    log.write("step", number=1)
    assert [e["number"] for e in log.events("step")] == [0, 1]


def test_an_event_without_a_field_that_is_asked_for_is_passed_over(tmp_path):
    log = RunLog(tmp_path / "run.jsonl")
    log.write("session", seconds=1.5)
    log.write("session", minutes=2)
    assert [e["seconds"] for e in log.events("session", "seconds")] == [1.5] and len(log.events("session")) == 2


def test_a_text_in_the_log_may_hold_any_character(tmp_path):
    log = RunLog(tmp_path / "run.jsonl")
    text = "".join(map(chr, (10, 11, 12, 13, 28, 29, 30, 0x85, 0x2028, 0x2029))) + "한글"
    log.write("failed", message=text)
    assert [e["message"] for e in log.events("failed")] == [text]


def test_a_full_disk_is_explained_and_other_errors_are_not(tmp_path):
    with small_disk(tmp_path / "small", "16k"), pytest.raises(DiskError, match=r"full or unavailable.*cache/ may be deleted"), \
            disk_errors_explained():
        write_json(tmp_path / "small" / "x.json", "x" * 100_000)
    with pytest.raises(FileNotFoundError), disk_errors_explained():
        (tmp_path / "none").read_text()
    with pytest.raises(DiskError), disk_errors_explained(), open("/dev/full", "w") as full:
        full.write("x")
    with pytest.raises(DiskError, match="A file is needed there, but a folder has its name"), disk_errors_explained():
        open("/dev", "w").close()
    with pytest.raises(DiskError, match=r"Permission denied: 'x'\. Allow access to it"), disk_errors_explained():
        raise PermissionError(errno.EACCES, "Permission denied", "x")


# %% drives that drop
def test_lines_of_the_log_wait_for_the_drive(tmp_path, capsys):
    log = RunLog(tmp_path / "run.jsonl")
    log.write("step", number=0)
    drop_drive(tmp_path)
    log.write("step", number=1)
    log.write("step", number=2)
    unmount(tmp_path)
    log.write("step", number=3)
    assert [e["number"] for e in log.events("step")] == [0, 1, 2, 3]
    assert capsys.readouterr().out.count("Transport endpoint is not connected") == 1, "told once"


def test_a_full_disk_loses_no_line_and_stops_nobody(tmp_path):
    with small_disk(tmp_path / "small", "16k"):
        log, ballast = RunLog(tmp_path / "small" / "run.jsonl"), tmp_path / "small" / "ballast"
        ballast.write_bytes(bytes(4096))
        for number in range(3):
            log.write("step", number=number, text="x" * 5000)
        ballast.unlink()
        log.path.write_text(log.path.read_text()[:5000])  # and make room
        log.write("step", number=3)
        assert [e["number"] for e in log.events("step")][-1] == 3


def test_files_are_written_when_the_drive_is_back(tmp_path, capsys):
    drop_drive(tmp_path, 0.3)
    write_json(tmp_path / "x.json", [1])
    assert read_json(tmp_path / "x.json") == [1]
    assert "[Errno 107] Transport endpoint is not connected" in capsys.readouterr().out


def test_files_are_read_when_the_drive_is_back(tmp_path):
    write_json(tmp_path / "x.json", [1])
    drop_drive(tmp_path, 0.3)
    assert read_json(tmp_path / "x.json") == [1]


def test_what_waiting_does_not_mend_is_not_waited_for(tmp_path):
    started = time.monotonic()
    with pytest.raises(FileNotFoundError):
        patiently((tmp_path / "none").read_text, "reading", (60.0,))
    assert time.monotonic() - started < 30
