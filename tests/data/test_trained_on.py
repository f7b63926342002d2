"""Prints of photographs: small, and every copy that folds would keep together is found."""
import io
from base64 import b64decode

import numpy as np
import pytest
from PIL import Image

from mcvqa.data.images import ImageFolder, near_duplicate_groups, survey_images
from mcvqa.data.trained_on import PRINT_BYTES, are_prints, joined_prints, photographs_print, seen_photographs


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    """40 photographs, and copies of the first 20: as they are, resized, saved anew, brighter."""
    folder, random = tmp_path_factory.mktemp("photographs"), np.random.default_rng(0)
    for i in range(40):
        shapes = random.integers(0, 256, (6, 8, 3)).astype(np.uint8)
        picture = Image.fromarray(shapes).resize((160, 120), Image.Resampling.BICUBIC)
        picture.save(folder / f"p{i:02d}.jpg", quality=92)
        copies = {0: picture.resize((97, 73)), 1: picture, 2: picture.point(lambda v: min(255, v + 12))}
        if i < 20:
            content = io.BytesIO()
            copies[i % 3].save(content, "JPEG", quality=60)
            (folder / f"copy{i:02d}.jpg").write_bytes(content.getvalue())
    names = sorted(path.name for path in folder.iterdir())
    return survey_images(ImageFolder(folder), names)


def test_every_copy_is_found_and_nothing_else(records):
    learned = photographs_print(record for name, record in records.items() if name.startswith("p"))
    copies = {name: record for name, record in records.items() if name.startswith("copy")}
    groups = near_duplicate_groups(records)
    together = {name for name in copies if groups[name] == groups[f"p{name[4:]}"]}
    assert len(together) > 15 and together <= seen_photographs(learned, copies)
    halves = [{n: r for n, r in records.items() if n.startswith("p") and int(n[1:3]) % 2 == odd} for odd in (0, 1)]
    assert seen_photographs(photographs_print(halves[0].values()), halves[1]) == set()
    assert seen_photographs(photographs_print(halves[0].values()), halves[0]) == set(halves[0])


def test_a_print_is_small_and_counts_each_photograph_once(records):
    text = photographs_print([*records.values(), *records.values()])
    assert len(b64decode(text)) == len(records) * PRINT_BYTES and 3887 * PRINT_BYTES * 4 / 3 < 350_000
    parts = [photographs_print([record]) for record in records.values()]
    assert joined_prints([*parts, *parts, ""]) == text
    assert seen_photographs("", records) == set()


@pytest.mark.parametrize(("text", "good"), [("", True), ("AAAA", False), ("!", False), (None, False), ("A" * 260, True)])
def test_what_is_no_print_is_seen(text, good):
    assert are_prints(text) == good
