"""Chat templates: the scoring prompt is the truth, whatever the template makes of a whole conversation."""
import numpy as np
import pytest

from mcvqa.config import Config, ConfigError
from mcvqa.data.answers import LETTERS
from mcvqa.model.content import base_differences, base_print
from mcvqa.model.load import load_encoder
from mcvqa.model.text.encode import Encoder
from mcvqa.model.text.template import AlignmentError
from mcvqa.model.tiny import tiny_tokenizer
from tests.model.chat_templates import IMAGE, KINDS, TURN

GRID = (1, 4, 6)


@pytest.fixture(scope="module")
def tokenizer():
    """As large vocabularies do, it has a token for each letter with a space before it."""
    return tiny_tokenizer([" " + " ".join(LETTERS)] * 100)


@pytest.fixture
def encoder_of(base, tokenizer, tiny_config, tmp_path):
    def made(source: str, **changes) -> Encoder:
        file = tmp_path / "template.jinja"
        file.write_text(source, encoding="utf-8")
        config = tiny_config.replace(chat_template=str(file), **changes)
        return Encoder(tokenizer, config, image_token_id=base.image_token_id, merge=base.merge)

    return made


@pytest.mark.parametrize("kind", KINDS)
def test_the_prompt_and_the_letter_behind_it_are_trained_token_for_token(encoder_of, questions, kind):
    """Invariant 1, on templates of every kind that is published, with a photograph and without one."""
    source, rendered = KINDS[kind]
    encoder = encoder_of(source)
    assert encoder.rendered is rendered
    for question, grid in zip(questions, (GRID, None, GRID, None), strict=True):
        order = np.arange(len(question.choices))[::-1]
        row = encoder.encode(question, order[None], grid)
        asked = encoder.tokenizer.decode(row.input_ids)
        assert question.choices[0] in asked and (row.input_ids == encoder.image_token_id).any() == (grid is not None)
        for slot, original in enumerate(order):
            trained = encoder.prompt_tokens(question, order, grid, answer=LETTERS[slot])
            assert trained[: len(row)] == row.input_ids.tolist() and trained[len(row)] == row.letters[0, original]
            assert rendered or len(trained) == len(row) + 1, "nothing is behind the letter but what the template renders there"


@pytest.mark.parametrize(("given", "end"), [
    ({}, "<think>\n\n</think>\n\n"), ({"enable_thinking": True}, "<think>\n"),
    ({"enable_thinking": "false"}, "<think>\n\n</think>\n\n"),
])
@pytest.mark.parametrize("kind", ["qwen3.5, thinks unless told", "qwen3.5, thinks when told"])
def test_nothing_is_thought_before_the_letter_unless_the_settings_say_so(encoder_of, questions, kind, given, end):
    encoder = encoder_of(KINDS[kind][0], template_arguments=given)
    assert encoder.tokenizer.decode(encoder.encode(questions[0]).input_ids).endswith("<|im_start|>assistant\n" + end)
    assert encoder.rendered is ("</think>" in end)


@pytest.mark.parametrize(("given", "day"), [({}, "01 Jan 2026"), ({"date_string": "26 Jul 2024"}, "26 Jul 2024")])
def test_the_prompt_is_the_same_on_every_day(encoder_of, questions, given, day):
    """A model that is trained on one day and asked on another would be shown another prompt without a word."""
    encoder = encoder_of(KINDS["llama 3.2, mistral small: the day is stated"][0], template_arguments=given)
    assert encoder.tokenizer.decode(encoder.encode(questions[0]).input_ids).startswith(f"Today Date: {day}\n")


def test_the_mark_that_windows_puts_before_a_file_is_not_in_the_prompt(encoder_of, questions):
    encoder = encoder_of("\ufeff" + KINDS["qwen3-vl"][0])
    assert encoder.tokenizer.decode(encoder.encode(questions[0]).input_ids).startswith("<|im_start|>")


def test_where_a_space_and_a_letter_are_two_tokens_the_letter_alone_is_trained(base, tiny_config, tmp_path, questions):
    file = tmp_path / "template.jinja"
    file.write_text(KINDS["idefics3, smolvlm: a space behind the colon of the answer only"][0])
    config = tiny_config.replace(chat_template=str(file))
    encoder = Encoder(base.tokenizer, config, image_token_id=base.image_token_id, merge=base.merge)
    assert not encoder.rendered
    prompt = encoder.prompt_tokens(questions[0], range(4), None)
    assert encoder.prompt_tokens(questions[0], range(4), None, "b") == [*prompt, encoder.letter_tokens[1]]
    assert base.tokenizer.decode(encoder.letter_tokens).strip() == "".join(LETTERS)


def test_an_argument_that_the_template_does_not_read_is_refused(encoder_of):
    with pytest.raises(AlignmentError, match=r"depth cannot be set; arguments of the chat template: enable_thinking\."):
        encoder_of(KINDS["qwen3.5, thinks when told"][0], template_arguments={"depth": 3})
    with pytest.raises(AlignmentError, match="messages, tools cannot be set"):
        encoder_of("{{ tools }}" + KINDS["qwen3-vl"][0], template_arguments={"messages": 3, "tools": "none"})
    with pytest.raises(ConfigError, match=r"write name=value, for example enable_thinking=true"):
        Config(template_arguments=("enable_thinking",))


def test_arguments_are_numbers_truths_or_text(encoder_of, questions):
    source = "{{ depth + 1 }}{{ 'yes' if deep is true else 'no' }}{{ word }}" + KINDS["qwen3-vl"][0]
    encoder = encoder_of(source, template_arguments="depth=3,deep=True,word=a=b")
    assert encoder.tokenizer.decode(encoder.encode(questions[0]).input_ids).startswith("4yesa=b<|im_start|>")


REFUSED = {
    "the question is left out": (
        "{% for m in messages %}{{ m.role }}{% endfor %}{% if add_generation_prompt %}assistant{% endif %}",
        r"leaves out the question\. The prompt that it makes:\nsystemuserassistant"),
    "parts are shown as data": (
        "{% for m in messages %}{{ m.content | tojson }}{% endfor %}",
        "leaves out the question"),
    "the question of a photograph is left out, and text alone is shown": (
        "{% for m in messages %}{% if m.content | length > 1 %}" + IMAGE + "{% else %}" + TURN + "{% endif %}{% endfor %}",
        r"leaves out the question\. The prompt that it makes:\n<\|im_start\|>system\nAnswer a, b(.|\n)*<\|vision_end\|>\n"),
    "the question is cut off": (
        KINDS["qwen3-vl"][0].replace("part.text", "part.text[:300]"),
        r"leaves out the question\. The prompt that it makes:\n(.|\n)*\(k\) choice k"),
    "the template fails in Python": ("{{ 1 / 0 }}" + KINDS["qwen3-vl"][0], "rejects the conversation: division by zero"),
    "the template searches for what is not there": (
        "{{ messages[1].content[0].text.index('<image>') }}", "rejects the conversation: substring not found"),
    "no template": ("{% for %}", "is not a valid Jinja template"),
    "no system message is known": (
        "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}" +
        KINDS["qwen3-vl"][0],
        r"System role not supported(.|\n)*set system_prompt="),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_leaves_the_question_out_is_refused(encoder_of, name):
    source, message = REFUSED[name]
    with pytest.raises(AlignmentError, match=message):
        encoder_of(source)


def test_a_letter_that_is_no_token_of_its_own_is_refused_with_both_texts(base, tiny_config):
    class Splitting:
        """Each letter becomes two tokens."""

        def __init__(self, tokenizer):
            self._tokenizer = tokenizer

        def __getattr__(self, name):
            return getattr(self._tokenizer, name)

        def encode(self, text, **options):
            ids = self._tokenizer.encode(text, **options)
            asked = text.endswith(tuple(f"assistant\n{letter}" for letter in LETTERS))
            behind = 1 if asked else 3 * text.endswith("<|im_end|>\n")
            return [*ids[:-behind], 7, *ids[-behind:]] if behind else ids

    with pytest.raises(AlignmentError) as refused:
        Encoder(Splitting(base.tokenizer), tiny_config, image_token_id=base.image_token_id, merge=base.merge)
    message = str(refused.value)
    assert message.startswith("The letter 'b' is not a single token after the prompt.\nThe prompt:\n<|im_start|>system\n")
    assert "assistant\n\nIts conversation:\n<|im_start|>system\n" in message
    assert message.endswith("assistant\na<|im_end|>\n")


def test_a_template_file_that_is_not_there_is_named(tiny_config):
    with pytest.raises(AlignmentError, match=r"chat_template='/nowhere/x\.jinja' cannot be read"):
        load_encoder(tiny_config.replace(chat_template="/nowhere/x.jinja"))


def test_a_template_file_is_known_by_its_content(tiny_config, tmp_path):
    file = tmp_path / "t.jinja"
    config = tiny_config.replace(chat_template=str(file), output_dir=str(tmp_path))
    prints = []
    for text in ("one", "two"):
        file.write_text(text)
        prints.append(base_print(config))
    assert base_differences(*prints) == ["chat_template of the settings has changed"]
