"""Puts scenes into words, in English and Korean: the word for each thing, and the forms in which each topic is asked.

The words of a question are looked up here, so scenes and puzzles use language-independent keys ('red', 'left of').
"""
from typing import NamedTuple

Phrase = tuple[str, ...]  # words of WORDS, in the order in which they are spoken

# English, Korean. What is not in the table is written as it is (numbers, painted letters).
WORDS: dict[str, tuple[str, str]] = {
    "red": ("red", "빨간색"), "green": ("green", "초록색"), "blue": ("blue", "파란색"), "black": ("black", "검은색"),
    "gray": ("gray", "회색"), "teal": ("teal", "청록색"), "brown": ("brown", "갈색"), "yellow": ("yellow", "노란색"),
    "orange": ("orange", "주황색"), "purple": ("purple", "보라색"), "pink": ("pink", "분홍색"),
    "white": ("white", "흰색"), "beige": ("beige", "베이지색"), "sky blue": ("sky blue", "하늘색"),
    "light green": ("light green", "연두색"), "lavender": ("lavender", "연보라색"), "navy": ("navy", "남색"),
    "dark green": ("dark green", "진초록색"), "tan": ("tan", "황토색"),
    "mint": ("mint", "민트색"), "peach": ("peach", "살구색"), "charcoal": ("charcoal", "짙은 회색"),
    "maroon": ("maroon", "적갈색"), "olive": ("olive", "올리브색"),
    "thing": ("shape", "도형"), "object": ("object", "물체"), "circle": ("circle", "원"), "rectangle": ("rectangle", "직사각형"),
    "triangle": ("triangle", "삼각형"), "star": ("star", "별"), "heart": ("heart", "하트"),
    "cross": ("cross", "십자가"),
    "ring": ("ring", "고리"), "diamond": ("diamond", "마름모"), "hexagon": ("hexagon", "육각형"),
    "crescent": ("crescent", "초승달"), "half circle": ("half circle", "반원"),
    "striped": ("striped", "줄무늬"), "dotted": ("dotted", "물방울무늬"), "checked": ("checked", "체크무늬"),
    "unpatterned": ("plain", "무늬 없음"), "large": ("large", "큰"), "small": ("small", "작은"),
    "yes": ("yes", "예"), "no": ("no", "아니오"),
    "nearest": ("closest to", "가까운"), "furthest": ("furthest from", "먼"),
    "leftmost": ("leftmost", "가장 왼쪽에 있는"), "rightmost": ("rightmost", "가장 오른쪽에 있는"),
    "topmost": ("topmost", "가장 위에 있는"), "bottommost": ("bottommost", "가장 아래에 있는"),
    "largest": ("largest", "가장 큰"), "smallest": ("smallest", "가장 작은"),
    "left": ("left", "왼쪽"), "right": ("right", "오른쪽"), "top": ("top", "위쪽"), "bottom": ("bottom", "아래쪽"),
    "left of": ("to the left of", "왼쪽"), "right of": ("to the right of", "오른쪽"), "above": ("above", "위쪽"),
    "below": ("below", "아래쪽"),
    "to be left of": ("to the left", "왼쪽"), "to be right of": ("to the right", "오른쪽"),
    "to be above": ("above", "위쪽"), "to be below": ("below", "아래쪽"),
    "top left": ("top left", "왼쪽 위"), "top center": ("top center", "위쪽 가운데"),
    "top right": ("top right", "오른쪽 위"), "center left": ("center left", "왼쪽 가운데"),
    "center": ("center", "한가운데"),
    "center right": ("center right", "오른쪽 가운데"), "bottom left": ("bottom left", "왼쪽 아래"),
    "bottom center": ("bottom center", "아래쪽 가운데"), "bottom right": ("bottom right", "오른쪽 아래"),
}  # fmt: skip
LANGUAGES = ("en", "ko")
CELLS = (
    "top left", "top center", "top right", "center left", "center", "center right", "bottom left", "bottom center",
    "bottom right",
)  # fmt: skip
OPPOSITE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}


def say(phrase: Phrase, language: str) -> str:
    """Put a phrase into words: ('red', 'circle') -> 'red circle' or '빨간색 원'; ('thing', 'mark:A') -> "shape marked 'A'"."""
    column = LANGUAGES.index(language)
    words = [WORDS.get(word, (word, word))[column] for word in phrase if not word.startswith("mark:")]
    for mark in (word[5:] for word in phrase if word.startswith("mark:")):
        words = [*words, f"marked '{mark}'"] if language == "en" else [f"'{mark}' 표시가 있는", *words]
    return " ".join(words)


def plural(noun: str) -> str:
    """Make the English plural: 'cross' -> 'crosses'; "shape marked 'A'" is never counted."""
    return noun + ("es" if noun.endswith("s") else "s")


# %% the forms of questions
class Wordings(NamedTuple):
    """Holds the forms in which a topic is asked, in each language and in the style of shifted scenes.

    {x} is a thing or group, {xs} its plural, {ax} with its article; other slots are filled likewise.
    """

    english: tuple[str, ...]
    korean: tuple[str, ...]
    english_shifted: tuple[str, ...]
    korean_shifted: tuple[str, ...]


WORDINGS: dict[str, Wordings] = {
    "count all": Wordings(
        ("How many shapes are there?", "How many shapes are in the image?", "What is the number of objects?"),
        ("도형은 모두 몇 개인가요?", "그림에 도형이 몇 개 있나요?", "물체의 개수는 몇 개입니까?"),
        ("Count every figure you can find. How many?",), ("이 장면에 그려진 도형의 수를 모두 세면 몇인가요?",),
    ),
    "count group": Wordings(
        ("How many {xs} are there?", "How many {xs} are in the image?", "how many {xs} can you see?"),
        ("{x}[은/는] 몇 개인가요?", "{x}[이/가] 몇 개 있나요?", "그림에 보이는 {x}[은/는] 모두 몇 개입니까?"),
        ("What is the total number of {xs} drawn here?",), ("이 장면에 그려진 {x}[을/를] 세면 몇인가요?",),
    ),
    "count same shape": Wordings(
        ("How many other objects have the same shape as the {x}?", "How many others are shaped like the {x}?"),
        ("{x}[과/와] 모양이 같은 다른 도형은 몇 개인가요?", "{x} 말고 같은 모양의 도형이 몇 개 더 있나요?"),
        ("Apart from the {x} itself, how many share its shape?",),
        ("{x}[을/를] 빼고 그것과 모양이 같은 것을 세면 몇인가요?",),
    ),
    "count alike": Wordings(
        ("How many objects have the shape of the {x}?", "How many shapes look like the {x}, itself included?"),
        ("{x}[과/와] 모양이 같은 것은 그 자신까지 몇 개인가요?", "{x}[을/를] 포함해 같은 모양의 물체가 몇 개 있나요?"),
        ("Count the {x} and all that share its shape. How many?",),
        ("{x}[과/와] 그것과 모양이 같은 것을 함께 세면 몇인가요?",),
    ),
    "count same color": Wordings(
        ("How many other shapes have the same color as the {x}?", "How many others are colored like the {x}?"),
        ("{x}[과/와] 색이 같은 다른 도형은 몇 개인가요?", "{x} 말고 같은 색의 도형이 몇 개 더 있나요?"),
        ("Apart from the {x} itself, how many share its color?",),
        ("{x}[을/를] 빼고 그것과 색이 같은 것을 세면 몇인가요?",),
    ),
    "count beside": Wordings(
        ("How many shapes are {r} the {x}?", "What is the number of objects {r} the {x}?"),
        ("{x}의 {r}에 있는 도형은 몇 개인가요?", "{x}보다 {r}에 도형이 몇 개 있습니까?"),
        ("Count what lies {r} the {x}. How many?",), ("{x}[을/를] 기준으로 {r}에 놓인 것을 세면 몇인가요?",),
    ),
    "color of": Wordings(
        ("What color is the {x}?", "What is the color of the {x}?", "what color is the {x}?",
         "Which color is the {x}?"),
        ("{x}[은/는] 무슨 색인가요?", "{x}의 색깔은 무엇인가요?", "{x}[은/는] 어떤 색입니까?"),
        ("The {x} was painted in which color?",), ("{x}[을/를] 칠한 색은 어느 것인가요?",),
    ),
    "color of extreme": Wordings(
        ("What color is the {e} shape?", "What is the color of the {e} object?"),
        ("{e} 도형은 무슨 색인가요?", "{e} 도형의 색깔은 무엇입니까?"),
        ("The {e} figure was painted in which color?",), ("{e} 도형을 칠한 색은 어느 것인가요?",),
    ),
    "color by distance": Wordings(
        ("What color is the shape {d} the {x}?", "What is the color of the object that is {d} the {x}?"),
        ("{x}에서 가장 {d} 도형은 무슨 색인가요?", "{x}에서 가장 {d} 물체의 색깔은 무엇인가요?"),
        ("The figure {d} the {x} was painted in which color?",), ("{x}에서 가장 {d} 도형을 칠한 색은 어느 것인가요?",),
    ),
    "common color": Wordings(
        ("Which color occurs most often among the shapes?", "What is the most common color of the shapes?"),
        ("가장 많이 나오는 도형의 색은 무엇인가요?", "도형들 중 가장 많이 쓰인 색은 무엇입니까?"),
        ("Which color was used for the largest number of figures?",),
        ("도형을 칠하는 데 가장 여러 번 쓴 색은 어느 것인가요?",),
    ),
    "background color": Wordings(
        ("What color is the background?", "What is the color of the background?"),
        ("배경은 무슨 색인가요?", "배경의 색깔은 무엇인가요?"),
        ("On which color was all this painted?",), ("바탕을 칠한 색은 어느 것인가요?",),
    ),
    "shape of": Wordings(
        ("What shape is the {x}?", "What is the {x}?", "What is the shape of the {x}?", "what form does the {x} have?"),
        ("{x}[은/는] 어떤 모양인가요?", "{x}의 모양은 무엇인가요?", "{x}[은/는] 무슨 모양입니까?"),
        ("Which word names the outline of the {x}?",), ("{x}의 윤곽을 가리키는 말은 어느 것인가요?",),
    ),
    "shape of extreme": Wordings(
        ("What shape is the {e} one?", "What is the shape of the {e} object?"),
        ("{e} 도형은 어떤 모양인가요?", "{e} 도형의 모양은 무엇입니까?"),
        ("Which word names the outline of the {e} figure?",), ("{e} 도형의 윤곽을 가리키는 말은 어느 것인가요?",),
    ),
    "shape by distance": Wordings(
        ("What is the shape of the object {d} the {x}?", "What shape is the one {d} the {x}?"),
        ("{x}에서 가장 {d} 도형은 어떤 모양인가요?", "{x}에서 가장 {d} 물체의 모양은 무엇인가요?"),
        ("Which word names the outline of the figure {d} the {x}?",),
        ("{x}에서 가장 {d} 도형의 윤곽을 가리키는 말은 어느 것인가요?",),
    ),
    "texture of": Wordings(
        ("What pattern does the {x} have?", "How is the {x} patterned?"),
        ("{x}의 무늬는 무엇인가요?", "{x}에는 어떤 무늬가 있나요?"),
        ("The surface of the {x} is best described as what?",), ("{x}의 겉면에 그려 넣은 무늬는 어느 것인가요?",),
    ),
    "which extreme": Wordings(
        ("Which shape is the {e}?", "What is the {e} shape?"),
        ("{e} 도형은 무엇인가요?", "도형 중 {e} 것은 무엇입니까?"),
        ("Pick the {e} of all figures.",), ("모든 도형 가운데 {e} 것을 고르면 어느 것인가요?",),
    ),
    "read": Wordings(
        ("What is written on the {x}?", "What does the {x} say?", "Which text is on the {x}?"),
        ("{x}에 적힌 글자는 무엇인가요?", "{x}에 무엇이라고 적혀 있나요?", "{x}에 쓰여 있는 것은 무엇입니까?"),
        ("Read aloud what was painted onto the {x}.",), ("{x} 위에 칠해진 문자를 읽으면 어느 것인가요?",),
    ),
    "read only": Wordings(
        ("What is written in the image?", "Which text can be read in the image?"),
        ("그림에 적힌 글자는 무엇인가요?", "그림에서 읽을 수 있는 글자는 무엇입니까?"),
        ("Read aloud the only text painted here.",), ("이 장면에서 읽히는 문자는 어느 것인가요?",),
    ),
    "color marked": Wordings(
        ("What color is the {x}?", "What is the color of the {x}?"),
        ("{x}[은/는] 무슨 색인가요?", "{x}의 색깔은 무엇입니까?"),
        ("Find the {x}: which color was used for it?",), ("{x}[을/를] 찾으면 그 색은 어느 것인가요?",),
    ),
    "exists": Wordings(
        ("Is there {ax}?", "Is there {ax} in the image?", "does the image contain {ax}?", "Can you see {ax}?",
         "is {ax} present?"),
        ("{x}[이/가] 있나요?", "그림에 {x}[이/가] 있습니까?", "{x}[이/가] 보이나요?"),
        ("Did anyone paint {ax} here?",), ("이 장면에서 {x}[을/를] 찾을 수 있나요?",),
    ),
    "exists not": Wordings(
        ("Is there no {x}?", "is there not {ax} in the image?", "Does the image not contain {ax}?",
         "is no {x} present?"),
        ("{x}[이/가] 없나요?", "그림에 {x}[이/가] 없습니까?"),
        ("Is {ax} missing from this scene?",), ("이 장면에서 {x}[을/를] 찾을 수 없나요?",),
    ),
    "is beside": Wordings(
        ("Is the {x} {r} the {y}?", "Does the {x} lie {r} the {y}?"),
        ("{x}[은/는] {y}의 {r}에 있나요?", "{x}[이/가] {y}보다 {r}에 있습니까?"),
        ("Would you find the {x} {r} the {y}?",), ("{y}[을/를] 기준으로 {x}[이/가] {r}에 놓였나요?",),
    ),
    "is on side": Wordings(
        ("Is the {x} on the {s} side of the image?", "Is the {x} in the {s} half of the image?"),
        ("{x}[은/는] 그림의 {s}에 있나요?", "{x}[이/가] 그림의 {s} 절반에 있습니까?"),
        ("Split in two, does the {s} half of the scene hold the {x}?",),
        ("장면을 둘로 나누면 {x}[은/는] {s} 절반에 놓였나요?",),
    ),
    "are more": Wordings(
        ("Are there more {xs} than {ys}?", "Is the number of {xs} greater than the number of {ys}?"),
        ("{x}[이/가] {y}보다 많은가요?", "{x}의 수가 {y}의 수보다 많습니까?"),
        ("Do the {xs} outnumber the {ys}?",), ("{y}[과/와] 견주면 {x} 쪽이 더 많은가요?",),
    ),
    "same color": Wordings(
        ("Are the {x} and the {y} the same color?", "Does the {x} have the same color as the {y}?"),
        ("{x}[과/와] {y}[은/는] 색이 같은가요?", "{x}의 색은 {y}의 색과 같습니까?"),
        ("Was one color used for both the {x} and the {y}?",), ("{x}[과/와] {y}[을/를] 한 가지 색으로 칠했나요?",),
    ),
    "same shape": Wordings(
        ("Do the {x} and the {y} have the same shape?", "Is the {x} shaped like the {y}?"),
        ("{x}[과/와] {y}[은/는] 모양이 같은가요?", "{x}의 모양은 {y}의 모양과 같습니까?"),
        ("Does one outline fit both the {x} and the {y}?",), ("{x}[과/와] {y}의 윤곽은 한 가지인가요?",),
    ),
    "where": Wordings(
        ("Where is the {x}?", "In which part of the image is the {x}?"),
        ("{x}[은/는] 어디에 있나요?", "{x}[은/는] 그림의 어느 부분에 있습니까?", "{x}의 위치는 어디인가요?"),
        ("Point to the {x}: which part of the scene is that?",), ("{x}[이/가] 놓인 자리는 어느 쪽인가요?",),
    ),
    "where to": Wordings(
        ("Where is the {x} relative to the {y}?", "Seen from the {y}, where is the {x}?"),
        ("{x}[은/는] {y}의 어느 쪽에 있나요?", "{y}[을/를] 기준으로 {x}[은/는] 어디에 있습니까?"),
        ("Starting at the {y}, which way leads to the {x}?",), ("{y}에서 보면 {x}[은/는] 어느 쪽인가요?",),
    ),
    "which at": Wordings(
        ("What is at the {cell} of the image?", "Which shape is located at the {cell}?"),
        ("그림의 {cell}에 있는 것은 무엇인가요?", "{cell}에 있는 도형은 무엇입니까?"),
        ("Point to the {cell}: which figure is that?",), ("{cell} 자리에 놓인 도형은 어느 것인가요?",),
    ),
    "present": Wordings(
        ("Which of these is in the image?", "What can be seen in the image?"),
        ("그림에서 볼 수 있는 것은 무엇인가요?", "그림에 있는 도형은 무엇입니까?"),
        ("One of these was painted here. Which?",), ("이 장면에 그려진 것은 어느 것인가요?",),
    ),
    "absent": Wordings(
        ("Which of these is not in the image?", "What can not be seen in the image?"),
        ("그림에서 볼 수 없는 것은 무엇인가요?", "그림에 없는 도형은 무엇입니까?"),
        ("One of these was never painted here. Which?",), ("이 장면에 그려지지 않은 것은 어느 것인가요?",),
    ),
    "true statement": Wordings(
        ("Which statement about the image is true?", "Which sentence describes the image correctly?"),
        ("그림에 대한 설명으로 옳은 것은 무엇인가요?", "그림을 바르게 설명한 것은 무엇입니까?"),
        ("Only one of these claims holds. Which?",), ("이 장면과 들어맞는 말은 어느 것인가요?",),
    ),
}  # fmt: skip
STATEMENT = {"en": "The {x} is {r} the {y}.", "ko": "{x}[은/는] {y}의 {r}에 있습니다."}


def wordings_of(topic: str, style: str, language: str) -> tuple[str, ...]:
    """Return the forms in which a topic is asked."""
    entry = WORDINGS[topic]
    if style != "shifted":
        return entry.english if language == "en" else entry.korean
    return entry.english_shifted if language == "en" else entry.korean_shifted
