"""The explorer in a headless Chromium: filtered, sorted, searched, decided on by key, and fixes.csv read by the next run."""
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from mcvqa.data.fixes import FIXES_HEADER, Proposal, read_decisions, with_fixes, write_fixes
from mcvqa.data.questions import Question
from mcvqa.data.table import read_cells
from mcvqa.insight.evidence import RowEvidence
from mcvqa.insight.explorer import ExploredRun, write_explorer
from tests.insight.test_explorer import HOSTILE, explored

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
NO_BROWSER = "there is no Chromium here (Debian: apt-get install chromium)"
pytestmark = [pytest.mark.nightly, pytest.mark.skipif(CHROMIUM is None, reason=NO_BROWSER)]

TEXTS = ("What color is the car?", "How many birds are there?", "차는 무슨 색입니까?", HOSTILE.replace("\ud800", ""))
CHOICES = ("red, or \"crimson\"", "=green", "파란색", "<b>bold</b>")
KINDS = ("color", "counting", "color", "general")


def said_by(row: RowEvidence, said: int, share: float) -> RowEvidence:
    rest = (1 - share) / (len(row.question.choices) - 1)
    shares = tuple(share if i == said else rest for i in range(len(row.question.choices)))
    return replace(row, said=said, probabilities=shares, margin=share - rest)


def make_rows() -> list[RowEvidence]:
    """40 labelled rows of which every fourth is answered wrongly, and 4 test rows; the last id needs a spreadsheet's care."""
    rows = []
    for i in range(44):
        is_test, truth = i >= 40, i % 4
        name = f"q{i}" if i != 39 else "-39\n\"x\""
        question = Question(name, f"{i % 10}.png", f"{TEXTS[i % 4]} {i}", CHOICES, None if is_test else truth,
                            source="" if is_test else "dev" if i % 5 == 0 else "train")
        row = RowEvidence(question, "test" if is_test else "train", None if is_test else i % 2, KINDS[i % 4], prior=(0.25,) * 4)
        said = (truth + 1) % 4 if i % 4 == 3 else truth
        row = said_by(row, said, 0.4 + i / 80)
        if not is_test:
            row = replace(row, label_wrong=round(0.9 - (i if i != 7 else 6) / 50, 3), proposed=(truth + 1) % 4, rank_of_truth=1)
        tagged = dict(tag="label probably wrong", reason=f"because {HOSTILE}", reason_in_korean="그래서") if i < 3 else {}
        rows.append(replace(row, **tagged))
    return rows


# %% a page in a browser
@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("explorer")


@pytest.fixture(scope="module")
def one_run(folder) -> ExploredRun:
    run = explored(folder, make_rows(), name=f"run {HOSTILE}".replace("\ud800", ""))
    write_explorer(folder / "one.html", run)
    return run


@pytest.fixture(scope="module")
def two_runs(folder, one_run) -> Path:
    """A second run that has mended rows 3 and 7 and broken rows 0 and 4; it lacks row 1."""
    change = {3: 3, 7: 3, 0: 2, 4: 2}
    rows = [said_by(row, change.get(i, row.said), 0.9) for i, row in enumerate(make_rows()) if i != 1]
    for i, said in change.items():
        rows = [said_by(row, said, 0.9) if row.question.id == f"q{i}" else row for row in rows]
    write_explorer(folder / "two.html", one_run, replace(one_run, name="second", rows=tuple(rows)))
    return folder / "two.html"


@pytest.fixture(scope="module")
def browser():
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed, which drives the browser")
    with api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


class Tab:
    """The page in a browser of some width, with all that it asked for and all that went wrong."""

    def __init__(self, browser, file: Path, width: int = 1280, language: str = "en-US", scheme: str = "light") -> None:
        context = browser.new_context(viewport={"width": width, "height": 850}, locale=language, color_scheme=scheme)
        self.page, self.asked, self.wrong = context.new_page(), [], []
        self.page.on("request", lambda request: self.asked.append(request.url))
        for event in ("console", "pageerror"):
            self.page.on(event, lambda message: self.wrong.append(getattr(message, "text", str(message))))
        self.page.on("dialog", lambda dialog: self.wrong.append(f"a dialog: {dialog.message}"))
        self.file = file
        self.page.goto(file.as_uri())
        self.page.wait_for_selector("#list .row img[src]")

    def open_again(self) -> None:
        """Once the browser has what the page keeps: it is written a moment later, and another process may show the page then."""
        self.page.wait_for_timeout(500)
        self.page.reload()
        self.page.wait_for_selector("#list .row img[src]")

    def ids(self) -> list[str]:
        """Of the rows in sight, from the top."""
        return self.page.eval_on_selector_all(
            "#list .row:not([hidden])",
            "rows => rows.sort((a, b) => a.ariaPosInSet - b.ariaPosInSet).map(row => row.querySelector('.id').textContent)")

    def choose(self, facet: str, value: str) -> None:
        self.page.click(f'[data-facet="{facet}"] label[data-value="{value}"]')

    def counts(self, facet: str) -> dict[str, int]:
        return self.page.eval_on_selector_all(f'[data-facet="{facet}"] label', """labels => Object.fromEntries(
            labels.map(label => [label.dataset.value, Number(label.querySelector('.n').textContent)]))""")

    def count(self) -> str:
        return self.page.inner_text("#count")

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def selected(self) -> str:
        return self.page.inner_text("#detail h2")

    def downloaded(self, to: Path) -> Path:
        with self.page.expect_download() as download:
            self.page.click("#download")
        assert download.value.suggested_filename == "fixes.csv"
        download.value.save_as(to)
        return to

    def picture(self, name: str) -> None:
        """A screenshot, where the environment variable SCREENSHOTS names a folder."""
        if shots := os.environ.get("SCREENSHOTS"):
            self.page.wait_for_timeout(300)
            self.page.screenshot(path=Path(shots) / f"{name}.png")

    def close(self) -> None:
        """Nothing went wrong, nothing was asked of anybody, and no text of the data was run."""
        assert not self.wrong and all(url.startswith((self.file.as_uri(), "data:", "blob:")) for url in self.asked)
        assert "taken" not in self.page.evaluate("document.title").replace("document.title='taken'", "")
        assert self.page.eval_on_selector_all("body img", "images => images.every(image => !image.onerror)")
        self.page.context.close()


@pytest.fixture
def tab(browser, one_run, folder) -> Iterator[Tab]:
    opened = Tab(browser, folder / "one.html")
    yield opened
    opened.close()


# %% found
def test_rows_are_filtered_and_counted(tab):
    assert tab.count() == "44 of 44 rows · 30 of 40 right (75.0%)"
    assert tab.counts("outcome") == {"wrong": 10, "right": 30, "unlabelled": 4}
    tab.choose("outcome", "wrong")
    assert tab.count() == "10 of 44 rows · 0 of 10 right (0.0%)"
    assert tab.counts("outcome") == {"wrong": 10, "right": 30, "unlabelled": 4}, "the others are what a click would add"
    assert tab.counts("kind") == {"color": 0, "counting": 0, "general": 10}
    tab.choose("outcome", "right")
    tab.choose("fold", "1")
    assert tab.count() == "20 of 44 rows · 10 of 20 right (50.0%)"
    tab.choose("source", "dev")
    assert tab.count() == "4 of 44 rows · 2 of 4 right (50.0%)" and tab.page.inner_text("#filter-count") == "3"
    tab.page.click("#clear")
    tab.choose("tag", "label probably wrong")
    assert tab.ids() == ["q0", "q1", "q2"]
    tab.choose("split", "test")
    assert tab.count() == "0 of 44 rows" and tab.page.is_visible("#nothing") and not tab.ids()


def test_confidence_is_a_range(tab):
    tab.page.locator("#least").fill("80")
    tab.page.locator("#most").fill("85")
    # 0.4 + i / 80 from 0.8 to 0.85
    assert tab.count().startswith("5 of 44 rows") and sorted(tab.ids()) == ["q32", "q33", "q34", "q35", "q36"]
    assert tab.page.inner_text("#span") == "80–85%"
    tab.page.click("#clear")
    assert tab.count().startswith("44 of 44 rows") and tab.page.input_value("#least") == "0"


def test_text_is_searched_in_question_choices_and_id(tab):
    tab.press("/")
    tab.page.keyboard.type("birds 13")
    assert tab.ids() == ["q13"] and tab.selected() == "q13"
    tab.page.fill("#search", "파란색 Q41")
    assert tab.ids() == ["q41"]
    tab.page.fill("#search", "<img src=x")
    assert tab.count().startswith("11 of 44 rows")
    tab.press("Escape")
    assert tab.count().startswith("44 of 44 rows"), "and keys move again"
    tab.press("j")
    assert tab.selected() != ""


@pytest.mark.parametrize(("order", "first"), [
    ("by_label_wrong", ["q0", "q1", "q2"]), ("by_least_margin", ["q0", "q1", "q2"]), ("by_most_margin", ["q43", "q42", "q41"]),
    ("by_sure_error", ["-39\n\"x\"", "q35", "q31"]), ("by_file", ["q0", "q1", "q2"]), ("by_id", ["-39\n\"x\"", "q0", "q1"]),
    ("by_truth", ["-39\n\"x\"", "q35", "q31"]),
])
def test_rows_are_sorted(tab, order, first):
    tab.page.select_option("#sort", order)
    assert tab.ids()[:3] == first


def test_of_labels_as_probably_wrong_those_that_another_choice_beats_come_first(tab):
    assert tab.ids()[5:9] == ["q5", "q7", "q6", "q8"]


def test_only_rows_in_sight_have_elements_and_all_can_be_reached(tab):
    assert len(tab.page.query_selector_all("#list .row")) < 20
    tab.press("End")
    tab.page.wait_for_timeout(100)
    assert tab.selected() == "q43" and "q43" in tab.ids()
    tab.press("Home", "j", "ArrowDown", "k")
    assert tab.selected() == "q1" and tab.page.get_attribute("#list .selected", "aria-selected") == "true"
    tab.page.wait_for_function("document.querySelector('#detail img').naturalWidth === 160")


def test_hostile_text_is_shown_as_text(tab):
    tab.page.fill("#search", "q3")
    tab.press("Escape")
    tab.page.fill("#search", "img src=x")
    tab.page.click("#list .row:not([hidden])")
    assert "<img src=x onerror=alert(1)>" in tab.page.inner_text("#detail h3")
    assert "<b>bold</b>" in tab.page.inner_text("#detail .choices") and "</script><!--" in tab.page.inner_text("h1")
    assert not tab.page.query_selector_all("#detail b, #list b, [onerror], body script:not([type]) ~ script:not([type])")
    assert "taken" not in tab.page.title().replace("document.title='taken'", "")


# %% decided
def test_decisions_by_key_are_what_the_next_run_reads(tab, one_run, tmp_path):
    assert tab.page.is_disabled("#download")
    tab.press("f", "g", "d", "4")  # q0 to q3: as proposed, keep, drop, the fourth choice (its label: keep)
    assert tab.selected() == "q4"
    tab.press("3", "d", "u")  # q4: the third choice; q5: dropped, and withdrawn
    assert tab.selected() == "q5"
    tab.page.click("#detail .choices li:nth-child(1) button")  # q5 has the label b: fixed to a
    tab.page.fill("#search", "-39")
    tab.press("Escape")
    tab.page.select_option("#sort", "by_id")
    tab.page.click("#list .row:not([hidden])")
    tab.page.click(".decide.fix")
    assert tab.counts("decision") == {"undecided": 33, "fix": 4, "drop": 1, "keep": 2, "test": 4}
    assert tab.page.inner_text("#decided-count") == "7"
    tab.picture("decided-1280")
    file = tab.downloaded(tmp_path / "fixes.csv")

    assert tuple(read_cells(file).header) == FIXES_HEADER
    decisions = {one.id: (one.word, one.now, one.proposed) for one in read_decisions(file)}
    name = "-39\n\"x\""
    assert decisions == {"q0": ("fix", "a", "b"), "q1": ("keep", "b", "c"), "q2": ("drop", "c", "d"), "q3": ("keep", "d", "a"),
                         "q4": ("fix", "a", "c"), "q5": ("fix", "b", "a"), name: ("fix", "d", "a")}
    labelled = [row.question for row in one_run.rows if row.split == "train"]
    fixed = with_fixes(labelled, file)
    after = {q.id: q.answer for q in fixed.questions}
    assert after == {q.id: q.answer for q in labelled if q.id != "q2"} | {"q0": 1, "q4": 2, "q5": 0, name: 0}
    assert fixed.dropped == ("q2",) and fixed.before == {"q0": 0, "q4": 0, "q5": 1, name: 3}


def test_a_downloaded_row_is_byte_for_byte_as_the_audit_writes_it(tab, one_run, tmp_path):
    rows = {row.question.id: row for row in one_run.rows}
    tab.press("f")
    tab.page.select_option("#sort", "by_id")
    tab.page.click("#list .row:not([hidden])")
    tab.press("f")
    proposals = [Proposal(rows[name].question, rows[name].proposed, rows[name].label_wrong) for name in ("q0", "-39\n\"x\"")]
    write_fixes(tmp_path / "audit.csv", proposals)
    expected = (tmp_path / "audit.csv").read_bytes()
    for number in (b"0.900,", b"0.120,"):
        assert expected.count(b"," + number) == 1
        expected = expected.replace(b"," + number, b"fix," + number)
    assert tab.downloaded(tmp_path / "fixes.csv").read_bytes() == expected


def test_decisions_outlive_the_tab_and_can_be_withdrawn(browser, one_run, folder, tmp_path):
    tab = Tab(browser, folder / "one.html")
    tab.press("d", "d")
    tab.open_again()
    tab.page.wait_for_selector("#list .row img[src]")
    assert tab.page.inner_text("#decided-count") == "2"
    tab.choose("decision", "drop")
    assert tab.ids() == ["q0", "q1"]
    tab.page.click(".decide.drop")
    assert tab.ids() == ["q1"], "withdrawn by the same button"
    tab.close()


def test_test_rows_cannot_be_decided_on(tab):
    tab.choose("split", "test")
    tab.press("d", "f", "1")
    assert tab.page.is_disabled("#download") and "Only labelled rows" in tab.page.inner_text("#toast")
    assert not tab.page.query_selector_all(".decide, button.choice")


def test_earlier_decisions_are_written_again(browser, folder, one_run, tmp_path):
    """A run that was trained with fixes: fixes.csv of its explorer holds what that file held."""
    questions = [row.question for row in one_run.rows if row.split == "train"]
    write_fixes(tmp_path / "first.csv", [Proposal(q, (q.answer + 1) % 4, 0.5) for q in questions[:3]])
    lines = (tmp_path / "first.csv").read_text(encoding="utf-8-sig")
    for name, word in (("q0,a,b,", "fix"), ("q1,b,c,", "keep"), ("q2,c,d,", "drop")):
        lines = lines.replace(name, name + word)
    (tmp_path / "first.csv").write_text(lines, encoding="utf-8")
    fixed = with_fixes(questions, tmp_path / "first.csv")
    now = {q.id: q for q in fixed.questions}
    rows = [replace(row, question=now[row.question.id]) for row in one_run.rows if row.question.id in now]
    run = replace(one_run, rows=tuple(rows), before=fixed.before, decided=read_decisions(tmp_path / "first.csv"))
    write_explorer(folder / "fixed.html", run)
    tab = Tab(browser, folder / "fixed.html")
    assert tab.page.inner_text("#decided-count") == "2" and "label in the file" in tab.page.inner_text("#detail .choices")
    tab.page.fill("#search", "birds 13")
    tab.press("Escape")
    tab.page.select_option("#sort", "by_file")
    again = with_fixes(questions, tab.downloaded(tmp_path / "again.csv"))
    assert again.questions == fixed.questions and again.before == fixed.before and again.dropped == fixed.dropped
    tab.close()


# %% two runs
def test_two_runs_are_compared(browser, two_runs):
    tab = Tab(browser, two_runs)
    assert tab.counts("compare") == {"fixed": 2, "broken": 2, "both_wrong": 8, "both_right": 27, "same": 4, "one_run": 1}
    tab.choose("compare", "fixed")
    assert tab.ids() == ["q3", "q7"] and tab.count() == "2 of 44 rows · 1 0 of 2 right (0.0%) · 2 2 of 2 right (100.0%)"
    bars = tab.page.eval_on_selector_all("#detail .share", "all => all.map(one => one.textContent)")
    assert len(bars) == 8 and "90.0%" in bars
    tab.picture("two-1280")
    tab.choose("compare", "fixed")
    tab.choose("compare", "broken")
    assert tab.ids() == ["q0", "q4"]
    assert "second" in tab.page.inner_text("h1")
    tab.close()


def test_what_does_not_count_as_measured_is_said(browser, one_run, folder):
    write_explorer(folder / "seen.html", replace(one_run, accuracy="", not_measured=f"it has seen them {HOSTILE}"))
    tab = Tab(browser, folder / "seen.html")
    assert "The accuracy is not measured: it has seen them </script>" in tab.page.inner_text(".notice")
    assert "out of fold" not in tab.page.inner_text("header")
    tab.close()


# %% language, phone, keyboard
def test_korean_and_english(browser, one_run, folder):
    tab = Tab(browser, folder / "one.html", language="ko-KR")
    assert tab.page.evaluate("document.documentElement.lang") == "ko"
    assert "44 / 44행" in tab.count() and "그래서" in tab.page.inner_text(".reason")
    tab.page.click('[data-language="en"]')
    assert tab.count().startswith("44 of 44 rows") and "because" in tab.page.inner_text(".reason")
    tab.open_again()
    assert tab.page.evaluate("document.documentElement.lang") == "en", "as was chosen"
    tab.close()


def test_keys_work_where_the_keyboard_writes_hangul(tab):
    tab.page.evaluate("""() => document.getElementById('list').dispatchEvent(
        new KeyboardEvent('keydown', {key: 'ㅓ', code: 'KeyJ', bubbles: true}))""")
    assert tab.selected() == "q1"


def test_help_is_a_dialog(tab):
    tab.press("?")
    assert tab.page.is_visible("#help") and "next row" in tab.page.inner_text("#help")
    tab.press("d", "Escape")
    assert not tab.page.is_visible("#help") and tab.page.is_disabled("#download"), "keys decide nothing behind a dialog"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_list_row_and_filters_one_after_the_other(browser, one_run, folder, scheme):
    tab = Tab(browser, folder / "one.html", width=390, scheme=scheme)
    assert tab.page.evaluate("document.documentElement.scrollWidth") == 390 and not tab.page.is_visible("#detail")
    tab.page.click("#list .row >> nth=1")
    assert tab.page.is_visible("#detail h2") and tab.selected() == "q1"
    assert tab.page.eval_on_selector("#detail", "one => one.scrollWidth <= 390")
    tab.page.click(".back")
    assert not tab.page.is_visible("#detail")
    tab.page.click("#filters-open")
    tab.choose("outcome", "wrong")
    tab.page.click("#filters-close")
    assert tab.count().startswith("10 of 44 rows")
    tab.close()


def test_everything_has_a_name_for_those_who_listen(tab):
    unnamed = tab.page.evaluate("""() => [...document.querySelectorAll('button, input, select, [role=listbox], aside, dialog')]
      .filter(one => !(one.textContent.trim() || one.ariaLabel || one.labels?.length || one.getAttribute('aria-labelledby')))
      .map(one => one.outerHTML)""")
    assert not unnamed
    assert tab.page.get_attribute("#list", "aria-activedescendant") == tab.page.get_attribute("#list .selected", "id")
