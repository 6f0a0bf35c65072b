"""How long the studio takes to list runs, and how much memory watching takes.

    python -m benchmarks.studio [--runs 1000] [--minutes 5]

The runs are records without weights in a temporary folder. The list is drawn as Streamlit draws it, without a browser.
Then one run grows by ten steps a second and an epoch a minute, the page that watches it is looked at in Chromium, and
the memory of its server and the processor's time that it takes (Linux only) are printed every minute.
"""

import argparse
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np


def main() -> None:
    """Measures both."""
    parser = argparse.ArgumentParser(description="Measures the studio.")
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--minutes", type=float, default=5.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        make_runs(Path("lightning_logs"), options.runs)
        print(f"{options.runs} runs: the page is drawn in {draw():.2f} s, once more in {draw():.2f} s")
        watch(Path(folder), options.minutes)


@contextmanager
def studio(work: Path) -> Iterator[str]:
    """The studio's address while it is open."""
    with socket.socket() as tried:
        tried.bind(("127.0.0.1", 0))
        port = tried.getsockname()[1]
    command = [sys.executable, "-m", "vit_lightning.cli", "studio", "--port", str(port)]
    process = subprocess.Popen(command, cwd=work, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def make_runs(logs: Path, count: int) -> None:
    """Writes the records of runs of 50 epochs on 20 splits."""
    rng = np.random.default_rng(0)
    for number in range(count):
        folder = logs / f"many-{number:04}"
        folder.mkdir(parents=True)
        split = {"kind": "random", "id": f"{number % 20:012}", "train": 1000, "val": 100}
        status: dict[str, Any] = {"state": "finished", "epochs": 50, "max_epochs": 50, "seconds": 100.0}
        status |= {
            "data": {"name": "pets", "id": "0" * 12},
            "split": split,
            "best": {"epoch": 9, "val/acc": rng.random()},
        }
        month = 2 if number == count - 1 else 1  # the last one is the latest, which the page Watch opens
        status["started"] = f"2026-{month:02}-{1 + number % 28:02}T00:00:00+00:00"
        (folder / "status.json").write_text(json.dumps(status))
        (folder / "config.yaml").write_text("model:\n  lr: 0.001\n  depth: 6\ndata:\n  batch_size: 32\n")
        rows = "".join(f"{epoch},{1 / epoch},0.5,{1 / epoch},0.5\n" for epoch in range(1, 51))
        (folder / "history.csv").write_text(f"epoch,train/loss,train/acc,val/loss,val/acc\n{rows}")
        steps = "".join(f"{step},{step * 1e-6}\n" for step in range(1600))
        (folder / "learning_rate.csv").write_text(f"step,lr\n{steps}")


def draw() -> float:
    """Seconds that the page of runs takes."""
    from streamlit.testing.v1 import AppTest

    page = AppTest.from_string("from vit_lightning.studio.views import runs\nruns.show()", default_timeout=120)
    began = time.perf_counter()
    page.run()
    return time.perf_counter() - began


def grow(run: Path, ended: threading.Event) -> None:
    """Writes what a training writes: losses as events, learning rates and epochs as rows."""
    from torch.utils.tensorboard import SummaryWriter

    writer, step = SummaryWriter(str(run), flush_secs=1), 1600
    while not ended.wait(1.0):
        with (run / "learning_rate.csv").open("a") as rates:
            for number in range(step + 1, step + 11):
                writer.add_scalar("train/loss_step", 1 / number, number)
                rates.write(f"{number},{number * 1e-6}\n")
        step += 10
        if step % 600 == 0:
            with (run / "history.csv").open("a") as epochs:
                epochs.write(f"{50 + step // 600},0.5,0.5,0.5,0.5\n")
    writer.close()


def watch(folder: Path, minutes: float) -> None:
    """Prints the server's memory and its share of a processor core while a page looks at a growing run."""
    from playwright.sync_api import sync_playwright

    path = shutil.which("chromium") or shutil.which("google-chrome")
    with studio(folder) as url, sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        page = chromium.new_page()
        ended = threading.Event()
        growing = threading.Thread(target=grow, args=(max((folder / "lightning_logs").iterdir()), ended))
        growing.start()
        page.goto(f"{url}/watch")
        page.locator('[data-testid="stVegaLiteChart"]').first.wait_for(timeout=240_000)
        found = subprocess.run(
            ["pgrep", "-f", f"studio.server.*{url.rpartition(':')[2]}"], capture_output=True, check=True
        )
        server = int(found.stdout.split()[0])
        busy = seconds(server)
        for minute in np.arange(0, minutes + 0.5):
            before, busy = busy, seconds(server)
            share = f", {(busy - before) / 60:.0%} of a core" if minute else ""
            print(f"after {minute:.0f} minutes: {memory(server) / 1e6:.0f} MB{share}", flush=True)
            page.wait_for_timeout(60_000)
        ended.set()
        growing.join()
        chromium.close()


def seconds(process: int) -> float:
    """Seconds of a processor core that a process has taken."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory(process: int) -> int:
    """Bytes of memory that a process holds."""
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    main()
