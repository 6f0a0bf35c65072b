"""The whole way: the demo is trained, exported and served; under load a newer model takes over; no request is lost.

    python -m benchmarks.serving [--epochs 15] [--clients 16]

Every step is the command itself, in a temporary folder. The run goes on for another epoch. While clients ask without a
pause it is exported again, and the server takes the new file over. Then it is killed, started again, and told to end
while it is asked: what it has accepted it answers. An answer that is no label ends the script with an error.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

from benchmarks.serve import server

ROOT = Path(__file__).parent.parent

#: Seconds for the server to see a new file, and of asking, which have to be more than an export takes under load.
PATIENCE, LOAD = 60.0, 150.0


def main() -> None:
    """Goes the whole way."""
    parser = argparse.ArgumentParser(description="Fits, exports, serves, and takes a newer model over under load.")
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--clients", type=int, default=16)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        shutil.copytree(ROOT / "configs", place / "configs")
        more = f"--trainer.max_epochs={options.epochs}"
        cli(place, "fit", "--config=configs/demo.yaml", more, "--run=demo-001")
        cli(place, "test", "--run=demo-001")
        cli(place, "export", "--run=demo-001")
        copy_pictures(place)
        serve = [sys.executable, "-m", "vit_lightning.cli", "serve", "--run=demo-001", "--port=0"]
        with server(serve, place) as (port, process):
            check_labels(place, port)
            take_over(place, port, options)
            print("killing the server")
            process.kill()
        with server(serve, place) as (port, process):
            check_labels(place, port)
            drain(place, port, process, options.clients)


def cli(place: Path, *words: str) -> None:
    """Runs a command of the project."""
    print("$ python cli.py", " ".join(words), flush=True)
    subprocess.run([sys.executable, "-m", "vit_lightning.cli", *words], cwd=place, check=True)


def copy_pictures(place: Path) -> None:
    """Has some held-out pictures of the demo in `pictures/`."""
    rows = (place / "lightning_logs/demo-001/report/predictions.csv").read_text().splitlines()[1:]
    root = json.loads((place / "lightning_logs/demo-001/status.json").read_text())["data"]["root"]
    (place / "pictures").mkdir()
    for row in rows[:: len(rows) // 32]:
        shutil.copy(Path(root) / row.split(",")[0], place / "pictures")


def ask(port: int, path: str, body: bytes | None = None) -> Any:  # noqa: ANN401  # JSON
    """What the server says."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", body, timeout=30) as answer:
        return json.load(answer)


def check_labels(place: Path, port: int) -> None:
    """Holds the server's labels against those of `predict`, where the best class leads by more than 0.05."""
    cli(place, "predict", "--run=demo-001", "--images", "pictures")
    table = max((place / "lightning_logs/demo-001/predictions").glob("*.csv")).read_text().splitlines()[1:]
    labels = {Path(row.split(",")[0]).name: row.split(",")[1] for row in table}
    wrong = 0
    for name, label in labels.items():
        (said,) = ask(port, "/predict", (place / "pictures" / name).read_bytes())["predictions"]
        sure = said["top"][0]["probability"] - said["top"][1]["probability"] > 0.05
        wrong += sure and said["label"] != label
    print(f"{len(labels)} pictures: {wrong} sure labels differ from predict's", flush=True)
    assert not wrong


def load(place: Path, port: int, clients: int, seconds: float) -> "subprocess.Popen[str]":
    """Clients that ask without a pause, as a process; it fails with the first answer that is no label."""
    words = [str(port), str(place / "pictures"), f"--clients={clients}", f"--seconds={seconds}"]
    command = [sys.executable, str(Path(__file__).with_name("load.py")), *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def take_over(place: Path, port: int, options: argparse.Namespace) -> None:
    """Has a newer model take over under load.

    Raises:
        RuntimeError: A request was lost, or the model is still the older one.
    """
    before = ask(port, "/model")["version"]
    cli(place, "fit", "--resume=demo-001", f"--trainer.max_epochs={options.epochs + 1}")
    clients = load(place, port, options.clients, LOAD)
    cli(place, "export", "--run=demo-001")
    end = time.monotonic() + PATIENCE
    while (now := ask(port, "/model")["version"]) == before and time.monotonic() < end:
        time.sleep(0.2)
    if now == before:
        raise RuntimeError("the newer model did not take over")
    assert clients.poll() is None, "the clients stopped before the newer model was there; raise LOAD"
    print(f"{now[:12]} has taken over from {before[:12]}", flush=True)
    out, error = clients.communicate()
    if clients.returncode:
        raise RuntimeError(f"a request was lost: {error.splitlines()[-1]}")
    found = json.loads(out)
    print(f"{len(found['seconds'])} requests in {found['took']:.0f} s under way, none lost", flush=True)


def drain(place: Path, port: int, process: "subprocess.Popen[str]", clients: int) -> None:
    """Ends the server while it is asked.

    Raises:
        RuntimeError: It left something unanswered, which its status tells.
    """
    asking = load(place, port, clients, 60.0)
    time.sleep(5.0)
    process.terminate()
    if process.wait(60):
        raise RuntimeError(f"the server ended with {process.returncode}")
    asking.communicate()
    print("told to end while it was asked, it answered what it had accepted", flush=True)


if __name__ == "__main__":
    main()
