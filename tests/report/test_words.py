"""No word of the report lacks its translation, and none is there for nothing."""
import re
from string import Formatter

import pytest

from mcvqa.data.kinds import KINDS
from mcvqa.insight.tag_words import TAG_WORDS
from mcvqa.insight.tags import RULES_OF_TAGS
from mcvqa.report.words import REPORT_LANGUAGES, REPORT_WORDS, report_word
from mcvqa.run.exploration import DUPLICATES_IN_REPORT, EDA_FIGURES
from tests.test_structure import PACKAGE

SAME_IN_BOTH = {"id", "language", "duration", "to"}


def fields(text: str) -> list[str]:
    return [name for _, name, _, _ in Formatter().parse(text) if name]


@pytest.mark.parametrize("name", REPORT_WORDS)
def test_a_word_is_there_in_each_language(name):
    korean, english = REPORT_WORDS[name]
    assert len(REPORT_WORDS[name]) == len(REPORT_LANGUAGES) and korean and english
    assert len(fields(korean)) == len(fields(english)), "as much is filled in"
    if name not in SAME_IN_BOTH:
        assert re.search("[가-힣]", korean) and not re.search("[가-힣]", english)


def test_every_word_is_used_and_every_name_has_its_word():
    code = "".join(file.read_text("utf-8") for file in (PACKAGE / "report").glob("*.py") if file.name != "words.py")
    by_name = {*KINDS, *DUPLICATES_IN_REPORT, *(f"{name}_eda" for name in EDA_FIGURES)}
    assert by_name <= set(REPORT_WORDS)
    unused = [name for name in REPORT_WORDS if f'"{name}"' not in code and f"'{name}'" not in code and name not in by_name]
    assert not unused


def test_a_name_that_does_not_exist_is_an_error():
    with pytest.raises(KeyError):
        report_word("en", "no such word")


def test_every_tag_has_its_words():
    assert set(TAG_WORDS) == {tag for tag, _ in RULES_OF_TAGS} | {""}
    for korean, english in TAG_WORDS.values():
        assert all(re.search("[가-힣]", text) for text in korean) and not any(re.search("[가-힣]", text) for text in english)
