"""A newcomer's path through the studio, from an empty environment to a label on a dropped picture.

    python -m benchmarks.newcomer [--shots FOLDER]

What is committed is cloned into a temporary folder and installed into a virtual environment of its own, with the one
command that README names; `cli.py studio` is the only command after that. The demo is drawn, trained and used in
Chromium, and the time of each step is printed.
"""

import argparse
import os
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent

#: Milliseconds for what imports torch for the first time, and for a whole training on a busy machine.
LONG, TRAINING = 240_000, 2_400_000


def main() -> None:
    """Walks it."""
    parser = argparse.ArgumentParser(description="Walks a newcomer's path through the studio.")
    parser.add_argument("--shots", type=Path, help="a folder for a picture of each step")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "vit_lightning"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
        env = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
        env |= {"XDG_CACHE_HOME": f"{folder}/cache", "PIP_CACHE_DIR": f"{folder}/pip"}
        began = time.monotonic()
        install = "python3 -m venv .venv && . .venv/bin/activate && pip install -q -c requirements.lock -e '.[studio]'"
        subprocess.run(["bash", "-c", install], cwd=clone, env=env, check=True)
        step("installed", began)
        with socket.socket() as tried:
            tried.bind(("127.0.0.1", 0))
            port = tried.getsockname()[1]
        began = time.monotonic()
        studio = subprocess.Popen(
            [".venv/bin/python", "cli.py", "studio", "--port", str(port)],
            cwd=clone,
            env=env,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert studio.stdout is not None
            print(studio.stdout.readline().strip())
            step("the studio is open", began)
            walk(f"http://127.0.0.1:{port}", Path(folder) / "cache", options.shots)
        finally:
            studio.terminate()
            studio.wait()


def walk(url: str, cache: Path, shots: Path | None) -> None:
    """From the first page to a label.

    Args:
        url: Where the studio is.
        cache: Below it the demo's frames will be.
        shots: A folder for pictures, or None.
    """
    from playwright.sync_api import sync_playwright

    path = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        page: Any = chromium.new_page(viewport={"width": 1280, "height": 1250})
        page.set_default_timeout(LONG)

        def done(words: str, began: float) -> float:
            if shots is not None:
                shots.mkdir(parents=True, exist_ok=True)
                page.wait_for_timeout(1500)
                page.screenshot(path=shots / f"{words.replace(' ', '_')}.png")
            return step(words, began)

        began = time.monotonic()
        page.goto(url)
        page.get_by_role("heading", name="vit_lightning studio", exact=True).wait_for()
        began = done("the first page", began)
        page.get_by_role("button", name="1. Choose pictures").click()
        page.get_by_role("button", name="Look at them").click()
        page.get_by_role("button", name="Train on these").wait_for()
        began = done("the demo looked at", began)
        page.get_by_role("button", name="Train on these").click()
        page.get_by_text("architecture valid").wait_for()
        began = done("architecture valid", began)
        page.get_by_role("button", name="Start training").click()
        page.get_by_text("demo-001: running, epoch").wait_for()
        page.locator('[data-testid="stVegaLiteChart"]').first.wait_for()
        began = done("training", began)
        page.get_by_text("demo-001: finished").wait_for(timeout=TRAINING)
        began = done("trained", began)
        page.get_by_role("link", name="Use").click()
        picture = sorted(cache.rglob("*.jpg"))[7]
        page.locator('input[type="file"]').first.set_input_files(str(picture))
        heading = page.get_by_role("heading", level=3)
        heading.wait_for()
        done("a label", began)
        print(f"{picture.parent.name}/{picture.name}: {heading.inner_text()}")
        chromium.close()


def step(words: str, began: float) -> float:
    """Prints how long a step took; gives the time now."""
    now = time.monotonic()
    print(f"{words:24} {now - began:7.1f} s", flush=True)
    return now


if __name__ == "__main__":
    main()
