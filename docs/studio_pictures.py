"""Draws the README's pictures of the studio's pages, from the demo.

    python -m docs.studio_pictures [FOLDER] [--every-look]

The demo is trained and tested once in a temporary folder, and every page is opened in Chromium. `--every-look` draws
each page at the width of a desktop and of a phone, light and dark, whole, to be looked at.
"""

import argparse
import io
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

from benchmarks.studio import studio
from vit_lightning.data.sources import demo_root
from vit_lightning.studio.fields import cache_of

ROOT = Path(__file__).parent.parent

#: Milliseconds for what has to import torch, and for what only has to be drawn.
LONG, DRAWN = 240_000, 2500

#: Pixels of a window.
HEIGHT = 1250


def main() -> None:
    """Draws them."""
    parser = argparse.ArgumentParser(description="Draws the README's pictures of the studio.")
    parser.add_argument("folder", type=Path, nargs="?", default=ROOT / "docs/img")
    parser.add_argument("--every-look", action="store_true")
    parser.add_argument("--epochs", type=int, default=15)
    options = parser.parse_args()
    folder = options.folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as work:
        train(Path(work), options.epochs)
        with studio(Path(work)) as url:
            looks = (
                [(1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")]
                if options.every_look
                else [(1280, "light")]
            )
            for width, scheme in looks:
                look(url, folder, width, scheme, whole=options.every_look)


def train(work: Path, epochs: int) -> None:
    """Trains and tests the demo, and a smaller network beside it."""
    shutil.copytree(ROOT / "configs", work / "configs")
    for name, more in (("demo-001", []), ("demo-002", ["--model.depth=2"])):
        words = ["--config=configs/demo.yaml", f"--trainer.max_epochs={epochs}", f"--run={name}", *more]
        for command in (["fit", *words], ["test", f"--run={name}"]):
            subprocess.run([sys.executable, "-m", "vit_lightning.cli", *command], cwd=work, check=True)


def look(url: str, folder: Path, width: int, scheme: str, *, whole: bool) -> None:
    """Opens every page as a visitor of that width and scheme would."""
    from playwright.sync_api import sync_playwright

    path = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        seen: Any = {"viewport": {"width": width, "height": HEIGHT}, "color_scheme": scheme}
        page: Any = chromium.new_page(**seen)
        page.set_default_timeout(LONG)
        for name, prepare in PAGES.items():
            page.goto(f"{url}/{name if name != 'start' else ''}")
            page.locator("h1").first.wait_for()
            prepare(page)
            page.wait_for_timeout(DRAWN)
            if whole:  # the page scrolls within itself: a window as high as all of it shows all of it
                high = page.evaluate("document.querySelector('[data-testid=stMainBlockContainer]').scrollHeight")
                page.set_viewport_size({"width": width, "height": min(6000, high + 80)})
                page.wait_for_timeout(DRAWN)
            shot = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
            page.set_viewport_size({"width": width, "height": HEIGHT})
            more = f"_{width}_{scheme}" if whole else ""
            shot.quantize(160).save(folder / f"studio_{name}{more}.png", optimize=True)
        chromium.close()


def nothing(page: Any) -> None:  # noqa: ANN401  # Playwright's page
    """What needs no more than to be opened."""


def show_data(page: Any) -> None:  # noqa: ANN401  # as above
    """Looks at the demo."""
    page.get_by_role("button", name="Look at them").click()
    page.get_by_role("button", name="Train on these").wait_for()


def show_train(page: Any) -> None:  # noqa: ANN401  # as above
    """Waits until it is known whether it fits."""
    page.get_by_text("architecture valid").wait_for()


def show_watch(page: Any) -> None:  # noqa: ANN401  # as above
    """Waits for the curves and the pictures."""
    page.locator('[data-testid="stVegaLiteChart"]').nth(3).wait_for()
    page.get_by_text("train_images.png").wait_for()


def show_runs(page: Any) -> None:  # noqa: ANN401  # as above
    """Waits for the report."""
    page.locator("iframe").first.wait_for()
    page.get_by_text("python cli.py test").first.wait_for()


def show_mistakes(page: Any) -> None:  # noqa: ANN401  # as above
    """Waits for the gallery."""
    page.get_by_role("button", name="Keep the labels").wait_for()


def show_use(page: Any) -> None:  # noqa: ANN401  # as above
    """Drops two of the demo's frames."""
    frames = sorted(demo_root(cache_of(None)).rglob("*.jpg"))
    page.locator('input[type="file"]').first.set_input_files([str(frames[len(frames) // 9]), str(frames[-1])])
    page.get_by_role("heading", level=3).first.wait_for()


PAGES: dict[str, Callable[[Any], None]] = {
    "start": nothing,
    "data": show_data,
    "train": show_train,
    "watch": show_watch,
    "runs": show_runs,
    "use": show_use,
    "mistakes": show_mistakes,
}


if __name__ == "__main__":
    main()
