"""Removes letters that are part of the choices ('A. red', '(a) red', '① 빨강').

They contradict those of the prompt.
"""
import re
import unicodedata
from collections.abc import Iterable
from functools import lru_cache

OWN_SERIES = (
    "abcdefghijklmnopqrstuvwxyz", "가나다라마바사아자차카타파하", unicodedata.normalize("NFKC", "ㄱㄴㄷㄹㅁㅂㅅㅇㅈㅊㅋㅌㅍㅎ"),
)
# what a choice begins with: in brackets, before a sign (but neither 1.5 nor 1:30) or a dash (but not 1 - 2), or circled
OWN_LETTER = re.compile(
    r"\s*(?:[(\[<（［〔]\s*(\w{1,2})\s*[)\]>）］〕]|(?:(?:option|choice|보기|선택지|선지)\s*)?(\w{1,2})\s*(?:[)）]|[.．:：、](?!\d))|"
    r"([a-z가-힣ㄱ-ㅎ])\s+[-–—]\s|"
    "([\u2460-\u2473\u2474-\u2487\u249c-\u24e9\u320e-\u321b\u326e-\u327b])[.)]?"
    r")\s*(\S.*)", re.DOTALL | re.IGNORECASE,
)


@lru_cache(maxsize=1 << 17)  # keys ask for every row, again and again
def strip_own_letters(choices: tuple[str, ...]) -> tuple[tuple[str, ...], bool]:
    """Remove letters or numbers from the choices; also return whether they had any.

    They are removed only if every non-empty choice has the letter of its position, in one series (a, b, c; 1, 2, 3; 가, 나, 다),
    and distinct texts remain: '(가) 지역' and '(나) 지역' are names.
    """
    matches = [OWN_LETTER.fullmatch(choice) for choice in choices if choice.strip()]
    at = [position for position, choice in enumerate(choices) if choice.strip()]
    marked = [(_bare_letter(next(filter(None, match.groups()))), match[5]) for match in matches if match]
    numbered = all(letter == str(i + 1) for i, (letter, _) in zip(at, marked, strict=False))
    lettered = any(all(letter == series[i : i + 1] for i, (letter, _) in zip(at, marked, strict=False)) for series in OWN_SERIES)
    if len(at) < 2 or len(marked) < len(at) or not (numbered or lettered) or len({text.casefold() for _, text in marked}) < 2:
        return choices, False
    kept = dict(zip(at, (text for _, text in marked), strict=True))
    return tuple(kept.get(position, choice) for position, choice in enumerate(choices)), True


def letter_rule(rows: Iterable[tuple[str, ...]]) -> dict[str, int]:
    """Return this rule's part of a key: its version if it concerns rows with these choices, else empty."""
    return {"own letters": 2} if any(strip_own_letters(choices)[1] for choices in {*rows}) else {}


@lru_cache(maxsize=1 << 17)
def letters_out_of_order(choices: tuple[str, ...]) -> dict[str, int]:
    """Map the letters of choices from which they are not removed ('B. red', 'A. green', 'blue') to their positions.

    Empty unless most choices begin with different letters of one series, followed by different texts.
    """
    choices, _ = strip_own_letters(choices)
    matches = {position: match for position, choice in enumerate(choices) if (match := OWN_LETTER.fullmatch(choice))}
    letters = {_bare_letter(next(filter(None, match.groups()))): position for position, match in matches.items()}
    one_series = any(all(letter in series[: len(choices) + 1] for letter in letters) for series in (*OWN_SERIES, "0123456789"))
    different = len({match[5].casefold() for match in matches.values()}) > 1  # else they are names: '(가) 지역' and '(나) 지역'
    most = 2 * len(matches) > len(choices) and len(letters) == len(matches) > 1
    return letters if most and one_series and different else {}


def _bare_letter(written: str) -> str:
    """Normalise a label: 'Ａ', 'A', '⒜' and 'ⓐ' -> 'a'; '①' and '1번' -> '1'; '㉮' -> '가'."""
    return unicodedata.normalize("NFKC", written).casefold().strip("()").removesuffix("번")
