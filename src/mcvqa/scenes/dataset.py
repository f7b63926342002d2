"""Scenes: pictures of coloured shapes with questions whose answers are known, made by rule.

They are the demo's data set, the tests' input, and what a small model is pre-trained on. A `Scene` is sampled, then
drawn, described in words, or asked about: seven kinds of questions, in Korean and English. A question is asked only
where the scene leaves no doubt: what is nearest is nearest by a margin, what is named is the only one of its name.
"""
import csv
import functools
import io
import itertools
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mcvqa.base.files import atomic_path, read_json, write_json, write_text
from mcvqa.data.kinds import KINDS
from mcvqa.data.paraphrase import fill_form
from mcvqa.data.questions import LETTERS

# %% what scenes are made of
Color = tuple[int, int, int]  # red, green, blue, 0 to 255
Phrase = tuple[str, ...]  # words of WORDS, in the order in which they are spoken
Picked = TypeVar("Picked")

# A colour is drawn from the line between two tints; the lines are far enough apart for a name to be beyond doubt.
COLORS: dict[str, tuple[Color, Color]] = {
    "red": ((255, 0, 0), (225, 25, 35)),
    "green": ((0, 128, 0), (30, 225, 50)),
    "blue": ((0, 0, 255), (45, 85, 215)),
    "black": ((0, 0, 0), (32, 32, 36)),
    "gray": ((112, 112, 112), (158, 158, 158)),
    "teal": ((0, 128, 128), (15, 150, 150)),
    "brown": ((155, 62, 40), (105, 65, 30)),
    "yellow": ((255, 255, 0), (248, 225, 35)),
    "orange": ((255, 156, 0), (242, 118, 20)),
    "purple": ((128, 0, 128), (140, 60, 205)),
    "pink": ((255, 180, 200), (250, 120, 185)),
}
BACKGROUNDS: dict[str, dict[str, Color]] = {
    "plain": {
        "white": (250, 250, 250), "beige": (248, 236, 208), "sky blue": (208, 232, 250),
        "light green": (216, 244, 212), "lavender": (230, 220, 248),
    },
    "varied": {
        "white": (252, 252, 252), "beige": (246, 232, 204), "mint": (186, 240, 222), "peach": (255, 212, 186),
        "charcoal": (50, 50, 56), "maroon": (92, 22, 36), "olive": (98, 102, 40),
    },
    "shifted": {"navy": (30, 36, 82), "dark green": (20, 62, 44), "tan": (206, 172, 124), "white": (238, 236, 232)},
}
BACKDROPS = {
    "plain": ("flat", "gradient", "grid"), "varied": ("flat", "gradient", "grid", "grain"),
    "shifted": ("gradient", "grid", "grain"),
}
TEXTURES = ("striped", "dotted", "checked")
ROOMY_SHAPES = ("circle", "rectangle", "hexagon")  # a letter fits on them
SIGN_WORDS = (
    "SUN", "MAP", "TEA", "BUS", "CAT", "ZOO", "ART", "KEY", "HAT", "PEN", "SKY", "FUN", "CAR", "EGG", "NEW", "BANK",
    "CAFE", "PARK", "TAXI", "SHOP", "BOOK", "SALE", "STOP", "OPEN", "EXIT", "MENU", "FISH", "HOME", "GAME", "LOVE",
    "MOON", "STAR", "TREE", "WIND", "RAIN", "FIRE",
)  # fmt: skip
SIGN_LETTERS = "ABCDEFGHKLMNPRSTUVXYZ"  # without those that look like digits


def _arc(n: int, start: float = -90.0, sweep: float = 360.0, radius: float = 1.0) -> np.ndarray:
    """(n, 2) points on a circle from `start` degrees on, clockwise on the screen as y grows downward."""
    angles = np.radians(start + np.arange(n) * sweep / n)
    return radius * np.stack([np.cos(angles), np.sin(angles)], -1)


def _heart() -> np.ndarray:
    t = np.linspace(0, 2 * np.pi, 40)
    x, y = 16 * np.sin(t) ** 3, -13 * np.cos(t) + 5 * np.cos(2 * t) + 2 * np.cos(3 * t) + np.cos(4 * t)
    return np.stack([x, y], -1) / 17


def _outline_area(points: np.ndarray) -> float:
    x, y = points.T
    return float(abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2)  # shoelace formula


# Outlines inside the unit circle, (n, 2).
SHAPES: dict[str, np.ndarray] = {
    "circle": _arc(48),
    "rectangle": _arc(4, start=-45),
    "triangle": _arc(3),
    "star": np.stack([_arc(5), _arc(5, -54, radius=0.42)], 1).reshape(-1, 2),
    "heart": _heart(),
    "cross": np.array([(a * x, b * y) for a, b, flip in ((1, -1, 0), (1, 1, 1), (-1, 1, 0), (-1, -1, 1))
                       for x, y in ((0.3, 0.95), (0.3, 0.3), (0.95, 0.3))[:: -1 if flip else 1]]),
    "ring": np.concatenate([_arc(49, sweep=367.5), _arc(49, sweep=-367.5, radius=0.55)]),
    "diamond": _arc(4) * (0.58, 1),
    "hexagon": _arc(6, start=0),
    "crescent": np.concatenate([_arc(36, 47.5, 265), np.add(_arc(28, 289, -218, 0.78), (0.42, 0))]),
    "half circle": np.add(_arc(25, 180, 187.5), (0, 0.4)),
}  # fmt: skip

# %% words: English, Korean. What is not in the table is written as it is (numbers, painted letters).
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
    """('red', 'circle') -> 'red circle' or '빨간색 원'; ('thing', 'mark:A') -> "shape marked 'A'"."""
    column = LANGUAGES.index(language)
    words = [WORDS.get(word, (word, word))[column] for word in phrase if not word.startswith("mark:")]
    for mark in (word[5:] for word in phrase if word.startswith("mark:")):
        words = [*words, f"marked '{mark}'"] if language == "en" else [f"'{mark}' 표시가 있는", *words]
    return " ".join(words)


def _plural(noun: str) -> str:
    """English: 'cross' -> 'crosses', "shape marked 'A'" is never counted."""
    return noun + ("es" if noun.endswith("s") else "s")


# %% a scene
@dataclass(frozen=True)
class Thing:
    """One shape. Lengths are shares of the picture's side; y grows downward.

    Attributes:
        radius: of the circle around the outline.
        texture: one of TEXTURES, or "unpatterned".
        label: painted on it; empty for none.
        turn: degrees, clockwise.
        aspect: width over height of the outline.
    """

    shape: str
    color: str
    rgb: Color
    x: float
    y: float
    radius: float
    texture: str = "unpatterned"
    label: str = ""
    turn: float = 0.0
    aspect: float = 1.0

    @functools.cached_property
    def words(self) -> frozenset[str]:
        """What it may be called in a phrase."""
        return frozenset(("thing", self.color, self.shape, self.texture, f"mark:{self.label}"))


CLEARLY = 0.03  # margin of most scenes, see Scene


@dataclass(frozen=True)
class Scene:
    """What a picture shows.

    Attributes:
        style: decides the wording of questions too.
        seed: of the grain of the backdrop.
        margin: share of the picture's side by which the nearest or furthest thing must be so, to be asked for.
    """

    things: tuple[Thing, ...]
    background: str
    rgb: Color
    backdrop: str
    style: str
    seed: int
    margin: float = CLEARLY


class Layout(NamedTuple):
    """A family of scenes: ranges of the number of things and of their radius, and how alike they are."""

    share: float
    things: tuple[int, int]
    radius: tuple[float, float]
    colors: int  # so many colours at most
    shapes: int  # so many shapes at most
    all_colors_differ: bool = False
    decorated: float = 0.0  # share of things with a texture or a label
    sign: bool = False  # the first thing is a board with a word
    margin: float = CLEARLY  # see Scene


LAYOUTS = {
    "single": Layout(0.15, (1, 1), (0.12, 0.34), 1, 1),
    "relations": Layout(0.2, (4, 6), (0.055, 0.1), 6, 3, all_colors_differ=True),
    "crowd": Layout(0.2, (4, 9), (0.06, 0.095), 4, 3, decorated=0.15),
    "free": Layout(0.3, (2, 5), (0.09, 0.2), 5, 5, decorated=0.65),
    "sign": Layout(0.15, (2, 5), (0.08, 0.15), 5, 5, decorated=0.3, sign=True),
    # asked for by name: hard to tell what is nearest
    "six": Layout(0.0, (6, 6), (0.06, 0.09), 6, 2, all_colors_differ=True, margin=0.008),
}


def _pick(rng: np.random.Generator, options: Sequence[Picked]) -> Picked:
    return options[int(rng.integers(len(options)))]


def _some(rng: np.random.Generator, options: Iterable[Picked], n: int) -> list[Picked]:
    """Up to n of them, in random order."""
    pool = list(options)
    return [pool[i] for i in rng.permutation(len(pool))[:n]]


def _contrast(a: Color, b: Color) -> float:
    return float(np.linalg.norm(np.subtract(a, b)))


def sample_scene(rng: np.random.Generator, style: str = "plain", layout: str | None = None) -> Scene:
    """A random scene.

    Args:
        style: "plain"; "varied": more backgrounds, tints mixed with up to a sixth of some other colour; or "shifted": chalk
            tints, backgrounds of its own, more textures, other wordings.
        layout: one of LAYOUTS; None: any, by their shares.

    Raises:
        ValueError: an unknown style or layout.
    """
    if style not in BACKGROUNDS or layout not in (None, *LAYOUTS):
        raise ValueError(f"style={style!r}, layout={layout!r}: there are {list(BACKGROUNDS)} and {list(LAYOUTS)}.")
    shares = np.array([entry.share for entry in LAYOUTS.values()])
    plan = LAYOUTS[layout or list(LAYOUTS)[int(rng.choice(len(shares), p=shares / shares.sum()))]]
    background = _pick(rng, list(BACKGROUNDS[style]))
    rgb = _near(rng, BACKGROUNDS[style][background])
    places = _places(rng, plan)
    palette = _some(rng, _visible_colors(rng, style, rgb), plan.colors)
    shapes = _some(rng, SHAPES, plan.shapes)
    if plan.all_colors_differ and rng.random() < 0.25:
        shapes = ["circle", "rectangle"]
    things = []
    for i, (x, y, radius) in enumerate(places):
        color, tint = palette[i % len(palette)] if plan.all_colors_differ else _pick(rng, palette)
        board = plan.sign and i == 0
        shape = "rectangle" if board else _pick(rng, shapes)
        texture, label = _decoration(rng, shape, radius, plan.decorated * (1.3 if style == "shifted" else 1.0))
        things.append(Thing(
            shape, color, tint, x, y, radius,
            texture="unpatterned" if board else texture,
            label=_pick(rng, SIGN_WORDS) if board else label,
            turn=float(rng.uniform(-4, 4) if board else rng.uniform(-12, 12)),
            aspect=2.3 if board else float(rng.uniform(1, 1.5)) if shape == "rectangle" else 1.0,
        ))  # fmt: skip
    backdrop = _pick(rng, BACKDROPS[style])
    return Scene(tuple(things), background, rgb, backdrop, style, int(rng.integers(2**31)), plan.margin)


def _near(rng: np.random.Generator, color: Color, spread: int = 5) -> Color:
    red, green, blue = np.clip(np.array(color) + rng.integers(-spread, spread + 1, 3), 0, 255)
    return int(red), int(green), int(blue)


def _visible_colors(rng: np.random.Generator, style: str, background: Color) -> list[tuple[str, Color]]:
    """One tint of each colour that stands out from the background."""
    tints = []
    share, mixed = (rng.uniform(0, 1 / 6), rng.uniform(0, 255, 3)) if style == "varied" else (0, np.zeros(3))
    for name, (start, end) in COLORS.items():
        red, green, blue = (1 - (t := rng.random())) * np.array(start) + t * np.array(end)
        red, green, blue = (1 - share) * np.array((red, green, blue)) + share * mixed
        if style == "shifted":  # as if in chalk: a quarter of warm white
            red, green, blue = 0.74 * np.array((red, green, blue)) + 0.26 * np.array((255, 240, 215))
        tints.append((name, (int(red), int(green), int(blue))))
    return [(name, tint) for name, tint in tints if _contrast(tint, background) > 95]


def _places(rng: np.random.Generator, plan: Layout, gap: float = 0.02) -> list[tuple[float, float, float]]:
    """(x, y, radius) of things that lie inside the picture and do not touch."""
    n = int(rng.integers(plan.things[0], plan.things[1] + 1))
    radii = rng.uniform(*plan.radius, size=n)
    if plan.sign:
        radii[0] = rng.uniform(0.28, 0.36)
    while True:
        places: list[tuple[float, float, float]] = []
        for radius in radii.tolist():
            free = (1 - 2 * radius - 2 * gap) * rng.random((60, 2)) + radius + gap  # 60 tries
            for x, y in free.tolist():
                if all(np.hypot(x - a, y - b) > radius + r + gap for a, b, r in places):
                    places.append((x, y, radius))
                    break
        if len(places) == n:
            return places
        radii *= 0.95  # too full


def _decoration(rng: np.random.Generator, shape: str, radius: float, share: float) -> tuple[str, str]:
    """A texture, or a painted digit, letter or two-digit number, or neither: never both, so that both can be read."""
    if radius < 0.1 or rng.random() > share:
        return "unpatterned", ""
    if shape in ROOMY_SHAPES and rng.random() < 0.6:
        label = str(rng.integers(10)) if rng.random() < 0.5 else _pick(rng, SIGN_LETTERS)
        return "unpatterned", str(rng.integers(10, 100)) if radius > 0.13 and rng.random() < 0.4 else label
    return _pick(rng, TEXTURES), ""


# %% drawing
def draw(scene: Scene, size: int) -> Image.Image:
    """The scene as an RGB picture of size x size pixels, drawn larger and averaged down, so that edges are smooth."""
    fine = 3 if size < 128 else 2
    picture = _backdrop(scene, size * fine)
    for thing in scene.things:
        _paint(picture, thing)
    return picture.reduce(fine)


def _backdrop(scene: Scene, n: int) -> Image.Image:
    picture = Image.new("RGB", (n, n), scene.rgb)
    shade = _shade(scene.rgb, 0.12)
    if scene.backdrop == "gradient":
        ramp = Image.linear_gradient("L").resize((n, n))
        picture.paste(shade, (0, 0, n, n), ramp)
    elif scene.backdrop == "grid":
        pen = ImageDraw.Draw(picture)
        for at in np.linspace(0, n, 9)[1:-1].tolist():
            pen.line((at, 0, at, n), shade, width=max(1, n // 120))
            pen.line((0, at, n, at), shade, width=max(1, n // 120))
    elif scene.backdrop == "grain":
        grain = np.random.default_rng(scene.seed).random((48, 48)) * 255
        picture.paste(shade, (0, 0, n, n), Image.fromarray(grain.astype(np.uint8)).resize((n, n)))
    return picture


def _shade(color: Color, share: float) -> Color:
    """The colour, a share of the way to black or, where it is dark, to white."""
    target = 0 if sum(color) > 300 else 255
    red, green, blue = (round(value + share * (target - value)) for value in color)
    return red, green, blue


def _outline(thing: Thing) -> np.ndarray:
    """(n, 2) outline of a thing in shares of the picture's side."""
    stretch = np.array((thing.aspect, 1.0)) * np.sqrt(2 / (1 + thing.aspect**2))  # keeps a corner on the circle
    angle = np.radians(thing.turn)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return (SHAPES[thing.shape] * stretch) @ turn * thing.radius + (thing.x, thing.y)


def _paint(picture: Image.Image, thing: Thing) -> None:
    n = picture.width
    points = [(float(x), float(y)) for x, y in _outline(thing) * n]
    if thing.texture == "unpatterned":
        ImageDraw.Draw(picture).polygon(points, thing.rgb)
    else:
        mask = Image.new("L", picture.size)
        ImageDraw.Draw(mask).polygon(points, 255)
        picture.paste(_pattern(thing, n), (0, 0), mask)
        ImageDraw.Draw(picture).polygon(points, outline=thing.rgb, width=max(1, n // 90))
    if thing.label:
        height = 0.8 * thing.radius if thing.aspect > 2 else 1.25 * thing.radius
        width = 1.8 * thing.radius if thing.aspect > 2 else 1.3 * thing.radius
        font = _font(round(n * min(height, width / (0.74 * len(thing.label)))))
        ink = (255, 255, 255) if sum(thing.rgb) < 380 else (0, 0, 0)
        middle = (thing.x * n, thing.y * n)
        ImageDraw.Draw(picture).text(middle, thing.label, ink, font, anchor="mm", stroke_width=n // 200)


def _pattern(thing: Thing, n: int) -> Image.Image:
    """A texture in the thing's colour and a lighter or darker shade of it, (n, n) pixels."""
    pattern, second = Image.new("RGB", (n, n), thing.rgb), _shade(thing.rgb, 0.6)
    pen, step = ImageDraw.Draw(pattern), max(3.0, 0.42 * thing.radius * n)
    low_x, low_y = (thing.x - thing.radius) * n, (thing.y - thing.radius) * n
    for i in range(6):
        x = low_x + i * step
        if thing.texture == "striped":
            pen.rectangle((x, 0, x + 0.42 * step, n), second)
            continue
        for j in range(6):
            y = low_y + j * step
            if thing.texture == "dotted":
                pen.ellipse((x, y, x + 0.5 * step, y + 0.5 * step), second)
            elif (i + j) % 2:
                pen.rectangle((x, y, x + step, y + step), second)
    return pattern


@functools.lru_cache(maxsize=64)
def _font(height: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(height)


# %% describing
def describe(scene: Scene, language: str) -> str:
    """Everything there is to see, in reading order: background, number of things, then each with its place."""
    things = _in_reading_order(scene)
    background, n = say((scene.background,), language), len(things)
    if language == "en":
        lines = [f"The background is {background}. There {f'are {n} shapes' if n > 1 else 'is one shape'}."]
        lines += [f"{cell_of(thing).capitalize()}: {say(full_name(thing), 'en')}." for thing in things]
    else:
        lines = [f"배경은 {background}입니다. 도형은 {n}개입니다."]
        lines += [f"{say((cell_of(thing),), 'ko')}: {say(full_name(thing), 'ko')}." for thing in things]
    return " ".join(lines)


def full_name(thing: Thing) -> Phrase:
    """Size where it is clear, colour, texture, shape, and what is painted on it."""
    size = ("large",) if thing.radius > 0.14 else ("small",) if thing.radius < 0.085 else ()
    texture = () if thing.texture == "unpatterned" else (thing.texture,)
    return (*size, thing.color, *texture, thing.shape, *((f"mark:{thing.label}",) if thing.label else ()))


def describe_distances(scene: Scene, language: str) -> str:
    """What is nearest to and furthest from each of two or more things, by their centres, in reading order."""
    things = _in_reading_order(scene)
    at = np.array([(thing.x, thing.y) for thing in things])
    apart = np.linalg.norm(at[:, None] - at, axis=-1)
    near, far = (apart + 9 * np.eye(len(at))).argmin(1), apart.argmax(1)
    form = "{}: closest {}, furthest {}." if language == "en" else "{}: 가장 가까운 {}, 가장 먼 {}."
    said = [say((thing.color, thing.shape), language) for thing in things]
    return " ".join(form.format(name, said[n], said[f]) for name, n, f in zip(said, near, far, strict=True))


def _in_reading_order(scene: Scene) -> list[Thing]:
    return sorted(scene.things, key=lambda thing: (CELLS.index(cell_of(thing)), thing.x))


def cell_of(thing: Thing) -> str:
    """The ninth of the picture its centre lies in."""
    return CELLS[3 * min(2, int(3 * thing.y)) + min(2, int(3 * thing.x))]


# %% what can be said beyond doubt
class Statement(NamedTuple):
    """'The x is left of the y.'"""

    x: Phrase
    relation: str
    y: Phrase


class Puzzle(NamedTuple):
    """A question before it is put into words: what fills the wording's slots, the answer, and wrong answers, those of
    `tempting` before others."""

    slots: dict[str, Phrase]
    answer: Phrase | Statement
    wrong: Sequence[Phrase | Statement]
    tempting: Sequence[Phrase] = ()


def things_named(scene: Scene, phrase: Phrase) -> list[Thing]:
    """The things that every word of the phrase is true of."""
    return [thing for thing in scene.things if thing.words.issuperset(phrase)]


def _names(scene: Scene, thing: Thing, *hidden: str) -> list[Phrase]:
    """Short phrases that name this thing and no other, without the hidden ones of color, shape, texture, label."""
    told = {
        ("thing",): (), (thing.color, "thing"): ("color",), (thing.shape,): ("shape",),
        (thing.color, thing.shape): ("color", "shape"), (thing.texture, thing.shape): ("texture", "shape"),
        (thing.color, thing.texture, thing.shape): ("color", "texture", "shape"),
        ("thing", f"mark:{thing.label}"): ("label",),
    }  # fmt: skip
    known = {*hidden, *(("texture",) if thing.texture == "unpatterned" else ()), *(() if thing.label else ("label",))}
    return [name for name, tells in told.items() if not known & set(tells) and len(things_named(scene, name)) == 1]


def _thing_with_name(scene: Scene, rng: np.random.Generator, *hidden: str) -> tuple[Thing, Phrase] | None:
    """A random thing with a name of its own."""
    pairs = [(thing, name) for thing in scene.things for name in _names(scene, thing, *hidden)]
    return _pick(rng, pairs) if pairs else None


def _first(values: np.ndarray, margin: float) -> int | None:
    """Index of the row (N, C) that is smallest in every column, and by a margin; None where there is no such row."""
    if len(values) < 2:
        return None
    order, best = np.sort(values, 0), values.argmin(0)
    return int(best[0]) if (best == best[0]).all() and (order[1] - order[0] > margin).all() else None


def extreme(scene: Scene, word: str) -> Thing | None:
    """The leftmost, rightmost, topmost, bottommost, largest or smallest thing, if one clearly is."""
    x, y, r = np.array([(thing.x, thing.y, thing.radius) for thing in scene.things]).T
    sizes = np.log([(t.radius, _outline_area(_outline(t))) for t in scene.things])  # (N, 2): both must agree
    columns = {
        "leftmost": np.stack([x, x - r], 1), "rightmost": -np.stack([x, x + r], 1), "largest": -sizes,
        "topmost": np.stack([y, y - r], 1), "bottommost": -np.stack([y, y + r], 1), "smallest": sizes,
    }  # fmt: skip
    found = _first(columns[word], np.log(1.25) if word in ("largest", "smallest") else 0.05)
    return None if found is None else scene.things[found]


def by_distance(scene: Scene, thing: Thing, word: str) -> Thing | None:
    """The thing nearest to, or furthest from, another one, if it clearly is: by centres and by edges."""
    others = [other for other in scene.things if other is not thing]
    between = np.array([(np.hypot(t.x - thing.x, t.y - thing.y), t.radius) for t in others]).reshape(-1, 2)
    values = np.stack([between[:, 0], between[:, 0] - between[:, 1]], 1)
    found = _first(values if word == "nearest" else -values, scene.margin)
    return None if found is None else others[found]


def relation(a: Thing, b: Thing) -> str | None:
    """How a lies to b: left of, right of, above, below; None where it is not clearly one of them."""
    dx, dy = a.x - b.x, a.y - b.y
    if min(abs(dx), abs(dy)) > 0.4 * max(abs(dx), abs(dy)) or max(abs(dx), abs(dy)) < 0.12:
        return None
    return ("left of" if dx < 0 else "right of") if abs(dx) > abs(dy) else ("above" if dy < 0 else "below")


def _clear_cell(thing: Thing) -> bool:
    return all(abs(at - edge) > 0.04 for at in (thing.x, thing.y) for edge in (1 / 3, 2 / 3))


def _combinations(scene: Scene, rng: np.random.Generator, present: bool) -> list[Phrase]:
    """Colour-and-shape phrases that the scene holds, or such that it does not, of colours and shapes like its own."""
    held = {(thing.color, thing.shape) for thing in scene.things}
    if present:
        return _some(rng, sorted(held), len(held))
    colors = sorted({thing.color for thing in scene.things} | set(_some(rng, COLORS, 4)))
    shapes = sorted({thing.shape for thing in scene.things} | set(_some(rng, SHAPES, 3)))
    return _some(rng, (pair for pair in itertools.product(colors, shapes) if pair not in held), 12)


# %% the puzzles: each looks for something the scene leaves no doubt about, or gives up
def _words(names: Iterable[str]) -> list[Phrase]:
    return [(name,) for name in names]


def _number(slots: dict[str, Phrase], n: int, low: int = 0, high: int = 5) -> Puzzle | None:
    return Puzzle(slots, (str(n),), _words(map(str, range(low, high + 1)))) if n <= high else None


def _count_all(scene: Scene, rng: np.random.Generator) -> Puzzle | None:
    return _number({}, len(scene.things), 1, 9)


def _count_group(scene: Scene, rng: np.random.Generator) -> Puzzle | None:
    """A number is chosen first and then a group of that number, so that small numbers are not the usual answer."""
    groups: list[Phrase] = [(color, "thing") for color in COLORS] + _words(SHAPES)
    groups += _combinations(scene, rng, True) + _combinations(scene, rng, False)[:2]
    counts = {group: len(things_named(scene, group)) for group in groups}
    n = _pick(rng, sorted(set(counts.values())))
    return _number({"x": _pick(rng, [group for group in groups if counts[group] == n])}, n)


def _count_same(scene: Scene, rng: np.random.Generator, what: str, itself: bool = False) -> Puzzle | None:
    if len(scene.things) < 2 or not (named := _thing_with_name(scene, rng, what)):
        return None
    alike = sum(getattr(t, what) == getattr(named[0], what) for t in scene.things)
    return _number({"x": named[1]}, alike, 1, 6) if itself else _number({"x": named[1]}, alike - 1)


def _count_beside(scene: Scene, rng: np.random.Generator) -> Puzzle | None:
    if len(scene.things) < 2 or not (named := _thing_with_name(scene, rng)):
        return None
    shifts = [t.x - named[0].x for t in scene.things if t is not named[0]]
    if min(map(abs, shifts)) < 0.05:
        return None
    side = _pick(rng, ("left of", "right of"))
    return _number({"x": named[1], "r": (side,)}, sum((shift < 0) == (side == "left of") for shift in shifts))


def _trait(what: str, thing: Thing | None, slots: dict[str, Phrase]) -> Puzzle | None:
    """Ask for a thing's color, shape or texture."""
    if thing is None:
        return None
    pools = {"color": tuple(COLORS), "shape": tuple(SHAPES), "texture": ("unpatterned", *TEXTURES)}
    return Puzzle(slots, (getattr(thing, what),), _words(pools[what]))


def _trait_of(scene: Scene, rng: np.random.Generator, what: str) -> Puzzle | None:
    """A texture is chosen before the thing, so that "plain" is not the usual one; only some shapes carry a label, so
    that the label would tell of the shape."""
    textures = sorted({thing.texture for thing in scene.things})
    wanted = {_pick(rng, textures)} if what == "texture" else set(textures)
    pairs = [(t, name) for t in scene.things if t.texture in wanted for name in _names(scene, t, what, "label")]
    if not pairs:
        return None
    thing, name = _pick(rng, pairs)
    return _trait(what, thing, {"x": name})


def _trait_of_extreme(scene: Scene, rng: np.random.Generator, what: str) -> Puzzle | None:
    word = _pick(rng, ("leftmost", "rightmost", "topmost", "bottommost", "largest", "smallest"))
    return _trait(what, extreme(scene, word), {"e": (word,)})


def _trait_by_distance(scene: Scene, rng: np.random.Generator, what: str) -> Puzzle | None:
    if not (named := _thing_with_name(scene, rng)):
        return None
    word = _pick(rng, ("nearest", "furthest"))
    puzzle = _trait(what, by_distance(scene, named[0], word), {"x": named[1], "d": (word,)})
    # what cannot be seen at all would be a wrong answer too easy to tell
    return puzzle and puzzle._replace(tempting=_words(sorted({getattr(thing, what) for thing in scene.things})))


def _common_color(scene: Scene, rng: np.random.Generator) -> Puzzle | None:
    ranks = Counter(thing.color for thing in scene.things).most_common(2)
    if len(ranks) < 2 or ranks[0][1] == ranks[1][1]:
        return None
    return Puzzle({}, (ranks[0][0],), _words(COLORS))


def _background_color(scene: Scene, rng: np.random.Generator) -> Puzzle | None:
    return Puzzle({}, (scene.background,), _words(BACKGROUNDS[scene.style]))


def _which(scene: Scene, rng: np.random.Generator, thing: Thing | None, slots: dict[str, Phrase]) -> Puzzle | None:
    """Ask which thing it is; the answers are colour and shape."""
    if thing is None:
        return None
    wrong = [*_combinations(scene, rng, True), *_combinations(scene, rng, False)]
    return Puzzle(slots, (thing.color, thing.shape), wrong)


def _which_extreme(scene: Scene, rng: np.random.Generator) -> Puzzle | None:
    word = _pick(rng, ("largest", "smallest"))
    return _which(scene, rng, extreme(scene, word), {"e": (word,)})


def _which_at(scene: Scene, rng: np.random.Generator) -> Puzzle | None:
    thing = _pick(rng, scene.things)
    alone = all(other is thing or np.hypot(other.x - thing.x, other.y - thing.y) > 0.3 for other in scene.things)
    cell = cell_of(thing)
    alone = alone and sum(cell_of(other) == cell for other in scene.things) == 1
    return _which(scene, rng, thing, {"cell": (cell,)}) if alone and _clear_cell(thing) else None


def _read(scene: Scene, rng: np.random.Generator) -> Puzzle | None:
    """What is painted on a thing; wrong answers are of the same sort (digit, number, letter, word)."""
    named = [(t, n) for t in scene.things if t.label for n in _names(scene, t, "label")]
    return _label(*_pick(rng, named), rng) if named else None


def _label(thing: Thing, name: Phrase, rng: np.random.Generator) -> Puzzle:
    if thing.label.isdigit():
        pool: Iterable[str] = map(str, range(10) if len(thing.label) == 1 else range(10, 100))
    else:
        pool = SIGN_LETTERS if len(thing.label) == 1 else SIGN_WORDS
    return Puzzle({"x": name}, (thing.label,), _words(_some(rng, pool, 40)))


def _read_only(scene: Scene, rng: np.random.Generator) -> Puzzle | None:
    painted = [thing for thing in scene.things if thing.label]
    return _label(painted[0], ("thing",), rng) if len(painted) == 1 else None


def _color_marked(scene: Scene, rng: np.random.Generator) -> Puzzle | None:
    marked = [(t, n) for t in scene.things for n in _names(scene, t, "color", "shape", "texture") if n != ("thing",)]
    if not marked:
        return None
    thing, name = _pick(rng, marked)
    return _trait("color", thing, {"x": name})


def _yes_or_no(slots: dict[str, Phrase], holds: bool) -> Puzzle:
    return Puzzle(slots, ("yes",) if holds else ("no",), _words(("yes", "no")))


def _exists(scene: Scene, rng: np.random.Generator, negated: bool = False) -> Puzzle | None:
    present = bool(rng.integers(2))
    singles: list[Phrase] = [(color, "thing") for color in COLORS] + _words(SHAPES)
    groups = _pick(rng, (singles, _combinations(scene, rng, present)))
    fitting = [group for group in groups if bool(things_named(scene, group)) == present]
    return _yes_or_no({"x": _pick(rng, fitting)}, present != negated)


def _is_beside(scene: Scene, rng: np.random.Generator) -> Puzzle | None:
    if not (pair := _related_pair(scene, rng)):
        return None
    holds = bool(rng.integers(2))
    word = pair.relation if holds else OPPOSITE[pair.relation]
    return _yes_or_no({"x": pair.x, "r": (word,), "y": pair.y}, holds)


def _related_pair(scene: Scene, rng: np.random.Generator) -> Statement | None:
    for a, b in _some(rng, itertools.permutations(scene.things, 2), 6):
        word, x, y = relation(a, b), _names(scene, a), _names(scene, b)
        if word and x and y:
            return Statement(_pick(rng, x), word, _pick(rng, y))
    return None


def _is_on_side(scene: Scene, rng: np.random.Generator) -> Puzzle | None:
    named = _thing_with_name(scene, rng)
    if not named or min(abs(named[0].x - 0.5), abs(named[0].y - 0.5)) < 0.06:
        return None
    word = _pick(rng, ("left", "right", "top", "bottom"))
    at = named[0].x if word in ("left", "right") else named[0].y
    return _yes_or_no({"x": named[1], "s": (word,)}, (at < 0.5) == (word in ("left", "top")))


def _are_more(scene: Scene, rng: np.random.Generator) -> Puzzle | None:
    singles: list[Phrase] = _pick(rng, ([(c, "thing") for c in COLORS], _words(SHAPES)))
    counts = {group: n for group in singles if (n := len(things_named(scene, group)))}
    if len(counts) < 2:
        return None
    x, y = _some(rng, counts, 2)
    return _yes_or_no({"x": x, "y": y}, counts[x] > counts[y]) if counts[x] != counts[y] else None


def _are_alike(scene: Scene, rng: np.random.Generator, what: str) -> Puzzle | None:
    """Whether two things share color or shape; as many pairs that do as pairs that do not."""
    alike = bool(rng.integers(2))
    for a, b in _some(rng, itertools.combinations(scene.things, 2), 12):
        x, y = _names(scene, a, what), _names(scene, b, what)
        if x and y and (getattr(a, what) == getattr(b, what)) == alike:
            return _yes_or_no({"x": _pick(rng, x), "y": _pick(rng, y)}, alike)
    return None


def _where(scene: Scene, rng: np.random.Generator) -> Puzzle | None:
    named = _thing_with_name(scene, rng)
    return Puzzle({"x": named[1]}, (cell_of(named[0]),), _words(CELLS)) if named and _clear_cell(named[0]) else None


def _where_to(scene: Scene, rng: np.random.Generator) -> Puzzle | None:
    pair = _related_pair(scene, rng)
    if not pair:
        return None
    return Puzzle({"x": pair.x, "y": pair.y}, (f"to be {pair.relation}",), _words(f"to be {r}" for r in OPPOSITE))


def _present(scene: Scene, rng: np.random.Generator) -> Puzzle | None:
    return Puzzle({}, _combinations(scene, rng, True)[0], _combinations(scene, rng, False))


def _absent(scene: Scene, rng: np.random.Generator) -> Puzzle | None:
    return Puzzle({}, _combinations(scene, rng, False)[0], _combinations(scene, rng, True))


def _true_statement(scene: Scene, rng: np.random.Generator) -> Puzzle | None:
    said: dict[frozenset[Phrase], Statement] = {}
    for _ in range(12):
        if pair := _related_pair(scene, rng):
            said.setdefault(frozenset((pair.x, pair.y)), pair)  # one statement on any two things
    if not said:
        return None
    answer, *others = said.values()
    return Puzzle({}, answer, [Statement(x, OPPOSITE[r], y) for x, r, y in others])


# %% the wordings: topic -> kind, puzzle, and English and Korean wordings of each style
class Topic(NamedTuple):
    """{x} a thing or group, {xs} in the plural, {ax} with its article; other slots are filled likewise."""

    kind: str
    puzzle: Callable[..., Puzzle | None]
    english: tuple[str, ...]
    korean: tuple[str, ...]
    english_shifted: tuple[str, ...]
    korean_shifted: tuple[str, ...]


def _about(puzzle: Callable[..., Puzzle | None], what: str) -> Callable[..., Puzzle | None]:
    return functools.partial(puzzle, what=what)


TOPICS: dict[str, Topic] = {
    "count all": Topic(
        "counting", _count_all,
        ("How many shapes are there?", "How many shapes are in the image?", "What is the number of objects?"),
        ("도형은 모두 몇 개인가요?", "그림에 도형이 몇 개 있나요?", "물체의 개수는 몇 개입니까?"),
        ("Count every figure you can find. How many?",), ("이 장면에 그려진 도형의 수를 모두 세면 몇인가요?",),
    ),
    "count group": Topic(
        "counting", _count_group,
        ("How many {xs} are there?", "How many {xs} are in the image?", "how many {xs} can you see?"),
        ("{x}[은/는] 몇 개인가요?", "{x}[이/가] 몇 개 있나요?", "그림에 보이는 {x}[은/는] 모두 몇 개입니까?"),
        ("What is the total number of {xs} drawn here?",), ("이 장면에 그려진 {x}[을/를] 세면 몇인가요?",),
    ),
    "count same shape": Topic(
        "counting", _about(_count_same, "shape"),
        ("How many other objects have the same shape as the {x}?", "How many others are shaped like the {x}?"),
        ("{x}[과/와] 모양이 같은 다른 도형은 몇 개인가요?", "{x} 말고 같은 모양의 도형이 몇 개 더 있나요?"),
        ("Apart from the {x} itself, how many share its shape?",),
        ("{x}[을/를] 빼고 그것과 모양이 같은 것을 세면 몇인가요?",),
    ),
    "count alike": Topic(
        "counting", functools.partial(_count_same, what="shape", itself=True),
        ("How many objects have the shape of the {x}?", "How many shapes look like the {x}, itself included?"),
        ("{x}[과/와] 모양이 같은 것은 그 자신까지 몇 개인가요?", "{x}[을/를] 포함해 같은 모양의 물체가 몇 개 있나요?"),
        ("Count the {x} and all that share its shape. How many?",),
        ("{x}[과/와] 그것과 모양이 같은 것을 함께 세면 몇인가요?",),
    ),
    "count same color": Topic(
        "counting", _about(_count_same, "color"),
        ("How many other shapes have the same color as the {x}?", "How many others are colored like the {x}?"),
        ("{x}[과/와] 색이 같은 다른 도형은 몇 개인가요?", "{x} 말고 같은 색의 도형이 몇 개 더 있나요?"),
        ("Apart from the {x} itself, how many share its color?",),
        ("{x}[을/를] 빼고 그것과 색이 같은 것을 세면 몇인가요?",),
    ),
    "count beside": Topic(
        "counting", _count_beside,
        ("How many shapes are {r} the {x}?", "What is the number of objects {r} the {x}?"),
        ("{x}의 {r}에 있는 도형은 몇 개인가요?", "{x}보다 {r}에 도형이 몇 개 있습니까?"),
        ("Count what lies {r} the {x}. How many?",), ("{x}[을/를] 기준으로 {r}에 놓인 것을 세면 몇인가요?",),
    ),
    "color of": Topic(
        "color", _about(_trait_of, "color"),
        ("What color is the {x}?", "What is the color of the {x}?", "what color is the {x}?",
         "Which color is the {x}?"),
        ("{x}[은/는] 무슨 색인가요?", "{x}의 색깔은 무엇인가요?", "{x}[은/는] 어떤 색입니까?"),
        ("The {x} was painted in which color?",), ("{x}[을/를] 칠한 색은 어느 것인가요?",),
    ),
    "color of extreme": Topic(
        "color", _about(_trait_of_extreme, "color"),
        ("What color is the {e} shape?", "What is the color of the {e} object?"),
        ("{e} 도형은 무슨 색인가요?", "{e} 도형의 색깔은 무엇입니까?"),
        ("The {e} figure was painted in which color?",), ("{e} 도형을 칠한 색은 어느 것인가요?",),
    ),
    "color by distance": Topic(
        "color", _about(_trait_by_distance, "color"),
        ("What color is the shape {d} the {x}?", "What is the color of the object that is {d} the {x}?"),
        ("{x}에서 가장 {d} 도형은 무슨 색인가요?", "{x}에서 가장 {d} 물체의 색깔은 무엇인가요?"),
        ("The figure {d} the {x} was painted in which color?",), ("{x}에서 가장 {d} 도형을 칠한 색은 어느 것인가요?",),
    ),
    "common color": Topic(
        "color", _common_color,
        ("Which color occurs most often among the shapes?", "What is the most common color of the shapes?"),
        ("가장 많이 나오는 도형의 색은 무엇인가요?", "도형들 중 가장 많이 쓰인 색은 무엇입니까?"),
        ("Which color was used for the largest number of figures?",),
        ("도형을 칠하는 데 가장 여러 번 쓴 색은 어느 것인가요?",),
    ),
    "background color": Topic(
        "color", _background_color,
        ("What color is the background?", "What is the color of the background?"),
        ("배경은 무슨 색인가요?", "배경의 색깔은 무엇인가요?"),
        ("On which color was all this painted?",), ("바탕을 칠한 색은 어느 것인가요?",),
    ),
    "shape of": Topic(
        "attribute", _about(_trait_of, "shape"),
        ("What shape is the {x}?", "What is the {x}?", "What is the shape of the {x}?", "what form does the {x} have?"),
        ("{x}[은/는] 어떤 모양인가요?", "{x}의 모양은 무엇인가요?", "{x}[은/는] 무슨 모양입니까?"),
        ("Which word names the outline of the {x}?",), ("{x}의 윤곽을 가리키는 말은 어느 것인가요?",),
    ),
    "shape of extreme": Topic(
        "attribute", _about(_trait_of_extreme, "shape"),
        ("What shape is the {e} one?", "What is the shape of the {e} object?"),
        ("{e} 도형은 어떤 모양인가요?", "{e} 도형의 모양은 무엇입니까?"),
        ("Which word names the outline of the {e} figure?",), ("{e} 도형의 윤곽을 가리키는 말은 어느 것인가요?",),
    ),
    "shape by distance": Topic(
        "attribute", _about(_trait_by_distance, "shape"),
        ("What is the shape of the object {d} the {x}?", "What shape is the one {d} the {x}?"),
        ("{x}에서 가장 {d} 도형은 어떤 모양인가요?", "{x}에서 가장 {d} 물체의 모양은 무엇인가요?"),
        ("Which word names the outline of the figure {d} the {x}?",),
        ("{x}에서 가장 {d} 도형의 윤곽을 가리키는 말은 어느 것인가요?",),
    ),
    "texture of": Topic(
        "attribute", _about(_trait_of, "texture"),
        ("What pattern does the {x} have?", "How is the {x} patterned?"),
        ("{x}의 무늬는 무엇인가요?", "{x}에는 어떤 무늬가 있나요?"),
        ("The surface of the {x} is best described as what?",), ("{x}의 겉면에 그려 넣은 무늬는 어느 것인가요?",),
    ),
    "which extreme": Topic(
        "attribute", _which_extreme,
        ("Which shape is the {e}?", "What is the {e} shape?"),
        ("{e} 도형은 무엇인가요?", "도형 중 {e} 것은 무엇입니까?"),
        ("Pick the {e} of all figures.",), ("모든 도형 가운데 {e} 것을 고르면 어느 것인가요?",),
    ),
    "read": Topic(
        "ocr", _read,
        ("What is written on the {x}?", "What does the {x} say?", "Which text is on the {x}?"),
        ("{x}에 적힌 글자는 무엇인가요?", "{x}에 무엇이라고 적혀 있나요?", "{x}에 쓰여 있는 것은 무엇입니까?"),
        ("Read aloud what was painted onto the {x}.",), ("{x} 위에 칠해진 문자를 읽으면 어느 것인가요?",),
    ),
    "read only": Topic(
        "ocr", _read_only,
        ("What is written in the image?", "Which text can be read in the image?"),
        ("그림에 적힌 글자는 무엇인가요?", "그림에서 읽을 수 있는 글자는 무엇입니까?"),
        ("Read aloud the only text painted here.",), ("이 장면에서 읽히는 문자는 어느 것인가요?",),
    ),
    "color marked": Topic(
        "ocr", _color_marked,
        ("What color is the {x}?", "What is the color of the {x}?"),
        ("{x}[은/는] 무슨 색인가요?", "{x}의 색깔은 무엇입니까?"),
        ("Find the {x}: which color was used for it?",), ("{x}[을/를] 찾으면 그 색은 어느 것인가요?",),
    ),
    "exists": Topic(
        "yesno", _exists,
        ("Is there {ax}?", "Is there {ax} in the image?", "does the image contain {ax}?", "Can you see {ax}?",
         "is {ax} present?"),
        ("{x}[이/가] 있나요?", "그림에 {x}[이/가] 있습니까?", "{x}[이/가] 보이나요?"),
        ("Did anyone paint {ax} here?",), ("이 장면에서 {x}[을/를] 찾을 수 있나요?",),
    ),
    "exists not": Topic(
        "yesno", functools.partial(_exists, negated=True),
        ("Is there no {x}?", "is there not {ax} in the image?", "Does the image not contain {ax}?",
         "is no {x} present?"),
        ("{x}[이/가] 없나요?", "그림에 {x}[이/가] 없습니까?"),
        ("Is {ax} missing from this scene?",), ("이 장면에서 {x}[을/를] 찾을 수 없나요?",),
    ),
    "is beside": Topic(
        "yesno", _is_beside,
        ("Is the {x} {r} the {y}?", "Does the {x} lie {r} the {y}?"),
        ("{x}[은/는] {y}의 {r}에 있나요?", "{x}[이/가] {y}보다 {r}에 있습니까?"),
        ("Would you find the {x} {r} the {y}?",), ("{y}[을/를] 기준으로 {x}[이/가] {r}에 놓였나요?",),
    ),
    "is on side": Topic(
        "yesno", _is_on_side,
        ("Is the {x} on the {s} side of the image?", "Is the {x} in the {s} half of the image?"),
        ("{x}[은/는] 그림의 {s}에 있나요?", "{x}[이/가] 그림의 {s} 절반에 있습니까?"),
        ("Split in two, does the {s} half of the scene hold the {x}?",),
        ("장면을 둘로 나누면 {x}[은/는] {s} 절반에 놓였나요?",),
    ),
    "are more": Topic(
        "yesno", _are_more,
        ("Are there more {xs} than {ys}?", "Is the number of {xs} greater than the number of {ys}?"),
        ("{x}[이/가] {y}보다 많은가요?", "{x}의 수가 {y}의 수보다 많습니까?"),
        ("Do the {xs} outnumber the {ys}?",), ("{y}[과/와] 견주면 {x} 쪽이 더 많은가요?",),
    ),
    "same color": Topic(
        "yesno", _about(_are_alike, "color"),
        ("Are the {x} and the {y} the same color?", "Does the {x} have the same color as the {y}?"),
        ("{x}[과/와] {y}[은/는] 색이 같은가요?", "{x}의 색은 {y}의 색과 같습니까?"),
        ("Was one color used for both the {x} and the {y}?",), ("{x}[과/와] {y}[을/를] 한 가지 색으로 칠했나요?",),
    ),
    "same shape": Topic(
        "yesno", _about(_are_alike, "shape"),
        ("Do the {x} and the {y} have the same shape?", "Is the {x} shaped like the {y}?"),
        ("{x}[과/와] {y}[은/는] 모양이 같은가요?", "{x}의 모양은 {y}의 모양과 같습니까?"),
        ("Does one outline fit both the {x} and the {y}?",), ("{x}[과/와] {y}의 윤곽은 한 가지인가요?",),
    ),
    "where": Topic(
        "location", _where,
        ("Where is the {x}?", "In which part of the image is the {x}?"),
        ("{x}[은/는] 어디에 있나요?", "{x}[은/는] 그림의 어느 부분에 있습니까?", "{x}의 위치는 어디인가요?"),
        ("Point to the {x}: which part of the scene is that?",), ("{x}[이/가] 놓인 자리는 어느 쪽인가요?",),
    ),
    "where to": Topic(
        "location", _where_to,
        ("Where is the {x} relative to the {y}?", "Seen from the {y}, where is the {x}?"),
        ("{x}[은/는] {y}의 어느 쪽에 있나요?", "{y}[을/를] 기준으로 {x}[은/는] 어디에 있습니까?"),
        ("Starting at the {y}, which way leads to the {x}?",), ("{y}에서 보면 {x}[은/는] 어느 쪽인가요?",),
    ),
    "which at": Topic(
        "location", _which_at,
        ("What is at the {cell} of the image?", "Which shape is located at the {cell}?"),
        ("그림의 {cell}에 있는 것은 무엇인가요?", "{cell}에 있는 도형은 무엇입니까?"),
        ("Point to the {cell}: which figure is that?",), ("{cell} 자리에 놓인 도형은 어느 것인가요?",),
    ),
    "present": Topic(
        "general", _present,
        ("Which of these is in the image?", "What can be seen in the image?"),
        ("그림에서 볼 수 있는 것은 무엇인가요?", "그림에 있는 도형은 무엇입니까?"),
        ("One of these was painted here. Which?",), ("이 장면에 그려진 것은 어느 것인가요?",),
    ),
    "absent": Topic(
        "general", _absent,
        ("Which of these is not in the image?", "What can not be seen in the image?"),
        ("그림에서 볼 수 없는 것은 무엇인가요?", "그림에 없는 도형은 무엇입니까?"),
        ("One of these was never painted here. Which?",), ("이 장면에 그려지지 않은 것은 어느 것인가요?",),
    ),
    "true statement": Topic(
        "general", _true_statement,
        ("Which statement about the image is true?", "Which sentence describes the image correctly?"),
        ("그림에 대한 설명으로 옳은 것은 무엇인가요?", "그림을 바르게 설명한 것은 무엇입니까?"),
        ("Only one of these claims holds. Which?",), ("이 장면과 들어맞는 말은 어느 것인가요?",),
    ),
}  # fmt: skip
STATEMENT = {"en": "The {x} is {r} the {y}.", "ko": "{x}[은/는] {y}의 {r}에 있습니다."}


# %% asking
@dataclass(frozen=True)
class Asked:
    """A multiple-choice question about a scene; `answer` is the index of the only right choice."""

    kind: str
    topic: str
    text: str
    choices: tuple[str, ...]
    answer: int


def ask(scene: Scene, rng: np.random.Generator, language: str, kind: str, n_choices: int) -> Asked | None:
    """A question of one kind; None where the scene has nothing to ask for beyond doubt, or too few wrong answers.

    Args:
        language: "ko" or "en".
        kind: one of KINDS, or of TOPICS for a narrower choice.
        n_choices: 2 to 13.
    """
    for name in _some(rng, (name for name, topic in TOPICS.items() if kind in (topic.kind, name)), len(TOPICS)):
        puzzle = TOPICS[name].puzzle(scene, rng)
        wrong = _wrong_choices(puzzle, n_choices - 1, rng) if puzzle else None
        if puzzle and wrong is not None:
            choices = _some(rng, [puzzle.answer, *wrong], n_choices)
            texts = tuple(_say_choice(choice, language) for choice in choices)
            text = _say_question(name, puzzle, scene.style, language, rng)
            return Asked(TOPICS[name].kind, name, text, texts, choices.index(puzzle.answer))
    return None


def _wrong_choices(puzzle: Puzzle, n: int, rng: np.random.Generator) -> list[Phrase | Statement] | None:
    """n wrong answers, none of which the question mentions; None if the answer is mentioned or there are too few.

    From six choices on, and where the right kind runs out, some are answers to other questions: 'yes' to a colour.
    """
    mentioned = {word for phrase in puzzle.slots.values() for word in phrase}
    answer = puzzle.answer
    if set(answer) <= mentioned:
        return None
    wrong = [p for p in dict.fromkeys(puzzle.wrong) if p != answer and not set(p) <= mentioned]
    others = _words(_other_sorts(answer[0])) if len(answer) == 1 else []
    own = sorted(_some(rng, wrong, len(wrong)), key=lambda p: p not in puzzle.tempting)
    own = own[: n if n < 5 or not others else (2 * n + 2) // 3]
    chosen = own + _some(rng, [p for p in others if not set(p) <= mentioned], n - len(own))
    return chosen if len(chosen) == n else None


def _other_sorts(word: str) -> list[str]:
    """Answers to other sorts of questions than the one that `word` answers."""
    tints = {*COLORS, *(name for each in BACKGROUNDS.values() for name in each)}  # sky blue is too like blue
    return [
        other for sort in (("yes", "no"), SHAPES, COLORS) for other in sort
        if word not in sort and not (sort is COLORS and word in tints)
    ]  # fmt: skip


def _say_choice(choice: Phrase | Statement, language: str) -> str:
    if isinstance(choice, Statement):
        slots = {"x": say(choice.x, language), "r": say((choice.relation,), language), "y": say(choice.y, language)}
        return fill_form(STATEMENT[language], slots) or ""
    return say(choice, language)


def _say_question(name: str, puzzle: Puzzle, style: str, language: str, rng: np.random.Generator) -> str:
    wordings = wordings_of(name, style, language)
    called = "object" if rng.random() < 0.3 else "thing"
    slots: dict[str, str] = {}
    for slot, phrase in puzzle.slots.items():
        noun = say(tuple(called if word == "thing" else word for word in phrase), language)
        slots |= {slot: noun, slot + "s": _plural(noun), "a" + slot: f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"}
    return fill_form(_pick(rng, wordings), slots) or ""


def wordings_of(topic: str, style: str, language: str) -> tuple[str, ...]:
    """The forms in which a topic is asked."""
    entry = TOPICS[topic]
    if style != "shifted":
        return entry.english if language == "en" else entry.korean
    return entry.english_shifted if language == "en" else entry.korean_shifted


# %% the demo data set, in the competition's format
SCENES_VERSION = 3  # raise it when the same seed gives other scenes or questions
LANGUAGE_SHARES = (0.35, 0.65)  # English, Korean
QUESTIONS_PER_PICTURE = 4


def generate_demo(
    out_dir: str | Path, n_train: int, n_test: int, seed: int, *, size: int = 84, style: str = "plain"
) -> None:
    """Write train.csv, test.csv, sample_submission.csv, test_answers.csv and the pictures; nothing if they are there.

    Args:
        n_train, n_test: rows; about four questions share a picture.
        size: side of the pictures in pixels.
        style: as in sample_scene.

    Raises:
        FileExistsError: the folder holds another train.csv; it is never overwritten.
    """
    out = Path(out_dir)
    wanted = dict(version=SCENES_VERSION, n_train=n_train, n_test=n_test, seed=seed, size=size, style=style)
    note = out / "scenes.json"
    if note.exists() and read_json(note) == wanted | {"complete": True}:
        return
    if (out / "train.csv").exists() and not note.exists():
        raise FileExistsError(f"{out}/train.csv was not generated here: choose an empty folder for the demo data.")
    for stale in out.glob("t*/scene_*.png"):
        stale.unlink()
    write_json(note, wanted | {"complete": False})
    for split, n_rows, split_seed in (("train", n_train, [seed, 0]), ("test", n_test, [seed, 1])):
        rows = list(_demo_rows(n_rows, np.random.default_rng(split_seed), style))
        for number, scene in {number: scene for number, scene, _ in rows}.items():
            with atomic_path(out / split / f"scene_{number:05d}.png") as part:
                draw(scene, size).save(part, "PNG")
        _write_split(out, split, [(number, asked) for number, _, asked in rows])
    write_json(note, wanted | {"complete": True})


DEMO_ROWS = (600, 200)  # training, test


def write_demo_data(folder: str | Path, seed: int) -> None:
    """The data of the demo, in `folder`: pictures in colours and wordings that `tiny` has never met."""
    generate_demo(folder, *DEMO_ROWS, seed=seed, size=96, style="shifted")


def _write_split(out: Path, split: str, rows: list[tuple[int, Asked]]) -> None:
    table = [
        (f"{split}_{i:05d}", f"{split}/scene_{number:05d}.png", asked.text, *(asked.choices + ("",) * 4)[:4])
        for i, (number, asked) in enumerate(rows)
    ]
    answers = [LETTERS[asked.answer] for _, asked in rows]
    ids, columns = [row[0] for row in table], ("id", "path", "question", *LETTERS[:4])
    if split == "train":
        answered = [(*row, answer) for row, answer in zip(table, answers, strict=True)]
        _write_csv(out / "train.csv", (*columns, "answer"), answered)
        return
    _write_csv(out / "test.csv", columns, table)
    _write_csv(out / "test_answers.csv", ("id", "answer"), zip(ids, answers, strict=True))
    _write_csv(out / "sample_submission.csv", ("id", "answer"), ((name, "a") for name in ids))


def _write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([columns, *rows])
    write_text(path, text.getvalue())


def _demo_rows(n_rows: int, rng: np.random.Generator, style: str) -> Iterable[tuple[int, Scene, Asked]]:
    """(picture, its scene, a question): kinds in turn, letters evenly used, answers hard to guess from the text."""
    kinds = itertools.chain.from_iterable(_some(rng, KINDS, len(KINDS)) for _ in itertools.count())
    letters = {n: itertools.cycle(range(n)) for n in (2, 3, 4)}
    guesser, done = Guesser(), 0
    for number in itertools.count():
        if done >= n_rows:
            return
        wanted = list(itertools.islice(kinds, min(QUESTIONS_PER_PICTURE, n_rows - done)))
        scene, questions = _scene_for(wanted, rng, style, guesser)
        for asked in questions:
            guesser.learn(asked)
            yield number, scene, _with_answer_at(asked, next(letters[len(asked.choices)]))
        done += len(questions)


def _scene_for(
    kinds: list[str], rng: np.random.Generator, style: str, guesser: "Guesser"
) -> tuple[Scene, list[Asked]]:
    """A scene that can be asked about in all these ways, with the questions."""
    while True:
        scene, questions = sample_scene(rng, style), []
        for kind in kinds:
            n_choices = 2 if kind == "yesno" else 3 if rng.random() < 0.15 else 4
            language = LANGUAGES[int(rng.choice(2, p=LANGUAGE_SHARES))]
            tries = [asked for _ in range(6) if (asked := ask(scene, rng, language, kind, n_choices))]
            if not tries:
                break
            questions.append(min(tries, key=guesser.guessability))
        if len(questions) == len(kinds):
            return scene, questions


def _with_answer_at(asked: Asked, slot: int) -> Asked:
    choices = list(asked.choices)
    choices[slot], choices[asked.answer] = choices[asked.answer], choices[slot]
    return Asked(asked.kind, asked.topic, asked.text, tuple(choices), slot)


class Guesser:
    """How easily an answer is guessed without the picture: how often it was right when it was offered."""

    def __init__(self) -> None:
        self.offered: Counter[tuple[str, str]] = Counter()  # (topic, choice)
        self.excess: dict[tuple[str, str], float] = defaultdict(float)  # times it was right, less what chance gives

    def guessability(self, asked: Asked) -> float:
        """Standard errors by which the answer is right too often, beyond one; 0 for most answers.

        Evening out what chance brings about would make the *rarer* answer the better guess.
        """
        key = asked.topic, asked.choices[asked.answer].split()[-1]
        return max(0.0, self.excess[key] / (self.offered[key] + 1) ** 0.5 / 0.43 - 1)  # 0.43: one in four, binomial

    def learn(self, asked: Asked) -> None:
        for i, choice in enumerate(asked.choices):
            key = asked.topic, choice.split()[-1]
            self.offered[key] += 1
            self.excess[key] += (i == asked.answer) - 1 / len(asked.choices)
