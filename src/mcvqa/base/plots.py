"""Draws figures in one plain style, with a colour-blind-safe palette and a font with Korean.

pyplot is not used, so no backend is chosen, no window opens and nothing needs closing; a notebook shows figures as usual.
matplotlib's defaults stay changed, so that a notebook's own figures look the same.
"""
import importlib.util
import warnings
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mcvqa.base.files import atomic_path
from mcvqa.base.informing import counted, informing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe and Ito's palette without its yellow, which is too faint for lines on white
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9")
INK, FAINT_INK, GRID = "#2B2F36", "#6B7280", "#E5E7EB"
FIGURE_WORDS: ContextVar[Callable[[str], str]] = ContextVar("FIGURE_WORDS", default=str)  # English -> the language of figures
KOREAN_FONTS = ("Noto Sans CJK KR", "Noto Sans KR", "NanumGothic", "Malgun Gothic", "Apple SD Gothic Neo")


# %% style
def use_plot_style() -> None:
    """Set matplotlib's defaults: colours, grid, sizes, and a font with Korean."""
    import matplotlib
    from cycler import cycler

    matplotlib.rcParams.update({
        "font.family": [*_korean_font(), "DejaVu Sans"],  # the second font supplies glyphs that the first one lacks
        "axes.unicode_minus": False,  # Korean fonts often lack U+2212
        "font.size": 10.5,
        "text.color": INK,
        "axes.labelcolor": FAINT_INK,
        "axes.edgecolor": "#9CA3AF",
        "axes.titlesize": 13,
        "axes.titlelocation": "left",
        "axes.titlepad": 10,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.axisbelow": True,
        "axes.grid": True,
        "grid.color": GRID,
        "axes.prop_cycle": cycler(color=PALETTE),
        "xtick.color": FAINT_INK,
        "ytick.color": FAINT_INK,
        "xtick.labelcolor": INK,
        "ytick.labelcolor": INK,
        "xtick.major.size": 0,
        "ytick.major.size": 0,
        "legend.frameon": False,
        "lines.linewidth": 1.8,
        "patch.linewidth": 0,
        "savefig.dpi": 150,
    })  # fmt: skip


def _korean_font() -> list[str]:
    """Return the name of the first installed Korean font, else of the one in the package koreanize-matplotlib."""
    from matplotlib.font_manager import fontManager

    installed = set(fontManager.get_font_names())
    names = [name for name in KOREAN_FONTS if name in installed]
    if not names:
        # only its font file is used: importing the package fails on Python 3.12 and later (no distutils)
        spec = importlib.util.find_spec("koreanize_matplotlib")
        for folder in (spec.submodule_search_locations or []) if spec else []:
            fontManager.addfont(Path(folder) / "fonts" / "NanumGothic.ttf")
            names = ["NanumGothic"]
    return names[:1]


# %% figures
def in_figures(text: str) -> str:
    """Translate a text into the language of figures; it stays English if no font covers that language."""
    return FIGURE_WORDS.get()(text) if _korean_font() else text


def new_figure(
    rows: int = 1, columns: int = 1, width: float = 7.0, height: float = 4.0, **subplots: Any
) -> tuple["Figure", Any]:
    """Make an empty figure in our style.

    Args:
        rows, columns: number of panels.
        width, height: of the whole figure, in inches (150 pixels each when saved).
        subplots: passed to matplotlib's `Figure.subplots` (sharex, width_ratios, ...).

    Returns:
        The figure and its axes, an array of them for several panels.
    """
    from matplotlib.figure import Figure

    use_plot_style()
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(rows, columns, **subplots)


def draw_each(to_draw: Mapping[str, "Callable[[], Figure | None]"], folder: str | Path) -> dict[str, Path]:
    """Draw and save figures as <name>.png; one that fails is reported and the others are still drawn.

    Files of an earlier call are replaced, or removed if there is nothing to show now.

    Args:
        to_draw: name -> function that draws the figure, or returns None if there is nothing to show.
        folder: folder for the files.

    Returns:
        Name of each saved figure -> its file.
    """
    saved = {}
    for name, draw in to_draw.items():
        path = Path(folder) / f"{name}.png"
        with informing(f"the figure {path.name}"):
            path.unlink(missing_ok=True)
            if figure := draw():
                saved[name] = save_figure(figure, path)
    return saved


def save_figure(figure: "Figure", path: str | Path) -> Path:
    """Write the figure as PNG, atomically.

    Matplotlib warns about every missing glyph; these warnings are replaced by a single one that says what to do.

    Args:
        figure: the figure.
        path: the file.

    Returns:
        The file.
    """
    path = Path(path)
    _translate_titles(figure)
    with warnings.catch_warnings(record=True) as caught, atomic_path(path) as part:
        warnings.simplefilter("always")
        figure.savefig(part, format="png", facecolor="white")
    missing = [w for w in caught if "missing from" in str(w.message)]
    if missing:
        lacking = counted(len(missing), "letter has", "letters have")
        message = f"{path.name}: {lacking} no glyph here; for Korean: pip install koreanize-matplotlib"
        warnings.warn(message, stacklevel=2)
    for other in caught:
        if other not in missing:
            warnings.warn_explicit(other.message, other.category, other.filename, other.lineno)
    return path


def _translate_titles(figure: "Figure") -> None:
    """Put titles, labels of axes and legends into the language of figures; names of ticks and texts inside stay as drawn."""
    from matplotlib.text import Text

    inside = {text for axes in figure.axes for text in axes.texts}
    for text in set(figure.findobj(Text)) - inside:
        text.set_text(in_figures(text.get_text()))
