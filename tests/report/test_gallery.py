"""The error gallery shows photographs as they are, what was said and what is true, and only the tag of this answer."""
import dataclasses
import re

import pytest
from PIL import Image

from mcvqa.data.images import open_image
from mcvqa.report.gallery import ErrorTag, Thumbnail, error_cards, gallery_as_html, thumbnails_of
from mcvqa.report.metrics import WrongAnswer

ERROR = WrongAnswer("train_1", "train/1.jpg", "general", "무엇인가요?", ("개", "고양이"), 0, 1, (0.9, 0.1))
TAG = ErrorTag(0, {"ko": "답이 애매함", "en": "ambiguous"}, {"ko": "절반만 같습니다", "en": "half agree"}, {"ko": "", "en": ""})


def gallery(error: WrongAnswer = ERROR, language: str = "en", thumbnail: Thumbnail | None = None, **tags: ErrorTag) -> str:
    cards = error_cards([error], {error.image: thumbnail or Thumbnail(problem="no such file")}, tags)
    return gallery_as_html(cards, language)


def shown_choices(page: str) -> list[tuple[str, str]]:
    """(role, text) of each choice."""
    return re.findall(r'<li(?: class="(\w+)")?[^>]*><b>.</b>\s*<span><bdi>(.*?)</bdi>', page)


def test_what_was_said_and_what_is_true_are_marked():
    assert shown_choices(gallery()) == [("said", "개"), ("true", "고양이")]
    assert "90%" in gallery() and "10%" in gallery()


def test_of_many_choices_the_true_one_and_the_most_probable_are_shown_in_their_order():
    probabilities = tuple(0.5 if i == 3 else 0.02 if i != 25 else 0.0 for i in range(26))
    choices = tuple(f"choice{i}" for i in range(26))
    page = gallery(dataclasses.replace(ERROR, choices=choices, probabilities=probabilities, predicted=3, answer=25))
    assert [text for _, text in shown_choices(page)] == ["choice0", "choice1", "choice2", "choice3", "choice4", "choice25"]
    assert "20 more choices" in page


@pytest.mark.parametrize(("language", "there", "not_there"), [
    ("ko", "답이 애매함", "ambiguous"), ("en", "ambiguous", "답이 애매함"),
])
def test_it_is_in_one_language(language, there, not_there):
    page = gallery(language=language, train_1=TAG)
    assert there in page and not_there not in page


def test_a_tag_of_another_answer_is_not_shown():
    """Scores and evidence may break a tie differently."""
    assert "half agree" in gallery(train_1=TAG)
    assert "half agree" not in gallery(train_1=dataclasses.replace(TAG, said=1)) and "half agree" not in gallery(train_2=TAG)


def test_hostile_text_is_shown_as_text():
    evil = "<img src=x onerror=alert(1)>\"'{{ 7 * 7 }}"
    error = dataclasses.replace(ERROR, id=evil, question=evil, choices=(evil, evil))
    page = gallery(error, thumbnail=Thumbnail(problem=evil))
    assert "<img" not in page and page.count("&lt;img src=x onerror") == 5 and "49" not in page


def test_photographs_are_upright_small_and_inside(tmp_path):
    """Stored on its side with the EXIF orientation that says so: red stays on top."""
    stored = Image.new("RGB", (400, 800), (0, 0, 255))
    stored.paste((255, 0, 0), (0, 0, 400, 400))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees
    stored.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "1.jpg", exif=exif)
    (tmp_path / "2.jpg").write_bytes(b"not a picture")
    found = thumbnails_of(["1.jpg", "2.jpg", "3.jpg"], lambda name: open_image(tmp_path / name))
    (tmp_path / "small.jpg").write_bytes(found["1.jpg"].jpeg)
    with Image.open(tmp_path / "small.jpg") as small:
        red, _, blue = small.getpixel((90, 60))
        assert small.size == (180, 360) and red > 200 and blue < 50
    assert found["3.jpg"].problem == "no such file" and found["2.jpg"].problem and not found["2.jpg"].jpeg
    assert found["1.jpg"].source in gallery(thumbnail=found["1.jpg"])
    assert "No photograph: no such file" in gallery(thumbnail=found["3.jpg"])
