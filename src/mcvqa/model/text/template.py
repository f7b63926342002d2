"""Renders a question as the model's prompt by its chat template, and verifies that the answer is one token after it.

The scoring prompt is the reference. If the training conversation that the template renders begins with it, the answer is where
the template puts it. Otherwise (some templates add an empty thinking block to one of the two only) the letter is appended
directly to the prompt, where scoring reads it.
"""
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import jinja2
import numpy as np
from jinja2 import meta

from mcvqa.config import Config, McvqaError, read_user_file
from mcvqa.data.answers import LETTERS
from mcvqa.data.questions import Question
from mcvqa.model.text.prompt import Message, chat_messages

NO_THINKING = {"enable_thinking": False, "thinking": False}  # passed to templates that use them
OURS = {"messages", "add_generation_prompt", "tools", "documents"}  # not for the settings
TODAY = date(2026, 1, 1)  # for templates that state it: the same in training and scoring
# roles whose messages are passed as plain text: some templates need this for the system role, or wherever there is no image
FORMS: tuple[tuple[str, ...], ...] = ((), ("system",), ("system", "user", "assistant"))


class AlignmentError(McvqaError, ValueError):
    """Raised if the tokenizer or chat template does not put the answer letter at the token that scoring reads."""


# %% text from a CSV
def special_tokens(tokenizer: Any, *others: str) -> list[str]:
    """List the strings that must not occur in a question, longest first: special and added tokens of the tokenizer, and
    `others`."""
    return sorted({*tokenizer.all_special_tokens, *tokenizer.get_added_vocab(), *others}, key=len, reverse=True)


def without_special(question: Question, special: Sequence[str]) -> Question:
    """Split special tokens in a question by a space: text from a CSV must not end a message."""

    def plain(text: str) -> str:
        for token in special:
            if token in text:
                text = text.replace(token, f"{token[0]} {token[1:]}")
        return text

    return Question(question.id, question.image, plain(question.text), tuple(map(plain, question.choices)),
                    question.answer, question.votes)


# %% the template
class ChatTemplate:
    """Renders questions with the chat template of a model.

    Args:
        renderer: tokenizer or processor of the model; its template is used unless the settings name another.
        special: strings that must not occur in a question (see special_tokens).
        keep_empty: whether an empty system message is rendered; some templates reject any system message.

    Raises:
        AlignmentError: the template omits or rejects the question, or does not use an argument from the settings.
    """

    def __init__(self, renderer: Any, config: Config, special: Sequence[str], *, keep_empty: bool) -> None:
        self.renderer, self.config, self.special, self.keep_empty = renderer, config, special, keep_empty
        source = _template_source(renderer, config.chat_template)
        self.source = re.sub(r"""strftime_now\((['"])(.*?)\1\)""", lambda call: json.dumps(TODAY.strftime(call[2])), source)
        self.arguments = template_arguments(self.source, config.template_arguments)
        self.as_text = self._suitable_form()

    def text(self, question: Question, order: Sequence[int], answer: str | None = None, *, with_image: bool) -> str:
        """Render the scoring prompt; with `answer`, the whole conversation as rendered by the template.

        Args:
            question: the question.
            order: order of its choices.
            answer: letter of the answer.
            with_image: whether the prompt has a photograph.
        """
        return self._rendered(self._messages(question, order, with_image, answer), asks=answer is None)

    def _messages(
        self, question: Question, order: Sequence[int], with_image: bool, answer: str | None = None
    ) -> list[Message]:
        messages = chat_messages(
            without_special(question, self.special), order, self.config, with_image=with_image, answer=answer
        )
        return messages if self.config.system_prompt or self.keep_empty else messages[1:]

    def _rendered(self, messages: list[Message], *, asks: bool) -> str:
        try:
            return self.renderer.apply_chat_template(
                [_as_text(message) if message["role"] in self.as_text else message for message in messages],
                chat_template=self.source, tokenize=False, add_generation_prompt=asks, **self.arguments,
            )
        except Exception as error:  # a template can divide by zero
            raise AlignmentError(
                f"The model's chat template rejects the conversation: {error}\nIf it does not support system messages, move "
                "the instruction into user_prompt and set system_prompt= (empty): the message is then left out."
            ) from error

    def _suitable_form(self) -> tuple[str, ...]:
        """Return the first form in which the template shows all messages, else the first in which it shows the question."""
        refusal: AlignmentError | None = None
        partly = None
        for form in FORMS:
            self.as_text = form
            try:
                (system, user, shown), (_, both, pictured) = (self._shown(with_image=one) for one in (False, True))
            except AlignmentError as error:
                refusal = refusal or error
                continue
            if user and both:
                if system:
                    return form
                partly = form if partly is None else partly
            refusal = refusal or AlignmentError(
                f"The model's chat template leaves out the question. The prompt that it makes:\n{pictured if user else shown}\n"
                "Set chat_template to a file with another template."
            )
        if partly is None and refusal:
            raise refusal
        return partly or ()

    def _shown(self, *, with_image: bool) -> tuple[bool, bool, str]:
        """Return whether a prompt contains the text of the system and of the user message, and the prompt itself."""
        messages = self._messages(PROBE, range(len(LETTERS)), with_image)
        text = self._rendered(messages, asks=True)
        system, user = (
            all(message["content"][-1]["text"].strip() in text for message in messages if message["role"] == role)
            for role in ("system", "user")
        )
        return system, user, text


def _as_text(message: Message) -> Message:
    """Return the message with plain text as its content, if it has only text."""
    first, *more = message["content"]
    return message if more or first["type"] != "text" else {**message, "content": first["text"]}


PROBE = Question("probe", "", "Which one?", tuple(f"choice {letter}" for letter in LETTERS))


def _template_source(renderer: Any, file: str) -> str:
    """Return the source text of the template.

    Raises:
        AlignmentError: the file cannot be read.
    """
    if file:
        try:
            return read_user_file(file, 2**20).decode("utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise AlignmentError(f"chat_template={file!r} cannot be read ({error}).") from None
    template = renderer.chat_template
    return template.get("default") or next(iter(template.values())) if isinstance(template, dict) else template


def template_arguments(source: str, settings: Sequence[str]) -> dict[str, Any]:
    """Collect arguments of the template besides the messages; thinking is off unless the settings enable it.

    Args:
        source: text of the template.
        settings: name=value pairs, from the setting template_arguments.

    Raises:
        AlignmentError: it is not a valid template, or does not use one of the names.
    """
    try:
        parsed = jinja2.Environment(extensions=["jinja2.ext.loopcontrols"]).parse(
            re.sub(r"\{%-?\s*(end)?generation\s*-?%\}", "", source)  # a tag that only transformers defines
        )
    except jinja2.TemplateError as error:
        raise AlignmentError(f"The chat template is not a valid Jinja template: {error}.") from error
    variables = meta.find_undeclared_variables(parsed) - OURS
    passed = {name: _value(text) for name, _, text in (pair.partition("=") for pair in settings)}
    if unread := sorted(passed.keys() - variables):
        raise AlignmentError(
            f"template_arguments: {', '.join(unread)} cannot be set; arguments of the chat template: "
            f"{', '.join(sorted(variables)) or 'none'}."
        )
    return {name: value for name, value in NO_THINKING.items() if name in variables} | passed


def _value(text: str) -> Any:
    """Parse JSON values such as `true` and `3`; anything else is text."""
    try:
        return json.loads(text.lower() if text.lower() in ("true", "false") else text)
    except ValueError:
        return text


# %% label alignment
@dataclass(frozen=True)
class Letters:
    """Holds the tokens of the answer letters after a prompt.

    Attributes:
        tokens: (26,) int64, token of each letter.
        rendered: whether the rendered conversation continues the prompt with the letter; otherwise only the prompt and the letter
            are trained.
    """

    tokens: np.ndarray
    rendered: bool


def verified_letters(
    template: ChatTemplate, tokenizer: Any, tokens_of: Callable[[str], list[int]], *, with_image: bool
) -> Letters:
    """Find the letters' tokens, verifying that each is trained exactly where scoring reads it.

    The training conversation must begin with the scoring prompt, continue with one token that differs between letters, and end
    the same for all of them. If it does not, the letter appended to the prompt must be a separate token.

    Args:
        template: the chat template.
        tokenizer: tokenizer of the model.
        tokens_of: returns the tokens of a text as the model receives them.
        with_image: whether the prompt has a photograph.

    Raises:
        AlignmentError: a letter is not a separate token.
    """
    prompt = template.text(PROBE, range(len(LETTERS)), with_image=with_image)

    def conversation(letter: str) -> str:
        return template.text(PROBE, range(len(LETTERS)), letter, with_image=with_image)

    prompt_tokens = tokens_of(prompt)
    try:
        return Letters(letters_behind(prompt_tokens, [tokens_of(conversation(letter)) for letter in LETTERS]), True)
    except AlignmentError as error:
        mismatch = error
    appended = [tokens_of(prompt + letter) for letter in LETTERS]
    if any(tokens[: len(prompt_tokens)] != prompt_tokens for tokens in appended):  # a trailing space would merge with the letter
        appended = [[*prompt_tokens, *tokenizer.convert_tokens_to_ids([letter])] for letter in LETTERS]
    try:
        return Letters(letters_behind(prompt_tokens, appended), False)
    except AlignmentError as error:
        raise AlignmentError(
            f"{error}\nThe prompt:\n{prompt}\nIts conversation:\n"
            f"{rendered_or_why(lambda: conversation(LETTERS[0]))}"
        ) from mismatch


def rendered_or_why(render: Callable[[], str]) -> str:
    """Return the rendered text, or the reason why the template rejects it."""
    try:
        return render()
    except AlignmentError as error:
        return str(error)


def letters_behind(prompt: list[int], trained: list[list[int]]) -> np.ndarray:
    """Find the token (26,) of each letter after a prompt.

    Args:
        prompt: tokens of the prompt.
        trained: per letter, tokens of the prompt, the letter and possibly more.

    Raises:
        AlignmentError: a sequence does not begin with the prompt, or a letter is not a separate token.
    """
    n = len(prompt)
    for letter, tokens in zip(LETTERS, trained, strict=True):
        if tokens[:n] != prompt:
            raise AlignmentError(f"The text with the letter {letter!r} does not begin with the tokens of the prompt.")
        if len(tokens) <= n or tokens[n + 1 :] != trained[0][n + 1 :]:
            raise AlignmentError(f"The letter {letter!r} is not a single token after the prompt.")
    letters = np.array([tokens[n] for tokens in trained], np.int64)
    if len(set(letters.tolist())) != len(LETTERS):
        raise AlignmentError("Two letters share a token: this tokenizer cannot tell the answers apart.")
    return letters
