"""The explorer's file: what is in it, that no text of it is run, and which runs can be shown side by side."""
import base64
import hashlib
import io
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mcvqa.data.fixes import Decision
from mcvqa.data.kinds import KINDS
from mcvqa.data.questions import Question
from mcvqa.data.table import DataError
from mcvqa.insight import explorer
from mcvqa.insight.evidence import Neighbour, RowEvidence
from mcvqa.insight.explorer import PER_BLOCK, THUMBNAIL_PIXELS, ExploredRun, inert_json, write_explorer
from mcvqa.insight.explorer_words import explorer_words
from mcvqa.insight.tags import RULES_OF_TAGS

HOSTILE = "</script><!-- <script>document.title='taken'</script> <img src=x onerror=alert(1)> \u2028 {{7*7}} \ud800"


def explored(folder: Path, rows: Sequence[RowEvidence] = (), **changes) -> ExploredRun:
    """A run of some rows, with a noisy photograph for each name that they have."""
    names = sorted({row.question.image for row in rows} - {"missing.png"})
    for number, name in enumerate(names):
        pixels = np.random.default_rng(number).integers(0, 255, (30, 40, 3), dtype=np.uint8).repeat(10, 0).repeat(10, 1)
        Image.fromarray(pixels).save(folder / name)
    hashes = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names} | {"missing.png": ""}
    run = ExploredRun("r", "tiny", "0.750 ± 0.021 (n=3)", "", tuple(rows), {name: folder / name for name in names}, hashes)
    return replace(run, **changes)


def row(name: str, image: str = "a.png", truth: int | None = 0, text: str = "What color is it?", **changes) -> RowEvidence:
    question = Question(name, image, text, ("red", "green", "blue"), truth, source="train" if truth is not None else "")
    made = RowEvidence(question, "train" if truth is not None else "test", 0, "color", (0.2, 0.7, 0.1), 1, 0.5, 2, 0.7,
                       prior=(0.5, 0.25, 0.25), label_wrong=None if truth is None else 0.6, proposed=None if truth is None else 1)
    return replace(made, **changes)


class Scripts(HTMLParser):
    """Every element of a page, and the content of its scripts and styles by the browser's rules."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None], list[str]]] = []
        self.inside = ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs), []))
        self.inside = tag

    def handle_endtag(self, tag):
        self.inside = ""

    def handle_data(self, data):
        if self.inside:
            self.found[-1][2].append(data)

    def of(self, tag: str) -> list[tuple[dict[str, str | None], str]]:
        return [(attributes, "".join(content)) for name, attributes, content in self.found if name == tag]


def written(tmp_path: Path, *runs: ExploredRun) -> tuple[Scripts, dict]:
    write_explorer(tmp_path / "explore.html", *runs)
    page = Scripts((tmp_path / "explore.html").read_text(encoding="utf-8"))
    (data,) = [json.loads(content) for attributes, content in page.of("script") if attributes.get("id") == "data"]
    return page, data


def thumbnails_of(page: Scripts) -> list[Image.Image]:
    blocks = [content for attributes, content in page.of("script") if (attributes.get("id") or "").startswith("photographs-")]
    urls = [url for block in blocks for url in json.loads(block)]
    return [Image.open(io.BytesIO(base64.b64decode(url.removeprefix("data:image/webp;base64,")))) for url in urls]


# %% one run
def test_every_row_is_in_the_page_with_what_is_known_of_it(tmp_path):
    known = row("q1", order_agreement=0.5, tag="order-sensitive", reason="50%", reason_in_korean="절반",
                look_alikes=(Neighbour("q2", "green", True),), look_alikes_count=1)
    _, data = written(tmp_path, explored(tmp_path, [known, row("q2"), row("q1", "missing.png", None)]))
    first, second, test = data["rows"]
    assert (first["id"], first["split"], first["kind"], first["source"], first["fold"]) == ("q1", "train", "color", "train", 0)
    assert first["choices"] == ["red", "green", "blue"] and first["shares"] == [0.2, 0.7, 0.1]
    assert (first["truth"], first["file_label"], first["said"], first["proposed"], first["label_wrong"]) == (0, 0, 1, 1, 0.6)
    assert first["reason"] == {"en": "50%", "ko": "절반"} and first["look_alikes"] == [["q2", "green", True]]
    assert "tag" not in second and "order_agreement" not in second, "what does not apply takes no room"
    assert test["split"] == "test" and test["said"] == 1 and not {"truth", "photo", "label_wrong"} & set(test)
    assert data["runs"] == [{"name": "r", "model": "tiny", "accuracy": "0.750 ± 0.021 (n=3)", "not_measured": ""}]


def test_text_from_data_is_never_markup_or_script(tmp_path):
    hostile = row("q1", text=HOSTILE, tag="ambiguous", reason=HOSTILE, reason_in_korean=HOSTILE)
    hostile = replace(hostile, question=replace(hostile.question, choices=(HOSTILE, "b", "c"), source=HOSTILE))
    page, data = written(tmp_path, explored(tmp_path, [hostile], name=HOSTILE))
    whole, printed = (tmp_path / "explore.html").read_text(encoding="utf-8"), HOSTILE.encode("unicode_escape").decode()
    assert "<!-- <" not in whole and "<script>document" not in whole and "\u2028" not in whole and "<img src" not in whole
    assert not page.of("img") and [content for _, content in page.of("title")] == [f"{printed} · mcvqa"]
    kinds = [attributes.get("type") for attributes, _ in page.of("script")]
    assert kinds == ["application/json", None, "application/json"], "data, the script, photographs"
    assert data["rows"][0]["question"] == HOSTILE == data["rows"][0]["choices"][0]


def test_json_is_inert_and_the_same_value():
    value = {"a": [HOSTILE, "<!--", "]]>", "&lt;", None, float("nan"), "한국어\u2029"]}
    text = inert_json(value)
    assert not re.search("[<>&\u2028\u2029]", text)
    assert json.loads(text) == {"a": [HOSTILE, "<!--", "]]>", "&lt;", None, None, "한국어\u2029"]}


def test_the_policy_allows_this_script_and_this_style_and_nothing_else(tmp_path):
    page, _ = written(tmp_path, explored(tmp_path, [row("q1")]))
    (policy,) = [a["content"] for a, _ in page.of("meta") if a.get("http-equiv") == "Content-Security-Policy"]
    (script,) = [content for attributes, content in page.of("script") if "type" not in attributes]
    ((_, style),) = page.of("style")
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (script, style)]
    assert policy == (
        f"default-src 'none'; script-src 'sha256-{hashes[0]}'; style-src 'sha256-{hashes[1]}'; img-src data:; base-uri 'none'; "
        "form-action 'none'")
    attributes = {name for _, found, _ in page.found for name in found}
    assert not any(name.startswith("on") or name in ("style", "src", "href", "srcdoc") for name in attributes)


def test_a_photograph_of_several_rows_is_stored_once_and_small(tmp_path):
    rows = [row(f"q{i}", f"{i % 11:02}.png") for i in range(22)]
    page, data = written(tmp_path, explored(tmp_path, rows))
    pictures = thumbnails_of(page)
    assert len(pictures) == 11 > PER_BLOCK and {max(picture.size) for picture in pictures} == {THUMBNAIL_PIXELS}
    for found in (data["rows"][3], data["rows"][14]):
        original = Image.open(tmp_path / "03.png").resize((4, 3), Image.Resampling.BOX)
        shown = pictures[found["photo"]].convert("RGB").resize((4, 3), Image.Resampling.BOX)
        assert np.abs(np.asarray(original, int) - np.asarray(shown, int)).max() < 25


def test_many_photographs_are_made_smaller_so_that_the_page_stays_small(tmp_path, monkeypatch):
    run = explored(tmp_path, [row(f"q{i}", f"{i}.png") for i in range(4)])
    written(tmp_path, run)
    before = (tmp_path / "explore.html").stat().st_size
    monkeypatch.setattr(explorer, "THUMBNAILS_BYTES", 4 * 1500)
    page, _ = written(tmp_path, run)
    assert len(thumbnails_of(page)) == 4 and (tmp_path / "explore.html").stat().st_size < before - 4000


def test_a_photograph_that_is_gone_is_no_reason_to_stop(tmp_path):
    run = explored(tmp_path, [row("q1"), row("q2", "b.png")])
    (tmp_path / "b.png").write_bytes(b"broken")
    page, data = written(tmp_path, run)
    (block,) = [content for attributes, content in page.of("script") if attributes.get("id") == "photographs-0"]
    urls = json.loads(block)
    assert urls[data["rows"][1]["photo"]] == "" and urls[data["rows"][0]["photo"]]


# %% decisions that the run was trained with
def test_decisions_before_this_run_are_there_to_be_written_again(tmp_path):
    decided = [Decision(1, "q1", "fix", "a", "c"), Decision(2, "q2", "keep", "a", ""), Decision(3, "gone", "drop", "b", ""),
               Decision(4, "q3", "", "a", "b")]
    run = explored(tmp_path, [row("q1", truth=2), row("q2"), row("q3")], before={"q1": 0}, decided=decided)
    _, data = written(tmp_path, run)
    assert data["rows"][0]["truth"] == 2 and data["rows"][0]["file_label"] == 0, "fixes.csv speaks of the label in the file"
    assert data["decided"] == {"q1": ["fix", 2], "q2": ["keep", None]}
    assert [dict(zip(data["header"], cells, strict=True)) for cells in data["dropped"]] == [
        dict.fromkeys(data["header"], "") | {"id": "gone", "now": "b", "decision": "drop"}]


# %% two runs
def test_two_runs_are_joined_by_split_and_id(tmp_path):
    first = explored(tmp_path, [row("q1"), row("q2"), row("q1", truth=None)])
    second = explored(tmp_path, [row("q3"), row("q1", said=0, probabilities=(0.8, 0.1, 0.1), fold=2)], name="other")
    _, data = written(tmp_path, first, second)
    assert [one["id"] for one in data["rows"]] == ["q1", "q2", "q1"] and [one["name"] for one in data["runs"]] == ["r", "other"]
    assert data["rows"][0]["other"]["said"] == 0 and data["rows"][0]["other"]["fold"] == 2
    assert "other" not in data["rows"][1] and "other" not in data["rows"][2] and data["only_second"] == 1


@pytest.mark.parametrize(("change", "message"), [
    ({"text": "What?"}, "its question is another one ('What color is it?' in r, 'What?' in other)"),
    ({"truth": 1}, "its label is another one ('a' in r, 'b' in other)"),
    ({"image": "b.png"}, "its photograph is another one (a.png and b.png)"),
])
def test_runs_on_other_data_are_refused(tmp_path, change, message):
    first = explored(tmp_path, [row("q0"), row("q1"), row("q2", "b.png")])
    second = explored(tmp_path, [row("q0"), row("q1", **change), row("q2", "b.png")], name="other")
    with pytest.raises(DataError) as error:
        write_explorer(tmp_path / "x.html", first, second)
    assert message in str(error.value) and "1 row of 3" in str(error.value) and "'q1'" in str(error.value)
    assert not (tmp_path / "x.html").exists()


def test_other_choices_and_no_common_row_are_refused(tmp_path):
    first, q = explored(tmp_path, [row("q1")]), row("q1").question
    swapped = replace(row("q1"), question=replace(q, choices=("green", "red", "blue")))
    with pytest.raises(DataError, match="its choices are others \\('red / green / blue' in r, 'green / red / blue' in other"):
        write_explorer(tmp_path / "x.html", first, replace(first, rows=(swapped,), name="other"))
    with pytest.raises(DataError, match="have no row in common"):
        write_explorer(tmp_path / "x.html", first, explored(tmp_path, [row("q9")], name="other"))


def test_a_run_with_fixed_labels_can_stand_beside_the_one_before(tmp_path):
    first = explored(tmp_path, [row("q1"), row("q2")])
    second = explored(tmp_path, [row("q1", truth=1), row("q2")], name="other", before={"q1": 0})
    _, data = written(tmp_path, first, second)
    assert data["other_labels"] == 1 and data["rows"][0]["truth"] == 0


# %% words
def test_the_page_has_each_word_and_no_other_in_both_languages():
    parts = [part for part in (files("mcvqa.insight") / "page").iterdir() if part.name.endswith((".html", ".js"))]
    source = "".join(part.read_text(encoding="utf-8") for part in parts)
    asked = {name for names in re.findall(r"say\(([^()]*)", source) for name in re.findall(r"'([\w -]+)'", names)}
    asked |= set(re.findall(r'data-(?:word|label|title|placeholder)="(\w+)"', source))
    words = explorer_words()["ko"].keys()
    assert asked <= words
    known_in_data = {tag for tag, _ in RULES_OF_TAGS}
    assert known_in_data <= words
    for name in words:
        assert re.search(rf"\b{re.escape(name)}\b", source) or name in known_in_data | UNUSUAL, name
    korean, english = explorer_words()["ko"], explorer_words()["en"]
    assert korean.keys() == english.keys()
    for name, text in korean.items():
        assert set(re.findall(r"\{\w+\}", text)) == set(re.findall(r"\{\w+\}", english[name])), name


UNUSUAL = {"no_script", *KINDS}
