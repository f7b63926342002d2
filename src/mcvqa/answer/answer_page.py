"""Renders an answer as HTML: letter, bars, and the answer in each option order. All text from people or files is escaped."""
import base64
import html
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mcvqa.answer.mistakes import Mistake
from mcvqa.answer.opinions import OrderedAnswer
from mcvqa.answer.page_words import spoken, words_in
from mcvqa.answer.typed import AskError
from mcvqa.base.informing import printable
from mcvqa.data.answers import LETTERS
from mcvqa.data.folds import fold_title
from mcvqa.data.images import open_image

CARD_PIXELS = 320  # the longer side of a card's picture
# characters that the templates of pages give a meaning to, beside those of HTML
IN_TEMPLATES = str.maketrans({char: f"&#{ord(char)};" for char in "${}`\\"})


def as_text(text: str) -> str:
    """Escape a text so that a page shows it unchanged: no markup, no template, no control characters."""
    return html.escape(printable(text)).translate(IN_TEMPLATES)


# %% what the page shows
@dataclass(frozen=True)
class Shown:
    """Describes what is next to the form: an answer, an error of the run, a problem with the input, or nothing yet.

    Attributes:
        learned: whether some folds that answer were trained on the mistake's row.
    """

    answer: OrderedAnswer | None = None
    mistake: Mistake | None = None
    problem: AskError | None = None
    learned: bool = False


def shown_as_html(shown: Shown, language: str) -> str:
    """Render what is next to the form, in a language."""
    words = words_in(language)
    if shown.problem:
        return f'<div class="mcvqa-problem" role="alert">{as_text(spoken(shown.problem, language))}</div>'
    parts = [_mistake_block(shown.mistake, shown.learned, words)] if shown.mistake else []
    parts += [_answer_block(shown.answer, words), _orders_block(shown.answer, words)] if shown.answer else []
    return "".join(parts) or f'<div class="mcvqa-empty">{as_text(words["empty"])}</div>'


def heading_as_html(run: str, model: str, folds: tuple[int, ...], language: str) -> str:
    """Render the head of the page.

    Args:
        run: name of the run.
        model: name of the model.
        folds: folds that answer.
        language: one of PAGE_LANGUAGES.
    """
    words = words_in(language)
    facts = words["facts"].format(model=model, folds=", ".join(fold_title(fold).removeprefix("fold ") for fold in folds))
    return (
        f'<div class="mcvqa-head"><h1>{as_text(words["heading"].format(run=run))}</h1><p>{as_text(words["lead"])}</p>'
        f'<p class="mcvqa-small">{as_text(facts)}<br>{as_text(words["private"])}</p></div>'
    )


def mistakes_as_html(count: int, why: str, language: str) -> str:
    """Render the heading above the errors of the run, or the reason why there are none.

    Args:
        count: number of errors.
        why: why there are none.
        language: one of PAGE_LANGUAGES.
    """
    words = words_in(language)
    lead = words["mistakes_lead"] if count else words["no_mistakes"].format(why=why) if why else words["none_wrong"]
    return f'<div class="mcvqa-head"><h2>{as_text(words["mistakes"])}</h2><p class="mcvqa-small">{as_text(lead)}</p></div>'


def cards_as_html(mistakes: Sequence[Mistake]) -> str:
    """Render errors of the run, each as a button with its number."""
    return f'<div class="mcvqa-cards">{"".join(_card(number, mistake) for number, mistake in enumerate(mistakes))}</div>'


def _card(number: int, mistake: Mistake) -> str:
    choices, right = mistake.question.choices, mistake.question.answer or 0
    return (
        f'<button type="button" class="mcvqa-card" data-number="{number}">'
        f'<img src="{_thumbnail(mistake.photograph)}" alt=""><span>{as_text(mistake.question.text)}</span>'
        f'<span class="mcvqa-said">✗ {as_text(choices[mistake.said])}</span>'
        f'<span class="mcvqa-right">✓ {as_text(choices[right])}</span></button>'
    )


def _thumbnail(photograph: Path) -> str:
    picture, content = open_image(photograph), io.BytesIO()
    picture.thumbnail((CARD_PIXELS, CARD_PIXELS))
    picture.save(content, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(content.getvalue()).decode()}"


# %% its parts
def _percent(share: float) -> str:
    return f"{share:.1%}"


def _mistake_block(mistake: Mistake, learned: bool, words: dict[str, str]) -> str:
    choices, right = mistake.question.choices, mistake.question.answer or 0
    text = words["mistake"].format(
        said_letter=LETTERS[mistake.said], said=choices[mistake.said], share=_percent(mistake.share),
        right_letter=LETTERS[right], right=choices[right],
    )
    more = f"<br>{as_text(words['learned'])}" if learned else ""
    return f'<div class="mcvqa-mistake">{as_text(text)}{more}</div>'


def _answer_block(ordered: OrderedAnswer, words: dict[str, str]) -> str:
    answer = ordered.answer
    share = answer.probabilities[LETTERS.index(answer.letter)]
    bars = "".join(
        f'<li class="{"mcvqa-top" if letter == answer.letter else ""}"><span class="mcvqa-letter">{letter}</span>'
        f'<span class="mcvqa-choice">{as_text(choice)}</span><span class="mcvqa-share">{_percent(share)}</span>'
        f'<span class="mcvqa-bar"><i style="width:{100 * share:.2f}%"></i></span></li>'
        for letter, choice, share in zip(LETTERS, ordered.choices, answer.probabilities, strict=False)
    )
    return (
        f'<div class="mcvqa-answer"><span class="mcvqa-badge" aria-label="{as_text(words["answer"])}">{answer.letter}</span>'
        f"<div><strong>{as_text(answer.choice)}</strong><span>{_percent(share)}</span></div></div>"
        f'<ul class="mcvqa-bars">{bars}</ul>'
    )


def _orders_block(ordered: OrderedAnswer, words: dict[str, str]) -> str:
    title = f"<h3>{as_text(words['orders'])}</h3>"
    if len(ordered.opinions) == 1:
        return f'<div class="mcvqa-orders">{title}<p>{as_text(words["one_order"])}</p></div>'
    letters = LETTERS[: len(ordered.choices)]
    head = "".join(f'<th scope="col" title="{as_text(c)}">{x}</th>' for x, c in zip(letters, ordered.choices, strict=True))
    body = "".join(
        f'<tr><th scope="row">{" ".join(LETTERS[i] for i in opinion.order)}</th>'
        + "".join(
            f'<td class="{"mcvqa-top" if i == opinion.choice else ""}" style="--share:{100 * share:.1f}%">{share:.0%}</td>'
            for i, share in enumerate(opinion.probabilities)
        ) + "</tr>"
        for opinion in ordered.opinions
    )
    text = f"{agreement(ordered, words)} {words['averaged' if ordered.averaged else 'first']}"
    return (
        f'<div class="mcvqa-orders">{title}<p>{as_text(text)}</p><div class="mcvqa-scroll"><table><thead>'
        f'<tr><th scope="col">{as_text(words["order"])}</th>{head}</tr></thead><tbody>{body}</tbody></table></div></div>'
    )


def agreement(ordered: OrderedAnswer, words: dict[str, str]) -> str:
    """Say how many option orders choose the answer."""
    chosen, count = LETTERS.index(ordered.answer.letter), len(ordered.opinions)
    agree = sum(opinion.choice == chosen for opinion in ordered.opinions)
    return words["agree_all" if agree == count else "agree"].format(count=count, agree=agree, letter=ordered.answer.letter)


# %% style
PAGE_CSS = """
.gradio-container {--muted: color-mix(in srgb, var(--body-text-color) 68%, transparent); --blue: #2563eb;
  word-break: keep-all; overflow-wrap: anywhere}
.gradio-container > main {width: 100%; max-width: 1120px !important; margin: 0 auto}
.gradio-container .html-container {padding: 0 !important}
#photograph img {width: 100%; height: 100%; object-fit: contain}
#language {position: absolute; right: var(--size-4); top: var(--size-4); width: auto; min-width: 0; z-index: 2}
.mcvqa-head h1 {font-size: 1.6rem; font-weight: 700; margin: 0 0 .25rem; padding-right: 13rem; overflow-wrap: anywhere}
.mcvqa-head h2 {font-size: 1.15rem; font-weight: 700; margin: .75rem 0 0}
.mcvqa-head p {margin: 0; overflow-wrap: anywhere}
.mcvqa-head p.mcvqa-small {font-size: .85rem; color: var(--muted); margin-top: .25rem}
.mcvqa-empty {border: 1px dashed var(--border-color-primary); border-radius: 10px; padding: 3rem 1rem; text-align: center;
  color: var(--muted)}
.mcvqa-problem, .mcvqa-mistake {padding: .75rem 1rem; border-radius: 6px; overflow-wrap: anywhere}
.mcvqa-problem {border-left: 4px solid #dc2626; background: color-mix(in srgb, #dc2626 10%, transparent)}
.mcvqa-mistake {border-left: 4px solid #d97706; background: color-mix(in srgb, #d97706 12%, transparent); margin-bottom: .9rem}
.mcvqa-answer {display: flex; gap: .9rem; align-items: center; margin-bottom: .9rem}
.mcvqa-answer div {display: flex; flex-direction: column; min-width: 0}
.mcvqa-answer strong {font-size: 1.35rem; line-height: 1.3; overflow-wrap: anywhere}
.mcvqa-answer div span {color: var(--muted)}
.mcvqa-badge {flex: none; width: 3.2rem; height: 3.2rem; border-radius: 10px; display: grid; place-items: center;
  font-size: 1.8rem; font-weight: 700; color: #fff; background: var(--blue)}
ul.mcvqa-bars {list-style: none; margin: 0; padding: 0}
.mcvqa-bars li {display: grid; grid-template-columns: 1.5rem minmax(0, 1fr) auto; gap: .1rem .4rem; margin: 0 0 .55rem;
  padding: 0}
.mcvqa-letter {font-weight: 700; color: var(--muted)}
.mcvqa-choice {overflow-wrap: anywhere}
.mcvqa-share {font-variant-numeric: tabular-nums}
.mcvqa-bar {grid-column: 2 / 4; height: .5rem; border-radius: 4px; overflow: hidden; background: var(--border-color-primary)}
.mcvqa-bar i {display: block; height: 100%; border-radius: 4px; background: #94a3b8}
.mcvqa-top .mcvqa-bar i {background: var(--blue)}
.mcvqa-top .mcvqa-choice, .mcvqa-top .mcvqa-share {font-weight: 700}
.mcvqa-orders h3 {font-size: 1rem; font-weight: 700; margin: 1.1rem 0 .15rem}
.mcvqa-orders p {font-size: .85rem; color: var(--muted); margin: 0 0 .5rem}
.mcvqa-scroll {overflow-x: auto}
.mcvqa-orders table {border-collapse: collapse; width: 100%; margin: 0; font-variant-numeric: tabular-nums}
.mcvqa-orders th, .mcvqa-orders td {padding: .35rem .5rem; text-align: center; border: 0 solid var(--border-color-primary)}
.mcvqa-orders table, .mcvqa-orders thead, .mcvqa-orders tbody, .mcvqa-orders tr {border: 0 !important}
.mcvqa-orders tr > * {border-bottom-width: 1px !important}
.mcvqa-orders th:first-child {text-align: left; min-width: 5.5rem; max-width: 11rem; font-weight: 500; word-spacing: .2em}
.mcvqa-orders td {background: color-mix(in srgb, var(--blue) calc(var(--share) * .4), transparent)}
.mcvqa-orders td.mcvqa-top {font-weight: 700}
.mcvqa-cards {display: grid; grid-template-columns: repeat(auto-fill, minmax(10.5rem, 1fr)); gap: .75rem}
.mcvqa-card {display: flex; flex-direction: column; gap: .15rem; text-align: left; padding: .5rem; border-radius: 10px;
  border: 1px solid var(--border-color-primary); background: var(--block-background-fill);
  font-size: .85rem; font-weight: 400; line-height: 1.35; cursor: pointer; min-width: 0}
.mcvqa-card:hover, .mcvqa-card:focus-visible {border-color: var(--blue)}
.mcvqa-card img {width: 100%; aspect-ratio: 4 / 3; object-fit: cover; border-radius: 6px; margin: 0 0 .25rem}
.mcvqa-card span {display: -webkit-box; -webkit-box-orient: vertical; -webkit-line-clamp: 3; overflow: hidden;
  overflow-wrap: anywhere}
.mcvqa-card .mcvqa-said {color: #b91c1c}
.mcvqa-card .mcvqa-right {color: #15803d}
.dark .mcvqa-card .mcvqa-said {color: #f87171}
.dark .mcvqa-card .mcvqa-right {color: #4ade80}
@media (max-width: 640px) {
  #language {position: static; align-self: flex-end}
  .mcvqa-head h1 {padding-right: 0}
  .mcvqa-cards {grid-template-columns: repeat(2, minmax(0, 1fr))}
}
"""
