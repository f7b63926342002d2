"""Messages of a row."""
from mcvqa.config import Config
from mcvqa.model.text.prompt import chat_messages


def text_of(messages, role):
    return next(part["text"] for m in messages if m["role"] == role for part in m["content"] if part["type"] == "text")


def test_the_instruction_stands_before_the_options(questions):
    messages = chat_messages(questions[0], [2, 0, 1, 3], Config())
    assert [m["role"] for m in messages] == ["system", "user"]
    assert messages[1]["content"][0] == {"type": "image"}
    assert text_of(messages, "user") == (
        "차 안에 있는 물건은 무엇입니까?\n정답을 반드시 a, b, c, d 중 하나의 소문자 한 글자로만 출력하세요.\n"
        "(a) 컵\n(b) 휴대폰\n(c) 책\n(d) 지갑"
    )
    assert "exactly one letter among a, b, c, d" in text_of(messages, "system")


def test_letters_follow_the_number_of_choices(questions):
    assert "among a, b." in text_of(chat_messages(questions[1], [0, 1], Config()), "system")
    assert "(z) choice 25" in text_of(chat_messages(questions[3], range(26), Config()), "user")


def test_braces_in_a_question_stay_what_they_are(questions):
    assert text_of(chat_messages(questions[2], [0, 1, 2], Config()), "user").startswith("{options} 몇 개?")


def test_the_answer_is_the_assistants_message_and_never_in_the_prompt(questions):
    messages = chat_messages(questions[0], range(4), Config(), answer="c")
    assert messages[2] == {"role": "assistant", "content": [{"type": "text", "text": "c"}]}
    assert messages[:2] == chat_messages(questions[0], range(4), Config())


def test_a_row_without_photograph_and_the_hint_of_its_type(questions):
    config = Config(prompt_by_type=True)
    text_only = chat_messages(questions[0], range(4), config, with_image=False)[1]["content"]
    assert [part["type"] for part in text_only] == ["text"]
    assert text_of(chat_messages(questions[1], range(2), config), "user").startswith("Check whether")
    placed = Config(prompt_by_type=True, user_prompt="{question} [{hint}]\n{options}")
    assert "[Check whether" in text_of(chat_messages(questions[1], range(2), placed), "user")
