"""A newcomer's path in a browser: pictures, training, stop, go on, a killed studio, a label on a dropped picture."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from vit_lightning.runs import Run, read_numbers, read_status

ROOT = Path(__file__).parent.parent.parent

#: Seconds for what has to import torch on a busy machine.
LONG = 120_000


@pytest.fixture
def browser() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed; pip install playwright")
    path = shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("there is no Chromium; apt-get install chromium")
    with api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def open_studio(work: Path, frames: Path) -> Iterator[Callable[[], tuple["subprocess.Popen[str]", str]]]:
    """Starts a studio in the working folder, and says where it is."""
    begun: list[subprocess.Popen[str]] = []

    def begin() -> tuple["subprocess.Popen[str]", str]:
        with socket.socket() as tried:
            tried.bind(("127.0.0.1", 0))
            port = tried.getsockname()[1]
        command = [sys.executable, str(ROOT / "cli.py"), "studio", "--port", str(port), "--root", str(frames)]
        env = os.environ | {"PYTHONPATH": str(ROOT)}
        begun.append(subprocess.Popen(command, cwd=work, env=env, stdout=subprocess.PIPE, text=True))
        assert begun[-1].stdout is not None
        assert "the studio is on" in begun[-1].stdout.readline()
        return begun[-1], f"http://127.0.0.1:{port}"

    yield begin
    for process in begun:
        process.kill()
        process.wait()


@pytest.mark.slow
def test_from_pictures_to_a_label_with_a_stop_and_a_kill_between(
    work: Path, frames: Path, open_studio: Callable[[], tuple["subprocess.Popen[str]", str]], browser: Any
) -> None:
    recipe = work / "configs/folder.yaml"
    recipe.write_text(recipe.read_text().replace("max_epochs: 2", "max_epochs: 5000"))
    shutil.rmtree(work / "lightning_logs")
    run = work / "lightning_logs/folder-001"
    studio, url = open_studio()
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.set_default_timeout(LONG)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(url)
    page.get_by_role("heading", name="vit_lightning studio", exact=True).wait_for()

    page.get_by_role("button", name="1. Choose pictures").click()
    page.get_by_role("radio", name="A folder").or_(page.get_by_role("button", name="A folder")).first.click()
    page.get_by_text(str(frames), exact=True).first.wait_for()
    page.get_by_role("button", name="Look at them").click()
    page.get_by_role("button", name="Train on these").click()
    page.get_by_text("architecture valid").wait_for()
    page.get_by_role("button", name="Start training").click()

    page.get_by_text("folder-001: running, epoch").wait_for()
    while not read_numbers(run / "history.csv"):
        time.sleep(0.1)
    written = time.monotonic()
    page.locator('[data-testid="stVegaLiteChart"] canvas, [data-testid="stVegaLiteChart"] svg').first.wait_for()
    assert time.monotonic() - written < 20  # 2 s where nothing else computes
    page.get_by_role("button", name="Stop").click()
    page.get_by_text("folder-001: interrupted, epoch").wait_for()
    assert (run / "checkpoints/last.ckpt").is_file()
    before = len(read_numbers(run / "history.csv"))

    page.get_by_role("button", name="Go on").click()
    page.get_by_text("folder-001: running, epoch").wait_for()
    studio.send_signal(signal.SIGKILL)
    studio.wait()
    epochs = len(read_numbers(run / "history.csv"))
    assert epochs >= before
    end = time.monotonic() + 60
    while len(read_numbers(run / "history.csv")) <= epochs + 2 and time.monotonic() < end:
        time.sleep(0.2)
    assert len(read_numbers(run / "history.csv")) > epochs + 2  # it goes on
    assert Run(run, read_status(run / "status.json")).state == "running"

    _, url = open_studio()
    page.goto(f"{url}/watch")
    page.get_by_text("folder-001: running, epoch").wait_for()  # and is found again
    page.get_by_role("button", name="Stop").click()
    page.get_by_text("folder-001: interrupted, epoch").wait_for()

    page.goto(f"{url}/use")
    picture = next(path for path in sorted(frames.rglob("*")) if path.suffix in (".jpg", ".png"))
    page.locator('input[type="file"]').first.set_input_files(str(picture))
    page.get_by_role("heading", level=3).wait_for()
    label, share = page.get_by_role("heading", level=3).inner_text().rsplit(" ", 1)
    assert label in ("jerry", "tom", "tom_jerry_0", "tom_jerry_1")
    assert 25.0 <= float(share.removesuffix("%")) <= 100.0
    others = [each for each in asked if not each.startswith(("http://127.0.0.1", "data:", "blob:"))]
    assert others == [], "the page asks nobody else"
