"""Draws the picture of both READMEs: the measured training speed (against.json) next to the explorer on the demo.

    mcvqa demo && mcvqa explore demo
    python benchmarks/picture.py --explorer experiments/demo/explore.html

writes docs/figures/front-light.png and front-dark.png, and for phones front-narrow-light.png and front-narrow-dark.png. Chromium
takes the pictures (playwright, /usr/bin/chromium).
"""
import argparse
import base64
import io
import json
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, sync_playwright

HERE = Path(__file__).resolve().parent
FIGURES = HERE.parent / "docs" / "figures"
SCALE = 2  # device pixels of a CSS pixel
COLOURS = {  # ground, ink, faint, mark, line
    "light": ("#ffffff", "#1f2328", "#57606a", "#d9480f", "#c4cad1"),
    "dark": ("#0d1117", "#e6edf3", "#9aa3ad", "#ff922b", "#3d444d"),
}
NAMES = {"ours": "mcvqa", "unsloth": "Unsloth", "trl": "TRL"}


def training_speeds(call: dict) -> dict[str, float]:
    """Name -> rows/s, of one call of against.py."""
    return {
        shown: max(part["per_second"] for part in call["results"][name] if part["part"] in ("training", name))
        for name, shown in NAMES.items()
    }


def bars(speeds: dict[str, float], colours: tuple[str, ...], width: int) -> str:
    """One line for each: its name, a bar, rows a second. One look says the ratio, so the axis begins at 0 and is not bent."""
    _, _, _, mark, line = colours
    most = max(speeds.values())
    return "".join(
        f'<tr><th>{name}</th><td><i style="width:{width * speed / most:.0f}px;background:{mark if speed == most else line}"></i>'
        f"{speed:.3g}</td></tr>" for name, speed in speeds.items()
    )


def page(measured: dict, explorer: bytes, colours: tuple[str, ...], *, narrow: bool) -> str:
    """The bars and the explorer: side by side, or one below the other on a phone."""
    ground, ink, faint, _, line = colours
    size = "padding: 16px; width: 358px; flex-flow: column" if narrow else "padding: 24px; width: 1192px; align-items: center"
    drawn = bars(training_speeds(measured), colours, 200 if narrow else 250)
    return f"""<!doctype html><meta charset="utf-8"><style>
      body {{ margin: 0; {size}; display: flex; gap: {16 if narrow else 32}px; background: {ground};
              color: {ink}; font: 17px system-ui, 'Noto Sans', sans-serif }}
      h1 {{ font-size: 21px; margin: 0 0 18px }}
      p {{ color: {faint}; font-size: {13 if narrow else 14}px; line-height: 1.5; margin: 18px 0 0 }}
      th {{ text-align: right; font-weight: 500; padding: 8px 12px 8px 0; white-space: nowrap }} table {{ border-spacing: 0 }}
      td {{ white-space: nowrap }}
      i {{ display: inline-block; height: 26px; vertical-align: middle; margin-right: 9px }}
      img {{ width: {356 if narrow else 700}px; border: 1px solid {line}; border-radius: 8px }}
    </style><div><h1>Training rows per second</h1><table>{drawn}</table>
    <p>Qwen2.5-VL-3B sizes with random weights, 4 bits, LoRA,{" " if narrow else "<br>"}16 rows a step;
    {measured["machine"]} limited to 15 GiB</p></div>
    <img src="data:image/png;base64,{base64.b64encode(explorer).decode()}">"""


def explorer_shown(browser: Browser, file: Path, scheme: str, *, narrow: bool) -> bytes:
    """The explorer with the wrong answers only, in the order of their ids, and one that depends on the order of the choices.

    On a phone: its first rows, the labels that are probably wrong.
    """
    size = {"width": 390, "height": 562} if narrow else {"width": 1180, "height": 640}
    tab = browser.new_page(viewport=size, color_scheme=scheme, device_scale_factor=SCALE, locale="en-US")
    tab.goto(file.resolve().as_uri())
    if not narrow:
        tab.click('[value="wrong"]')
        tab.select_option("#sort", "by_id")
        tab.get_by_text("order-sensitive").nth(1).click()  # the first is the filter, the second a row
    tab.wait_for_timeout(1500)  # thumbnails
    shot = tab.screenshot()
    tab.close()
    return shot


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--explorer", type=Path, required=True, help="what `mcvqa explore demo` has written")
    file = parser.parse_args().explorer
    calls = json.loads((HERE / "against.json").read_text(encoding="utf-8"))
    measured = next(call for call in calls if NAMES.keys() <= call["results"].keys())
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        for scheme, colours in COLOURS.items():
            for narrow in (False, True):
                tab = browser.new_page(viewport={"width": 390 if narrow else 1240, "height": 100}, device_scale_factor=SCALE)
                tab.set_content(page(measured, explorer_shown(browser, file, scheme, narrow=narrow), colours, narrow=narrow))
                shot = Image.open(io.BytesIO(tab.screenshot(full_page=True)))
                name = f"front-{'narrow-' if narrow else ''}{scheme}.png"
                shot.convert("RGB").quantize(256).save(FIGURES / name, optimize=True)
                tab.close()
        browser.close()


if __name__ == "__main__":
    main()
