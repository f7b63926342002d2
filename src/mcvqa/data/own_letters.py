"""Letters that choices carry themselves ('A. red', '(a) red', '① 빨강') are taken off: they contradict those of the prompt."""
import re
import unicodedata
from collections.abc import Iterable
from functools import lru_cache

OWN_SERIES = ("abcdefghijklmnopqrstuvwxyz", "가나다라마바사아자차카타파하")
# what a choice begins with: in brackets, before a sign (but neither 1.5 nor 1:30), or circled
OWN_LETTER = re.compile(
    r"\s*(?:[(\[<（［〔]\s*(\w{1,2})\s*[)\]>）］〕]|(\w{1,2})\s*(?:[)）]|[.．:：、](?!\d))|"
    "([\u2460-\u2473\u2474-\u2487\u249c-\u24e9\u320e-\u321b\u326e-\u327b])[.)]?"
    r")\s*(\S.*)", re.DOTALL,
)


@lru_cache(maxsize=1 << 17)  # keys ask for every row, again and again
def strip_own_letters(choices: tuple[str, ...]) -> tuple[tuple[str, ...], bool]:
    """The choices without letters or numbers of their own, and whether they had any.

    They are taken off only where every choice that is not empty carries the letter of its position, in one series (a, b, c;
    1, 2, 3; 가, 나, 다), and something different remains of them: '(가) 지역' and '(나) 지역' are names.
    """
    matches = [OWN_LETTER.fullmatch(choice) for choice in choices if choice.strip()]
    at = [position for position, choice in enumerate(choices) if choice.strip()]
    found = [(_bare_letter(next(filter(None, match.groups()))), match[4]) for match in matches if match]
    numbered = all(letter == str(i + 1) for i, (letter, _) in zip(at, found, strict=False))
    lettered = any(all(letter == series[i : i + 1] for i, (letter, _) in zip(at, found, strict=False)) for series in OWN_SERIES)
    if len(at) < 2 or len(found) < len(at) or not (numbered or lettered) or len({text.casefold() for _, text in found}) < 2:
        return choices, False
    kept = dict(zip(at, (text for _, text in found), strict=True))
    return tuple(kept.get(position, choice) for position, choice in enumerate(choices)), True


def letter_rule(rows: Iterable[tuple[str, ...]]) -> dict[str, int]:
    """For a key: which version of this rule concerns rows with these choices; empty where no letters are taken off."""
    return {"own letters": 1} if any(strip_own_letters(choices)[1] for choices in {*rows}) else {}


def _bare_letter(written: str) -> str:
    """'Ａ', 'A', '⒜' and 'ⓐ' -> 'a'; '①' -> '1'; '㉮' -> '가'."""
    return unicodedata.normalize("NFKC", written).casefold().strip("()")
