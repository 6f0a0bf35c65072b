"""The server's process: without torch, drained, killed, exchanged under load, and with slow senders."""

import json
import signal
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vit_lightning.inference import load_classifier, predict_paths
from vit_lightning.serve.server import listening

Start = Callable[..., Any]
Picture = Callable[..., bytes]

#: The command with every heavy package out of reach.
BLOCKED = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in ('torch', 'torchvision', 'lightning', 'torchmetrics', 'matplotlib', 'scipy', 'rich'):
            raise ImportError(name + ' is out of reach')
sys.meta_path.insert(0, Blocker())
from vit_lightning.cli import main
sys.exit(main())
"""


def test_it_answers_without_torch_and_ends_with_a_status(start: Start, model_file: Path, picture: Picture) -> None:
    server = start(f"--model={model_file}", program=["-c", BLOCKED])
    assert server.predict(picture("blue")).json()["predictions"][0]["label"] == "blue"
    assert server.client.post("/predict", files={"f": ("a.jpg", picture("lime", form="JPEG"))}).status_code == 200
    assert "vit_answers_pictures 2.0" in server.client.get("/metrics").text
    assert server.stop(signal.SIGTERM) == (0, "")


def test_what_was_taken_is_answered_before_it_ends(start: Start, model_file: Path, picture: Picture) -> None:
    server = start(f"--model={model_file}", "--threads=1", "--max-batch=1")
    large = picture("blue", (3000, 3000))
    answers: list[Any] = []

    def ask() -> None:
        answers.append(server.client.post("/predict", files=[("f", ("x", large))] * 5))

    asking = threading.Thread(target=ask)
    asking.start()
    while server.metric("vit_queue_pictures") < 2:  # they were taken
        time.sleep(0.01)
    status, said = server.stop(signal.SIGTERM)
    asking.join()
    assert (status, said) == (0, "")
    assert [each["label"] for each in answers[0].json()["predictions"]] == ["blue"] * 5
    assert answers[0].headers["connection"] == "close"


def test_while_it_ends_it_says_so_and_its_patience_ends(start: Start, model_file: Path) -> None:
    server = start(f"--model={model_file}", "--drain=2")
    port = int(server.url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port)) as line:
        line.sendall(b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nx")  # and no more
        while server.metric("vit_queue_pictures") != 0:
            time.sleep(0.01)
        server.process.send_signal(signal.SIGINT)
        time.sleep(0.3)
        answer = server.client.get("/ready")
        assert (answer.status_code, answer.headers["connection"]) == (503, "close")
        assert server.predict(b"x").status_code == 503
        said, _ = server.process.communicate(timeout=30)
    assert server.process.returncode == 1
    assert said == "error: 1 requests were left unanswered\n"


def test_ctrl_c_and_a_kill_and_the_next_start(start: Start, model_file: Path, picture: Picture) -> None:
    server = start(f"--model={model_file}")
    port = server.url.rpartition(":")[2]
    assert server.predict(picture()).status_code == 200
    assert server.stop(signal.SIGKILL)[0] == -9
    server = start(f"--model={model_file}", f"--port={port}")  # the last --port counts
    assert server.url.endswith(f":{port}")
    assert server.predict(picture()).json()["predictions"][0]["label"] == "red"
    assert server.stop(signal.SIGINT) == (130, "")


def test_a_newer_file_is_taken_over_under_load_and_no_request_is_lost(
    start: Start, model_file: Path, picture: Picture, write_model: Callable[..., None]
) -> None:
    server = start(f"--model={model_file}")
    content, over = picture("red"), threading.Event()
    answers: list[tuple[int, str, str]] = []

    def ask() -> None:
        while not over.is_set():
            answer = server.predict(content)
            told = answer.json()
            answers.append((answer.status_code, told["model"]["run"], told["predictions"][0]["label"]))

    asking = [threading.Thread(target=ask) for _ in range(4)]
    for each in asking:
        each.start()
    newer = {"run": "newer", "names": ["rot", "gruen", "blau"]}
    write_model(model_file, **newer)
    deadline = time.monotonic() + 60
    while not any(run == "newer" for _, run, _ in list(answers)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    model_file.write_bytes(b"broken")
    while server.metric("vit_model_refused_total") < 1:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    over.set()
    for each in asking:
        each.join()
    assert set(answers) == {(200, "colours", "red"), (200, "newer", "rot")}  # each by one model alone
    assert server.client.get("/model").json()["run"] == "newer"
    assert server.metric("vit_model_takeovers_total") == 1
    status, said = server.stop(signal.SIGTERM)
    assert status == 0
    first, second = said.splitlines()
    assert first.startswith("newer (")
    assert second.startswith(f"warning: {model_file} is no model")


@pytest.mark.slow
def test_slow_senders_are_cut_off(start: Start, model_file: Path, picture: Picture) -> None:
    server = start(f"--model={model_file}", "--timeout=1")
    port = int(server.url.rpartition(":")[2])
    with (
        socket.create_connection(("127.0.0.1", port), timeout=30) as body,
        socket.create_connection(("127.0.0.1", port), timeout=30) as head,
    ):
        body.sendall(b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 999\r\n\r\nx")
        head.sendall(b"POST /predict HTTP/1.1\r\nHost: loc")
        assert body.recv(9999).startswith(b"HTTP/1.1 408 ")
        began = time.monotonic()
        assert head.recv(9999) == b""  # closed after `HEAD` seconds
        assert time.monotonic() - began < 15
    assert server.predict(picture()).status_code == 200


def test_the_token_comes_from_the_environment(start: Start, model_file: Path, picture: Picture) -> None:
    server = start(f"--model={model_file}", "--host=0.0.0.0", env={"VIT_LIGHTNING_TOKEN": "s3cret"})
    assert server.client.get("/ready").status_code == 200
    assert server.predict(picture()).status_code == 401
    answer = server.predict(picture(), headers={"Authorization": "Bearer s3cret"})
    assert json.loads(answer.text)["predictions"][0]["label"] == "red"


@pytest.mark.slow
def test_a_run_is_exported_and_answered_as_predict_does(start: Start, work: Path, frames: Path) -> None:
    server = start("--run=first", f"--trainer.default_root_dir={work}")
    assert (work / "lightning_logs/first/export/model.onnx").is_file()
    paths = sorted(frames.rglob("*.jpg"))[::8]
    answer = server.client.post("/predict?top=9", files=[("f", (path.name, path.read_bytes())) for path in paths])
    model = load_classifier(work / "lightning_logs/first")
    for each, (_, probabilities) in zip(answer.json()["predictions"], predict_paths(model, paths), strict=True):
        told = {row["label"]: row["probability"] for row in each["top"]}
        assert [told[name] for name in model.class_names] == pytest.approx(probabilities.tolist(), abs=1e-4)
    card = server.client.get("/model").json()
    assert card["run"] == "first"
    assert (
        card["test"]["accuracy"]
        == json.loads((work / "lightning_logs/first/report/metrics.json").read_text())["accuracy"]
    )
    assert server.metric("vit_reference_pictures") == card["reference"]["pictures"] > 0
    assert server.stop(signal.SIGTERM)[0] == 0


def test_no_answer_waits_for_more_to_be_sent() -> None:
    """Asyncio turns Nagle's algorithm off for sockets whose protocol is named, and for no others."""
    with listening("127.0.0.1", 0) as place:
        assert place.proto == socket.IPPROTO_TCP


def test_the_image_s_packages_are_those_that_are_tested() -> None:
    root = Path(__file__).parent.parent.parent
    whole, part = (
        [line for line in (root / name).read_text().splitlines() if line and not line.startswith("#")]
        for name in ("requirements.lock", "requirements-serve.lock")
    )
    assert part
    assert set(part) <= set(whole)
    assert not [line for line in part if line.startswith(("torch", "lightning", "nvidia"))]
