"""What the page of `mcvqa serve` is made of, without gradio: input read, errors of the run, option orders, HTML."""
import asyncio
import csv
import html.parser
import re
import shutil
import string
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from mcvqa import Answerer
from mcvqa.answer.answer_page import Shown, as_text, cards_as_html, heading_as_html, mistakes_as_html, shown_as_html
from mcvqa.answer.answerer import Answer
from mcvqa.answer.mistakes import Mistake, is_asked_by, mistakes_of_run
from mcvqa.answer.opinions import OrderedAnswer, OrderOpinion, answer_in_orders, asks_with_orders, opinions_by_order
from mcvqa.answer.page_words import PAGE_LANGUAGES, PAGE_WORDS, spoken, words_in
from mcvqa.answer.serve import OLDEST_GRADIO, POLICY, LocalOnly, serve_run
from mcvqa.answer.typed import (
    MOST_CHARACTERS,
    AskError,
    dropped_photograph,
    for_browsers,
    lines_of,
    typed_choices,
    typed_question,
)
from mcvqa.config import ConfigError
from mcvqa.data.questions import Question
from mcvqa.data.table import DataError
from mcvqa.scoring.scores import Scores
from tests.answer.conftest import files_of_run

CHOICES = ("red", "green", "blue", "yellow")
HOSTILE = "<img src=x onerror=alert(1)> ${alert(2)} {{7*7}} `x` \\x3c </div><script>alert(3)</script> & \x1b[31m\u202e"


# %% what is typed and dropped
@pytest.mark.parametrize(("typed", "read"), [
    ("red\ngreen", ("red", "green")),
    ("\n  빨강 \r\n\n초록\n\n", ("빨강", "초록")),
    ("a) red\nb) green\nc) blue", ("red", "green", "blue")),
    ("(가) 3분\n나. 5분", ("3분", "5분")),
    ("1.5\n2.5", ("1.5", "2.5")),
    ("red, green\nblue", ("red, green", "blue")),
])
def test_choices_are_lines(typed, read):
    assert typed_choices(typed) == read and typed_choices(lines_of(read)) == read


@pytest.mark.parametrize(("read", "kind"), [
    (lambda: typed_choices(""), "choice_count"), (lambda: typed_choices("red\n\n"), "choice_count"),
    (lambda: typed_choices("x\n" * 27), "choice_count"), (lambda: typed_choices("x" * MOST_CHARACTERS + "\ny"), "long_choices"),
    (lambda: typed_question(" \n"), "no_question"), (lambda: typed_question("?" * (MOST_CHARACTERS + 1)), "long_question"),
    (lambda: dropped_photograph(None), "no_photograph"),
])
def test_what_cannot_be_asked_is_said_in_both_languages(read, kind):
    with pytest.raises(AskError) as caught:
        read()
    assert caught.value.kind == kind
    korean, english = (spoken(caught.value, language) for language in PAGE_LANGUAGES)
    assert re.search("[가-힣]", korean) and not re.search("[가-힣]", english) and "{" not in korean + english


def test_both_languages_say_the_same():
    """Each text has the same places to fill in both, and none is left untranslated."""
    for name, texts in PAGE_WORDS.items():
        places = [{place for _, place, _, _ in string.Formatter().parse(text) if place} for text in texts]
        assert len(texts) == len(PAGE_LANGUAGES) and places[0] == places[1] and texts[0] != texts[1], name


def test_a_photograph_is_shown_as_it_is_or_as_png_of_the_same_pixels(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8)
    for suffix in ("png", "webp", "jpg"):
        file = tmp_path / f"photo.{suffix}"
        Image.fromarray(pixels).save(file)
        assert for_browsers(dropped_photograph(file), tmp_path / "shown.png") == file
    Image.fromarray(pixels).save(tmp_path / "scan.tiff")
    shown = for_browsers(dropped_photograph(tmp_path / "scan.tiff"), tmp_path / "shown.png")
    assert shown.name == "shown.png" and (np.asarray(Image.open(shown)) == pixels).all()


@pytest.mark.parametrize(("content", "reason"), [
    (b"<html><body>", "a web page"), (b"", "empty file"), (b"\xff\xd8\xff\xe0\0\1", "a damaged picture"), (b"%PDF-1.7", "a PDF"),
])
def test_a_photograph_that_cannot_be_read_is_refused_with_the_reason(tmp_path, content, reason):
    (tmp_path / "photo.jpg").write_bytes(content)
    with pytest.raises(AskError) as caught:
        dropped_photograph(tmp_path / "photo.jpg")
    assert reason in spoken(caught.value, "en") and reason in spoken(caught.value, "ko")


# %% option orders
def test_the_opinion_of_an_order_is_the_average_over_folds_and_scales():
    orders = np.array([[[0, 1, -1], [1, 0, -1]] * 2], np.int8)  # two orders at two scales; other rows have a third choice
    shares = [[[.9, .1], [.4, .6], [.8, .2], [.3, .7]], [[.7, .3], [.2, .8], [.6, .4], [.1, .9]]]  # (folds, views, choices)
    logprobs = np.full((2, 4, 3), -np.inf, np.float32)
    logprobs[:, :, :2] = np.log(shares)
    scales = np.array([1, 1, .5, .5], np.float32)
    folds = [Scores(np.array(["q"]), one[None], orders, scales) for one in logprobs]
    first, second = opinions_by_order(folds)
    assert (first.order, first.choice, second.order, second.choice) == ((0, 1), 0, (1, 0), 1)
    odds = [np.sqrt(.9 * .8 / (.1 * .2)), np.sqrt(.7 * .6 / (.3 * .4))]  # geometric mean over scales, arithmetic over folds
    assert first.probabilities[0] == pytest.approx(np.mean([one / (1 + one) for one in odds]), abs=1e-6)
    assert sum(second.probabilities) == pytest.approx(1)


def test_a_row_with_fewer_orders_has_no_opinion_of_the_others():
    orders = np.array([[[0, 1], [1, 0], [-1, -1]]], np.int8)
    logprobs = np.log(np.array([[[.9, .1], [.4, .6], [np.nan, np.nan]]], np.float32))
    opinions = opinions_by_order([Scores(np.array(["q"]), logprobs, orders, np.ones(3, np.float32))])
    assert [opinion.order for opinion in opinions] == [(0, 1), (1, 0)]


def test_the_answer_is_that_of_the_run_and_its_orders_agree_with_it(trained, answerer, tmp_path):
    """Also where the run has no option orders by itself; nothing is kept of a new photograph."""
    Image.new("RGB", (80, 60), (200, 40, 90)).save(tmp_path / "new.png")
    given = tmp_path / "new.png", "What color is it?", CHOICES
    before, cached = files_of_run(trained), sorted(Path(trained.output_dir, "cache").rglob("*"))
    asked = answer_in_orders(Answerer(trained, keep_features=False, **asks_with_orders(trained)), *given, averaged=True)
    once = trained.replace(use_tta=False)
    compared = answer_in_orders(Answerer(once, keep_features=False, **asks_with_orders(once)), *given, averaged=False)
    assert files_of_run(trained) == before and sorted(Path(trained.output_dir, "cache").rglob("*")) == cached
    usual = answerer.answer(*given)
    assert asked.answer.letter == usual.letter and np.allclose(asked.answer.probabilities, usual.probabilities, atol=1e-6)
    assert np.allclose(compared.answer.probabilities, asked.opinions[0].probabilities, atol=1e-6)
    assert not np.allclose(compared.answer.probabilities, usual.probabilities, atol=1e-6)
    assert asked.opinions[0].order == (0, 1, 2, 3) and len(asked.opinions) == 2
    assert compared.opinions[0].order == (0, 1, 2, 3) and len(compared.opinions) > 1
    assert (asked.averaged, compared.averaged, asked.choices) == (True, False, CHOICES)


# %% errors of the run
def wrong_rows(config):
    file = Path(config.output_dir) / "experiments" / config.run / "oof_predictions.csv"
    with open(file, newline="", encoding="utf-8") as handle:
        return {row["id"]: row for row in csv.DictReader(handle) if row["answer"] != row["truth"]}


def test_examples_are_the_errors_of_the_run(trained, answerer, dataset):
    found, wrong = mistakes_of_run(answerer.trained, 99), wrong_rows(trained)
    assert {mistake.question.id for mistake in found} == set(wrong) and found
    for mistake in found:
        row = wrong[mistake.question.id]
        assert (row["answer"], row["truth"]) == ("abcd"[mistake.said], "abcd"[mistake.question.answer])
        assert mistake.share == max(float(row[f"prob_{letter}"]) for letter in "abcd")
        assert mistake.photograph == dataset / f"train/{mistake.question.id}.jpg"
        assert is_asked_by(mistake, mistake.question.text, mistake.question.choices)
        assert not is_asked_by(mistake, mistake.question.text, mistake.question.choices[1:])
    shares = [mistake.share for mistake in found]
    assert shares == sorted(shares, reverse=True) and mistakes_of_run(answerer.trained, 1) == found[:1]


@pytest.mark.parametrize(("harm", "expected"), [
    (lambda run, data: shutil.rmtree(data), "data cannot be read"),
    (lambda run, data: (data / "train.csv").write_text((data / "train.csv").read_text().replace("색", "빛")), "other than those"),
    (lambda run, data: (run / "oof_predictions.csv").unlink(), "mcvqa ensemble r writes it"),
    (lambda run, data: (run / "data.json").write_text("{"), "data cannot be read"),
])
def test_without_the_runs_own_data_there_are_no_examples(copied, dataset, tmp_path, harm, expected):
    shutil.copytree(dataset, tmp_path / "data")
    answerer = Answerer(copied, data_dir=str(tmp_path / "data"))
    assert mistakes_of_run(answerer.trained, 1)
    harm(Path(copied.output_dir) / "experiments" / copied.run, tmp_path / "data")
    with pytest.raises(DataError, match=expected) as caught:
        mistakes_of_run(answerer.trained, 1)
    assert expected.split()[0] in text_of(mistakes_as_html(0, str(caught.value), "ko"))


# %% the page
class Page(html.parser.HTMLParser):
    """Its elements, their attributes and its text, as a browser reads them."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[str] = []
        self.text = ""
        self.feed(source)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [name for name, _ in attrs]

    def handle_data(self, data):
        self.text += data


def text_of(source: str) -> str:
    return Page(source).text


def hostile_pages(tmp_path) -> list[str]:
    Image.new("RGB", (9, 9)).save(tmp_path / "x.png")
    mistake = Mistake(Question("q", "x.png", HOSTILE, (HOSTILE, "b"), 1), tmp_path / "x.png", 0, 0.7)
    answer = OrderedAnswer(Answer(HOSTILE, "a", (0.7, 0.3)), (HOSTILE, "b"), (
        OrderOpinion((0, 1), 0, (0.7, 0.3)), OrderOpinion((1, 0), 1, (0.4, 0.6))), True)
    problem = AskError("failed", reason=HOSTILE)
    return [
        *(shown_as_html(shown, language) for language in PAGE_LANGUAGES
          for shown in (Shown(answer, mistake, learned=True), Shown(problem=problem))),
        heading_as_html(HOSTILE, HOSTILE, (0, 1), "en"), mistakes_as_html(0, HOSTILE, "ko"), cards_as_html([mistake]),
    ]


def test_hostile_text_is_shown_as_text(tmp_path):
    """No element, no attribute and no template comes of it."""
    visible = HOSTILE.replace("\x1b", "\\x1b").replace("\u202e", "\\u202e")
    for source in hostile_pages(tmp_path):
        page = Page(source)
        assert visible in page.text
        assert not {"script", "a", "iframe", "style", "b"} & set(page.tags) and page.tags.count("img") <= 1
        assert not [name for name in page.attributes if name.startswith("on") or name in ("href", "srcdoc")]
        assert not set("${}`\\") & set(source), "what templates give a meaning to"
    assert text_of(as_text(HOSTILE)) == visible


def test_an_answer_is_shown_with_its_bars_and_orders():
    answer = OrderedAnswer(Answer("green", "b", (0.25, 0.75)), ("red", "green"), (
        OrderOpinion((0, 1), 1, (0.4, 0.6)), OrderOpinion((1, 0), 1, (0.1, 0.9))), True)
    english, korean = (shown_as_html(Shown(answer), language) for language in ("en", "ko"))
    for expected in ("All 2 orders choose b.", "The answer is the average", "b a", "75.0%", "90%"):
        assert expected in text_of(english)
    assert "width:75.00%" in english and "2가지 순서 모두 b를 골랐습니다" in text_of(korean)
    split = OrderedAnswer(answer.answer, answer.choices, (OrderOpinion((0, 1), 0, (0.6, 0.4)), answer.opinions[1]), False)
    assert "1 of 2 orders choose b. The answer is that of the order you typed" in text_of(shown_as_html(Shown(split), "en"))
    alone = OrderedAnswer(answer.answer, answer.choices, answer.opinions[:1], False)
    shown = shown_as_html(Shown(alone), "en")
    assert words_in("en")["one_order"] in text_of(shown) and "<table>" not in shown


@pytest.mark.parametrize(("there", "expected"), [
    (None, "6.16 or newer: pip install"), (SimpleNamespace(__version__="5.49.1"), "6.16 or newer, not 5.49.1: pip install"),
])
def test_the_page_is_refused_without_gradio(trained, monkeypatch, there, expected):
    monkeypatch.setitem(sys.modules, "gradio", there)
    with pytest.raises(ConfigError, match=rf"{expected} 'mcvqa\[ui\]'$"):
        serve_run(trained)


def test_the_version_that_is_asked_for_is_the_one_of_the_extra():
    project = (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    assert f'\nui = ["gradio>={OLDEST_GRADIO}"]\n' in project


def test_every_response_forbids_the_browser_to_load_from_elsewhere():
    sent = []

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": [(b"a", b"b")]})
        await send({"type": "http.response.body", "body": b"x"})

    async def keep(message):
        sent.append(message)

    asyncio.run(LocalOnly(app)({"type": "http"}, None, keep))
    headers = dict(sent[0]["headers"])
    assert headers[b"a"] == b"b" and headers[b"content-security-policy"].decode() == POLICY and sent[1]["body"] == b"x"
    assert "http" not in POLICY and POLICY.startswith("default-src 'self';")
