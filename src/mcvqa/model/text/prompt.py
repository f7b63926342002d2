"""Turns a question into chat messages, for any order of its choices.

The instruction precedes the options, so the prompts of all option orders of a question share everything up to the options:
scoring several orders costs one prefix and a short suffix for each.
"""
import re
from collections.abc import Sequence
from typing import Any

from mcvqa.config import KOREAN_PROMPT, Config
from mcvqa.data.answers import LETTERS
from mcvqa.data.kinds import basic_kind
from mcvqa.data.own_letters import strip_own_letters
from mcvqa.data.questions import Question

Message = dict[str, Any]  # its role, and its content as a list of parts or as text

# One hint per question type, used with prompt_by_type.
HINTS = {
    "counting": "Count the objects one by one.",
    "color": "Look closely at the color of the object asked about.",
    "ocr": "Read the text in the image carefully.",
    "yesno": "Check whether the statement is true for this image.",
    "location": "Look at where the object is and what is around it.",
    "attribute": "Look at the properties of the object asked about.",
    "general": "",
}


# %% letters
def letter_list(n_choices: int) -> str:
    """List the letters: 4 -> 'a, b, c, d'."""
    return ", ".join(LETTERS[:n_choices])


def option_lines(choices: Sequence[str]) -> str:
    """Write one line '(a) ...' per choice."""
    return "\n".join(f"({letter}) {choice}" for letter, choice in zip(LETTERS, choices, strict=False))


# %% messages
def chat_messages(
    question: Question, order: Sequence[int], config: Config, *, with_image: bool = True, answer: str | None = None
) -> list[Message]:
    """Make the conversation of one question in the format of chat templates.

    Args:
        question: the question.
        order: `order[slot]` is the index of the choice shown in that slot.
        config: settings with the prompts.
        with_image: whether there is a photograph; without one (missing in the test data) only the text is sent.
        answer: letter for the assistant's message; None: no such message, for scoring.
    """
    choices, _ = strip_own_letters(question.choices)
    fields = {
        "question": question.text,
        "options": option_lines([choices[i] for i in order]),
        "letters": letter_list(len(question.choices)),
        "hint": HINTS[basic_kind(question)] if config.prompt_by_type else "",
    }
    user = config.user_prompt or KOREAN_PROMPT
    if config.prompt_by_type and "{hint}" not in user:
        user = "{hint}\n" + user if fields["hint"] else user
    content: list[dict[str, Any]] = [{"type": "image"}] if with_image else []
    content.append({"type": "text", "text": _filled(user, fields)})
    messages: list[Message] = [
        {"role": "system", "content": [{"type": "text", "text": _filled(config.system_prompt, fields)}]},
        {"role": "user", "content": content},
    ]
    if answer is not None:
        messages.append({"role": "assistant", "content": [{"type": "text", "text": answer}]})
    return messages


def _filled(template: str, fields: dict[str, str]) -> str:
    """Fill in the fields of a template in one pass, so that braces in a question are not replaced."""
    return re.sub(r"\{(question|options|letters|hint)\}", lambda match: fields[match[1]], template)
