"""Paraphrases keep what is asked: slots, numbers, quotations; and stay among the forms of a rule."""
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcvqa.data.paraphrase import ends_in_consonant, fill_form, paraphrase

SAME = [
    ("이 음식은 {}?", {"무엇인가요", "무엇입니까", "무엇일까요", "뭐예요", "뭔가요"}),
    ("여기는 {}?", {"어디인가요", "어디입니까", "어디일까요", "어디예요"}),
    ("개는 {}?", {"몇 마리인가요", "몇 마리입니까", "몇 마리일까요", "몇 마리예요"}),
    ("사람은 {}?", {"몇 명인가요", "몇 명입니까", "몇 명일까요", "몇 명이에요"}),
    ("이 사진은 어디에서 찍은 {}?", {"것인가요", "것입니까", "것일까요", "건가요"}),
    ("고양이는 무엇을 하고 {}", {"있나요", "있습니까", "있을까요", "있어요"}),
    ("무엇을 닮{}?", {"았나요", "았습니까", "았을까요"}),
    ("{} this shape?", {"What color is", "Which color is", "What is the color of"}),
    ("{}?", {"Is there a dog in the image", "Does the image contain a dog", "Can you see a dog in the image"}),
    ("how many {}?", {"cats are there", "cats can you see", "cats can be seen"}),
    ("Where {}?", {"is the red cup located", "can the red cup be found"}),
]


@pytest.mark.parametrize(("frame", "endings"), SAME)
def test_every_form_leads_to_the_others_and_nowhere_else(frame, endings):
    forms = {frame.format(ending) for ending in endings}
    rng = np.random.default_rng(0)
    for form in forms:
        assert {paraphrase(form, rng) for _ in range(60)} == forms - {form}


def test_particles_follow_the_sound():
    rng = np.random.default_rng(0)
    for owner, topic in (("컵", "컵은"), ("나무", "나무는"), ("3", "3은"), ("'별'", "'별'은")):
        made = {paraphrase(f"{owner}의 색깔은 무엇인가요?", rng) for _ in range(80)}
        built = {m for m in made if "의 색깔" not in m}
        assert built and all(m.startswith(f"{topic} 무슨 색깔") or m.startswith(f"{topic} 어떤 색깔") for m in built)
    assert fill_form("{x}[이/가] {y}", {"x": "하트", "y": "[이/가] {z}"}) == "하트가 [이/가] {z}"
    assert fill_form("{x}[이/가]", {"x": "ABC"}) is None and ends_in_consonant("") is None


@pytest.mark.parametrize("text", [
    "", "?", "사진 속 '이것은 무엇인가요?'", '그는 "이것은 무엇인가요?', "두 개의 색깔은",
    "What color is the man wearing?", "What color is used in the logo?", "Where is the man going?",
    "고양이 두 마리", "첫째 줄\n무엇인가요?",
])  # fmt: skip
def test_what_no_rule_fits_stays(text):
    assert paraphrase(text, np.random.default_rng(0)) == text


def test_a_verb_is_not_taken_for_a_noun_with_is():
    made = {paraphrase("이 사진에 무엇이 보입니까?", np.random.default_rng(i)) for i in range(40)}
    assert made == {f"이 사진에 무엇이 {verb}?" for verb in ("보이나요", "보일까요", "보여요")}


def test_two_things_do_not_become_one():
    made = {paraphrase("이 두 개의 색깔은 무엇인가요?", np.random.default_rng(i)) for i in range(40)}
    assert all(m.startswith("이 두 개의 색깔은 ") for m in made)


def kept(text):
    return sorted(re.findall(r"\d+", text)), sorted(re.findall(r'"[^"]*"', text))


endings = st.sampled_from([f.format(e) for f, es in SAME for e in sorted(es)] + ["의 색깔은 무엇인가요?", ""])


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=30), endings, st.integers(0, 99))
def test_numbers_and_quotations_are_kept_and_nothing_raises(start, ending, seed):
    text = start + ending
    assert kept(paraphrase(text, np.random.default_rng(seed))) == kept(text)


some_words = st.lists(st.sampled_from(["고양이", "①번", "½컵", "'A'", "3개", "[은/는]", "{x}", "cat"]), min_size=1)


@settings(max_examples=200, deadline=None)
@given(some_words, endings)
def test_content_words_are_kept_and_a_paraphrase_has_paraphrases(words, ending):
    text = " ".join(words) + " 중 " + ending
    once = paraphrase(text, np.random.default_rng(1))
    assert once.startswith(" ".join(words) + " 중")
    assert (once == text) == (paraphrase(once, np.random.default_rng(2)) == once)
