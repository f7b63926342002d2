"""Formats an answer for people, with a bar for each choice, and for programs."""
import json
from collections.abc import Sequence

from mcvqa.answer.answerer import Answer
from mcvqa.base.columns import columns_of
from mcvqa.base.informing import one_line
from mcvqa.data.answers import LETTERS

BAR_WIDTH, TEXT_WIDTH = 30, 40  # columns of a terminal


def answer_with_bars(answer: Answer, choices: Sequence[str]) -> str:
    """Show the choice, its letter, and every choice with its probability as a bar."""
    texts = [_shortened(one_line(choice), TEXT_WIDTH) for choice in choices]
    width = max(map(columns_of, texts))
    lines = [
        f"  {letter}  {text}{' ' * (width - columns_of(text))}  {_bar(share)}  {share:6.1%}"
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


def _shortened(text: str, width: int) -> str:
    if columns_of(text) <= width:
        return text
    while columns_of(text) >= width:
        text = text[:-1]
    return f"{text}…"
