"""Maps written answers to choices and back. The whole file decides what a cell means, never a single row.

A cell may be read as a letter, as a number that is a position (counted from 1 or from 0), and as the text of a choice, with
numbers compared by value. A file's convention consists of the meanings that none of its cells contradicts. A cell is an answer if
all remaining meanings agree on it; any other cell is no answer, and is counted and shown.
"""
import re
import string
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from mcvqa.base.informing import counted
from mcvqa.data.own_letters import letters_out_of_order, strip_own_letters

LETTERS = string.ascii_lowercase
KOREAN_LETTERS = "가나다라마바사아자차카타파하"
ALPHABETS = (LETTERS, KOREAN_LETTERS, unicodedata.normalize("NFKC", "ㄱㄴㄷㄹㅁㅂㅅㅇㅈㅊㅋㅌㅍㅎ"))
Meaning = Literal["letter", "one", "zero", "text"]  # a number is a position from one or from zero, or a choice's text
ANSWER_STYLES = ("auto", "letter", "one", "zero", "text")
SUBMISSION_STYLES = ("lower", "upper", "one", "zero", "text", "bare", "korean")  # bare: texts without their own letters
Cell = tuple[str, Sequence[str]]  # what was written, and the choices of its row


# %% one cell: every reading of it
@dataclass(frozen=True)
class Readings:
    """Holds every way to read one cell; None for a way that does not apply.

    Attributes:
        filled: for each choice of the row, whether it has a text; one without is never an answer.
        letter, text: index of the choice if the cell is read as a letter, or as a text.
        number: its value, if it is a number.
        ordinal: whether it is explicitly a position: "2번", "보기 2", "②".
        written: notation of a letter: "lower", "upper" or "korean"; of a text, "bare" if it lacks the choice's own letter.
    """

    filled: tuple[bool, ...]
    letter: int | None = None
    text: int | None = None
    number: float | None = None
    ordinal: bool = False
    written: str = ""

    def position(self, meaning: Meaning) -> int | None:
        """Return the position that the number means, counted from "one" or "zero"; None if the row has no such position."""
        if self.number is None or not self.number.is_integer():
            return None
        position = int(self.number) - (meaning == "one")
        return position if 0 <= position < len(self.filled) else None

    def agreed(self, convention: "AnswerConvention") -> int | None:
        """Return the choice on which all meanings that the file leaves open agree; None if they do not agree."""
        meanings = self.meant(convention)
        return next(iter(meanings.values())) if len(set(meanings.values())) == 1 else None

    def meant(self, convention: "AnswerConvention") -> dict[Meaning, int]:
        """Return the choice by each meaning that the file leaves open."""
        by_meaning = {"letter": self.letter, "text": self.text, "one": self.position("one"), "zero": self.position("zero")}
        meanings = convention.words if self.number is None else convention.numbers
        return {m: i for m in meanings if (i := by_meaning[m]) is not None and self.filled[i]}


# words around an answer: "The answer is C.", "정답은 2번입니다."
SPOKEN = re.compile(
    r"(?:(?:the\s+)?(?:정답|답|answer|ans)(?![a-z])\s*(?:(?:[:=#은는]|is\b)\s*)*)?(?P<answer>.+?)(?:\s*입니다\.?)?", re.DOTALL
)
LEAD = r"(?P<lead>(?:(?:보기|선택지|선지|옵션|option|choice|opt|no)(?![a-z])[\s:=#_.]*)?)"
OPEN, CLOSE = r"[(\[{<'\"#*`]*\s*", r"\s*[)\]}>'\".:,*`]*"
LETTER_FORM = re.compile(rf"{LEAD}{OPEN}(?P<letter>[a-z{ALPHABETS[1]}{ALPHABETS[2]}])번?{CLOSE}")
NUMBER_FORM = re.compile(
    rf"{LEAD}{OPEN}(?P<number>[+-]?(?:\d{{1,3}}(?:,\d{{3}})+|\d+)(?:\.\d*)?)\s*(?P<nth>번째?(?:\s*보기)?)?{CLOSE}"
)
LABELLED_FORM = re.compile(
    rf"{LEAD}[(\[]?(?P<label>[a-z{ALPHABETS[1]}]|\d\d?)(?:(?:번|\s*[)\].:\-])+\s*|\s+(?=\())(?P<rest>\S.*)", re.DOTALL
)
AMOUNT = re.compile(r"[₩$€£¥]?\s*(?P<value>[+-]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d*)?)\s*(?P<unit>[^\W\d]{0,8}|%|°c?)\.?")


def uncircled_character(char: str) -> str:
    """Convert ⓒ and 🅒 to (c), ③ and ❸ to 3번, ㉮ to (가); drop invisible characters."""
    name = unicodedata.name(char, "")
    if match := re.search(r"(?:CIRCLED|SQUARED) LATIN (?:CAPITAL|SMALL) LETTER (\w)$", name):
        return f"({match[1]})"
    if "CIRCLED" in name:
        body, number = unicodedata.normalize("NFKC", char), unicodedata.numeric(char, None)
        return f"{number:g}번" if number is not None else f"({body})" if body != char else char
    return "" if unicodedata.category(char) in ("Cf", "Co", "Cs") else char


TRUE_WORDS = ("yes", "true", "예", "네", "참", "o")  # words that 1 may mean
UNUSUAL = re.compile(r"[^\x00-\x7f가-힣]")  # what may have another form; most texts hold nothing of it


def compared_text(text: str) -> str:
    """Normalise a text for comparison only: full-width forms, case and spaces do not matter."""
    if UNUSUAL.search(text):
        text = unicodedata.normalize("NFKC", "".join(map(uncircled_character, text)))
    return " ".join(text.casefold().split())


def read_cell(written: str, choices: Sequence[str]) -> Readings:
    """Read one cell in every possible way.

    Args:
        written: content of the cell.
        choices: choices of its row.
    """
    whole, filled = compared_text(written), tuple(bool(c.strip()) for c in choices)
    spoken = SPOKEN.fullmatch(whole)
    shown = spoken["answer"] if spoken else whole
    bare, lettered = strip_own_letters(tuple(choices))
    text, style = _same_text(written, choices, amounts=not lettered), ""
    if text is None and shown != whole:
        text = _same_text(shown, choices, amounts=not lettered)
    if text is None and lettered and not LETTER_FORM.fullmatch(shown):
        text, style = _same_text(written, bare), "bare"  # `green` is the choice `B. green`
    if match := NUMBER_FORM.fullmatch(shown):
        value = float(match["number"].replace(",", ""))
        ordinal = bool(match["nth"]) or match["lead"] > "~"  # "option 1" may be a column's name, after "option 0"
        if text is None:  # 4.000, as much of Europe writes 4,000
            text = _same_text(re.sub(r"\.(?=\d{3}$)", "", shown), choices, amounts=not lettered)
        if text is None and value in (0, 1) and len(choices) == 2 and compared_text(choices[0]).rstrip(".") in TRUE_WORDS:
            text = 1 - int(value)  # not the position from 0: the file decides
        return Readings(filled, text=text, number=value, ordinal=ordinal, written=style)
    letter, label = None, ""
    if match := LETTER_FORM.fullmatch(shown):
        label = match["letter"]
        letter = _letter_index(label)
        letter = letter if letter < len(choices) and filled[letter] else None
        text = letters_out_of_order(tuple(choices)).get(label) if text is None else text
    elif text is None and (match := LABELLED_FORM.fullmatch(shown)):  # `C. green`: label and text must name the same choice
        label, rest = match["label"], match["rest"]
        index = _same_text(rest, choices)
        if index is None and rest.startswith("("):  # `C (green)`
            index = _same_text(rest.strip("()"), choices)
        if label.isdigit():
            return Readings(filled, text=index, number=float(label), ordinal=True) if index is not None else Readings(filled)
        letter = text = index if index == _letter_index(label) else None
    elif text is None:
        text = _same_text(shown.strip("'\"`*()[]{}<>“”‘’「」『』"), choices)
    return Readings(filled, letter, text, written=style or _case(written, label))


def _letter_index(label: str) -> int:
    return next(alphabet.index(label) for alphabet in ALPHABETS if label in alphabet)


def _case(written: str, label: str) -> str:
    if not label.isascii():
        return "korean"
    return "upper" if label and label.upper() in unicodedata.normalize("NFKC", written) else "lower"


def _same_text(written: str, choices: Sequence[str], *, amounts: bool = True) -> int | None:
    """Find the only choice with this text, or with this value if it is a number; None if there is none or several.

    Args:
        amounts: whether values count: the number in `4. red` is not an amount.
    """
    shown = compared_text(written).rstrip(".")
    if not shown:
        return None
    for same in (
        [i for i, text in enumerate(choices) if text.strip() == written.strip()],
        [i for i, text in enumerate(choices) if compared_text(text).rstrip(".") == shown],
        _same_amount(shown, choices) if amounts else [],
    ):
        if same:
            return same[0] if len(same) == 1 else None
    return None


def _same_amount(shown: str, choices: Sequence[str]) -> list[int]:
    """Find the choices with the same amount: `3` is the choice `3.0`, `3개`, `03` or `$3`; different units differ."""
    wanted = AMOUNT.fullmatch(shown)
    if not wanted:
        return []
    amounts = [(i, AMOUNT.fullmatch(compared_text(text))) for i, text in enumerate(choices)]
    unit = wanted["unit"]
    return [i for i, a in amounts if a and _amount(a) == _amount(wanted) and (not unit or a["unit"] in ("", unit))]


def _amount(match: re.Match[str]) -> float:
    return float(match["value"].replace(",", ""))


# %% a file: what its cells mean
@dataclass(frozen=True)
class AnswerConvention:
    """Describes how a file writes its answers.

    Attributes:
        words: what a cell that is not a number may mean; several if the file uses several.
        numbers: what a number may mean; several if the file is ambiguous.
        usual: notation of nine in ten of its answers, one of SUBMISSION_STYLES; "" if there is no such style.
        why: for numbers that are not positions or are ambiguous, the cell that shows it.
        unlike: (how most of its answers are written, the same in the `usual` style): '2번' and '2'; empty if they agree. Then,
            if it is so in all of them, what is before and behind the usual style: '' and '번'.
    """

    words: tuple[Meaning, ...] = ("letter", "text")
    numbers: tuple[Meaning, ...] = ("text", "one")
    usual: str = ""
    why: str = ""
    unlike: tuple[str, ...] = ()

    @property
    def is_clear(self) -> bool:
        """Whether every cell has at most one meaning."""
        return len(self.words) == 1 and len(self.numbers) <= 1


PLAIN_CONVENTION = AnswerConvention()


def read_answer(written: str, choices: Sequence[str], convention: AnswerConvention = PLAIN_CONVENTION) -> int | None:
    """Read the choice that a cell means, if all meanings that its file leaves open agree on it; else None.

    Args:
        written: content of the cell.
        choices: choices of its row.
        convention: convention of its file.
    """
    return read_cell(written, choices).agreed(convention)


def find_convention(
    cells: Iterable[Cell], style: str = "auto", known: AnswerConvention | None = None
) -> AnswerConvention:
    """Find the convention of a file.

    Args:
        cells: all non-empty cells of the file, with the choices of their rows.
        style: one of ANSWER_STYLES; any but "auto" determines the convention.
        known: the convention of another file of the same competition; it settles what this one leaves open.
    """
    cells = list(cells)
    read = [(written, read_cell(written, choices)) for written, choices in cells]
    if style == "auto":
        words, (numbers, why) = _meanings_of_words([cell for _, cell in read]), _meanings_of_numbers(read)
        if known is not None:
            words = tuple(m for m in words if m in known.words) or words
            numbers = tuple(m for m in numbers if m in known.numbers) or numbers
        found = AnswerConvention(words, numbers, "", why)
    else:
        said: tuple[Meaning, ...] = (style,)  # type: ignore[assignment]
        found = AnswerConvention(said if style in ("letter", "text") else (), said if style != "letter" else ())
    usual = _usual_style([cell for _, cell in read], found)
    known_cells = [(*cell, i) for cell, (_, reading) in zip(cells, read, strict=True) if (i := reading.agreed(found)) is not None]
    return replace(found, usual=usual, unlike=_unlike(known_cells, usual) if usual else ())


def _unlike(cells: list[tuple[str, Sequence[str], int]], usual: str) -> tuple[str, ...]:
    """Find how most cells differ from the usual notation, as in `AnswerConvention.unlike`.

    Args:
        cells: written text, choices of the row, and the choice that it means.
    """
    pairs = [(written.strip(), written_answer(index, choices, usual)) for written, choices, index in cells]
    other = [pair for pair in pairs if pair[0] != pair[1].strip()]
    if 2 * len(other) <= len(pairs):
        return ()
    before, _, behind = other[0][0].rpartition(other[0][1])
    alike = behind != ".0" and all(text == before + ours + behind for text, ours in pairs)  # 2.0 is made by pandas
    return (*other[0], before, behind) if alike else other[0]


def _meanings_of_words(cells: list[Readings]) -> tuple[Meaning, ...]:
    """Decide between letters and texts by the cells for which only one of them is possible."""
    words = [c for c in cells if c.number is None]
    letters = any(c.letter is not None and c.text is None for c in words)
    texts = any(c.text is not None and c.letter is None for c in words)
    return ("letter", "text") if letters == texts else ("letter",) if letters else ("text",)


def _meanings_of_numbers(read: list[tuple[str, Readings]]) -> tuple[tuple[Meaning, ...], str]:
    """Decide what the numbers of a file may mean, and why they are not positions or are ambiguous.

    If one number cannot be a position, or the file answers by text, no number is a position. If most numbers are also the text of
    some choice, which positions are only by chance, both remain possible.
    """
    numbers = [(written, cell) for written, cell in read if cell.number is not None]
    if not numbers:
        return (), ""
    by_text = [written for written, c in read if c.number is None and c.letter is None and c.text is not None]
    if by_text:
        return ("text",), f"the file answers by text, for example {by_text[0]!r}"
    bases: tuple[Meaning, ...] = ("one", "zero")
    fitting = tuple(base for base in bases if all(cell.position(base) is not None for _, cell in numbers))
    if not fitting:
        odd = [written for written, cell in numbers if cell.position("one") is None and cell.position("zero") is None]
        return ("text",), f"{odd[0]!r} is not a position" if odd else "they go from 0 up to the number of choices"
    if "one" in fitting and any(cell.ordinal for _, cell in numbers):
        fitting = ("one",)
    if 2 * sum(cell.text is not None for _, cell in numbers) > len(numbers):
        return ("text", *fitting), "they may be positions or the texts of choices"
    return fitting, "" if len(fitting) == 1 else "they may count from 0 or from 1: neither 0 nor the last position occurs"


def _usual_style(cells: list[Readings], convention: AnswerConvention) -> str:
    styles = Counter(_style_of(cell, convention) for cell in cells if cell.agreed(convention) is not None)
    style, count = styles.most_common(1)[0] if styles else ("", 0)
    return style if count >= 0.9 * styles.total() else ""


def _style_of(cell: Readings, convention: AnswerConvention) -> str:
    meaning = next(iter(cell.meant(convention)))
    if meaning == "text" and cell.written == "bare":
        return "bare"
    return cell.written if meaning == "letter" else meaning


# %% what is said about it
@dataclass(frozen=True)
class AnswersRead:
    """Records how the answers of one file were read.

    Attributes:
        examples: (written, letter and text of the choice), three of them.
        understood: number of cells that are answers.
        unread: why a cell is no answer -> the cells.
        left_out: why a row has no answer although none of its cells is in doubt -> number of rows.
    """

    convention: AnswerConvention
    examples: tuple[tuple[str, str], ...] = ()
    understood: int = 0
    unread: dict[str, list[str]] = field(default_factory=dict)
    left_out: dict[str, int] = field(default_factory=dict)

    def summary(self) -> str:
        """Describe the convention in one line, with examples."""
        words = STYLE_WORDS.get(self.convention.usual, "of several kinds")
        shown = "; ".join(f"{written!r} is {choice}" for written, choice in self.examples)
        return f"answers are {words}: {shown}" if shown else "answers could not be interpreted"

    def doubts(self) -> list[str]:
        """Make one line for each kind of cell that is no answer."""
        return [
            f"{counted(len(cells), 'answer is', 'answers are')} not used, {why}: {_few(cells)}"
            for why, cells in self.unread.items()
        ]

    def losses(self, but: str = "") -> list[str]:
        """Make one line for each kind of row that has no answer.

        Args:
            but: a kind whose rows are used nevertheless.
        """
        return [f"{counted(count, 'row is', 'rows are')} left out: {why}" for why, count in self.left_out.items() if why != but]


def _few(cells: Sequence[str]) -> str:
    different = list(dict.fromkeys(cells))
    return ", ".join(map(repr, different[:3])) + (", ..." if len(different) > 3 else "")


STYLE_WORDS = {
    "lower": "letters", "upper": "capital letters", "korean": "Korean letters", "one": "positions counted from 1",
    "zero": "positions counted from 0", "text": "the choices' texts",
    "bare": "the choices' texts without their letters",
}


def why_unread(written: str, choices: Sequence[str], convention: AnswerConvention) -> str:
    """Explain to a person why a cell is no answer.

    Args:
        written: content of the cell.
        choices: choices of its row.
        convention: convention of its file.
    """
    cell = read_cell(written, choices)
    several = len(set(cell.meant(convention).values())) > 1
    if cell.number is None:
        if several:
            return "ambiguous: a letter, but also the text of another choice"
        if [compared_text(choice) for choice in choices].count(compared_text(written)) > 1:
            return "the text of several choices"
        last = LETTERS[len(choices) - 1]
        plain = re.sub("['\"]", "", compared_text(written))
        listed = re.fullmatch(rf"{OPEN}[a-{last}\d](?:\s*[,;/&+]\s*[a-{last}\d])+{CLOSE}", plain)
        return "several answers" if listed else "neither a letter nor the text of a choice"
    if several:
        return f"ambiguous numbers ({convention.why})"
    if convention.numbers == ("text",) and convention.why:
        return f"numbers that are not the text of a choice, and not taken as positions because {convention.why}"
    return "numbers that are not positions" if "text" not in convention.numbers else "numbers that are not the text of a choice"


# %% back: a choice -> what the competition writes
def written_answer(index: int, choices: Sequence[str], style: str) -> str:
    """Write a choice in one of SUBMISSION_STYLES.

    Args:
        index: the choice.
        choices: all choices of the row.
        style: the style.
    """
    if style in ("text", "bare"):
        return (choices if style == "text" else strip_own_letters(tuple(choices))[0])[index]
    if style in ("one", "zero"):
        return str(index + (style == "one"))
    return KOREAN_LETTERS[index] if style == "korean" else LETTERS[index].upper() if style == "upper" else LETTERS[index]
