"""The words of figures: which are drawn, and which have no translation."""
import contextlib
import re
from collections.abc import Iterator

from mcvqa.base.korean_figures import KOREAN_FIGURES
from mcvqa.base.plots import FIGURE_WORDS
from mcvqa.base.translation import Translator

KOREAN_WORDS = Translator(KOREAN_FIGURES)


@contextlib.contextmanager
def words_of_figures() -> Iterator[set[str]]:
    """All texts that figures look up within the block, in which they are Korean."""
    words: set[str] = set()
    before = FIGURE_WORDS.set(lambda text: words.add(text) or KOREAN_WORDS.console(text))
    try:
        yield words
    finally:
        FIGURE_WORDS.reset(before)


def untranslated(words: set[str]) -> set[str]:
    """Those that have an English word in Korean too."""
    return {text for text in words if re.search("[a-z]{3}", KOREAN_WORDS.console(text))}
