"""Formats an answer for people, with a bar for each choice, and for programs."""
import json
import unicodedata
from collections.abc import Sequence

from mcvqa.answer.answerer import Answer
from mcvqa.base.informing import one_line
from mcvqa.data.answers import LETTERS

BAR_WIDTH, TEXT_WIDTH = 30, 40  # columns of a terminal


def answer_with_bars(answer: Answer, choices: Sequence[str]) -> str:
    """Show the choice, its letter, and every choice with its probability as a bar."""
    texts = [_shortened(one_line(choice), TEXT_WIDTH) for choice in choices]
    width = max(map(_columns, texts))
    lines = [
        f"  {letter}  {text}{' ' * (width - _columns(text))}  {_bar(share)}  {share:6.1%}"
        for letter, text, share in zip(LETTERS, texts, answer.probabilities, strict=False)
    ]
    return "\n".join([f"{answer.letter}: {one_line(answer.choice)}", "", *lines])


def answer_as_json(answer: Answer, choices: Sequence[str]) -> str:
    """Write one line of JSON: choice, letter, and the probability of each choice by letter."""
    shares = dict(zip(LETTERS, answer.probabilities, strict=False))
    texts = dict(zip(LETTERS, choices, strict=False))
    facts = {"choice": answer.choice, "letter": answer.letter, "probabilities": shares, "choices": texts}
    return json.dumps(facts, ensure_ascii=False)


def _bar(share: float) -> str:
    filled = round(share * BAR_WIDTH)
    return "█" * filled + "·" * (BAR_WIDTH - filled)


def _columns(text: str) -> int:
    """Return how wide a terminal shows a text: Hangul takes two columns, combining marks none."""
    return sum(2 if unicodedata.east_asian_width(char) in "WF" else not unicodedata.combining(char) for char in text)


def _shortened(text: str, width: int) -> str:
    if _columns(text) <= width:
        return text
    while _columns(text) >= width:
        text = text[:-1]
    return f"{text}…"
