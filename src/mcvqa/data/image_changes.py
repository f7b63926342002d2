"""`image_augmentation`: a photograph is changed so that the answer to its question stays what it is.

Rules go by the words of the question: a change that might alter the answer is left out. They know Korean and English.
"""
import random
import re
from collections.abc import Collection

from PIL import Image, ImageEnhance, ImageOps

from mcvqa.data.kinds import every_kind
from mcvqa.data.questions import Question

MOST_CUT = 0.08  # of the width or height, at each edge
MOST_LIGHT = 0.2  # by how much brightness and contrast change, as a share
EDGES_MATTER = {"counting", "location", "negation", "ocr", "yesno"}  # kinds that ask for what may be at the edge
ENGLISH = r"\b(what|which|who|whose|how|the|where|why|when|does|there|this|yes)\b"
SIDES = re.compile(
    r"왼|오른|좌[측우회]|우[측회]|방향|쪽|번째|순서|시계|거울|반사|대칭|화살표|지도|[동서남북]향|[←→↖↗↘↙⬅➡]|"
    r"\b(left|right|sides?|\w*sided|\w*handed|directions?|facing|faces|heading|pointing|turn\w*|mirror\w*|reflect\w*|symmetr\w*|"
    r"((counter|anti)-?)?clock\w*|(east|west)\w*|first|second|third|fourth|fifth|last|order|maps?|arrows?)\b"
)
SHADES = re.compile(
    r"밝|어두|어둡|진한|연한|짙|옅|조명|불[이을] 켜|밤|낮|새벽|아침|저녁|시간대|그림자|날씨|"
    r"\b(lights?|lit|lighting|dark\w*|bright\w*|pale|shad\w*|(mid)?nights?|da(y|ytime|wn)|dusk|morning|evening|weather|sun\w*)\b"
)


def answer_keeping_changes(question: Question) -> set[str]:
    """Return the changes of a photograph that do not alter the answer to a question about it.

    Args:
        question: its text and choices are searched for words about sides, edges, letters and shades.

    Returns:
        Names among 'crop', 'flip' and 'light'.
    """
    kinds, words = every_kind(question), " ".join((question.text, *question.choices)).lower()
    if not re.search(f"[가-힣]|{ENGLISH}", words):
        return set()  # which words matter is unknown
    altering = {
        "crop": kinds & EDGES_MATTER,
        "flip": "ocr" in kinds or SIDES.search(words),
        "light": "color" in kinds or SHADES.search(words),
    }
    return {name for name, reason in altering.items() if not reason}


def changed_image(image: Image.Image, question: Question, changes: Collection[str]) -> Image.Image:
    """Change the photograph at random, as far as the answer to the question allows; draws from `random`.

    Args:
        image: upright, RGB.
        question: about the photograph.
        changes: names among 'crop', 'flip' and 'light'.
    """
    allowed = answer_keeping_changes(question) & set(changes)
    if "crop" in allowed:
        image = image.crop(_random_box(*image.size))
    if "flip" in allowed and random.random() < 0.5:
        image = ImageOps.mirror(image)
    if "light" in allowed:
        for enhancer in (ImageEnhance.Brightness, ImageEnhance.Contrast):
            image = enhancer(image).enhance(random.uniform(1 - MOST_LIGHT, 1 + MOST_LIGHT))
    return image


def _random_box(width: int, height: int) -> tuple[int, int, int, int]:
    """Draw left, upper, right and lower edge in pixels."""
    left, right = (int(width * random.uniform(0, MOST_CUT)) for _ in range(2))
    upper, lower = (int(height * random.uniform(0, MOST_CUT)) for _ in range(2))
    return left, upper, width - right, height - lower
