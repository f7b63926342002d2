"""Draws a scene as a picture from its numbers alone: the same scene gives the same pixels."""
import functools

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mcvqa.scenes.scene import Color, Scene, Thing, outline_of


def draw(scene: Scene, size: int) -> Image.Image:
    """Draw the scene as an RGB picture of size x size pixels, drawn larger and averaged down for smooth edges."""
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
    """Move the colour a share of the way to black or, if it is dark, to white."""
    target = 0 if sum(color) > 300 else 255
    red, green, blue = (round(value + share * (target - value)) for value in color)
    return red, green, blue


def _paint(picture: Image.Image, thing: Thing) -> None:
    n = picture.width
    points = [(float(x), float(y)) for x, y in outline_of(thing) * n]
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
    """Draw a texture in the thing's colour and a lighter or darker shade of it, (n, n) pixels."""
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
