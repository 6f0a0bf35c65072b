"""Requests a second and seconds of an answer: `serve` beside the same app with the torch model, a picture a call.

    python -m benchmarks.serve [--rounds 5] [--seconds 5] [--clients 16] [--variants] [--json]

The network has the demo's sizes (96 px, patch 12, D 96, 4 blocks, 4 heads) and weights that nobody trained, which are
as fast; the pictures are JPEGs of 256x144, as the demo's. Each server is a process; so is the client, which sends one
picture a request over as many connections as there are clients, and shares the processor with whoever answers. All
are loaded in turn, a round each; ratios are of one round. `torch` is this very application with `predict`'s own
resizing and network in the place of the ONNX file, one picture a call: in calls of one thread, as many at once as
there are cores, and in calls that have all cores; the better one counts. `--variants` adds other batches and threads
of ours. In the end requests come at random moments, at 70 % of the rate that `serve` has reached in the closed loop.
"""

import argparse
import contextlib
import dataclasses
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

#: Classes and sizes of the demo (configs/demo.yaml), and its pictures'.
CLASSES = ["jerry", "tom", "tom_jerry_0", "tom_jerry_1"]
NETWORK = {"image_size": 96, "patch_size": 12, "dim": 96, "depth": 4, "heads": 4, "mlp_ratio": 2.0}
PICTURE = (256, 144)


#: Requests' seconds of a round, and how long it took.
Load = dict[str, Any]


def main() -> None:
    """Measures, and prints what came out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each round")
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--variants", action="store_true", help="other batches and threads of ours, too")
    parser.add_argument("--json", action="store_true", help="prints the ratios as one last line")
    parser.add_argument("--torch", nargs=2, metavar=("FOLDER", "THREADS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.torch:
        serve_torch(Path(options.torch[0]), int(options.torch[1]))
    else:
        measure(options)


def measure(options: argparse.Namespace) -> None:
    """Loads the servers in turn."""
    ours = [sys.executable, "-m", "vit_lightning.cli", "serve", "--model=model.onnx", "--port=0"]
    torch = [sys.executable, "-m", "benchmarks.serve", "--torch", "."]
    wanted = {"serve": ours, "torch, calls of 1 thread": [*torch, "1"], "torch, calls of all cores": [*torch, "0"]}
    if options.variants:
        for words in ("--max-batch=1", "--max-batch=4", "--threads=1"):
            wanted[f"serve {words}"] = [*ours, words]
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        place = Path(folder)
        prepare(place)
        ports = {name: stack.enter_context(server(command, place)) for name, command in wanted.items()}
        for address in ports.values():
            load(address, place, options)  # which does not count
        found: dict[str, list[Load]] = {name: [] for name in ports}
        for _ in range(options.rounds):
            for name, address in ports.items():
                found[name].append(load(address, place, options))
        rate = 0.7 * statistics.median(map(rate_of, found["serve"]))
        calm = [load(ports["serve"], place, options, rate=rate) for _ in range(options.rounds)]
    width = max(map(len, found))
    print(f"{options.clients} clients, median of {options.rounds} rounds (slowest to fastest)")
    print(f"{'':{width}}  {'requests/s':>20}  {'p50':>6}  {'p95':>6}  {'p99':>6} ms  core ms a request")
    for name, rounds in found.items():
        show(f"{name:{width}}", rounds)
    show(f"{'serve, 70 % of its rate':{width}}", calm)
    torches = {name: rounds for name, rounds in found.items() if name.startswith("torch")}
    best = max(torches, key=lambda name: statistics.median(map(rate_of, torches[name])))
    ratio = statistics.median(rate_of(a) / rate_of(b) for a, b in zip(found["serve"], found[best], strict=True))
    print(f"serve answers {ratio:.2f} times the requests/s of {best}")
    if options.json:
        print(json.dumps({"to_torch": round(ratio, 3), "p95_ms": round(middle(calm, 95), 2)}))


def prepare(place: Path) -> None:
    """Writes `model.ckpt`, `model.onnx` and 32 pictures."""
    import torch

    from vit_lightning.commands.export import main as export
    from vit_lightning.module import ViTClassifier

    torch.manual_seed(0)
    model = ViTClassifier(class_names=CLASSES, **NETWORK)  # type: ignore[arg-type]  # of several kinds
    content = {"state_dict": model.state_dict(), "hyper_parameters": dict(model.hparams)}
    torch.save(content | {"datamodule_hyper_parameters": {}}, place / "model.ckpt")
    with contextlib.redirect_stdout(io.StringIO()):
        export([f"--run={place / 'model.ckpt'}", f"--output={place}"])
    rng = np.random.default_rng(0)
    (place / "pictures").mkdir()
    for number in range(32):
        coarse = Image.fromarray(rng.integers(0, 256, (9, 16, 3), dtype=np.uint8))
        coarse.resize(PICTURE).save(place / "pictures" / f"{number:02}.jpg", quality=90)


def serve_torch(place: Path, threads: int) -> None:
    """Serves the torch model in the place of the ONNX file; 0 threads are all."""
    import torch

    from vit_lightning.commands.serve import cores
    from vit_lightning.export.parity import as_predicted
    from vit_lightning.inference import load_classifier
    from vit_lightning.serve.app import Service, application
    from vit_lightning.serve.limits import Limits
    from vit_lightning.serve.model import Bytes, Floats, WatchedModel
    from vit_lightning.serve.server import listening, run, set_up_logging

    network = load_classifier(place / "model.ckpt")
    torch.set_num_threads(threads or cores())
    model = WatchedModel(lambda: place / "model.onnx")

    def answer(pictures: Bytes) -> tuple[Floats, None]:
        return as_predicted(network, pictures.copy()), None

    model.current = dataclasses.replace(model.current, run=answer)
    service = Service(model, Limits(), batch=1, queue=128, threads=1 if not threads else cores(), window=1000)
    set_up_logging()
    with listening("127.0.0.1", 0) as listener:
        print(f"torch is on http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
        run(application(service), service.state, listener, patience=1.0)


@contextmanager
def server(command: list[str], place: Path) -> Iterator[tuple[int, "subprocess.Popen[str]"]]:
    """The port of a server while it runs, and its process."""
    root = Path(__file__).parent.parent
    process = subprocess.Popen(
        command, cwd=place, env=os.environ | {"PYTHONPATH": str(root)}, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    try:
        yield int(line.partition(" is on ")[2].split()[0].rpartition(":")[2]), process
    finally:
        process.terminate()
        process.wait(60)


def load(
    address: tuple[int, "subprocess.Popen[str]"], place: Path, options: argparse.Namespace, rate: float = 0.0
) -> Load:
    """What a client process measures, and what the processor has worked for the server meanwhile."""
    port, process = address
    before = worked(process.pid)
    words = [f"--clients={options.clients}", f"--seconds={options.seconds}", f"--rate={rate}"]
    command = [sys.executable, str(Path(__file__).with_name("load.py")), str(port), str(place / "pictures"), *words]
    found: Load = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return found | {"worked": worked(process.pid) - before}


def worked(process: int) -> float:
    """Seconds that a process's threads have had a processor core; 0 where the system does not tell."""
    path = Path(f"/proc/{process}/stat")
    fields = path.read_text().rpartition(")")[2].split() if path.is_file() else ["0"] * 13
    return (int(fields[11]) + int(fields[12])) / (os.sysconf("SC_CLK_TCK") if path.is_file() else 1)


def rate_of(found: Load) -> float:
    """Requests a second."""
    return len(found["seconds"]) / float(found["took"])


def middle(rounds: list[Load], share: float) -> float:
    """The median over the rounds of this percentile of an answer's time, in ms."""
    return statistics.median(1000 * float(np.percentile(each["seconds"], share)) for each in rounds)


def show(name: str, rounds: list[Load]) -> None:
    """A row of the table."""
    rates = sorted(map(rate_of, rounds))
    work = statistics.median(1000 * each["worked"] / len(each["seconds"]) for each in rounds)
    spread = f"{statistics.median(rates):.0f} ({rates[0]:.0f}-{rates[-1]:.0f})"
    spread += "".join(f"  {middle(rounds, share):6.1f}" for share in (50, 95, 99))
    print(f"{name}  {spread:>44}      {work:6.2f}")


if __name__ == "__main__":
    main()
