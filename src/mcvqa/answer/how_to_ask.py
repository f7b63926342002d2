"""Describes how to use an exported model: the prompt with placeholders, the letters' tokens, the size of the photograph."""
import re
from pathlib import Path
from typing import Any

from mcvqa.answer.merge import ExportError
from mcvqa.config import KOREAN_PROMPT, Config
from mcvqa.data.answers import LETTERS
from mcvqa.data.questions import Question
from mcvqa.model.content import local_folder
from mcvqa.model.load import BaseModel
from mcvqa.model.plain import PlainEncoder
from mcvqa.model.text.prompt import letter_list, option_lines
from mcvqa.model.text.template import ChatTemplate


def how_to_ask(base: BaseModel, config: Config, dtype: str) -> dict[str, Any]:
    """Make the content of ask.json; infer.py needs only this and the model.

    Args:
        base: the base model.
        config: settings of the run, with its prompts.
        dtype: name of the number format of the weights.
    """
    template, fast = base.encoder.template, not isinstance(base.encoder, PlainEncoder)
    prompt = prompt_to_fill(template, with_image=True)
    return {
        "base_model": hub_name(config), "dtype": dtype, "system_prompt": config.system_prompt,
        "user_prompt": config.user_prompt or KOREAN_PROMPT, "prompt": prompt,
        "prompt_without_photograph": prompt_to_fill(template, with_image=False), "special": template.special,
        "add_special_tokens": base.encoder.adds_special_tokens(prompt) if isinstance(base.encoder, PlainEncoder) else False,
        "letters": base.encoder.letter_tokens.tolist(), "pixels": config.image_size**2 if fast else 0,
        "merge": base.merge if fast else 0,
        "image_token": base.tokenizer.convert_ids_to_tokens(base.image_token_id) if fast else "",
    }


def prompt_to_fill(template: ChatTemplate, *, with_image: bool) -> str:
    """Render the prompt by the chat template, with {question}, {options} and {letters} as placeholders.

    Args:
        template: the chat template.
        with_image: whether the prompt has a photograph.

    Raises:
        ExportError: the template changes the question.
    """
    text = template.text(MARKED, range(len(LETTERS)), with_image=with_image)
    filled = {"options": option_lines(MARKED.choices), "letters": letter_list(len(LETTERS)), "question": MARKED.text}
    for name, shown in filled.items():
        text = text.replace(shown, f"{{{name}}}")
    if missing := [name for name in ("{question}", "{options}") if name not in text]:
        raise ExportError(f"The chat template changes {missing[0]} of the prompt, which infer.py cannot do: use mcvqa answer.")
    return text


MARKED = Question("marked", "", "@@question@@", tuple(f"@@{letter}@@" for letter in LETTERS))


def hub_name(config: Config) -> str:
    """Return the base model's name on the hub, also for a folder of the hub's cache; else the bare name of its folder."""
    folder = local_folder(config)
    cached = re.search(r"models--([^/\\]+?)--([^/\\]+)[/\\]snapshots", str(folder or config.model_id))
    if cached:
        return f"{cached[1]}/{cached[2]}"
    on_hub = re.fullmatch(r"[\w.-]+/[\w.-]+", config.model_id) and not Path(config.model_id).exists()
    return config.model_id if on_hub else Path(config.model_id.rstrip("/\\")).name
