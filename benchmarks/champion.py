"""The whole life of a champion, under load; and `retrain` killed in each of its phases.

    python -m benchmarks.champion life [--epochs 6] [--clients 4]
    python -m benchmarks.champion kills [--rounds 1]

`life`: `retrain` makes a first champion of half of the demo's clips; while clients ask the server for labels without a
pause, the other clips come, and `retrain` makes a better champion, which the server takes over; then a worse run is
refused, and a rollback brings the first one back. Any answer but 200 ends it with an error. `kills`: a small run on 160
frames; `retrain` is killed by -9, alone or with the process it has begun, in each phase in turn; the next call has to
come to a decision, and what lies in the folders has to be whole.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.serve import server
from benchmarks.serving import ask, cli, load
from vit_lightning.data.demo import draw_demo
from vit_lightning.registry import Registry, read_registry, served_file

ROOT = Path(__file__).parent.parent
CLI = [sys.executable, "-m", "vit_lightning.cli"]
LOGS = "lightning_logs"

#: Seconds for the server to see a champion.
PATIENCE = 30.0

#: A network that trains in seconds, and enough groups held out.
SMALL = [
    *("--config=configs/demo.yaml", "--data.root=frames", "--data.num_workers=0", "--data.test_fraction=0.3"),
    *("--model.image_size=[36,60]", "--model.patch_size=12", "--model.dim=16", "--model.depth=2"),
    *("--trainer.max_epochs=6", "--trainer.accelerator=cpu"),
]


def main() -> None:
    """Lives, or is killed."""
    parser = argparse.ArgumentParser(description="A champion's life under load, or retrain killed in each phase.")
    parser.add_argument("what", choices=("life", "kills"))
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        shutil.copytree(ROOT / "configs", place / "configs")
        if options.what == "life":
            life(place, options)
        else:
            kills(place, options.rounds)


# Life


def life(place: Path, options: argparse.Namespace) -> None:
    """From a first champion to a better one, a refusal and a rollback.

    Raises:
        RuntimeError: A request was lost, or a step came out otherwise.
    """
    words = ["--config=configs/demo.yaml", "--data.root=frames", f"--trainer.max_epochs={options.epochs}"]
    draw_demo(place / "all")
    grow(place, 0.5)
    cli(place, "retrain", *words)
    expect(place, "demo-retrain-001", "promoted")
    (place / "pictures").mkdir()
    for path in sorted((place / "frames").rglob("*.jpg"))[::60]:
        shutil.copy(path, place / "pictures")
    with server([*CLI, "serve", "--run=champion", "--port=0"], place) as (port, _):
        first = ask(port, "/model")["version"]
        clients = load(place, port, options.clients, 36000.0)
        began = time.monotonic()
        cli(place, "retrain", *words)  # nothing new
        print(f"on unchanged data retrain took {time.monotonic() - began:.1f} s", flush=True)
        grow(place, 1.0)
        cli(place, "retrain", *words)
        expect(place, "demo-retrain-002", "promoted")
        better = wait_for(port, lambda version: version != first)
        cli(place, "fit", *words[:2], "--trainer.max_epochs=1", "--model.lr=1e-5", "--run=worse",
            f"--data.keep_parts={LOGS}/demo-retrain-002/split.csv")  # fmt: skip
        refused = subprocess.run([*CLI, "promote", "worse"], cwd=place, check=False).returncode
        if refused != 1:
            raise RuntimeError(f"promote of the worse run ended with {refused}")
        expect(place, "worse", "refused")
        time.sleep(3)
        wait_for(port, lambda version: version == better)
        cli(place, "promote", "--rollback")
        wait_for(port, lambda version: version == first)
        cli(place, "runs")
        answered(port, clients)


def grow(place: Path, share: float) -> None:
    """Has such a share of the demo's clips in `frames`, the first of them by their numbers."""
    paths = sorted((place / "all").rglob("*.jpg"), key=lambda path: int(path.stem.removeprefix("frame")))
    for path in paths[: round(share * len(paths))]:
        target = place / "frames" / path.relative_to(place / "all")
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            shutil.copy2(path, target)
    print(f"{round(share * len(paths))} frames", flush=True)


def expect(place: Path, run: str, outcome: str) -> None:
    """Holds the last decision against what it should be.

    Raises:
        RuntimeError: It is another.
    """
    registry = read_registry(place / LOGS)
    decision = registry.decisions[-1]
    found = registry[decision["version"]].run, decision["outcome"]
    if found != (run, outcome):
        raise RuntimeError(f"expected {run} to be {outcome}; the last decision is {found}: {decision['reason']}")


def wait_for(port: int, wanted: Callable[[str], bool]) -> str:
    """The version that the server answers with, once it is the wanted one.

    Raises:
        RuntimeError: It does not come.
    """
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        version = str(ask(port, "/model")["version"])
        if wanted(version):
            print(f"the server answers with {version[:12]}", flush=True)
            return version
        time.sleep(0.2)
    raise RuntimeError("the server has not taken the champion over")


def answered(port: int, clients: "subprocess.Popen[str]") -> None:
    """Says how many requests were answered, and that none was lost.

    Raises:
        RuntimeError: A client has had another answer than 200.
    """
    if clients.poll() is not None:
        _, error = clients.communicate()
        raise RuntimeError(f"a request was lost: {error.splitlines()[-1] if error else 'the clients have ended'}")
    clients.terminate()
    clients.communicate()
    told = ask_text(port, "/metrics")
    counts = [line for line in told.splitlines() if line.startswith('vit_requests_total{path="/predict"')]
    print(*counts, sep="\n")
    if not counts or any('status="200"' not in line for line in counts):
        raise RuntimeError("not every request was answered with 200")


def ask_text(port: int, path: str) -> str:
    """What the server says, as text."""
    import urllib.request

    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as answer:
        return str(answer.read().decode())


# Kills


def kills(place: Path, rounds: int, cases: Sequence[tuple[str, bool]] = ()) -> None:
    """Kills `retrain` in each phase, alone and with its child; or in the cases that are given.

    Raises:
        RuntimeError: The next call did not come to a decision, or left something half-written.
    """
    phases: dict[str, Callable[[Path], bool]] = {
        "before fit": lambda _: record_of(place).is_file(),
        "fit": lambda folder: (folder / "checkpoints" / "last.ckpt").is_file(),
        "test": lambda folder: state_of(folder) == "finished",
        "export": lambda folder: (folder / "report" / "metrics.json").is_file(),
        "promote": lambda folder: (folder / "export" / "parity.json").is_file(),
    }
    draw_demo(place / "frames", clips=40, size=(36, 64))
    everything = [(phase, together) for together in [False, True] * rounds for phase in phases]
    for number, (phase, together) in enumerate(cases or everything, start=1):
        touch = next((place / "frames").rglob("*.jpg"))
        os.utime(touch, (number, number))  # there is something new
        record_of(place).unlink(missing_ok=True)
        folder = place / LOGS / f"demo-retrain-{number:03}"
        process = subprocess.Popen(
            [*CLI, "retrain", *SMALL],
            cwd=place,
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.STDOUT,
        )
        while process.poll() is None and not phases[phase](folder):
            time.sleep(0.01)
        if process.poll() is None:
            (os.killpg if together else os.kill)(process.pid, signal.SIGKILL)
            process.wait()
        before = len(read_registry(place / LOGS).decisions)
        began = time.monotonic()
        done = subprocess.run([*CLI, "retrain", *SMALL], cwd=place, check=False, capture_output=True, text=True)
        registry = read_registry(place / LOGS)
        check_whole(place, folder, done, registry)
        who = "with its child" if together else "alone"
        print(f"killed {who} in {phase}: {before} decisions before, {len(registry.decisions)} after, ", end="")
        print(f"{time.monotonic() - began:.0f} s; {registry.decisions[-1]['outcome']}", flush=True)


def record_of(place: Path) -> Path:
    """What `retrain` keeps of its rounds."""
    return place / LOGS / "registry" / "retrain-demo.json"


def state_of(folder: Path) -> str:
    """Of a run, as its status says."""
    path = folder / "status.json"
    return str(json.loads(path.read_text())["state"]) if path.is_file() else ""


def check_whole(place: Path, folder: Path, done: "subprocess.CompletedProcess[str]", registry: Registry) -> None:
    """Refuses what is not whole.

    Raises:
        RuntimeError: With what was said.
    """
    run = registry[registry.decisions[-1]["version"]].run if registry.decisions else None
    champion = registry.aliases.get("champion")
    whole = (
        done.returncode == 0
        and run == folder.name
        and json.loads(record_of(place).read_text())["done"]
        and (champion is None or served_file(place / LOGS, champion).is_file())
        and not list((place / LOGS).glob(".registry.json.*[0-9a-f]"))
    )
    if not whole:
        raise RuntimeError(f"{run}, not {folder.name}, after:\n{done.stdout}{done.stderr}")


if __name__ == "__main__":
    main()
