"""What is printed controls no terminal and needs no encoding."""
import contextlib
import io
import logging
import sys

import pytest
from tqdm import tqdm

from mcvqa.base.informing import BarsInFile, PrintableStream, counted, one_line, printable, printable_output


@pytest.mark.parametrize(("text", "shown"), [
    ("\x1b[2J", "\\x1b[2J"), ("a\rready", "a\\rready"), ("\x9b31m", "\\x9b31m"), ("\x07\x00\x7f", "\\x07\\x00\\x7f"),
    ("\u202egnp.exe", "\\u202egnp.exe"), ("\udcb0", "\\udcb0"),
])
def test_what_a_terminal_would_obey_is_shown(text, shown):
    assert printable(text) == shown


def test_a_name_with_a_newline_stays_one_line():
    assert one_line("a.jpg\n\nready\x1b[1m") == "a.jpg\\n\\nready\\x1b[1m" and one_line("사진 1.jpg") == "사진 1.jpg"


def test_one_is_no_plural():
    assert [counted(n, "row") for n in (0, 1, 2, 1234)] == ["0 rows", "1 row", "2 rows", "1,234 rows"]
    assert [counted(n, "batch is", "batches are") for n in (1, 3)] == ["1 batch is", "3 batches are"]


def test_text_stays_as_it_is():
    text = "한글, 日本語, é, 👩‍🎓\n\tsecond line ± 0.02 \\x1b"
    assert printable(text) == text


@pytest.mark.parametrize("encoding", ["ascii", "cp949", "utf-8"])
def test_every_character_can_be_printed_in_any_encoding(encoding):
    file = io.TextIOWrapper(raw := io.BytesIO(), encoding=encoding)
    with contextlib.redirect_stdout(file), printable_output():
        print("한글 ± 👩 \udcb0 \x1b[1m")
    assert not isinstance(sys.stdout, PrintableStream)
    file.flush()
    said = raw.getvalue().decode(encoding)
    assert ("한글 ±" if encoding != "ascii" else "?? ?") in said and "\\udcb0 \\x1b[1m" in said


class Terminal(io.StringIO):
    """A stream that says it is one."""

    def isatty(self) -> bool:
        return True


def test_progress_bars_move_the_cursor_and_their_texts_do_not():
    bars, lines = Terminal(), io.StringIO()
    with contextlib.redirect_stderr(bars), contextlib.redirect_stdout(lines), printable_output():
        for _ in tqdm(range(2), desc="a\x1b[2Jb"):
            tqdm.write("line \x1b[2J\rready")
    assert "\r" in bars.getvalue() and "a\\x1b[2Jb" in bars.getvalue() and "\x1b[2J" not in bars.getvalue()
    assert lines.getvalue() == 2 * "line \\x1b[2J\\rready\n"


def test_a_file_gets_the_end_of_each_bar():
    """Nested bars, a bar that is removed at its end and lines between them."""
    with contextlib.redirect_stderr(io.StringIO()) as file, printable_output():
        for number in tqdm(range(2), desc="outer", mininterval=0):
            for _ in tqdm(range(50), desc=f"inner {number}", mininterval=0):
                pass
        for _ in tqdm(range(3), desc="gone", leave=False, mininterval=0):
            pass
        print("a line", file=sys.stderr)
    lines = file.getvalue().split("\n")
    assert [line.partition("|")[0] for line in lines] == ["inner 0: 100%", "inner 1: 100%", "outer: 100%", "a line", ""]
    assert "\r" not in file.getvalue() and "50/50" in lines[0]


def test_a_file_gets_a_line_of_a_long_bar_now_and_then(monkeypatch):
    seconds = iter(range(0, 1000, 25))
    monkeypatch.setattr("mcvqa.base.informing.time.monotonic", lambda: next(seconds))
    file = io.StringIO()
    stream = BarsInFile(file)
    for percent in range(0, 60, 10):
        stream.write(f"\rfold 0:  {percent}%|")
    assert file.getvalue() == "fold 0:  20%|\nfold 0:  50%|\n"


@pytest.mark.parametrize("library", ["bitsandbytes.backends.cpu.ops", "huggingface_hub.utils._http", "urllib3.connectionpool"])
def test_nothing_looks_like_a_broken_install(library):
    """Kernels that no run needs, and each retry of a download, are no warnings to a user; errors stay."""
    logger = logging.getLogger(library)
    assert not logger.isEnabledFor(logging.WARNING) and logger.isEnabledFor(logging.ERROR)
