"""Draws the picture of both READMEs: the measured training speed (against.json) next to the explorer on the demo.

    mcvqa demo && mcvqa explore demo
    python benchmarks/picture.py --explorer experiments/demo/explore.html

writes docs/figures/front-light.png and front-dark.png. Chromium takes the pictures (playwright, /usr/bin/chromium).
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


def bars(speeds: dict[str, float], colours: tuple[str, ...]) -> str:
    """One line for each: its name, a bar, rows a second. One look says the ratio, so the axis begins at 0 and is not bent."""
    _, _, _, mark, line = colours
    most = max(speeds.values())
    return "".join(
        f'<tr><th>{name}</th><td><i style="width:{250 * speed / most:.0f}px;background:{mark if speed == most else line}"></i>'
        f"{speed:.3g}</td></tr>" for name, speed in speeds.items()
    )


def page(measured: dict, explorer: bytes, colours: tuple[str, ...]) -> str:
    ground, ink, faint, _, line = colours
    return f"""<!doctype html><meta charset="utf-8"><style>
      body {{ margin: 0; padding: 24px; width: 1192px; display: flex; gap: 32px; align-items: center; background: {ground};
              color: {ink}; font: 17px system-ui, 'Noto Sans', sans-serif }}
      h1 {{ font-size: 21px; margin: 0 0 18px }} p {{ color: {faint}; font-size: 14px; line-height: 1.5; margin: 18px 0 0 }}
      th {{ text-align: right; font-weight: 500; padding: 8px 12px 8px 0; white-space: nowrap }} table {{ border-spacing: 0 }}
      td {{ white-space: nowrap }}
      i {{ display: inline-block; height: 26px; vertical-align: middle; margin-right: 9px }}
      img {{ width: 700px; border: 1px solid {line}; border-radius: 8px }}
    </style><div><h1>Training rows per second</h1><table>{bars(training_speeds(measured), colours)}</table>
    <p>Qwen2.5-VL-3B sizes with random weights, 4 bits, LoRA,<br>16 rows a step;
    {measured["machine"]} limited to 15 GiB</p></div>
    <img src="data:image/png;base64,{base64.b64encode(explorer).decode()}">"""


def explorer_shown(browser: Browser, file: Path, scheme: str) -> bytes:
    """The explorer with the wrong answers only, in the order of their ids, and one that depends on the order of the choices."""
    tab = browser.new_page(
        viewport={"width": 1180, "height": 640}, color_scheme=scheme, device_scale_factor=SCALE, locale="en-US"
    )
    tab.goto(file.resolve().as_uri())
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
            tab = browser.new_page(viewport={"width": 1240, "height": 100}, device_scale_factor=SCALE)
            tab.set_content(page(measured, explorer_shown(browser, file, scheme), colours))
            shot = Image.open(io.BytesIO(tab.screenshot(full_page=True)))
            shot.convert("RGB").quantize(256).save(FIGURES / f"front-{scheme}.png", optimize=True)
            tab.close()
        browser.close()


if __name__ == "__main__":
    main()
