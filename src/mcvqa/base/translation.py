"""Shows the console in another language: output is looked up in a catalogue when it leaves the program.

Texts stay English and readable where they are made, and so do the messages of errors. A catalogue maps templates to templates,
in which `{}` stands for any text: "fold {}: already scored" -> "폴드 {}: 이미 채점했습니다". These texts are looked up too. Text
that is not in the catalogue stays unchanged, and so does everything written to files.
"""
import contextlib
import functools
import re
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from mcvqa.base.columns import columns_of
from mcvqa.base.informing import CONSOLE_LANGUAGE
from mcvqa.base.korean import KOREAN
from mcvqa.base.korean_figures import KOREAN_FIGURES
from mcvqa.base.korean_help import KOREAN_HELP
from mcvqa.base.plots import FIGURE_WORDS

CONSOLE_LANGUAGES = ("en", "ko")
BAR = re.compile(r"(\r?)([^|%]+?)(: +\d+%\|.*)", re.DOTALL)  # of tqdm: "fold 0 epoch 1:  40%|####"
DEEPEST = 5  # texts inside of texts
LONG = 25  # fewest fixed letters of a template that may begin with any text, which "{} rows" must not
PARTICULAR = 50  # fewest fixed letters of a template that may come before those that begin with text, whatever it begins with
COLUMN = re.compile("( {2,})")
PARTICLE = re.compile(r"\{(\d*)\}(?:(이|가|을|를|은|는|과|와|으로|로)(?=[ .,)]|$))?")
PAIRS = {"이": "이가", "가": "이가", "을": "을를", "를": "을를", "은": "은는", "는": "은는", "과": "과와", "와": "과와"}


def console_language(wanted: str, environment: Mapping[str, str]) -> str:
    """Choose one of CONSOLE_LANGUAGES: the wanted one, else that of the locale, else English."""
    locale = next((value for name in ("LC_ALL", "LC_MESSAGES", "LANG") if (value := environment.get(name))), "")
    return wanted or ("ko" if locale.startswith("ko") else "en")


class Translator:
    """Looks texts up in a catalogue."""

    def __init__(self, catalogue: Mapping[str, str]) -> None:
        self.whole = {english: other for english, other in catalogue.items() if "{}" not in english}
        templates = [(english.split("{}"), other) for english, other in catalogue.items() if "{}" in english]
        # the most particular first; before any short ones that begin with a value, which could hold the beginning of another text
        sizes = [sum(map(len, pieces)) for pieces, _ in templates]
        ranked = sorted(zip(templates, sizes, strict=True), key=lambda one: (not one[0][0][0] and one[1] < PARTICULAR, -one[1]))
        self.templates = [template for template, _ in ranked]

    def console(self, text: str) -> str:
        """Translate output: a message as a whole, else line by line; in a progress bar, its title."""
        if bar := BAR.fullmatch(text):
            return bar[1] + self.console(bar[2]) + bar[3]
        lines = text.splitlines(keepends=True)
        return self._found(text, DEEPEST) or "".join(self._found(line, DEEPEST) or line for line in lines)

    def _found(self, text: str, depth: int) -> str:
        """Translate a text, keeping spaces and newlines around it; empty if there is no translation."""
        core = text.strip()
        before, _, after = text.partition(core) if core else ("", "", "")
        if core in self.whole:
            return before + self.whole[core] + after
        if core.startswith("mcvqa "):  # a command to type
            return ""
        for pieces, other in self.templates if depth and core else ():
            values = values_in(core, pieces)
            if values is not None and (pieces[0] or " " not in values[0] or sum(map(len, pieces)) >= LONG):
                if "\n" in core and not any("\n" in piece for piece in pieces) and not self._all_are_messages(values, depth - 1):
                    continue  # several lines are several messages
                return before + filled(other, [self._value(value, depth - 1) for value in values]) + after
        heading = self._heading(core, depth)
        return before + heading + after if heading else ""

    def _all_are_messages(self, values: list[str], depth: int) -> bool:
        return all(self._found(value, depth) for value in values if "\n" in value)

    def _heading(self, line: str, depth: int) -> str:
        """Translate the heading of a table, whose columns keep their places: in the catalogue they are two spaces apart."""
        cells = COLUMN.split(line)  # cell, gap, cell, ...
        other = self._found("  ".join(cells[::2]), depth - 1).split("  ") if depth and len(cells) > 3 else []
        if len(other) != len(cells[::2]) or set(cells[1::2]) == {"  "}:
            return ""
        places = [columns_of(cell) + len(gap) for cell, gap in zip(cells[::2], cells[1::2], strict=False)]
        return "".join(cell + " " * (place - columns_of(cell)) for cell, place in zip(other, [*places, 0], strict=True))

    def _value(self, text: str, depth: int) -> str:
        if text in self.whole:
            return self.whole[text]
        for between in ("; ", ", "):
            parts = text.split(between)
            others = [self._found(part, depth) if " " in part else part for part in parts]  # words may be names
            if len(parts) > 1 and all(others) and others != parts:
                return between.join(others)
        if " + " in text and not self._found(text, depth):  # the members of an ensemble
            return " + ".join(self._found(part, depth) or part for part in text.split(" + "))
        return self._found(text, depth) or "\n".join(self._found(line, depth) or line for line in text.split("\n"))


@functools.cache
def korean_translator() -> Translator:
    """Return the translator of all texts of the package into Korean."""
    return Translator({**KOREAN, **KOREAN_HELP})


def values_in(text: str, pieces: list[str]) -> list[str] | None:
    """Find the texts between the pieces of a template, each as short as possible; None: the text does not match.

    Args:
        text: the text.
        pieces: fixed parts of the template.
    """
    first, *middle, last = pieces
    if not text.startswith(first) or not text.endswith(last) or len(text) < len(first) + len(last):
        return None
    at, end, values = len(first), len(text) - len(last), []
    for piece in middle:
        position = text.find(piece, at, end) if piece else at
        if position < 0:
            return None
        values.append(text[at:position])
        at = position + len(piece)
    values.append(text[at:end])
    return None if any(map(_is_column, pieces, values)) else values


def _is_column(piece: str, value: str) -> bool:
    """Return whether a value is in a column of its own: "run    all steps" does not match the template "run {}"."""
    return value.startswith(" ") and piece.endswith(" ") and not piece.endswith("  ")


def filled(template: str, values: list[str]) -> str:
    """Fill the values into a template: in place of {} one after the other, and of {0}, {1}, ... by number."""
    following = iter(values)

    def put(match: re.Match[str]) -> str:
        value = values[int(match[1])] if match[1] else next(following)
        return value + particle(value, match[2] or "")

    return PARTICLE.sub(put, template)


def particle(word: str, wanted: str) -> str:
    """Choose the form of a Korean particle that follows this word: 폴드가, 실행이; 파일로, 폴더에서 온 것으로.

    Args:
        word: the word.
        wanted: one of its forms; empty: no particle.
    """
    end = word.rstrip("'\")]}").lower()[-1:]
    if "가" <= end <= "힣":
        final = (ord(end) - ord("가")) % 28
    else:  # as digits and letters are read: 1 is 일, n is 엔
        final = 8 if end in ("1", "7", "8", "l") else 1 if end in ("0", "3", "6", "m", "n") else 0
    if wanted in ("으로", "로"):
        return "으로" if final not in (0, 8) else "로"
    return PAIRS[wanted][0 if final else 1] if wanted else ""


class TranslatedStream:
    """Translates what is written to a text stream."""

    def __init__(self, stream: Any, translator: Translator) -> None:
        self.stream, self.translator = stream, translator

    def write(self, text: str) -> int:
        self.stream.write(self.translated(text))
        return len(text)

    def translated(self, text: str) -> str:
        """Translate a text, also for a signal's handler, which must not write to a stream; on any error, keep it."""
        with contextlib.suppress(Exception):  # a translation never ends a run
            return self.translator.console(text)
        return text

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


@contextlib.contextmanager
def translated_output(language: str) -> Iterator[None]:
    """Within the block, translate stdout, stderr and figures, and have pages open in this language.

    Args:
        language: one of CONSOLE_LANGUAGES.
    """
    before, words_before = (sys.stdout, sys.stderr), FIGURE_WORDS.get()
    console = CONSOLE_LANGUAGE.set(language)
    if language == "ko":
        sys.stdout, sys.stderr = (TranslatedStream(stream, korean_translator()) for stream in before)
        FIGURE_WORDS.set(Translator(KOREAN_FIGURES).console)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
        FIGURE_WORDS.set(words_before)
        CONSOLE_LANGUAGE.reset(console)
