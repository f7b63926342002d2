"""Shows the label alignment on one row: the answer is trained at exactly the token where it is read."""
import itertools
from typing import Any

from mcvqa.config import Config
from mcvqa.data.answers import LETTERS
from mcvqa.data.questions import Question
from mcvqa.model.load import load_encoder
from mcvqa.model.plain import PlainEncoder, PlainMaker
from mcvqa.model.rows import Maker, RowMaker
from mcvqa.model.text.encode import Encoder
from mcvqa.model.text.template import rendered_or_why
from mcvqa.model.vision.patches import ImageInputs
from mcvqa.run.dataset import RunData


def print_section(title: str) -> None:
    print(f"\n{title}")


def print_line(good: bool, text: str) -> None:
    print(f"  {'·' if good else '!'} {text}")


def maker_without_weights(
    config: Config, data: RunData, encoder: Encoder | PlainEncoder, processor: Any, model_config: Any
) -> PlainMaker | RowMaker:
    """Make a row maker for inspecting tokens; no weights are loaded.

    Args:
        config: all settings.
        data: rows of the run.
        encoder, processor, model_config: results of `load_encoder`.

    Returns:
        A maker for the plain or the fast path.
    """
    if isinstance(encoder, PlainEncoder):
        return PlainMaker(encoder, data.records)
    return RowMaker(encoder, ImageInputs.of_model(data.records, encoder, processor, model_config, config.image_size), None)


def show_alignment(config: Config, data: RunData) -> None:
    """Print the tokens of the first row with a photograph, marking the supervised token and the position that is read.

    Raises:
        ModelError, AlignmentError: the model cannot be loaded, or its template does not align labels.
    """
    encoder, processor, model_config = load_encoder(config)
    maker = maker_without_weights(config, data, encoder, processor, model_config)
    check_alignment(maker, encoder, data.train[int(data.with_image.argmax())])


def check_alignment(maker: Maker, encoder: Encoder | PlainEncoder, question: Question) -> None:
    """Print one row's tokens, marking the supervised token and the position that is read.

    Args:
        maker: makes rows of the model.
        encoder: its encoder.
        question: the row.

    Raises:
        AlignmentError: they do not match.
    """
    print_section(f"label alignment, question {question.id}")
    letter, tokenizer = LETTERS[question.answer or 0], encoder.tokenizer
    prompt, trained = maker.conversation(question), maker.conversation(question, letter)
    shown = _with_short_images(tokenizer, prompt)
    print("  " + shown.replace("\n", "\n  "), end="")
    supervised, rest = trained[len(prompt)], trained[len(prompt) + 1 :]
    print(f">>>{tokenizer.decode([supervised])}<<<{tokenizer.decode(rest)}".rstrip())
    print_line(trained[: len(prompt)] == prompt, f"the {len(prompt)} tokens of the prompt are the same in training and scoring")
    print_line(
        supervised == encoder.letter_tokens[question.answer or 0],
        f"supervised: token {supervised} {letter!r} at position {len(prompt)}, predicted from position {len(prompt) - 1}, "
        "which is also the position read when scoring",
    )
    if not encoder.rendered:
        order = range(len(question.choices))
        text = rendered_or_why(lambda: encoder.template.text(question, order, letter, with_image=True))
        print_line(True, "in the template's own conversation, the letter does not directly follow this prompt; training uses "
                   "the prompt followed directly by the letter. The template's own conversation:")
        print("    " + text.replace("\n", "\n    "))


def _with_short_images(tokenizer: Any, tokens: list[int]) -> str:
    """Decode the prompt, writing a run of image tokens as a single token."""
    special = set(tokenizer.get_added_vocab().values())
    shown, between = [], []  # the tokens between two runs are decoded together: a letter may have several tokens
    for token, same in itertools.groupby(tokens):
        count = len(list(same))
        if count == 1 or token not in special:
            between += [token] * count
        else:
            shown += [tokenizer.decode(between), f"{tokenizer.decode([token])} x {count}"]
            between = []
    return "".join([*shown, tokenizer.decode(between)])
