"""Both reports are read back by a parser: nothing that came from a file becomes markup, and nothing is lost."""
import base64
import dataclasses
import html
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from mcvqa.base.budget import spell_duration
from mcvqa.base.informing import printable
from mcvqa.base.translation import korean_translator
from mcvqa.base.uncertainty import Accuracy, Gain
from mcvqa.config import Config
from mcvqa.data.questions import Question
from mcvqa.report.advice import Advice
from mcvqa.report.content import (
    DataFindings,
    LookAlike,
    ReportBlock,
    ReportInput,
    ReportSection,
    changed_settings,
    gain_verdict,
    report_sections,
)
from mcvqa.report.gallery import ErrorTag, thumbnails_of
from mcvqa.report.markdown import markdown_report, markdown_text
from mcvqa.report.metrics import Selection, measure
from mcvqa.report.page import write_report
from mcvqa.report.submission import SubmissionReport
from mcvqa.scoring.scores import plain_scores

EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)> | `` [x](javascript:alert(3)) </pre> $x$ &amp; ```"


class Page(HTMLParser):
    """Tags, attributes and text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data) -> None:
        self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.texts).split())


def rendered_markdown(text: str) -> str:
    """As GitHub would, with raw HTML let through: what is not escaped would show here."""
    parser = pytest.importorskip("markdown_it").MarkdownIt("commonmark", {"html": True})
    return parser.enable(["table", "strikethrough"]).render(text)


def report_input(metrics, folder, mark: str = "", **changes) -> ReportInput:
    figure = folder / "figures" / "my groups.png"
    figure.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 3), (0, 90, 200)).save(figure)
    tags = {e.id: tag_of(e.predicted, mark) for e in metrics.errors}
    content = ReportInput(
        run=f"run {mark}", config=Config().as_dict() | {"model_id": f"tiny {mark}", "image_column": mark}, metrics=metrics,
        data=DataFindings(
            f"120 rows {mark}\n\n  indented", {"kinds": figure}, [("id", 0, 0, 0), ("photograph, alike", 2, 5, 1)],
            [[LookAlike("one.jpg", "train", f"r1 {mark}"), LookAlike("gone.jpg", "test", "r2")]],
        ),
        methods={f"vote {mark}": Accuracy(80, 120)}, method="vote", method_reason=f"because {mark}", figures={"groups": figure},
        tags=tags, thumbnails=thumbnails_of([*(e.image for e in metrics.errors), "one.jpg", "gone.jpg"], small_picture),
        submissions={f"outputs/{mark}.csv": SubmissionReport(7, {"a": 7}, (f"row 3 {mark}",))},
        environment={f"python {mark}": f"3.12 {mark}"}, seconds=75,
    )
    return dataclasses.replace(content, **changes)


def tag_of(said: int, mark: str = "") -> ErrorTag:
    return ErrorTag(
        said, {"ko": "순서에 민감", "en": "order-sensitive"}, {"ko": f"절반만 {mark}", "en": f"half of them {mark}"},
        {"ko": "더 많은 순서", "en": "more orders"},
    )


def small_picture(written: str) -> Image.Image:
    if written == "gone.jpg":
        raise FileNotFoundError("no such file")
    return Image.new("RGB", (900, 600), (255, 0, 255))


@pytest.fixture(scope="module")
def evil_report(make_metrics, tmp_path_factory):
    folder = tmp_path_factory.mktemp("evil")
    markdown, page = write_report(folder, report_input(make_metrics(EVIL), folder, EVIL))
    return markdown.read_text("utf-8"), page.read_text("utf-8")


# %% nothing becomes markup
def test_html_shows_hostile_text_and_runs_none_of_it(evil_report) -> None:
    page = Page(evil_report[1])
    assert not {"script", "iframe", "object", "link", "base", "form"} & set(page.tags)
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert page.tags.count("img") == 2 + 5 + 1, "two figures, five errors, one of two look-alikes"
    shown = " ".join(EVIL.split())
    # title, heading, model, setting, summary, reason, method, submission (2), environment (2), and each error's card
    assert page.text.count(shown) > 10 + 5 * 3


def test_control_characters_and_broken_file_names_are_shown_as_escapes(make_metrics, tmp_path) -> None:
    evil = "\x1b[2J\u202e\x00txt\ud800."
    _, page = write_report(tmp_path, report_input(make_metrics(evil), tmp_path, method_reason=evil))
    text = page.read_text("utf-8")
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", text) and r"\x1b[2J\u202e\x00txt\ud800." in text


def test_html_loads_nothing(evil_report) -> None:
    attributes = Page(evil_report[1]).attributes
    assert all(re.match("data:image/(png|jpeg);base64,", value) for name, value in attributes if name == "src")
    assert all(value.startswith("#") for name, value in attributes if name == "href")
    assert "url(" not in evil_report[1]
    assert "@import" not in evil_report[1]
    assert ("http-equiv", "Content-Security-Policy") in attributes
    assert ("content", "default-src 'none'; img-src data:; style-src 'unsafe-inline'") in attributes


def test_markdown_shows_hostile_text_and_runs_none_of_it(evil_report) -> None:
    page = Page(rendered_markdown(evil_report[0]))
    assert "script" not in page.tags
    assert page.tags.count("img") == 2 + 5
    assert [v for n, v in page.attributes if n == "href"] == ["report.html"]
    assert page.text.count(" ".join(EVIL.split())) > 10 + 5 * 3


@given(st.text(max_size=60))
@example("a | b")
@example("a\\|b\\")
@example("![x](http://e/x.png) <b>")
@example("&lt; &#60; ~~x~~ *y* _z_ `q`")
def test_any_text_stays_one_cell_with_its_characters(text: str) -> None:
    table = rendered_markdown(f"| x | y |\n|---|---|\n| {markdown_text(text)} | end |")
    cells = re.findall(r"<td>(.*?)</td>", table, re.S)
    shown = printable(re.sub(r"[\x09-\x0d\x20\x85\u2028\u2029]+", " ", text)).strip()
    assert [" ".join(html.unescape(cell).split()) for cell in cells] == [" ".join(shown.split()), "end"]


@pytest.mark.parametrize("kind", ["list", "verbatim", "paragraph"])
def test_markdown_shows_escape_sequences(kind, tmp_path) -> None:
    evil = "\x1b[2J\x9b31m ready"
    blocks = (ReportBlock(kind, evil, rows=((evil,),)),)
    text = markdown_report("run", [ReportSection("Data", blocks)], tmp_path)
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f]", text) and "x1b" in text and "x9b" in text


# %% nothing is lost
def test_figures_are_linked_in_markdown_and_inside_the_page(metrics, tmp_path) -> None:
    content = report_input(metrics, tmp_path)
    markdown, page = write_report(tmp_path, content)
    assert "(figures/my%20groups.png)" in markdown.read_text("utf-8")
    sources = [v for n, v in Page(page.read_text("utf-8")).attributes if n == "src" and "png" in v]
    assert {base64.b64decode(source.partition(",")[2]) for source in sources} == {content.figures["groups"].read_bytes()}


def test_photographs_of_errors_are_beside_the_markdown_and_those_of_an_earlier_report_are_gone(metrics, tmp_path) -> None:
    markdown, _ = write_report(tmp_path, report_input(metrics, tmp_path))
    linked = re.findall(r"!\[행\d+\]\((errors/\d+\.jpg)\)", markdown.read_text("utf-8"))
    assert linked == [f"errors/{n:02}.jpg" for n in range(1, 6)]
    for name in linked:
        with Image.open(tmp_path / name) as picture:
            assert picture.size == (360, 240)
    fewer = dataclasses.replace(metrics, errors=metrics.errors[:2])
    write_report(tmp_path, report_input(fewer, tmp_path))
    assert sorted(file.name for file in (tmp_path / "errors").iterdir()) == ["01.jpg", "02.jpg"]


def test_figures_of_the_report_reach_the_reader(metrics, tmp_path) -> None:
    markdown, page = write_report(tmp_path, report_input(metrics, tmp_path))
    for text in (markdown.read_text("utf-8"), page.read_text("utf-8")):
        shown = Page(rendered_markdown(text)).text if text.startswith("#") else Page(text).text
        accuracy = metrics.overall.accuracy
        assert f"{100 * accuracy.value:.1f} ± {100 * accuracy.standard_error:.1f}" in shown
        for group in (*metrics.by_fold, *metrics.by_kind, *metrics.by_choices):
            assert group.name in shown
        assert f"{metrics.after.ece:.3f}" in shown
        assert "NOT VALID: row 3" in shown
        assert "1 min 15 s" in shown


def test_accuracy_by_source_and_the_source_that_validates_are_in_both_reports(metrics, tmp_path) -> None:
    rights = {"from train": 43, "from dev": 26}
    two = dataclasses.replace(metrics, by_source=tuple(
        dataclasses.replace(metrics.overall, name=name, accuracy=Accuracy(right, 60)) for name, right in rights.items()
    ))
    content = dataclasses.replace(report_input(two, tmp_path), config={"validate_on": "dev"})
    markdown, page = (file.read_text("utf-8") for file in write_report(tmp_path, content))
    for text in (Page(rendered_markdown(markdown)).text, Page(page).text):
        assert "from train" in text and "71.7 ±" in text and "from dev" in text and "43.3 ±" in text
        assert "Only rows of the source dev are used for validation" in text


def test_sections_without_content_are_left_out(metrics) -> None:
    bare = ReportInput("run", {}, dataclasses.replace(metrics, gains={}))
    titles = {section.title for section in report_sections(bare)}
    assert not {"Data", "Training", "Gain of each technique", "Ensemble", "Submission"} & titles
    assert {"Result", "Accuracy", "Calibration", "Letters", "How to read these figures"} <= titles


# %% two languages
def page_of(metrics, tmp_path, **changes) -> str:
    return write_report(tmp_path, report_input(metrics, tmp_path, **changes))[1].read_text("utf-8")


def test_both_languages_say_the_same(metrics, tmp_path) -> None:
    """The same sections and blocks, the same numbers in each."""
    content = report_input(metrics, tmp_path)
    korean, english = report_sections(content, "ko"), report_sections(content, "en")
    assert [one.name for one in korean] == [one.name for one in english]
    for ours, theirs in zip(korean, english, strict=True):
        assert [block.kind for block in ours.blocks] == [block.kind for block in theirs.blocks]
        for a, b in zip(ours.blocks, theirs.blocks, strict=True):
            assert len(a.rows) == len(b.rows) and len(a.header) == len(b.header)
            if ours.name != "remarks":
                assert numbers_in(a) == numbers_in(b)


def test_sentences_of_the_program_are_korean_on_the_korean_page(metrics, tmp_path) -> None:
    content = report_input(
        metrics, tmp_path, method_reason="The configuration asks for vote.", korean=korean_translator().console,
        submissions={"a.csv": SubmissionReport(2, {}, ("Missing ids: 1: x.",))},
        data=DataFindings("Answers     a 100.0%\nFigures and tables: eda"),
    )
    page = write_report(tmp_path, content)[1].read_text(encoding="utf-8")
    said = {"ko": ("설정에서 vote를 골랐습니다.", "빠진 id: 1: x.", "그림과 표: eda"),
            "en": ("The configuration asks for vote.", "Missing ids: 1: x.", "Figures and tables: eda")}
    for language, texts in said.items():
        shown = " ".join(re.findall(rf'<(?:div|pre) class="{language}" lang="{language}">(.*?)</(?:div|pre)>', page, re.DOTALL))
        assert all(text in shown for text in texts)
        assert not any(text in shown for other in said if other != language for text in said[other])
    assert "asks for vote" in (tmp_path / "REPORT.md").read_text(encoding="utf-8")


def numbers_in(block: ReportBlock) -> list[str]:
    return sorted(re.findall(r"\d+(?:\.\d+)?", " ".join([block.text, *(cell for row in block.rows for cell in row)])))


@pytest.mark.parametrize("language", ["ko", "en"])
def test_the_page_opens_in_its_language_and_switches_without_a_script(metrics, tmp_path, language) -> None:
    page = Page(page_of(metrics, tmp_path, language=language))
    assert ("lang", language) in page.attributes[:1] and "script" not in page.tags
    text = page_of(metrics, tmp_path, language=language)
    assert re.findall(r'<input [^>]*id="in-(\w+)"[^>]* checked>', text) == [language]
    assert set(re.findall(r'<label for="in-(\w+)"', text)) == {"ko", "en"}
    for shown in ("ko", "en"):
        assert text.count(f'class="{shown}" lang="{shown}"') > 50
    assert "#in-ko:checked ~ main .en, #in-en:checked ~ main .ko { display: none; }" in text and "word-break: keep-all" in text


def test_every_picture_has_an_alternative_text(metrics, tmp_path) -> None:
    assert not re.findall(r'<img (?![^>]*alt="[^"]+")[^>]*>', page_of(metrics, tmp_path))


# %% what is shown
def test_errors_come_first_and_the_reason_beside_them(metrics, tmp_path) -> None:
    content = report_input(metrics, tmp_path)
    names = [section.name for section in report_sections(content)]
    assert names[:3] == ["result", "errors", "accuracies"] and names.index("data") < names.index("settings")
    page = write_report(tmp_path, content)[1].read_text("utf-8")
    assert page.count("half of them") == len(metrics.errors)
    assert "<td>order-sensitive</td><td>5</td><td>more orders</td>" in page
    assert "<td>photograph, alike</td><td>2</td><td>5</td><td>1</td>" in page and "<td>id</td>" not in page
    assert "No photograph: no such file" in page, "of a look-alike that is gone"


def test_without_evidence_nothing_is_said_of_reasons(metrics, tmp_path) -> None:
    markdown, page = write_report(tmp_path, report_input(metrics, tmp_path, tags={}))
    assert "diagnosis" not in markdown.read_text("utf-8") and "진단" not in page.read_text("utf-8")


@pytest.mark.parametrize("explorer", ["explore.html", ""])
def test_the_explorer_is_linked_where_there_is_one(metrics, tmp_path, explorer) -> None:
    markdown, page = write_report(tmp_path, report_input(metrics, tmp_path, explorer=explorer))
    assert ('href="explore.html"' in page.read_text("utf-8")) is bool(explorer)
    assert ("(explore.html)" in markdown.read_text("utf-8")) is bool(explorer)


# %% what is said
@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (dict(keep="best", num_epochs=3), "optimistic"),
        (dict(use_kfold=False), "Only one split"),
        (dict(use_sample=True, sample_size=200), "sample of 200 rows"),
    ],
)
def test_remarks_depend_on_the_settings(metrics, settings, words) -> None:
    def remarks(changes):
        content = ReportInput("run", Config().replace(**changes).as_dict(), metrics)
        return str(next(s for s in report_sections(content) if s.title.startswith("How to read")))

    assert words in remarks(settings)
    assert words not in remarks({})


def test_changed_settings_are_those_that_differ() -> None:
    assert changed_settings(Config().as_dict()) == {}
    config = Config(num_epochs=3, tta_scales=(0.9, 1.0), run_name="x", output_dir="y")
    assert changed_settings(config.as_dict()) == {"num_epochs": (3, 1), "tta_scales": ([0.9, 1.0], [0.9, 1.0, 1.1])}
    assert changed_settings({"dropped_setting": 1}) == {"dropped_setting": (1, None)}


def test_verdicts_follow_the_interval() -> None:
    gains = (Gain(0.1, 0.03, 0.05, 0.2, 9, 0.01), Gain(-0.1, 0.03, -0.2, -0.05, 9, 0.01), Gain(0.1, 0.1, 0.0, 0.2, 9, 0.06))
    assert [gain_verdict(gain) for gain in gains] == ["helps", "hurts", "not significant"]


def test_no_error_in_the_report_reads_as_zero(tmp_path) -> None:
    """A model that is right everywhere, with techniques that change nothing, on many rows."""
    n = 12_000
    questions = [Question(str(i), f"{i}.jpg", "?", ("x", "y"), i % 2) for i in range(n)]
    scores = plain_scores(np.array([q.id for q in questions]), np.log(np.where(np.arange(n)[:, None] % 2 == [0, 1], 0.9, 0.1)),
                          np.full(n, 2), {})
    same = np.ones(n, bool)
    found = measure(questions, scores, np.arange(n) % 3, prior=scores.mean(), variants={"EMA": (same, same)}, test_size=n)
    content = dataclasses.replace(report_input(found, tmp_path), methods={"vote": found.overall.accuracy})
    for file in write_report(tmp_path, content):
        text = html.unescape(file.read_text("utf-8"))
        assert "12,000" in text
        assert not re.search(r"± 0\.0+(%|\b)(?!\d)", text) and "100.0–100.0" not in text and "1.000 to 1.000" not in text
        assert "[+0.0, +0.0]" not in text and "+0.000 to +0.000" not in text and "0.0 points" not in text


def test_the_headline_states_the_luck_of_the_best_epoch(metrics) -> None:
    content = ReportInput("run", Config(keep="best", num_epochs=5).as_dict(),
                          dataclasses.replace(metrics, selection=Selection(5, 0.022)))
    sections = {section.title: str(section) for section in report_sections(content)}
    assert "of which choosing the best of 5 epochs adds about 2.2 points" in sections["Result"]
    assert "about 2.2 points too high" in sections["How to read these figures"]


def test_rows_that_share_photographs_are_stated(make_run) -> None:
    questions, scores, folds = make_run()
    groups = np.arange(120) // 10 * 10 + (scores.predictions() == [q.answer for q in questions])  # right by photograph
    for of_rows, said in ((groups, True), (None, False)):
        content = ReportInput("run", {}, measure(questions, scores, folds, groups=of_rows))
        remarks = next(str(s) for s in report_sections(content) if s.title.startswith("How to read"))
        assert ("share a photograph" in remarks) is said


@pytest.mark.parametrize(
    ("seconds", "text"), [(5, "5 s"), (59.7, "1 min 00 s"), (200, "3 min 20 s"), (7500, "2 h 05 min")]
)
def test_durations_are_spelled(seconds, text) -> None:
    assert spell_duration(seconds) == text


def test_code_in_advice_is_code_in_both_reports_and_both_say_what_they_are(metrics, tmp_path) -> None:
    advice = Advice("Set `a_b=1` *now*: ` and <b>", "`a_b=1`을 쓰세요")
    markdown, page = (file.read_text("utf-8") for file in write_report(
        tmp_path, dataclasses.replace(report_input(metrics, tmp_path), advice=(advice,))))
    assert "\n- Set `a_b=1` \\*now\\*: \\` and &lt;b&gt;\n" in markdown and markdown.splitlines()[0].endswith(": report of a run")
    assert "<code>a_b=1</code>" in page and "실행 보고서" in page and "report of a run" in page
