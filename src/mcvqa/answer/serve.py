"""Serves a page in the browser that asks a trained run (`mcvqa serve`). This is the only module that needs gradio."""
import contextlib
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from packaging.version import Version

from mcvqa.answer.answer_page import PAGE_CSS, Shown, cards_as_html, heading_as_html, mistakes_as_html, shown_as_html
from mcvqa.answer.answerer import Answerer
from mcvqa.answer.mistakes import Mistake, is_asked_by, mistakes_of_run
from mcvqa.answer.opinions import answer_in_orders, asks_with_orders
from mcvqa.answer.page_words import PAGE_LANGUAGES, words_in
from mcvqa.answer.typed import AskError, dropped_photograph, for_browsers, lines_of, typed_choices, typed_question
from mcvqa.base.files import disk_errors_explained
from mcvqa.base.interrupt import StopRequest
from mcvqa.config import Config, ConfigError, McvqaError
from mcvqa.data.images import MAX_FILE_BYTES
from mcvqa.data.table import DataError

HERE = "127.0.0.1"
OLDEST_GRADIO = "6.16"
WAITING = 16  # questions that may wait; more are refused
PHOTOGRAPHS_FOR = 3600  # seconds that an uploaded photograph is kept
EXAMPLES = 12  # errors of the run that are shown
# The page sends nothing to other servers and loads nothing from them. gradio's own page contains scripts and styles.
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; worker-src 'self' blob:; object-src 'none'; base-uri 'self'; "
    "form-action 'self'; frame-ancestors 'self'"
)
# scripts of the page
CARD_CLICKED = """element.addEventListener('click', event => {
  const card = event.target.closest('[data-number]')
  if (card) trigger('select', {number: Number(card.dataset.number)})
})"""
SCROLL_TO = "() => document.getElementById('%s').scrollIntoView({behavior: 'smooth', block: 'nearest'})"
PASTED = """() => document.addEventListener('paste', event => {
  const files = event.clipboardData.files
  if (!files.length) return
  event.preventDefault()
  const upload = () => {
    const input = document.querySelector('#photograph input[type=file]')
    if (!input) return setTimeout(upload, 100)  // it is away while another photograph is uploaded
    input.files = files
    input.dispatchEvent(new Event('change', {bubbles: true}))
  }
  upload()
})"""
BROWSERS_LANGUAGE = "() => navigator.language.startsWith('ko') ? 'ko' : 'en'"
FONTS = ("system-ui", "-apple-system", "Apple SD Gothic Neo", "Malgun Gothic", "Noto Sans KR", "NanumGothic", "sans-serif")


# %% the command
def serve_run(config: Config, *, fold: int | None = None, port: int | None = None, share: bool = False) -> None:
    """Serve the page until a signal ends it. Photographs go to a temporary folder, which is removed at the end.

    Args:
        config: settings that name the run.
        fold: the only fold to use; None: all folds.
        port: port on 127.0.0.1; None: the first free one from 7860.
        share: whether gradio makes a public link, through its own servers.

    Raises:
        ConfigError: gradio is not installed, or the port is taken; see also `Answerer`.
    """
    with contextlib.suppress(KeyboardInterrupt), StopRequest(at_once=True), _temporary_folder() as folder:
        require_gradio()
        require_free_port(port)
        answerer = Answerer(config, fold=fold, keep_features=False, **asks_with_orders(config))
        print("loading the model ...")
        answerer.models.load()
        page = AskingPage(answerer, folder, averaged=config.use_tta)
        with page.served(port, share) as addresses:
            print("\n".join((*addresses, "Press Ctrl-C to stop.")), flush=True)
            while True:
                time.sleep(1)  # a signal interrupts it


@contextlib.contextmanager
def _temporary_folder() -> Iterator[Path]:
    """Make a temporary folder for all files of gradio and the page; the environment tells gradio about it."""
    with tempfile.TemporaryDirectory(prefix="mcvqa-serve-") as name:
        given = {
            "GRADIO_TEMP_DIR": name, "GRADIO_EXAMPLES_CACHE": name, "GRADIO_ANALYTICS_ENABLED": "False",
            "GRADIO_RUN_HISTORY": "False",
        }
        before = {variable: os.environ.get(variable) for variable in given}
        os.environ.update(given)
        try:
            yield Path(name).resolve()
        finally:
            for variable, value in before.items():
                os.environ.pop(variable, None)
                os.environ.update({variable: value} if value is not None else {})


def require_gradio() -> None:
    """Check that the page can be served.

    Raises:
        ConfigError: gradio is not installed, or older than OLDEST_GRADIO.
    """
    wanted = f"The page needs gradio {OLDEST_GRADIO} or newer{{}}: pip install 'mcvqa[ui]'"
    try:
        import gradio as gr
    except ImportError as error:
        raise ConfigError(wanted.format("" if error.name == "gradio" else f" ({error})")) from None
    if Version(gr.__version__) < Version(OLDEST_GRADIO):
        raise ConfigError(wanted.format(f", not {gr.__version__}"))


def require_free_port(port: int | None) -> None:
    """Check the port, before the model is loaded.

    Raises:
        ConfigError: another program uses the port, or it is not permitted.
    """
    with socket.socket() as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind((HERE, port or 0))
        except (OSError, OverflowError) as error:
            raise ConfigError(f"The page cannot be served at {HERE}:{port}: {error}. Choose another --port.") from None


class LocalOnly:
    """Adds a policy to every response that forbids the browser to load anything external, as ASGI middleware."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def send_with_policy(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                added = [(b"content-security-policy", POLICY.encode()), (b"referrer-policy", b"no-referrer")]
                message = message | {"headers": [*message.get("headers", ()), *added]}
            await send(message)

        await self.app(scope, receive, send_with_policy)


# %% the page
class AskingPage:
    """Implements the page: a form, the area next to it, and errors of the run as examples.

    Args:
        answerer: made with the changes of `asks_with_orders`.
        folder: temporary folder for all files.
        averaged: whether the run's own settings average over option orders.
    """

    def __init__(self, answerer: Answerer, folder: Path, *, averaged: bool) -> None:
        self.answerer, self.folder, self.averaged = answerer, folder, averaged
        self.run = answerer.trained.project.config.run
        self.mistakes, self.why_none = self._mistakes()

    def _mistakes(self) -> tuple[list[Mistake], str]:
        try:
            return mistakes_of_run(self.answerer.trained, EXAMPLES), ""
        except DataError as error:
            return [], str(error)

    @contextlib.contextmanager
    def served(self, port: int | None, share: bool) -> Iterator[tuple[str, ...]]:
        """Within the block, serve the page.

        Args:
            port: port on 127.0.0.1; None: the first free one.
            share: whether gradio makes a public link.

        Yields:
            Its addresses.
        """
        import gradio as gr
        from starlette.middleware import Middleware  # comes with gradio

        blocks = self.built().queue(max_size=WAITING, default_concurrency_limit=1, api_open=False)
        try:
            _, local, public = blocks.launch(
                server_name=HERE, server_port=port, share=share, inbrowser=False, inline=False, prevent_thread_lock=True,
                quiet=True, footer_links=[], ssr_mode=False, pwa=False, mcp_server=False,
                enable_monitoring=False, max_file_size=MAX_FILE_BYTES, app_kwargs={"middleware": [Middleware(LocalOnly)]},
                css=PAGE_CSS, js=PASTED,
                theme=gr.themes.Default(font=FONTS, font_mono=("ui-monospace", "monospace"), primary_hue="blue"),
            )
        except OSError as error:
            raise ConfigError(f"The page cannot be served: {error}. Choose another --port.") from None
        try:
            yield tuple(address for address in (local, public) if address)
        finally:
            blocks.close(verbose=False)

    # %% its parts
    def built(self) -> Any:
        """Build the page as gradio's Blocks."""
        import gradio as gr

        words = words_in("en")
        with gr.Blocks(title=f"mcvqa: {self.run}", analytics_enabled=False, delete_cache=(600, PHOTOGRAPHS_FOR)) as blocks:
            shown = gr.State(Shown())
            language = gr.Radio(
                [(name, key) for key, name in PAGE_LANGUAGES.items()], value="en", show_label=False, container=False,
                elem_id="language",
            )
            heading = gr.HTML(self._heading("en"))
            with gr.Row(equal_height=False):
                with gr.Column(min_width=320):
                    photograph = gr.Image(
                        type="filepath", image_mode=None, sources=["upload", "clipboard"], height=300, buttons=[],
                        label=words["photograph"], placeholder=words["drop"], elem_id="photograph",
                    )
                    question = gr.Textbox(
                        lines=2, label=words["question"], placeholder=words["question_hint"], elem_id="question"
                    )
                    choices = gr.Textbox(
                        lines=4, max_lines=26, label=words["choices"], placeholder=words["choices_hint"], elem_id="choices"
                    )
                    ask = gr.Button(words["ask"], variant="primary", elem_id="ask")
                with gr.Column(min_width=320):
                    beside = gr.HTML(shown_as_html(Shown(), "en"), elem_id="answer")
            above = gr.HTML(self._above_mistakes("en"))
            cards = gr.HTML(cards_as_html(self.mistakes), js_on_load=CARD_CLICKED, elem_id="mistakes")

            def chosen(event: gr.EventData, language: str) -> tuple[Any, ...]:
                return self.chosen(event.number, language)

            # one queue, so that nothing overtakes what was done in the page before it
            private: dict[str, Any] = {"preprocess": False, "api_visibility": "private", "concurrency_id": "page"}
            hidden = private | {"show_progress": "hidden"}
            asked = [photograph, question, choices, shown, language]
            answered = gr.on(
                [ask.click, question.submit], self.answered, asked, [shown, beside], show_progress_on=beside, **private
            )
            answered.then(None, js=SCROLL_TO % "answer")
            # gradio's default, once, leaves out what happens during an answer; the last photograph is the one that counts
            outputs = [photograph, shown, beside]
            photograph.upload(self.uploaded, [photograph, language], outputs, trigger_mode="multiple", **hidden)
            filled = cards.select(
                chosen, language, [photograph, question, choices, shown, beside], trigger_mode="multiple", **hidden
            )
            filled.then(None, js=SCROLL_TO % "photograph")
            labelled = [heading, photograph, question, choices, ask, above, beside]
            language.change(self.labels, [language, shown], labelled, queue=False, **hidden)
            blocks.load(None, None, language, js=BROWSERS_LANGUAGE)
        return blocks

    def labels(self, language: str, shown: Shown) -> list[Any]:
        """Return everything on the page that contains words, in a language."""
        import gradio as gr

        words = words_in(language)
        return [
            self._heading(language),
            gr.update(label=words["photograph"], placeholder=words["drop"]),
            gr.update(label=words["question"], placeholder=words["question_hint"]),
            gr.update(label=words["choices"], placeholder=words["choices_hint"]),
            words["ask"], self._above_mistakes(language), shown_as_html(shown, language),
        ]

    def _heading(self, language: str) -> str:
        trained = self.answerer.trained
        return heading_as_html(self.run, Path(trained.project.config.model_id).name, trained.folds, language)

    def _above_mistakes(self, language: str) -> str:
        return mistakes_as_html(len(self.mistakes), self.why_none, language)

    # %% what happens
    def answered(
        self, photograph: Mapping[str, Any] | None, question: str | None, choices: str | None, before: Shown, language: str
    ) -> tuple[Shown, str]:
        """Answer the question in the form, or say what is wrong with it."""
        try:
            image = self._dropped(photograph)
            asked = typed_question(question or ""), typed_choices(choices or "")
            with disk_errors_explained():
                answer = answer_in_orders(self.answerer, image, *asked, averaged=self.averaged)
            mistake = before.mistake if before.mistake and is_asked_by(before.mistake, *asked) else None
            shown = Shown(answer, mistake, learned=before.learned)
        except AskError as problem:
            shown = Shown(problem=problem)
        except McvqaError as error:
            shown = Shown(problem=AskError("failed", reason=str(error)))
        return shown, shown_as_html(shown, language)

    def uploaded(self, photograph: Mapping[str, Any] | None, language: str) -> tuple[Any, Shown, str]:
        """Show a photograph after its upload in a format that browsers can show, or say what is wrong with it."""
        shown, path = Shown(), None
        try:
            path = str(for_browsers(self._dropped(photograph), self.folder / "uploaded.png"))
        except AskError as problem:
            shown = Shown(problem=problem)
        return path, shown, shown_as_html(shown, language)

    def _dropped(self, photograph: Mapping[str, Any] | None) -> Path:
        path = Path((photograph or {}).get("path") or "").resolve()
        return dropped_photograph(path if path.is_relative_to(self.folder) else None)

    def chosen(self, number: int, language: str) -> tuple[Any, ...]:
        """Fill an error of the run into the form."""
        mistake, path = self.mistakes[number], None
        copy = self.folder / f"chosen-{number}{mistake.photograph.suffix}"
        try:
            shutil.copyfile(dropped_photograph(mistake.photograph), copy)
            path = str(for_browsers(copy, self.folder / f"chosen-{number}.png"))
            shown = Shown(mistake=mistake, learned=len(self.answerer.trained.folds) > 1)
        except AskError as problem:
            shown = Shown(problem=problem)
        return path, mistake.question.text, lines_of(mistake.question.choices), shown, shown_as_html(shown, language)
