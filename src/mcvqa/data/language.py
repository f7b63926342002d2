"""Detects the language of the questions and chooses the prompt's instruction line."""
import locale
import re
from collections.abc import Sequence
from pathlib import Path

from mcvqa.base.informing import CONSOLE_LANGUAGE
from mcvqa.config import ENGLISH_PROMPT, KOREAN_PROMPT, Config
from mcvqa.data.questions import Question


def with_prompt(config: Config, questions: Sequence[Question]) -> tuple[Config, str]:
    """Set the instruction line in the language of the questions, if none is set; also return the reason.

    The name of the run does not change: it is needed before the questions are read.
    """
    if config.user_prompt:
        return config, "as set in user_prompt"
    share = hangul_share(questions)
    tiny = Path(config.model_id).name == "tiny"
    why = "the language that tiny was trained on" if tiny else f"Hangul in {share:.0%} of the training questions"
    korean = tiny or share >= 0.5
    settled = config.replace(user_prompt=KOREAN_PROMPT if korean else ENGLISH_PROMPT)
    named = settled if settled.run == config.run else settled.replace(run_name=config.run)
    return named, f"in {'Korean' if korean else 'English'} ({why})"


def hangul_share(questions: Sequence[Question]) -> float:
    """Return the share of the questions that contain a Korean letter."""
    return sum(bool(re.search("[가-힣]", q.text)) for q in questions) / max(1, len(questions))


def language_of_pages(questions: Sequence[Question]) -> str:
    """Choose the language in which pages open: the command line's, else Korean if the locale or half of the questions are."""
    is_korean = (locale.getlocale()[0] or "").startswith(("ko", "Korean"))
    return CONSOLE_LANGUAGE.get() or ("ko" if is_korean or hangul_share(questions) >= 0.5 else "en")
