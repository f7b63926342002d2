"""The instruction line of the prompt follows the language of the questions."""
import pytest

from mcvqa.base.translation import translated_output
from mcvqa.config import ENGLISH_PROMPT, KOREAN_PROMPT, Config
from mcvqa.data.language import language_of_pages, with_prompt
from mcvqa.data.questions import Question
from mcvqa.model.text.prompt import chat_messages

KOREAN = Question("1", "1.jpg", "이 사진의 브랜드 logo는 무엇인가요?", ("Nike", "Puma"), 0)
PLAIN = Question("3", "3.jpg", "What is it?", ("rice", "bread"), 0)


@pytest.mark.parametrize(("questions", "line", "said"), [
    ([KOREAN], KOREAN_PROMPT, "in Korean (Hangul in 100% of the training questions)"),
    ([PLAIN, PLAIN, KOREAN], ENGLISH_PROMPT, "in English (Hangul in 33% of the training questions)"),
    ([KOREAN, PLAIN], KOREAN_PROMPT, "in Korean (Hangul in 50% of the training questions)"),
    ([PLAIN], ENGLISH_PROMPT, "in English (Hangul in 0% of the training questions)"),
])
def test_the_line_is_in_the_language_of_the_questions(questions, line, said):
    config, why = with_prompt(Config(), questions)
    assert config.user_prompt == line and why == said
    assert config.run == Config().run == Config(user_prompt=KOREAN_PROMPT).run, "no run gets another name"
    shown = chat_messages(questions[0], [1, 0], config)[1]["content"][1]["text"]
    assert shown == line.format(question=questions[0].text, letters="a, b", options="\n".join(
        f"({letter}) {choice}" for letter, choice in zip("ab", questions[0].choices[::-1], strict=True)))


@pytest.mark.parametrize("model", ["tiny", "/kaggle/input/mine/tiny"])
def test_tiny_keeps_the_line_that_it_has_learned(model):
    config, why = with_prompt(Config(model_id=model), [PLAIN])
    assert config.user_prompt == KOREAN_PROMPT and why == "in Korean (the language that tiny was trained on)"
    assert config.weight_settings() == Config(model_id=model).weight_settings()


def test_a_line_that_is_set_stays():
    config = Config(user_prompt="{question}: {options}")
    assert with_prompt(config, [KOREAN]) == (config, "as set in user_prompt")


@pytest.mark.parametrize("console", ["en", "ko"])
def test_pages_open_in_the_language_of_the_command_line(console):
    with translated_output(console):
        assert [language_of_pages([question]) for question in (KOREAN, PLAIN)] == [console, console]


def test_pages_of_notebooks_and_scripts_open_in_the_language_of_the_questions(monkeypatch):
    monkeypatch.setattr("locale.getlocale", lambda: ("en_US", "UTF-8"))
    assert [language_of_pages(asked) for asked in ([KOREAN, PLAIN], [PLAIN])] == ["ko", "en"]
