import io
import subprocess
import sys
import warnings

import pytest

from mcvqa.base.plots import KOREAN_FONTS, new_figure, save_figure

PNG_START = b"\x89PNG\r\n\x1a\n"


def drawn(text: str) -> list[str]:
    """Warnings about letters that no font has."""
    figure, axes = new_figure(width=3, height=2)
    axes.set(title=text, ylabel="정답률", xlim=(-5, 5))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        figure.savefig(io.BytesIO(), format="png")
    return [str(w.message) for w in caught if "missing" in str(w.message)]


def test_korean_and_latin_text_have_glyphs():
    assert drawn("사진 속 고양이는 몇 마리입니까? 뷁 ±½ Accuracy") == []


def test_a_missing_glyph_would_be_noticed():
    assert drawn("\U0001f9ff")


def test_a_korean_font_comes_first():
    import matplotlib

    new_figure()
    assert matplotlib.rcParams["font.family"][0] in KOREAN_FONTS


def test_save_figure_writes_a_png_or_nothing(tmp_path):
    figure, _ = new_figure(1, 2, width=3, height=2, sharey=True)
    path = save_figure(figure, tmp_path / "new" / "그림.png")
    assert path.read_bytes().startswith(PNG_START)

    before = path.read_bytes()
    figure.axes[0].set_title(r"$\frac{1$")  # cannot be drawn
    with pytest.raises(ValueError):
        save_figure(figure, path)
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == ["그림.png"]


def test_letters_without_a_glyph_are_said_once(tmp_path):
    figure, axes = new_figure(width=3, height=2)
    axes.set(title="\U0001f9ff \U0001fa80 \U0001fa81")
    with pytest.warns(UserWarning, match=r"[36] letters have no glyph here") as expected:
        save_figure(figure, tmp_path / "x.png")
    assert len(expected) == 1


def test_matplotlib_is_imported_late_and_its_backend_left_alone():
    code = (
        "import sys, mcvqa.base.plots as plots\n"
        "assert 'matplotlib' not in sys.modules\n"
        "import matplotlib\n"
        "before = matplotlib.rcParams._get_backend_or_none()\n"
        "plots.new_figure()\n"
        "assert 'matplotlib.pyplot' not in sys.modules and 'koreanize_matplotlib' not in sys.modules\n"
        "assert matplotlib.rcParams._get_backend_or_none() == before\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
