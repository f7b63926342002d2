"""The report in a headless Chromium without JavaScript: one language at a time, at the width of a desk and of a phone."""
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from mcvqa.report.page import write_report
from tests.report.test_page import report_input

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
NO_BROWSER = "there is no Chromium here (Debian: apt-get install chromium)"
pytestmark = [pytest.mark.nightly, pytest.mark.skipif(CHROMIUM is None, reason=NO_BROWSER)]


@pytest.fixture(scope="module")
def page_file(metrics, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    return write_report(folder, report_input(metrics, folder, language="ko"))[1]


@pytest.fixture(scope="module")
def browser() -> Iterator:
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as started:
        yield started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])


@pytest.mark.parametrize("width", [1280, 390])
def test_one_language_is_shown_and_the_other_a_key_press_away(browser, page_file, width) -> None:
    page = browser.new_context(viewport={"width": width, "height": 900}, java_script_enabled=False).new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.goto(page_file.as_uri())
    assert page.locator("h2 .ko").first.is_visible() and not page.locator("h2 .en").first.is_visible()
    page.locator("#in-ko").focus()
    page.keyboard.press("ArrowRight")
    assert page.locator("h2 .en").first.is_visible() and not page.locator("main .ko >> visible=true").count()
    page.locator("label[for=in-ko]").click()
    assert not page.locator("main .en >> visible=true").count()
    shown = page.locator("main").bounding_box()
    assert shown and shown["x"] >= 0 and shown["x"] + shown["width"] <= width, "nothing is wider than the window"
    assert all(page.locator("img").nth(i).evaluate("image => image.naturalWidth") for i in range(page.locator("img").count()))
    assert not complaints, "the policy refuses nothing that the page has"
