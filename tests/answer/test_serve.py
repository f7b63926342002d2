"""The page of `mcvqa serve`, clicked through in a headless Chromium."""
import contextlib
import csv
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from mcvqa import Answerer, run
from mcvqa.config import Config
from tests.answer.conftest import files_of_run
from tests.conftest import make_dataset, tiny_settings
from tests.run.conftest import blank_each, figures_made_by

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
HOSTILE = "<img src=x onerror=\"document.title='taken'\"> ${document.title='taken'} {{7*7}} <b>bold</b>"
CHOICES = ["red", "green <b>", "파란색", "${document.title}"]

NO_BROWSER = "there is no Chromium here (Debian: apt-get install chromium)"
pytestmark = [pytest.mark.nightly, pytest.mark.skipif(CHROMIUM is None, reason=NO_BROWSER)]


# %% a run, its page, a browser
@pytest.fixture(scope="module")
def hostile_run(tmp_path_factory) -> Config:
    """A run that has learned hardly anything, so that it has errors to show, from questions that hold markup."""
    pytest.importorskip("gradio", reason="gradio is not installed (mcvqa[ui])")
    pytest.importorskip("playwright.sync_api", reason="playwright is not installed, which drives the browser")
    out = tmp_path_factory.mktemp("hostile")
    make_dataset(out / "data")
    with open(out / "data/train.csv", encoding="utf-8", newline="") as handle:
        header, *rows = csv.reader(handle)
    with open(out / "data/train.csv", "w", encoding="utf-8", newline="") as handle:
        csv.writer(handle).writerows([header, *([*row[:2], f"{row[2]} {HOSTILE}", *row[3:]] for row in rows)])
    config = tiny_settings(
        out, data_dir=str(out / "data"), run_name="r", use_kfold=False, n_folds=2, num_epochs=1, learning_rate=1e-6,
        use_ema=False,
    )
    with figures_made_by(blank_each), contextlib.redirect_stdout(sys.stderr):
        run(config)
    return config


class Server:
    """`mcvqa serve` in a folder of its own."""

    def __init__(self, config: Config, folder: Path, *arguments: str) -> None:
        self.folder, self.temporary, self.said = folder, folder / "tmp", folder / "said.txt"
        self.temporary.mkdir()
        (folder / "home").mkdir()
        paths = [place for place in sys.path if place]
        variables = os.environ | {
            "PYTHONPATH": os.pathsep.join(paths), "HOME": str(folder / "home"), "TMPDIR": str(self.temporary),
        }
        command = [sys.executable, "-m", "mcvqa", "serve", str(Path(config.output_dir) / "experiments" / config.run), *arguments]
        with open(self.said, "w") as output:
            self.process = subprocess.Popen(command, cwd=folder, env=variables, stdout=output, stderr=subprocess.STDOUT)
        self.address = self._address()

    def _address(self) -> str:
        for _ in range(240):
            if found := re.search(r"^(http://127\.0\.0\.1:\d+)/?$", self.said.read_text(), re.MULTILINE):
                return found[1]
            assert self.process.poll() is None, self.said.read_text()
            time.sleep(0.5)
        raise AssertionError(self.said.read_text())

    def status(self, path: str) -> int:
        try:
            with urllib.request.urlopen(self.address + path, timeout=10) as response:
                return int(response.status)
        except urllib.error.HTTPError as error:
            return error.code

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(60)


@pytest.fixture(scope="module")
def server(hostile_run, tmp_path_factory) -> Iterator[Server]:
    started = Server(hostile_run, tmp_path_factory.mktemp("server"))
    yield started
    if started.process.poll() is None:
        started.stop()


@pytest.fixture(scope="module")
def browser(server):
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


class Tab:
    """The page in a browser of some width, with all that it loaded."""

    def __init__(self, browser, server: Server, width: int = 1280, language: str = "en-US") -> None:
        self.page = browser.new_context(viewport={"width": width, "height": 850}, locale=language).new_page()
        self.loaded: list[str] = []
        self.errors: list[str] = []
        self.page.on("response", lambda response: self.loaded.append(response.url))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("dialog", lambda dialog: self.errors.append(f"a dialog: {dialog.message}"))
        self.page.goto(server.address)
        self.page.wait_for_selector("#ask")
        self.page.wait_for_timeout(500)  # it asks for the browser's language then

    def fill(self, photograph: Path | None, question: str, choices: list[str]) -> None:
        if photograph:
            self.page.set_input_files("#photograph input[type=file]", str(photograph))
            self.page.wait_for_function("document.querySelector('#photograph img')?.naturalWidth > 0")
        self.page.fill("#question textarea", question)
        self.page.fill("#choices textarea", "\n".join(choices))

    def shown(self, selector: str, click: str = "#ask", drop: Path | None = None) -> str:
        """Text of what appears beside the form. Args: click, drop: what is clicked, or dropped as a photograph, before."""
        self.page.evaluate("document.querySelectorAll('#answer [class^=mcvqa-]').forEach(one => one.dataset.old = '1')")
        if drop:
            self.page.set_input_files("#photograph input[type=file]", str(drop))
        else:
            self.page.click(click)
        found = self.page.wait_for_selector(f"#answer {selector}:not([data-old])")
        return found.inner_text()

    def picture(self, name: str) -> None:
        """A screenshot of the whole page, where the environment variable SCREENSHOTS names a folder."""
        if folder := os.environ.get("SCREENSHOTS"):
            self.page.wait_for_timeout(800)
            self.page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)


@pytest.fixture
def tab(browser, server) -> Iterator[Tab]:
    opened = Tab(browser, server)
    yield opened
    assert not opened.errors and opened.loaded
    assert all(url.startswith((server.address, "data:", "blob:")) for url in opened.loaded), "nothing from elsewhere"
    assert "taken" not in opened.page.title()
    opened.page.context.close()


# %% clicked through
def test_a_question_is_answered_as_the_run_answers_it(tab, hostile_run):
    photograph = Path(hostile_run.data_dir) / "test/test_0000.jpg"
    tab.picture("empty-1280")
    tab.fill(photograph, f"What color is it? {HOSTILE}", CHOICES)
    shown = tab.shown(".mcvqa-answer")
    own = Answerer(hostile_run).answer(photograph, f"What color is it? {HOSTILE}", CHOICES)
    assert shown.split("\n") == [own.letter, own.choice, f"{max(own.probabilities):.1%}"]
    bars = [line.inner_text().split("\n") for line in tab.page.query_selector_all(".mcvqa-bars li")]
    assert bars == [[*pair, f"{share:.1%}"] for *pair, share in zip("abcd", CHOICES, own.probabilities, strict=True)]
    orders = [row.inner_text() for row in tab.page.query_selector_all(".mcvqa-orders tbody th")]
    assert orders[0] == "a b c d" and len(set(orders)) == len(orders) > 1
    shares = [cell.inner_text() for cell in tab.page.query_selector_all(".mcvqa-orders tbody tr:first-child td")]
    assert shares == [f"{share:.0%}" for share in own.probabilities], "this run asks in one order by itself"
    tab.picture("answer-1280")


def test_the_language_can_be_switched_and_is_the_browsers_at_first(browser, server, tab):
    assert tab.page.inner_text("#ask") == "Ask"
    tab.page.click("#language label >> nth=0")
    tab.page.wait_for_function("document.querySelector('#ask').innerText == '질문하기'")
    assert "사진" in tab.page.inner_text("#photograph") and "r에 질문하기" in tab.page.inner_text("h1")
    korean = Tab(browser, server, language="ko-KR")
    korean.page.wait_for_function("document.querySelector('#ask').innerText == '질문하기'")
    korean.fill(None, "?", ["예"])
    assert korean.shown(".mcvqa-problem") == "사진을 올려 주세요."
    korean.page.click("#language label >> nth=1")
    korean.page.wait_for_function("document.querySelector('.mcvqa-problem').innerText == 'Add a photograph.'")


def test_what_is_wrong_is_said_in_the_page(tab, hostile_run, tmp_path):
    photograph = Path(hostile_run.data_dir) / "test/test_0000.jpg"
    tab.fill(photograph, "", CHOICES)
    assert tab.shown(".mcvqa-problem") == "Type a question."
    tab.fill(None, "What color is it?", ["red"])
    assert tab.shown(".mcvqa-problem") == "Type 2 to 26 choices, one per line (1 given)."
    tab.picture("problem-1280")
    tab.page.click("#photograph button[aria-label='Remove Image']")
    tab.page.wait_for_selector("#photograph input[type=file]", state="attached")
    (tmp_path / "page.jpg").write_bytes(b"<html><body>404</body></html>")
    assert "a web page (HTML), not a picture" in tab.shown(".mcvqa-problem", drop=tmp_path / "page.jpg")
    tab.page.wait_for_selector("#photograph input[type=file]", state="attached")
    tab.fill(None, "What color is it?", CHOICES)
    assert tab.shown(".mcvqa-problem") == "Add a photograph.", "the unreadable one was taken out"


def test_a_scan_that_browsers_do_not_show_is_shown_and_answered(tab, hostile_run, tmp_path):
    photograph = Path(hostile_run.data_dir) / "test/test_0001.jpg"
    Image.open(photograph).save(tmp_path / "scan.tiff")
    tab.fill(tmp_path / "scan.tiff", "What color is it?", CHOICES)
    own = Answerer(hostile_run).answer(photograph, "What color is it?", CHOICES)
    assert tab.shown(".mcvqa-answer").split("\n")[1:] == [own.choice, f"{max(own.probabilities):.1%}"]


PASTE = """bytes => {
  const transfer = new DataTransfer()
  transfer.items.add(new File([Uint8Array.from(bytes)], 'image.png', {type: 'image/png'}))
  document.body.dispatchEvent(new ClipboardEvent('paste', {clipboardData: transfer, bubbles: true, cancelable: true}))
}"""


@pytest.mark.parametrize("held_up", ["nothing", "**/gradio_api/upload?*", "**/gradio_api/queue/data*"])
def test_a_photograph_can_be_pasted_upon_another_even_one_on_its_way(tab, hostile_run, tmp_path, held_up):
    waiting, sent = [], []
    tab.page.route(held_up, lambda route: route.continue_() if sent else waiting.append(route))
    tab.page.set_input_files("#photograph input[type=file]", str(Path(hostile_run.data_dir) / "test/test_0000.jpg"))
    tab.page.wait_for_timeout(1000)
    assert bool(waiting) == (held_up != "nothing")
    Image.new("RGB", (50, 40), (200, 30, 30)).save(tmp_path / "red.png")
    tab.page.evaluate(PASTE, list((tmp_path / "red.png").read_bytes()))
    tab.page.wait_for_timeout(300)
    sent.append(True)
    for route in waiting:
        route.continue_()
    tab.page.wait_for_function("document.querySelector('#photograph img')?.naturalWidth == 50")
    tab.fill(None, "What color is it?", CHOICES)
    own = Answerer(hostile_run).answer(tmp_path / "red.png", "What color is it?", CHOICES)
    assert tab.shown(".mcvqa-answer").split("\n")[1:] == [own.choice, f"{max(own.probabilities):.1%}"]


def test_an_error_of_the_run_is_filled_in_and_asked(tab):
    card = tab.page.inner_text(".mcvqa-card >> nth=0")
    assert "<img src=x onerror=" in card, "the question's markup as text"
    message = tab.shown(".mcvqa-mistake", click=".mcvqa-card >> nth=0")
    said = re.fullmatch(
        r"In validation it answered ([a-d])\. (\w+) \(([\d.]+%)\); the right answer is ([a-d])\. (\w+)\.", message
    )
    assert said and f"✗ {said[2]}" in card and f"✓ {said[5]}" in card
    assert HOSTILE in tab.page.input_value("#question textarea")
    assert tab.page.input_value("#choices textarea").split("\n")["abcd".index(said[4])] == said[5]
    assert tab.shown(".mcvqa-answer").split("\n") == [said[1], said[2], said[3]], "the one fold says it again"
    assert tab.page.query_selector(".mcvqa-mistake"), "what is right stays beside the answer"
    tab.picture("mistake-1280")


def test_a_phone_shows_all_of_it(browser, server, hostile_run):
    phone = Tab(browser, server, width=390, language="ko-KR")
    phone.fill(Path(hostile_run.data_dir) / "test/test_0000.jpg", "무슨 색입니까?", ["x" * 300, "y", *map(str, range(24))])
    phone.shown(".mcvqa-answer")
    assert phone.page.evaluate("document.documentElement.scrollWidth") == 390, "nothing sticks out"
    phone.picture("answer-390")
    assert not phone.errors


def test_only_photographs_of_the_page_are_served(server, hostile_run):
    """Neither the run's files nor others of the machine."""
    beside = server.folder / "own.txt"
    beside.write_text("private")
    for file in (beside, Path(hostile_run.output_dir) / "experiments/r/config.yaml", Path("/etc/hostname")):
        assert server.status(f"/gradio_api/file={file}") in (403, 404)
    beside.unlink()
    assert server.status("/") == 200 and server.status("/gradio_api/runs") == 404


ELSEWHERE = """() => new Promise(resolve => {
  document.addEventListener('securitypolicyviolation', event => resolve(event.blockedURI))
  new Image().src = 'http://127.0.0.1:9/picture.png'
})"""


def test_the_browser_loads_nothing_from_elsewhere_even_if_told_to(tab):
    assert tab.page.evaluate(ELSEWHERE) == "http://127.0.0.1:9/picture.png"


def test_a_port_that_is_taken_is_said_before_the_model_is_loaded(server, hostile_run, tmp_path):
    port = server.address.rpartition(":")[2]
    with pytest.raises(AssertionError) as said:
        Server(hostile_run, tmp_path, "--port", port)
    assert f"error: The page cannot be served at 127.0.0.1:{port}: " in str(said.value)
    assert "Choose another --port" in str(said.value) and "loading the model" not in str(said.value)


def test_nothing_is_left_and_nothing_of_the_run_is_changed(server, hostile_run, tab):
    """It is stopped: what needs it comes before."""
    before, cached = files_of_run(hostile_run), sorted(Path(hostile_run.output_dir, "cache").rglob("*"))
    tab.fill(Path(hostile_run.data_dir) / "test/test_0002.jpg", "?", CHOICES)
    tab.shown(".mcvqa-answer")
    (temporary,) = server.temporary.glob("mcvqa-serve-*")
    assert list(temporary.rglob("test_0002.jpg")) and temporary.stat().st_mode & 0o077 == 0
    assert server.stop(signal.SIGINT) == 0 and "Traceback" not in server.said.read_text()
    assert not list(server.temporary.glob("mcvqa-*/")) and not (server.temporary / "gradio").exists()
    assert {file.name for file in server.folder.iterdir()} == {"tmp", "home", "said.txt"}
    home = server.folder / "home"
    assert {file.parent for file in home.rglob("*") if file.is_file()} <= {home / ".cache/matplotlib"}, "its list of fonts"
    assert files_of_run(hostile_run) == before and sorted(Path(hostile_run.output_dir, "cache").rglob("*")) == cached
