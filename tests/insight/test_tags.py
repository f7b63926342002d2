"""Tags: each rule with an example, and what each needs to be silent."""
from dataclasses import replace

import pytest

from mcvqa.data.questions import Question
from mcvqa.insight.evidence import Neighbour, RowEvidence
from mcvqa.insight.tags import RULES_OF_TAGS, tag_counts, tag_of, tagged

QUESTION = Question("r1", "a.png", "What color is it?", ("red", "green", "blue", "teal"), 0, source="train")
RIGHT = RowEvidence(
    QUESTION, "train", 0, "color", (0.9, 0.06, 0.02, 0.02), 0, 0.84, 1, 0.3, order_agreement=1.0, scale_agreement=1.0,
    prior=(0.1, 0.6, 0.2, 0.1), label_wrong=0.01, proposed=1,
)
WRONG = replace(RIGHT, probabilities=(0.06, 0.9, 0.02, 0.02), said=1, rank_of_truth=2, label_wrong=0.3)
SAME = Neighbour("r7", "Green", same_question=True)
EXAMPLES = {
    "unreadable photograph": replace(RIGHT, photograph_problem="no such file"),
    "label probably wrong": replace(WRONG, label_wrong=0.86),
    "never learned": replace(WRONG, learned=(0.3, 0.6, 0.05, 0.05)),
    "order-sensitive": replace(WRONG, order_agreement=0.5),
    "misled by the picture": replace(WRONG, prior=(0.7, 0.1, 0.1, 0.1)),
    "resolution-sensitive": replace(RIGHT, scale_agreement=2 / 3),
    "ambiguous": replace(RIGHT, question=replace(QUESTION, votes=(3, 2, 0, 0))),
}


def test_every_rule_has_an_example():
    assert list(EXAMPLES) == [tag for tag, _ in RULES_OF_TAGS]


@pytest.mark.parametrize("tag", EXAMPLES)
def test_a_rule_names_its_row_and_says_why(tag):
    found, (reason, korean) = tag_of(EXAMPLES[tag])
    message = {
        "unreadable photograph": "no such file", "label probably wrong": "86% probable that 'red' is wrong",
        "never learned": "have learned the label 'red' still say 'green' with 60%",
        "order-sensitive": "50% of the option orders", "misled by the picture": "the texts alone say 'red' with 70%",
        "resolution-sensitive": "67% of the image scales", "ambiguous": "3 of 5",
    }
    in_korean = {
        "unreadable photograph": "읽을 수 없습니다: no such file", "label probably wrong": "'red': 틀렸을 확률 86%",
        "never learned": "이 라벨을 학습한 모델의 답도 'green'입니다(60%)",
        "order-sensitive": "보기 순서 가운데 50%", "misled by the picture": "글만 보면 맞히지만('red' 70%)",
        "resolution-sensitive": "이미지 배율 가운데 67%", "ambiguous": "5명 중 3명",
    }
    assert found == tag and message[tag] in reason and in_korean[tag] in korean


@pytest.mark.parametrize("row", [
    RIGHT, WRONG, replace(RIGHT, order_agreement=None, scale_agreement=None, label_wrong=None, proposed=None),
    replace(WRONG, prior=(0.4, 0.2, 0.2, 0.2)), replace(RIGHT, prior=(0.9, 0.1, 0.0, 0.0)),
    replace(RIGHT, question=replace(QUESTION, votes=(4, 1, 0, 0))), replace(WRONG, learned=(0.9, 0.05, 0.05, 0.0)),
    replace(RIGHT, question=replace(QUESTION, votes=(1, 0, 0, 0))),
    replace(WRONG, look_alikes=(replace(SAME, same_question=False),)), replace(WRONG, look_alikes=(replace(SAME, answer="red"),)),
], ids=str)
def test_what_is_usual_has_no_tag(row):
    assert tag_of(row) == ("", ("", ""))


def test_a_look_alike_with_another_label_is_evidence_against_this_one_where_the_models_agree():
    tag, (reason, _) = tag_of(replace(WRONG, look_alikes=(SAME,)))
    assert tag == "label probably wrong" and reason == (
        "row r7 asks the same about a look-alike photograph and is labelled 'Green', which was said here too")
    tag, (reason, _) = tag_of(replace(RIGHT, look_alikes=(SAME,)))
    assert tag == "ambiguous" and "row r7" in reason, "one of both labels is wrong, and the scores speak for this one"


def test_no_choice_stands_out():
    tag, (reason, _) = tag_of(replace(RIGHT, probabilities=(0.3, 0.25, 0.25, 0.2), entropy=0.99))
    assert tag == "ambiguous" and "30% among 4" in reason


def test_a_test_row_has_no_label_to_be_wrong():
    row = replace(EXAMPLES["order-sensitive"], question=replace(QUESTION, answer=None), split="test", label_wrong=None)
    assert tag_of(row)[0] == "order-sensitive"
    assert tag_of(replace(row, order_agreement=1.0)) == ("", ("", ""))


def test_rows_keep_their_tags_and_are_counted():
    rows = tagged([RIGHT, *EXAMPLES.values()])
    assert [row.tag for row in rows] == ["", *EXAMPLES] and all(row.reason for row in rows[1:])
    assert tag_counts(rows).startswith("8 rows; unreadable photograph 1, label probably wrong 1")
    assert tag_counts([RIGHT]) == "1 row; no row has a tag"
