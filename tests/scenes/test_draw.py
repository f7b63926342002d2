"""Pictures show what a scene says."""
from dataclasses import replace

import numpy as np
import pytest

from mcvqa.scenes.draw import draw
from mcvqa.scenes.scene import SHAPES, Scene, Thing


@pytest.mark.parametrize("shape", SHAPES)
def test_a_shape_is_drawn_where_it_is_said_to_be(shape):
    thing = Thing(shape, "red", (255, 0, 0), 0.6, 0.35, 0.2, turn=5)
    pixels = np.array(draw(Scene((thing,), "white", (250, 250, 250), "flat", "plain", 0), 96), float)
    rows, columns = np.nonzero(pixels[:, :, 1] < 128)
    assert pixels.shape == (96, 96, 3)
    assert 0.1 < len(rows) / (np.pi * (0.2 * 96) ** 2) <= 1.02
    assert np.hypot(columns + 0.5 - 0.6 * 96, rows + 0.5 - 0.35 * 96).max() < 0.2 * 96 + 1.5


def test_labels_textures_and_backdrops_change_the_picture():
    thing = Thing("circle", "blue", (0, 0, 255), 0.5, 0.5, 0.3)
    plain = Scene((thing,), "white", (250, 250, 250), "flat", "plain", 0)
    changes = [{}, {"label": "7"}, {"label": "8"}, *({"texture": name} for name in ("striped", "dotted", "checked"))]
    variants = [replace(plain, things=(replace(thing, **change),)) for change in changes]
    variants += [replace(plain, backdrop=backdrop) for backdrop in ("gradient", "grid", "grain")]
    assert len({draw(scene, 84).tobytes() for scene in variants}) == len(variants)
