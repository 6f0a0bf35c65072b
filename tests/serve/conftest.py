"""A tiny model whose answers can be told without it, and servers that answer with it."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import httpx2
import onnx
import pytest
from onnx import TensorProto, helper
from PIL import Image
from starlette.testclient import TestClient

from vit_lightning.serve.app import Service, application
from vit_lightning.serve.limits import Limits
from vit_lightning.serve.model import WatchedModel

ROOT = Path(__file__).parent.parent.parent

#: Of the classes of `model_file`: the probability of each is the softmax over the picture's mean red, green and blue.
NAMES = ["red", "green", "blue"]


def write_model(
    path: Path, *, scale: float = 0.05, names: list[str] | None = None, distance: bool = False, **told: Any
) -> None:
    """Writes a model that looks at a picture's mean colour alone, in one step; the brighter, the farther."""
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
            helper.make_node("ReduceMean", ["floats", "axes"], ["embedding"], keepdims=0),
            helper.make_node("Mul", ["embedding", "scale"], ["logits"]),
            helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
            helper.make_node("Div", ["embedding", "white"], ["shares"]),
            helper.make_node("ReduceMean", ["shares", "last"], ["distance"], keepdims=0),
        ],
        "colours",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["batch", "height", "width", 3])],
        [
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", 3]),
            helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", 3]),
            *([helper.make_tensor_value_info("distance", TensorProto.FLOAT, ["batch"])] if distance else []),
        ],
        [
            helper.make_tensor("axes", TensorProto.INT64, [2], [1, 2]),
            helper.make_tensor("scale", TensorProto.FLOAT, [], [scale]),
            helper.make_tensor("white", TensorProto.FLOAT, [], [255.0]),
            helper.make_tensor("last", TensorProto.INT64, [1], [1]),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    card = {"class_names": names or NAMES, "run": "colours", **told}
    helper.set_model_props(
        model, {name: each if isinstance(each, str) else json.dumps(each) for name, each in card.items()}
    )
    new = path.with_suffix(".new")
    onnx.save(model, new)
    new.replace(path)


def picture(colour: str = "red", size: tuple[int, int] = (8, 6), form: str = "PNG") -> bytes:
    """A picture of one colour."""
    content = io.BytesIO()
    Image.new("RGB", size, colour).save(content, form)
    return content.getvalue()


@dataclass
class Server:
    """A server's process, its address, and a client of it."""

    process: "subprocess.Popen[str]"
    url: str
    client: httpx2.Client

    def predict(self, content: bytes, **options: Any) -> httpx2.Response:
        """What a picture is answered."""
        return self.client.post("/predict", content=content, **options)

    def metric(self, name: str) -> float:
        """A number of /metrics."""
        lines = self.client.get("/metrics").text.splitlines()
        (found,) = [line.rpartition(" ")[2] for line in lines if line.rpartition(" ")[0] == name]
        return float(found)

    def stop(self, number: int) -> tuple[int, str]:
        """Ends it by a signal; gives its status, and what it has said since it began."""
        self.process.send_signal(number)
        said, _ = self.process.communicate(timeout=60)
        return self.process.returncode, said


Start = Callable[..., Server]


@pytest.fixture(name="write_model")
def write_model_fixture() -> Callable[..., None]:
    """`write_model`."""
    return write_model


@pytest.fixture(name="picture")
def picture_fixture() -> Callable[..., bytes]:
    """`picture`."""
    return picture


@pytest.fixture
def model_file(tmp_path: Path) -> Path:
    """The tiny model."""
    path = tmp_path / "model.onnx"
    write_model(path)
    return path


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., TestClient]]:
    """A client of the application in this process; with the model, the limits and the rest as they are wanted."""
    with ExitStack() as stack:

        def serve(path: Path, *, token: str = "", hosts: tuple[str, ...] = (), **more: Any) -> TestClient:
            options: dict[str, Any] = {"batch": 8, "queue": 32, "threads": 1, "window": 100}
            names = [each.name for each in fields(Limits)]
            limits = Limits(**{name: more.pop(name) for name in names if name in more})
            service = Service(WatchedModel(lambda: path), limits, **options | more)
            app = application(service, token=token, hosts=hosts)
            client = stack.enter_context(TestClient(app, raise_server_exceptions=False))
            client.service = service  # type: ignore[attr-defined]  # for tests that look inside
            return client

        yield serve


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a server with these options, and waits until it answers."""
    started: list[Server] = []

    def start(*options: str, env: Mapping[str, str] | None = None, program: list[str] | None = None) -> Server:
        command = [sys.executable, *(program or [str(ROOT / "cli.py")]), "serve", "--port=0", *options]
        known = {name: value for name, value in os.environ.items() if name != "VIT_LIGHTNING_TOKEN"}
        process = subprocess.Popen(
            command,
            cwd=tmp_path,
            env=known | {"PYTHONPATH": str(ROOT)} | dict(env or {}),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert process.stdout is not None
        line = process.stdout.readline()
        while line and " is on http" not in line:
            line = process.stdout.readline()
        assert line, "it did not start"
        url = line.partition(" is on ")[2].split()[0]
        server = Server(process, url, httpx2.Client(base_url=url, timeout=60, trust_env=False))
        started.append(server)
        return server

    yield start
    for server in started:
        server.client.close()
        server.process.kill()
        server.process.wait()
