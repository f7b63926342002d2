"""Writes the report of a run, as Markdown for the repository and as one self-contained HTML page in Korean and English.

The content is assembled once per language, as plain text in sections and blocks (`report/content.py`). Only the two renderers
write markup, and both escape all input: questions, file names and run names are untrusted.
"""
import base64
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from mcvqa.base.files import write_text
from mcvqa.report.content import ReportInput, ReportSection, report_sections
from mcvqa.report.gallery import GALLERY_CSS, report_template
from mcvqa.report.markdown import ERRORS_FOLDER, error_picture_name, markdown_report
from mcvqa.report.words import REPORT_LANGUAGES, report_word


def write_report(folder: str | Path, content: ReportInput) -> tuple[Path, Path]:
    """Write REPORT.md, with the photographs of errors next to it, and report.html into `folder`.

    Args:
        folder: folder of the run.
        content: content of the report.

    Returns:
        The paths of both.
    """
    folder = Path(folder)
    sections = {language: report_sections(content, language) for language in REPORT_LANGUAGES}
    markdown, page = folder / "REPORT.md", folder / "report.html"
    _write_error_pictures(folder, sections["en"])
    write_text(markdown, markdown_report(content.run, sections["en"], folder))
    write_text(page, html_report(content.run, sections, content.language))
    return markdown, page


def _write_error_pictures(folder: Path, sections: Sequence[ReportSection]) -> None:
    """Write the pictures of this report, replacing those of an earlier one."""
    shutil.rmtree(folder / ERRORS_FOLDER, ignore_errors=True)
    cards = [card for section in sections for block in section.blocks for card in block.cards]
    for number, card in enumerate(cards):
        if card.thumbnail.jpeg:
            file = folder / error_picture_name(number)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(card.thumbnail.jpeg)


# %% HTML
# The head of a page up to its style. The policy forbids loading or running anything, whatever the page contains.
PAGE_HEAD = """<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="color-scheme" content="light dark">
<title>{{ name }} · mcvqa</title>
<style>
:root { --ink: #1d2329; --soft: #5c6670; --line: #dfe3e7; --paper: #ffffff; --panel: #f5f7f8; --accent: #0b6e99; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e3e7ea; --soft: #9aa5af; --line: #343b42; --paper: #15191d; --panel: #1e242a; --accent: #6cb8dc; }
}
* { box-sizing: border-box; }
"""
# radio buttons switch the language: their style, the buttons before <main>, and their labels
LANGUAGE_STYLE = """\
#in-ko:checked ~ main .en, #in-en:checked ~ main .ko { display: none; }
.switch { position: absolute; opacity: 0; pointer-events: none; }
header { display: flex; flex-wrap: wrap; gap: .6rem 1.5rem; align-items: center; justify-content: space-between; }
.languages { display: flex; flex: none; border: 1px solid var(--line); border-radius: 8px; overflow: hidden; font-size: .87rem; }
.languages label { padding: .3rem .8rem; cursor: pointer; color: var(--soft); }
#in-ko:checked ~ main label[for=in-ko], #in-en:checked ~ main label[for=in-en] { background: var(--accent); color: var(--paper); }
#in-ko:focus-visible ~ main label[for=in-ko], #in-en:focus-visible ~ main label[for=in-en] {
  outline: 2px solid var(--ink); outline-offset: -4px; }
"""
LANGUAGE_BUTTONS = """\
{% for language, name in REPORT_LANGUAGES.items() %}
<input class="switch" type="radio" name="language" id="in-{{ language }}"{% if language == opening %} checked{% endif %}>
{% endfor %}
"""
LANGUAGE_LABELS = """\
<div class="languages">{% for language, name in REPORT_LANGUAGES.items() %}
<label for="in-{{ language }}" lang="{{ language }}">{{ name }}</label>{% endfor %}</div>"""
PAGE_TEMPLATE = """
{% macro with_code(text) %}
{% for part in text.split("`") %}{% if loop.index is even %}<code>{{ part }}</code>{% else %}{{ part }}{% endif %}{% endfor %}
{% endmacro %}
{% macro told(block) %}
{% if block.kind == "tiles" %}
<div class="tiles">{% for label, value, detail in block.rows %}
<div class="tile"><span>{{ label }}</span><b>{{ value }}</b><span>{{ detail }}</span></div>{% endfor %}</div>
{% elif block.kind == "table" %}
<div class="wide"><table{% if block.numeric %} class="numeric"{% endif %}>
{% if block.header|join %}
<thead><tr>{% for cell in block.header %}<th scope="col">{{ cell }}</th>{% endfor %}</tr></thead>
{% endif %}
<tbody>{% for row in block.rows %}<tr>{% for cell in row %}<td>{{ cell }}</td>{% endfor %}</tr>
{% endfor %}</tbody></table></div>
{% elif block.kind == "list" %}
<ul>{% for row in block.rows %}<li>{{ with_code(row[0]) }}</li>{% endfor %}</ul>
{% elif block.kind == "link" %}
<p><a class="button" href="{{ block.path.as_posix()|urlencode }}">{{ block.text }} →</a></p>
{% else %}
<p>{{ block.text }}</p>
{% endif %}
{% endmacro %}
<!doctype html>
<html lang="{{ opening }}">
""" + PAGE_HEAD + LANGUAGE_STYLE + """\
body { margin: 0 auto; padding: 2.2rem 1.25rem 4rem; max-width: 66rem; background: var(--paper); color: var(--ink);
  font: 16px/1.6 system-ui, "Apple SD Gothic Neo", "Malgun Gothic", "Noto Sans KR", "Noto Sans CJK KR", NanumGothic, sans-serif;
  word-break: keep-all; overflow-wrap: break-word; }
h1 { margin: 0; font-size: 1.9rem; line-height: 1.25; min-width: 0; overflow-wrap: anywhere; }
h1 small { color: var(--soft); font-size: 1rem; font-weight: 400; }
h2 { margin: 2.8rem 0 .8rem; padding-top: .8rem; border-top: 1px solid var(--line); font-size: 1.25rem; }
nav { display: flex; flex-wrap: wrap; gap: .2rem 1.1rem; margin-top: .6rem; font-size: .9rem; }
a { color: var(--accent); text-decoration: none; }
a:hover { text-decoration: underline; }
.button { display: inline-block; padding: .4rem .9rem; border: 1px solid var(--accent); border-radius: 8px; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(13rem, 100%), 1fr)); gap: .8rem; margin: 1.6rem 0; }
.tile { padding: .9rem 1.1rem; background: var(--panel); border-radius: 8px; }
.tile b { display: block; font-size: 1.6rem; line-height: 1.4; font-weight: 600; font-variant-numeric: tabular-nums; }
.tile span { color: var(--soft); font-size: .87rem; }
.wide { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; }
th, td { padding: .38rem .7rem; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }
th { color: var(--soft); font-weight: 600; border-bottom-width: 2px; }
.numeric :is(th, td) { white-space: nowrap; }
.numeric :is(th, td):not(:first-child) { text-align: right; font-variant-numeric: tabular-nums; }
figure { margin: 1.4rem 0; }
figure img { display: block; max-width: 100%; height: auto; margin: 0 auto; padding: .6rem; background: #fff;
  border-radius: 8px; }
@media (max-width: 40rem) {  /* figures and tables of a phone can be moved sideways, so that their letters stay legible */
  .drawn { overflow-x: auto; }
  .drawn img { max-width: none; width: 40rem; }
  th, td { padding: .3rem .4rem; }
  table:not(.numeric) td:last-child { min-width: 6.5rem; }
  table { font-size: .8rem; }
}
figcaption { margin-top: .4rem; color: var(--soft); font-size: .87rem; text-align: center; }
.alike { display: flex; flex-wrap: wrap; gap: .8rem; }
.alike > div { display: flex; gap: .3rem; padding: .5rem; background: var(--panel); border-radius: 8px; max-width: 100%;
  overflow-x: auto; }
.alike figure { margin: 0; width: 7rem; flex: none; }
.alike img { padding: 0; height: 6rem; width: 100%; object-fit: contain; background: none; }
.alike figcaption { font-size: .75rem; overflow-wrap: anywhere; }
pre { padding: 1rem 1.2rem; overflow-x: auto; background: var(--panel); border-radius: 8px;
  font: .84rem/1.5 ui-monospace, "SFMono-Regular", Consolas, "D2Coding", "NanumGothicCoding", monospace; }
li { margin: .3rem 0; }
code { padding: .1rem .3rem; border-radius: 4px; background: var(--panel); font-size: .9em; }
{{ gallery_css|safe }}
@media print {
  :root { --ink: #000; --soft: #444; --line: #bbb; --paper: #fff; --panel: #fff; --accent: #000; }
  body { padding: 0; max-width: none; font-size: 11pt; }
  nav, .languages { display: none; }
  h2 { break-after: avoid; }
  figure, tr, .tile { break-inside: avoid; }
  .tile { border: 1px solid var(--line); }
  pre { white-space: pre-wrap; }
}
</style>
</head>
<body>
""" + LANGUAGE_BUTTONS + """\
<main>
<header><h1>{{ name }} <small>{{ both(subtitle) }}</small></h1>
""" + LANGUAGE_LABELS + """</header>
<nav>{% for section in sections %}<a href="#{{ section.name }}">{{ both(section.title) }}</a>{% endfor %}</nav>
{% for section in sections %}
<section id="{{ section.name }}">
{% if not loop.first %}<h2>{{ both(section.title) }}</h2>{% endif %}
{% for block in section.blocks %}{% set first = block[opening] %}
{% if first.kind == "gallery" %}
{{ gallery(first.cards) }}
{% elif first.kind == "figure" %}
<figure><div class="drawn"><img src="{{ inlined(first.path) }}" alt="{{ first.text }}"></div>
<figcaption>{{ both(texts_of(block)) }}</figcaption></figure>
{% elif first.kind == "photographs" %}
<p>{{ both(texts_of(block)) }}</p>
<div class="alike">{% for group in first.groups %}<div>{% for picture, caption in group %}
<figure>{{ photo(picture, caption) }}
<figcaption>{{ caption }}</figcaption></figure>{% endfor %}</div>{% endfor %}</div>
{% elif first.kind == "verbatim" %}
{% for language, shown in once(block) %}
<pre class="{{ language }}" lang="{{ language or "en" }}">{{ shown.text }}</pre>{% endfor %}
{% else %}
{% for language, shown in once(block) %}
<div{% if language %} class="{{ language }}" lang="{{ language }}"{% endif %}>{{ told(shown) }}</div>{% endfor %}
{% endif %}
{% endfor %}
</section>
{% endfor %}
</main>
</body>
</html>
"""


def html_report(run: str, sections: Mapping[str, Sequence[ReportSection]], opening: str) -> str:
    """Render report.html: one file, without scripts or external resources.

    Args:
        run: name of the run.
        sections: language -> the sections, the same ones in each.
        opening: the language in which the page opens.
    """
    languages = [opening, *(language for language in sections if language != opening)]
    template = report_template(PAGE_TEMPLATE, languages)
    return template.render(
        name=run, sections=_side_by_side(sections), opening=opening, inlined=_inlined_png, gallery_css=GALLERY_CSS,
        subtitle={language: report_word(language, "report") for language in sections},
        texts_of=lambda block: {language: one.text for language, one in block.items()},
    ).lstrip()


def _side_by_side(sections: Mapping[str, Sequence[ReportSection]]) -> list[dict[str, object]]:
    """Combine each section's title and blocks in all languages."""
    columns = zip(*sections.values(), strict=True)
    return [
        {
            "name": column[0].name, "title": dict(zip(sections, (one.title for one in column), strict=True)),
            "blocks": [dict(zip(sections, blocks, strict=True)) for blocks in zip(*(one.blocks for one in column), strict=True)],
        }
        for column in columns
    ]


def _inlined_png(path: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()
