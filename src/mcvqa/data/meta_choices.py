"""Handles choices that refer to the others, and the option orders they allow.

"All of the above" must not be shown first, and "Both A and C" means other choices as soon as the order changes.
"""
import re
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache

import numpy as np

from mcvqa.data.answers import KOREAN_LETTERS, LETTERS, compared_text
from mcvqa.data.own_letters import letters_out_of_order, strip_own_letters
from mcvqa.data.questions import Question

# a whole choice in lower case, without spaces and signs
OF_THE_OTHERS = re.compile(
    r"(all|none|both|neither|any)(of)?(the)?above(options|choices|answers)?((are|is)(correct|right|true))?|"
    r"(all|none|both|neither|any)of(these|those|(the|these|those)(other)?(options|choices|answers|others?))|"
    r"(위|상기|보기|이중)(의|에|에는|에서|중|중에|중에는|중에서|보기|항목)*(모든|모두|전부|어느|아무|답|정답|해당|없).{0,8}|"
    r"(모두|전부|모두다)(정답|맞|옳|해당|포함|아니|아님|오답|틀).{0,4}|"
    r"(해당|해당사항|해당하는것|정답|답)(이|은)?없(음|다|습니다|어요)|(어느|아무)것도(아님|아니다|아닙니다|해당.{0,6})|"
    r"(보기|선택지)(에|중에)(는)?(답|정답)?(이)?없(음|다|습니다)|위의?것(들)?(이)?(모두|전부|다).{0,6}"
)
_CHOICE_LETTER = r"(?:보기|options?|choices?|answers?)? ?([a-z]|[가나다라마]|[1-9]번)"
_LETTERS_MARK = r"(모두|둘 ?다|전부|만|제외|only|both|(?:are|is) (?:correct|right|true))"
# a whole choice in lower case, its signs replaced by spaces: 'both a and c', 'a와 b 모두', 'a b 둘 다'
LETTERS_NAMED = re.compile(
    rf"(both |neither |either |only |(?:all|none)(?: of (?:the above|these|them))? (?:but|except) )?"
    rf"{_CHOICE_LETTER}((?: ?(와|과|하고|및) ?| (and|or|nor) | ){_CHOICE_LETTER})*(?: ?{_LETTERS_MARK}.{{0,8}})?"
)


# %% what stays
@lru_cache(maxsize=1 << 17)
def fixed_positions(choices: tuple[str, ...]) -> tuple[int, ...]:
    """Return the positions of the choices that must not move in any option order.

    These are all choices if one names others by letter, or if they have letters of their own that do not match.
    """
    if letters_out_of_order(choices):
        return tuple(range(len(choices)))
    choices, _ = strip_own_letters(choices)  # 'D. All of the above'
    texts = [_in_words(choice) for choice in choices]
    named = [_names_others(text, len(choices)) for text in texts]
    if any(named) and not all(named):  # if all do, they name things in the picture or in the question
        return tuple(range(len(choices)))
    return tuple(i for i, text in enumerate(texts) if OF_THE_OTHERS.fullmatch(text.replace(" ", "")))


def _in_words(choice: str) -> str:
    """Spell a choice in lower case, signs as spaces; `a, b`, `a & b` and `a/b` as `a and b`."""
    return " ".join(re.sub(r"\W", " ", re.sub(r"\s*[,&+/·]\s*", " and ", compared_text(choice))).split())


def _names_others(text: str, n_choices: int) -> bool:
    match = LETTERS_NAMED.fullmatch(text)
    if not match or not (match[1] or match[4] or match[5] or match[7]):
        return False
    names = re.findall(r"\b([a-z]|[가나다라마]|[1-9]번)(?=와|과|하고|및|만| |$)", text)
    numbers = [int(name[0]) - 1 if name[0].isdigit() else (LETTERS + KOREAN_LETTERS).index(name) % 26 for name in names]
    return all(number < n_choices for number in numbers)


def order_rule(questions: Iterable[Question]) -> dict[str, int]:
    """Return this rule's part of a key: its version if it concerns `questions`; empty if all their choices may move."""
    return {"fixed choices": 2} if any(map(fixed_positions, {question.choices for question in questions})) else {}


# %% the orders that are left
def orders_around_fixed(choices: Sequence[str], orders_of: Callable[[int], np.ndarray]) -> np.ndarray:
    """Make option orders (K, C) in which only the other choices move.

    Args:
        choices: C texts.
        orders_of: makes (K, F) orders of F choices.
    """
    fixed = fixed_positions(tuple(choices))
    if not fixed:
        return orders_of(len(choices))
    free = np.setdiff1d(np.arange(len(choices)), fixed)
    if len(free) < 2:
        return np.arange(len(choices))[None]
    inner = orders_of(len(free))
    orders = np.tile(np.arange(len(choices)), (len(inner), 1))
    orders[:, free] = free[inner]
    return orders
