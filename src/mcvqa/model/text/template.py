"""Chat templates: a question as the text that a model is asked, and proof that an answer is one token behind it.

The prompt that asks for the answer is the truth. Where the conversation that the template renders begins with it, the answer
stands where the template puts it. Elsewhere (some write an empty thought into one of the two only) the letter comes right
behind the prompt, where it is read.
"""
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jinja2
import numpy as np
from jinja2 import meta

from mcvqa.config import Config, McvqaError, read_user_file
from mcvqa.data.answers import LETTERS
from mcvqa.data.questions import Question
from mcvqa.model.text.prompt import Message, chat_messages

NO_THINKING = {"enable_thinking": False, "thinking": False}  # passed to the templates that read them
# roles whose messages are given as text: some templates want that from the system, or wherever there is no picture
FORMS: tuple[tuple[str, ...], ...] = ((), ("system",), ("system", "user", "assistant"))


class AlignmentError(McvqaError, ValueError):
    """The tokenizer or chat template does not put the answer letter where it would be read."""


# %% text from a CSV
def special_tokens(tokenizer: Any, *others: str) -> list[str]:
    """What must not stand in a question, longest first: the tokenizer's special and added tokens, and `others`."""
    return sorted({*tokenizer.all_special_tokens, *tokenizer.get_added_vocab(), *others}, key=len, reverse=True)


def without_special(question: Question, special: Sequence[str]) -> Question:
    """The question with special tokens broken up: text from a CSV must not end a message."""

    def plain(text: str) -> str:
        for token in special:
            if token in text:
                text = text.replace(token, f"{token[0]} {token[1:]}")
        return text

    return Question(question.id, question.image, plain(question.text), tuple(map(plain, question.choices)),
                    question.answer, question.votes)


# %% the template
class ChatTemplate:
    """Renders questions as one model's chat template has them.

    Args:
        renderer: tokenizer or processor of the model, with the template that is used where the settings name no other.
        special: what must not stand in a question (see special_tokens).
        keep_empty: whether an empty system message is rendered; some templates refuse any.

    Raises:
        AlignmentError: the template leaves out what is asked, refuses it, or does not read what the settings pass to it.
    """

    def __init__(self, renderer: Any, config: Config, special: Sequence[str], *, keep_empty: bool) -> None:
        self.renderer, self.config, self.special, self.keep_empty = renderer, config, special, keep_empty
        self.source = _template_source(renderer, config.chat_template)
        self.arguments = template_arguments(self.source, config.template_arguments)
        self.as_text = self._suitable_form()

    def text(self, question: Question, order: Sequence[int], answer: str | None = None, *, with_image: bool) -> str:
        """The prompt that asks for the answer; with `answer`, the whole conversation as the template has it."""
        return self._rendered(self._messages(question, order, with_image, answer), asks=answer is None)

    def _messages(
        self, question: Question, order: Sequence[int], with_image: bool, answer: str | None = None
    ) -> list[Message]:
        made = chat_messages(
            without_special(question, self.special), order, self.config, with_image=with_image, answer=answer
        )
        return made if self.config.system_prompt or self.keep_empty else made[1:]

    def _rendered(self, messages: list[Message], *, asks: bool) -> str:
        try:
            return self.renderer.apply_chat_template(
                [_as_text(message) if message["role"] in self.as_text else message for message in messages],
                chat_template=self.source, tokenize=False, add_generation_prompt=asks, **self.arguments,
            )
        except (jinja2.TemplateError, TypeError) as error:
            raise AlignmentError(
                f"The model's chat template refuses the conversation: {error}\nIf it knows no system message, put what is "
                "wanted into user_prompt and set system_prompt= (nothing): the message is then left out."
            ) from error

    def _suitable_form(self) -> tuple[str, ...]:
        """The first form in which the template shows everything, else the first in which it shows the question."""
        refusal: AlignmentError | None = None
        shown, partly = "", None
        for form in FORMS:
            self.as_text = form
            try:
                system, user, shown = self._shown(with_image=False)
                seen = system, user and self._shown(with_image=True)[1]
            except AlignmentError as error:
                refusal = refusal or error
                continue
            if all(seen):
                return form
            if seen[1] and partly is None:
                partly = form
        if partly is not None:
            return partly
        raise refusal or AlignmentError(
            f"The model's chat template leaves out what is asked. The prompt that it makes:\n{shown}\n"
            "Set chat_template to a file with another template."
        )

    def _shown(self, *, with_image: bool) -> tuple[bool, bool, str]:
        """Whether a prompt shows the system's and the user's text, and the prompt."""
        messages = self._messages(PROBE, range(len(LETTERS)), with_image)
        text = self._rendered(messages, asks=True)
        system, user = (
            all(message["content"][-1]["text"].strip() in text for message in messages if message["role"] == role)
            for role in ("system", "user")
        )
        return system, user, text


def _as_text(message: Message) -> Message:
    """The message with its text alone as content, where it has nothing else."""
    first, *more = message["content"]
    return message if more or first["type"] != "text" else {**message, "content": first["text"]}


PROBE = Question("probe", "", "Which one?", tuple(f"choice {letter}" for letter in LETTERS))


def _template_source(renderer: Any, file: str) -> str:
    """The template's text. Raises AlignmentError: there is none, or the file cannot be read."""
    if file:
        try:
            return read_user_file(file, 2**20).decode("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise AlignmentError(f"chat_template={file!r} cannot be read ({error}).") from None
    own = renderer.chat_template
    return own.get("default") or next(iter(own.values())) if isinstance(own, dict) else own


def template_arguments(source: str, given: Sequence[str]) -> dict[str, Any]:
    """What a template gets beside the messages: nothing is thought before the letter, unless the settings say so.

    Args:
        source: text of the template.
        given: name=value, as the setting template_arguments has them.

    Raises:
        AlignmentError: it is no template, or does not read one of the names given.
    """
    try:
        parsed = jinja2.Environment(extensions=["jinja2.ext.loopcontrols"]).parse(
            re.sub(r"\{%-?\s*(end)?generation\s*-?%\}", "", source)  # a mark of the library's own
        )
    except jinja2.TemplateError as error:
        raise AlignmentError(f"The chat template is no Jinja template: {error}.") from error
    read = meta.find_undeclared_variables(parsed)
    passed = {name: _value(text) for name, _, text in (pair.partition("=") for pair in given)}
    if unread := sorted(passed.keys() - read):
        raise AlignmentError(
            f"template_arguments: the chat template does not read {', '.join(unread)}; it reads {', '.join(sorted(read))}."
        )
    return {name: value for name, value in NO_THINKING.items() if name in read} | passed


def _value(text: str) -> Any:
    """`true` and `3` as what they mean, all else as text."""
    try:
        return json.loads(text.lower() if text.lower() in ("true", "false") else text)
    except ValueError:
        return text


# %% label alignment
@dataclass(frozen=True)
class Letters:
    """What is learned behind a prompt.

    Attributes:
        tokens: (26,) int64, token of each letter.
        rendered: whether the conversation that the template renders goes on from the prompt with it; else the prompt and the
            letter are all that is trained.
    """

    tokens: np.ndarray
    rendered: bool


def verified_letters(
    template: ChatTemplate, tokenizer: Any, tokens_of: Callable[[str], list[int]], *, with_image: bool
) -> Letters:
    """The letters, after proof that each is learned exactly where it is read.

    The training conversation must begin with the scoring prompt, go on with one token that differs between letters, and end
    alike for all of them. If it does not, the letter behind the prompt must be one token of its own.

    Args:
        tokens_of: a text's tokens as the model gets them.

    Raises:
        AlignmentError: a letter is not one token of its own.
    """
    prompt = template.text(PROBE, range(len(LETTERS)), with_image=with_image)

    def conversation(letter: str) -> str:
        return template.text(PROBE, range(len(LETTERS)), letter, with_image=with_image)

    asked = tokens_of(prompt)
    try:
        return Letters(letters_behind(asked, [tokens_of(conversation(letter)) for letter in LETTERS]), True)
    except AlignmentError as error:
        found = error
    behind = [tokens_of(prompt + letter) for letter in LETTERS]
    if any(tokens[: len(asked)] != asked for tokens in behind):  # a space at its end would join the letter
        behind = [[*asked, *tokenizer.convert_tokens_to_ids([letter])] for letter in LETTERS]
    try:
        return Letters(letters_behind(asked, behind), False)
    except AlignmentError as error:
        raise AlignmentError(
            f"{error}\nThe prompt:\n{prompt}\nIts conversation:\n"
            f"{rendered_or_why(lambda: conversation(LETTERS[0]))}"
        ) from found


def rendered_or_why(render: Callable[[], str]) -> str:
    """A text, or why the template refuses it."""
    try:
        return render()
    except AlignmentError as error:
        return str(error)


def letters_behind(prompt: list[int], trained: list[list[int]]) -> np.ndarray:
    """(26,) token of each letter behind a prompt.

    Args:
        trained: tokens with each letter behind the prompt, and maybe more behind that.

    Raises:
        AlignmentError: they do not begin with the prompt, or a letter is not one token of its own.
    """
    n = len(prompt)
    for letter, tokens in zip(LETTERS, trained, strict=True):
        if tokens[:n] != prompt:
            raise AlignmentError(f"The text with the letter {letter!r} does not begin with the tokens of the prompt.")
        if len(tokens) <= n or tokens[n + 1 :] != trained[0][n + 1 :]:
            raise AlignmentError(f"The letter {letter!r} is not one token of its own after the prompt.")
    letters = np.array([tokens[n] for tokens in trained], np.int64)
    if len(set(letters.tolist())) != len(LETTERS):
        raise AlignmentError("Two letters share a token: this tokenizer cannot tell the answers apart.")
    return letters
