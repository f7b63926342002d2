"""Shows wrong answers with their photographs as HTML, for the report and the notebook. All text from files is escaped."""
import base64
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jinja2

from mcvqa.base.informing import printable
from mcvqa.data.answers import LETTERS
from mcvqa.report.metrics import WrongAnswer
from mcvqa.report.words import REPORT_LANGUAGES, report_word

THUMBNAIL_SIDE_PIXELS = 360  # the longer side
SHOWN_CHOICES = 6
OpenPicture = Callable[[str], Any]  # path as written in the CSV -> PIL image; raises ValueError or OSError


@dataclass(frozen=True)
class ErrorTag:
    """Describes the probable cause of a wrong answer, in each language.

    Attributes:
        said: the answer that it is about.
        names: names of the tag.
        reasons: reasons; empty texts if no cause is known.
        remedies: advice for such rows.
    """

    said: int
    names: Mapping[str, str]
    reasons: Mapping[str, str]
    remedies: Mapping[str, str]


@dataclass(frozen=True)
class Thumbnail:
    """Holds a small photograph as JPEG, or the reason why there is none."""

    jpeg: bytes = b""
    problem: str = ""

    @property
    def source(self) -> str:
        return "data:image/jpeg;base64," + base64.b64encode(self.jpeg).decode()


@dataclass(frozen=True)
class ErrorCard:
    """Describes a wrong answer for display.

    Attributes:
        tag: tag of this answer; None: unknown.
        choices: (index, letter, text, probability) of the choices shown.
    """

    error: WrongAnswer
    thumbnail: Thumbnail
    tag: ErrorTag | None

    @property
    def choices(self) -> list[tuple[int, str, str, float]]:
        error = self.error
        by_rank = sorted(range(len(error.choices)), key=lambda c: (c != error.answer, -error.probabilities[c]))
        shown = sorted(by_rank[:SHOWN_CHOICES])  # the prediction is the most probable
        return [(c, LETTERS[c], error.choices[c], error.probabilities[c]) for c in shown]


# %% photographs
def thumbnails_of(paths: Iterable[str], open_picture: OpenPicture) -> dict[str, Thumbnail]:
    """Make a thumbnail of each photograph.

    Args:
        paths: the photographs.
        open_picture: opens one upright and in RGB.
    """
    return {path: _thumbnail_of(path, open_picture) for path in dict.fromkeys(paths)}


def _thumbnail_of(path: str, open_picture: OpenPicture) -> Thumbnail:
    try:
        picture, content = open_picture(path), io.BytesIO()
        picture.thumbnail((THUMBNAIL_SIDE_PIXELS, THUMBNAIL_SIDE_PIXELS))
        picture.save(content, "JPEG", quality=82)
        return Thumbnail(content.getvalue())
    except (OSError, ValueError) as problem:
        return Thumbnail(problem=getattr(problem, "reason", str(problem)))


# %% cards
def error_cards(
    errors: Sequence[WrongAnswer], thumbnails: Mapping[str, Thumbnail], tags: Mapping[str, ErrorTag]
) -> tuple[ErrorCard, ...]:
    """Make cards of wrong answers, without the tag if that is about another answer.

    Args:
        errors: the wrong answers.
        thumbnails: path of a photograph -> its thumbnail.
        tags: id of a row -> its tag.
    """
    of_answer = {e.id: tag for e in errors if (tag := tags.get(e.id)) and tag.said == e.predicted}
    return tuple(ErrorCard(e, thumbnails.get(e.image, Thumbnail()), of_answer.get(e.id)) for e in errors)


GALLERY_CSS = """
.gallery { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(17rem, 100%), 1fr)); gap: 1rem; margin: 1.2rem 0; }
.card { display: flex; flex-direction: column; min-width: 0; overflow: hidden; border: 1px solid #8884; border-radius: 10px;
  word-break: keep-all; overflow-wrap: anywhere; font-size: .9rem; line-height: 1.5; break-inside: avoid; }
.card .photo { display: flex; align-items: center; justify-content: center; height: 13rem; background: #8882; }
.card .photo img { width: 100%; height: 100%; object-fit: contain; }
.card .photo span { padding: 1rem; opacity: .75; text-align: center; }
.card .body { display: flex; flex-direction: column; gap: .6rem; flex: 1; padding: .8rem .9rem .9rem; }
.card p { margin: 0; }
.card .asked { font-weight: 600; font-size: 1rem; }
.card ol { list-style: none; margin: 0; padding: 0; display: grid; gap: .45rem; }
.card li { display: grid; grid-template-columns: 1.1rem minmax(0, 1fr) auto; gap: 0 .3rem; margin: 0; --bar: #8a94a0; }
.card li > b { font-weight: 600; opacity: .7; }
.card li em { font-style: normal; font-variant-numeric: tabular-nums; }
.card li small { display: inline-block; margin-left: .35rem; padding: 0 .4rem; border-radius: 9px; font-size: .75rem;
  color: #fff; background: var(--badge); white-space: nowrap; }
.card li i { grid-column: 2 / 4; height: 4px; border-radius: 2px;
  background: linear-gradient(var(--bar), var(--bar)) 0 / var(--share) no-repeat #8883; }
.card .said { font-weight: 600; --bar: #d9560f; --badge: #c2410c; }
.card .true { font-weight: 600; --bar: #059669; --badge: #047857; }
.card .tag { padding: .5rem .7rem; border-left: 3px solid #d97706; background: #d9770618; border-radius: 0 6px 6px 0; }
.card .tag b { display: block; }
.card .name { opacity: .7; font-size: .8rem; }
.card .name:last-child { margin-top: auto; }
"""

# `say(name)` shows a word in each language; `both(texts)` shows texts in each language, or once if all are equal
GALLERY_MACROS = """
{% macro both(texts) %}
{% for language, text in once(texts) %}
<span{% if language %} class="{{ language }}" lang="{{ language }}"{% endif %}>{{ text }}</span>{% endfor %}
{% endmacro %}
{% macro photo(picture, id) %}
{% if picture.jpeg %}
<img src="{{ picture.source }}" alt="{{ spoken('photograph_of', id=id) }}">
{% else %}
{{ both(say('no_photograph', why=picture.problem)) }}
{% endif %}
{% endmacro %}
{% macro gallery(cards) %}
<div class="gallery">{% for card in cards %}{% set error, hidden = card.error, card.error.choices|length - card.choices|length %}
<article class="card"><div class="photo">{{ photo(card.thumbnail, error.id) }}</div>
<div class="body"><p class="asked" dir="auto">{{ error.question }}</p>
<ol>{% for index, letter, text, share in card.choices %}
{% set role = 'said' if index == error.predicted else 'true' if index == error.answer else '' %}
{% set mark = {'said': ('✗', 'predicted'), 'true': ('✓', 'true')}.get(role) %}
<li{% if role %} class="{{ role }}"{% endif %} style="--share:{{ '%.1f' % (100 * share) }}% 100%"><b>{{ letter }}</b>
<span><bdi>{{ text }}</bdi>{% if mark %}<small>{{ mark[0] }} {{ both(say(mark[1])) }}</small>{% endif %}</span>
<em>{{ '%.0f' % (100 * share) }}%</em><i></i></li>{% endfor %}</ol>
{% if hidden %}<p class="name">{{ both(say('more_choices', n=hidden)) }}</p>{% endif %}
{% if card.tag and card.tag.reasons.en %}
<p class="tag"><b>{{ both(card.tag.names) }}</b>{{ both(card.tag.reasons) }}</p>
{% endif %}
<p class="name">{{ error.id }} · {{ both(say(error.kind)) }}</p></div></article>{% endfor %}
</div>
{% endmacro %}
"""


def report_template(text: str, languages: Sequence[str]) -> jinja2.Template:
    """Compile a template that can use the macros above.

    Args:
        text: the template, as HTML.
        languages: languages in which it is shown; the first one is used where only one can be.
    """
    def say(name: str, /, **values: object) -> dict[str, str]:
        return {language: report_word(language, name, **values) for language in languages}

    def once(texts: Mapping[str, Any]) -> list[tuple[str, Any]]:
        shown = {language: texts[language] for language in languages}
        first = shown[languages[0]]
        return list(shown.items()) if any(other != first for other in shown.values()) else [("", first)]

    def shown_text(value: Any) -> Any:
        return printable(value) if isinstance(value, str) and not hasattr(value, "__html__") else value

    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined, finalize=shown_text,
    )
    environment.globals |= {
        "say": say, "once": once, "spoken": lambda name, **values: report_word(languages[0], name, **values),
        "REPORT_LANGUAGES": REPORT_LANGUAGES,
    }
    return environment.from_string(GALLERY_MACROS + text)


def gallery_as_html(cards: Sequence[ErrorCard], language: str) -> str:
    """Render only the gallery in one language, for a notebook."""
    return report_template("<style>{{ css|safe }}</style>{{ gallery(cards) }}", [language]).render(cards=cards, css=GALLERY_CSS)
