"""Defines scenes: coloured shapes on a background, sampled at random, and described in words.

Everything that may be asked about a scene is in its numbers: mcvqa.scenes.draw makes a picture of it, and mcvqa.scenes.ask a
question.
"""
import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np

from mcvqa.scenes.words import CELLS, Phrase, say

# %% what scenes are made of
Color = tuple[int, int, int]  # red, green, blue, 0 to 255
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
    """Return (n, 2) points on a circle from `start` degrees on, clockwise on the screen as y grows downward."""
    angles = np.radians(start + np.arange(n) * sweep / n)
    return radius * np.stack([np.cos(angles), np.sin(angles)], -1)


def _heart() -> np.ndarray:
    t = np.linspace(0, 2 * np.pi, 40)
    x, y = 16 * np.sin(t) ** 3, -13 * np.cos(t) + 5 * np.cos(2 * t) + 2 * np.cos(3 * t) + np.cos(4 * t)
    return np.stack([x, y], -1) / 17


def outline_area(points: np.ndarray) -> float:
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


# %% a scene
@dataclass(frozen=True)
class Thing:
    """Describes one shape. Lengths are shares of the picture's side; y grows downward.

    Attributes:
        radius: radius of the circle around the outline.
        texture: one of TEXTURES, or "unpatterned".
        label: text painted on it; empty for none.
        turn: rotation in degrees, clockwise.
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
        """Words by which a phrase may name it."""
        return frozenset(("thing", self.color, self.shape, self.texture, f"mark:{self.label}"))


CLEARLY = 0.03  # margin of most scenes, see Scene


@dataclass(frozen=True)
class Scene:
    """Describes the content of a picture.

    Attributes:
        style: also decides the wording of questions.
        seed: seed of the grain of the background.
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
    """Describes a family of scenes: ranges of the number of things and of their radius, and how similar they are."""

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
    # asked for by name: the nearest one is hard to determine
    "six": Layout(0.0, (6, 6), (0.06, 0.09), 6, 2, all_colors_differ=True, margin=0.008),
}


def pick_one(rng: np.random.Generator, options: Sequence[Picked]) -> Picked:
    return options[int(rng.integers(len(options)))]


def pick_some(rng: np.random.Generator, options: Iterable[Picked], n: int) -> list[Picked]:
    """Pick up to n of them, in random order."""
    pool = list(options)
    return [pool[i] for i in rng.permutation(len(pool))[:n]]


def _contrast(a: Color, b: Color) -> float:
    return float(np.linalg.norm(np.subtract(a, b)))


def sample_scene(rng: np.random.Generator, style: str = "plain", layout: str | None = None) -> Scene:
    """Sample a random scene.

    Args:
        rng: source of randomness.
        style: "plain"; "varied": more backgrounds, tints mixed with up to a sixth of another colour; or "shifted": chalk tints,
            other backgrounds, more textures, other wordings.
        layout: one of LAYOUTS; None: any, by their shares.

    Raises:
        ValueError: an unknown style or layout.
    """
    if style not in BACKGROUNDS or layout not in (None, *LAYOUTS):
        raise ValueError(f"style={style!r}, layout={layout!r}: there are {list(BACKGROUNDS)} and {list(LAYOUTS)}.")
    shares = np.array([entry.share for entry in LAYOUTS.values()])
    plan = LAYOUTS[layout or list(LAYOUTS)[int(rng.choice(len(shares), p=shares / shares.sum()))]]
    background = pick_one(rng, list(BACKGROUNDS[style]))
    rgb = _near(rng, BACKGROUNDS[style][background])
    circles = _circles(rng, plan)
    palette = pick_some(rng, _visible_colors(rng, style, rgb), plan.colors)
    shapes = pick_some(rng, SHAPES, plan.shapes)
    if plan.all_colors_differ and rng.random() < 0.25:
        shapes = ["circle", "rectangle"]
    things = []
    for i, (x, y, radius) in enumerate(circles):
        color, tint = palette[i % len(palette)] if plan.all_colors_differ else pick_one(rng, palette)
        board = plan.sign and i == 0
        shape = "rectangle" if board else pick_one(rng, shapes)
        texture, label = _decoration(rng, shape, radius, plan.decorated * (1.3 if style == "shifted" else 1.0))
        things.append(Thing(
            shape, color, tint, x, y, radius,
            texture="unpatterned" if board else texture,
            label=pick_one(rng, SIGN_WORDS) if board else label,
            turn=float(rng.uniform(-4, 4) if board else rng.uniform(-12, 12)),
            aspect=2.3 if board else float(rng.uniform(1, 1.5)) if shape == "rectangle" else 1.0,
        ))  # fmt: skip
    backdrop = pick_one(rng, BACKDROPS[style])
    return Scene(tuple(things), background, rgb, backdrop, style, int(rng.integers(2**31)), plan.margin)


def _near(rng: np.random.Generator, color: Color, spread: int = 5) -> Color:
    red, green, blue = np.clip(np.array(color) + rng.integers(-spread, spread + 1, 3), 0, 255)
    return int(red), int(green), int(blue)


def _visible_colors(rng: np.random.Generator, style: str, background: Color) -> list[tuple[str, Color]]:
    """Choose one tint of each colour that stands out from the background."""
    tints = []
    share, mixed = (rng.uniform(0, 1 / 6), rng.uniform(0, 255, 3)) if style == "varied" else (0, np.zeros(3))
    for name, (start, end) in COLORS.items():
        red, green, blue = (1 - (t := rng.random())) * np.array(start) + t * np.array(end)
        red, green, blue = (1 - share) * np.array((red, green, blue)) + share * mixed
        if style == "shifted":  # as if in chalk: a quarter of warm white
            red, green, blue = 0.74 * np.array((red, green, blue)) + 0.26 * np.array((255, 240, 215))
        tints.append((name, (int(red), int(green), int(blue))))
    return [(name, tint) for name, tint in tints if _contrast(tint, background) > 95]


def _circles(rng: np.random.Generator, plan: Layout, gap: float = 0.02) -> list[tuple[float, float, float]]:
    """Place things inside the picture without touching: (x, y, radius)."""
    n = int(rng.integers(plan.things[0], plan.things[1] + 1))
    radii = rng.uniform(*plan.radius, size=n)
    if plan.sign:
        radii[0] = rng.uniform(0.28, 0.36)
    while True:
        circles: list[tuple[float, float, float]] = []
        for radius in radii.tolist():
            free = (1 - 2 * radius - 2 * gap) * rng.random((60, 2)) + radius + gap  # 60 tries
            for x, y in free.tolist():
                if all(np.hypot(x - a, y - b) > radius + r + gap for a, b, r in circles):
                    circles.append((x, y, radius))
                    break
        if len(circles) == n:
            return circles
        radii *= 0.95  # too full


def _decoration(rng: np.random.Generator, shape: str, radius: float, share: float) -> tuple[str, str]:
    """Choose a texture, or a painted digit, letter or two-digit number, or neither: never both, so that both can be read."""
    if radius < 0.1 or rng.random() > share:
        return "unpatterned", ""
    if shape in ROOMY_SHAPES and rng.random() < 0.6:
        label = str(rng.integers(10)) if rng.random() < 0.5 else pick_one(rng, SIGN_LETTERS)
        return "unpatterned", str(rng.integers(10, 100)) if radius > 0.13 and rng.random() < 0.4 else label
    return pick_one(rng, TEXTURES), ""


# %% geometry
def outline_of(thing: Thing) -> np.ndarray:
    """Return the outline (n, 2) of a thing in shares of the picture's side."""
    stretch = np.array((thing.aspect, 1.0)) * np.sqrt(2 / (1 + thing.aspect**2))  # keeps a corner on the circle
    angle = np.radians(thing.turn)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return (SHAPES[thing.shape] * stretch) @ turn * thing.radius + (thing.x, thing.y)


def cell_of(thing: Thing) -> str:
    """Return the ninth of the picture in which its centre lies."""
    return CELLS[3 * min(2, int(3 * thing.y)) + min(2, int(3 * thing.x))]


# %% describing
def describe(scene: Scene, language: str) -> str:
    """Describe everything in the scene, in reading order: background, number of things, then each with its position."""
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
    """Name a thing by its size if it is clear, colour, texture, shape, and what is painted on it."""
    size = ("large",) if thing.radius > 0.14 else ("small",) if thing.radius < 0.085 else ()
    texture = () if thing.texture == "unpatterned" else (thing.texture,)
    return (*size, thing.color, *texture, thing.shape, *((f"mark:{thing.label}",) if thing.label else ()))


def describe_distances(scene: Scene, language: str) -> str:
    """Describe what is nearest to and furthest from each of two or more things, by their centres, in reading order."""
    things = _in_reading_order(scene)
    at = np.array([(thing.x, thing.y) for thing in things])
    apart = np.linalg.norm(at[:, None] - at, axis=-1)
    near, far = (apart + 9 * np.eye(len(at))).argmin(1), apart.argmax(1)
    form = "{}: closest {}, furthest {}." if language == "en" else "{}: 가장 가까운 {}, 가장 먼 {}."
    said = [say((thing.color, thing.shape), language) for thing in things]
    return " ".join(form.format(name, said[n], said[f]) for name, n, f in zip(said, near, far, strict=True))


def _in_reading_order(scene: Scene) -> list[Thing]:
    return sorted(scene.things, key=lambda thing: (CELLS.index(cell_of(thing)), thing.x))
