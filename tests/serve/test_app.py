"""What is asked over HTTP, and what is answered."""

import gzip
import io
import json
import re
import struct
import threading
import time
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from PIL import Image

from vit_lightning.data.images import load_image

Serve = Callable[..., Any]
Picture = Callable[..., bytes]


def announced(width: int, height: int) -> bytes:
    """A PNG of a few bytes whose head announces so many pixels."""
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", head), (b"IDAT", zlib.compress(b"\0" * 1000)), (b"IEND", b"")]
    body = b"".join(struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in chunks)
    return b"\x89PNG\r\n\x1a\n" + body


def test_its_answers_are_those_of_the_file_on_the_pixels_that_load_image_decodes(
    serve: Serve, model_file: Path, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    turned = Image.Exif()
    turned[0x0112] = 6
    transparent = Image.fromarray(rng.integers(0, 256, (9, 7, 4), dtype=np.uint8), "RGBA")
    photograph = Image.fromarray(rng.integers(0, 256, (40, 64, 3), dtype=np.uint8))
    photograph.save(tmp_path / "turned.jpg", exif=turned)
    transparent.save(tmp_path / "transparent.png")
    photograph.convert("L").save(tmp_path / "grey.webp", lossless=True)
    photograph.quantize(16).save(tmp_path / "palette.gif")
    photograph.convert("CMYK").save(tmp_path / "print.tif")
    paths = sorted(tmp_path.glob("*.*"))
    paths.remove(model_file)
    session = onnxruntime.InferenceSession(model_file, providers=["CPUExecutionProvider"])
    expected = [session.run(["probabilities"], {"images": np.array(load_image(path))[None]})[0][0] for path in paths]
    answer = serve(model_file).post("/predict", files=[("x", (path.name, path.read_bytes())) for path in paths]).json()
    assert [each["name"] for each in answer["predictions"]] == [path.name for path in paths]
    for each, probabilities in zip(answer["predictions"], expected, strict=True):
        told = {row["label"]: np.float32(row["probability"]) for row in each["top"]}
        assert [told[name] for name in ("red", "green", "blue")] == list(probabilities)  # to the bit
        assert each["confidence"] == each["top"][0]["probability"] == max(row["probability"] for row in each["top"])
    assert answer["model"]["run"] == "colours"
    assert len(answer["model"]["version"]) == 64


def test_what_is_no_picture_is_told_in_its_place(serve: Serve, model_file: Path, picture: Picture) -> None:
    sent = {
        "../../etc/passwd": picture("blue"),
        "a\u00e9.txt": b"no picture",
        "cut.png": picture(size=(99, 99))[:100],
        "bomb": announced(60_000, 60_000),
        "large.png": announced(8000, 8000),
        "long.png": announced(30_000, 1),
        "x.jpg": picture("lime", form="JPEG"),
    }
    client = serve(model_file)
    answer = client.post("/predict?top=1", files=[("f", each) for each in sent.items()])
    assert answer.status_code == 200
    said = {each["name"]: each for each in answer.json()["predictions"]}
    assert list(said) == list(sent)
    assert said["../../etc/passwd"]["label"] == "blue"
    assert said["x.jpg"]["label"] == "green"
    assert "no BMP, GIF" in said["a\u00e9.txt"]["error"]
    assert said["cut.png"].keys() == {"name", "error"}
    assert "announces more pixels" in said["bomb"]["error"]
    assert "64.0 million pixels; 24 million are the most" in said["large.png"]["error"]
    assert "30000x1; a side of 20,000" in said["long.png"]["error"]


@pytest.mark.parametrize(
    ("status", "words", "request_"),
    [
        (422, "no BMP, GIF", {"content": b"GIF"}),
        (422, "the body is empty", {"content": b""}),
        (422, "the form holds no file", {"data": {"a": "b"}, "files": {"": ("", b"")}}),
        (413, "64.0 million pixels", {"content": announced(8000, 8000)}),
        (413, "too large; 0.01 MB", {"content": b"x" * 20_000}),
        (413, "too large; 0.01 MB", {"content": (b"x" * 5_000 for _ in range(4))}),
        (413, "too large; 0.01 MB", {"content": (b"x" * 5_000 for _ in range(400))}),
        (413, "too large; 0.01 MB", {"files": {"f": b"x" * 20_000}}),
        (413, "too many files; 3", {"files": [("f", ("a", b"x"))] * 4}),
        (400, "Missing boundary", {"content": b"x", "headers": {"content-type": "multipart/form-data"}}),
        (400, "Invalid multipart", {"content": b"x", "headers": {"content-type": "multipart/form-data; boundary=y"}}),
        (415, "compressed", {"content": gzip.compress(b"x"), "headers": {"content-encoding": "gzip"}}),
        (422, "top is x; expected a whole number", {"content": b"", "params": {"top": "x"}}),
        (422, "top is 0; expected a whole number", {"content": b"", "params": {"top": "0"}}),
    ],
)
def test_what_cannot_be_answered_is_refused_in_a_line(
    serve: Serve, model_file: Path, status: int, words: str, request_: dict[str, Any]
) -> None:
    answer = serve(model_file, megabytes=0.01, files=3).post("/predict", **request_)
    assert (answer.status_code, list(answer.json())) == (status, ["error"])
    assert words in answer.json()["error"]
    assert "\n" not in answer.json()["error"]


def test_other_pages_and_methods(serve: Serve, model_file: Path) -> None:
    client = serve(model_file)
    assert client.get("/health").json() == {"status": "alive"}
    assert client.get("/ready").json() == {"status": "ready"}
    assert (client.get("/../x").status_code, client.get("/predict").status_code) == (404, 405)
    assert "error" in client.get("/x").json()
    assert set(client.get("/openapi.json").json()["paths"]) == {"/predict", "/health", "/ready", "/model", "/metrics"}
    page = client.get("/docs")
    assert "POST /predict" in page.text
    assert page.headers["content-security-policy"].startswith("default-src 'none'")
    assert re.findall(r"(?:src|href)=\"?([^\">]+)", page.text) == ["openapi.json"]
    assert "http" not in page.text


def test_the_card_is_what_the_file_says(serve: Serve, model_file: Path, write_model: Callable[..., None]) -> None:
    test = {"accuracy": 0.9, "intervals": {"accuracy": [0.85, 0.94]}}
    write_model(model_file, test=test, licence="CC BY 4.0", data="pets", split="[not JSON")
    card = serve(model_file).get("/model").json()
    assert card["class_names"] == ["red", "green", "blue"]
    assert (card["test"], card["licence"], card["data"], card["split"]) == (test, "CC BY 4.0", "pets", "[not JSON")
    assert str(model_file.parent) not in json.dumps(card)


def test_the_token_is_asked_for_but_for_health_and_ready(serve: Serve, model_file: Path, picture: Picture) -> None:
    client = serve(model_file, token="s3cret")
    for path in ("/model", "/metrics", "/docs", "/openapi.json", "/nothing"):
        assert client.get(path).status_code == 401
    assert client.get("/health").status_code == client.get("/ready").status_code == 200
    for wrong in ("", "Bearer", "Bearer s3cre", "Bearer s3crets", "Basic s3cret", "s3cret", "Bearer \u00e9"):
        answer = client.post("/predict", content=picture(), headers={"Authorization": wrong.encode()})
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    for right in ("Bearer s3cret", "bearer  s3cret "):
        assert client.post("/predict", content=picture(), headers={"Authorization": right}).status_code == 200


@pytest.mark.parametrize(
    ("host", "status"),
    [("127.0.0.1:8000", 200), ("localhost", 200), ("[::1]:80", 200), ("evil.example:8000", 403), ("", 403)],
)
def test_foreign_names_are_no_way_in(serve: Serve, model_file: Path, host: str, status: int) -> None:
    client = serve(model_file, hosts=("127.0.0.1", "localhost", "::1"))
    assert client.get("/health", headers={"Host": host}).status_code == status


def metrics(client: Any) -> dict[str, float]:
    lines = [line.rpartition(" ") for line in client.get("/metrics").text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in lines}


def test_metrics_count_and_show_drift(
    serve: Serve, model_file: Path, picture: Picture, write_model: Callable[..., None]
) -> None:
    write_model(model_file, reference={"pictures": 100, "shares": [0.5, 0.3, 0.2], "confidence": 0.8})
    client = serve(model_file)
    assert metrics(client)["vit_drift_stability_index"] == 0.0
    for colour in ("red", "red", "blue", "red"):
        assert client.post("/predict", content=picture(colour)).status_code == 200
    client.post("/predict", content=b"x")
    client.get("/no/such/page")
    client.get("/another")
    found = metrics(client)
    assert found['vit_requests_total{path="/predict",status="200"}'] == 4
    assert found['vit_requests_total{path="/predict",status="422"}'] == 1
    assert found['vit_requests_total{path="other",status="404"}'] == 2
    assert found["vit_predict_seconds_count"] == 4
    assert found["vit_batch_pictures_sum"] == 4
    assert found["vit_answers_pictures"] == 4
    assert found['vit_answers_class_share{label="red"}'] == 0.75
    assert found['vit_reference_class_share{label="red"}'] == 0.5
    assert found["vit_reference_confidence_mean"] == 0.8
    assert found["vit_answers_confidence_mean"] == pytest.approx(1, abs=1e-4)
    p, q = np.array([3.5, 0.5, 1.5]) / 5.5, np.array([50.5, 30.5, 20.5]) / 101.5
    assert found["vit_drift_stability_index"] == pytest.approx(float(((p - q) * np.log(p / q)).sum()))
    assert found["vit_drift_stability_index_by_chance"] == pytest.approx(2 * (1 / 4 + 1 / 100))
    (version,) = [name for name in found if name.startswith("vit_model_info")]
    assert client.get("/model").json()["version"] in version


def test_a_model_with_a_threshold_tells_the_classes_that_may_be_true_and_counts_them(
    serve: Serve, model_file: Path, picture: Picture, write_model: Callable[..., None]
) -> None:
    write_model(model_file, scale=0.01, sets={"threshold": 0.95, "level": 0.9})
    client = serve(model_file)
    told = [client.post("/predict", content=picture(colour)).json()["predictions"][0] for colour in ("red", "grey")]
    assert told[0]["set"] == ["red", "green", "blue"][: len(told[0]["set"])]
    for each in told:
        likely = [row["label"] for row in each["top"] if row["probability"] >= 0.05]
        assert each["set"] == likely
    assert metrics(client)['vit_sets_total{classes="3"}'] >= 1
    for broken in ({"threshold": "x"}, {"threshold": 2}, "x", None):
        write_model(model_file, sets=broken)
        client = serve(model_file)
        assert "set" not in client.post("/predict", content=picture()).json()["predictions"][0]
        assert not any("vit_sets" in name for name in metrics(client))


def test_a_model_that_knows_its_training_tells_strangers_and_counts_them(
    serve: Serve, model_file: Path, picture: Picture, write_model: Callable[..., None]
) -> None:
    write_model(model_file, distance=True, strangers={"threshold": 0.25, "share": 0.95})
    client = serve(model_file)
    files = [("file", (name, picture(name))) for name in ("black", "red", "white")]  # of these distances: 0, 1/3, 1
    said = client.post("/predict", files=files).json()["predictions"]
    assert [each["stranger"] for each in said] == [False, True, True]
    found = metrics(client)
    assert found['vit_strangers_total{stranger="yes"}'] == 2
    assert found['vit_strangers_total{stranger="no"}'] == 1
    for distance, section in ((True, None), (True, "x"), (True, {"threshold": "x"}), (False, {"threshold": 0.25})):
        write_model(model_file, distance=distance, strangers=section)
        client = serve(model_file)
        assert "stranger" not in client.post("/predict", content=picture()).json()["predictions"][0]
        assert not any("vit_strangers" in name for name in metrics(client))


def test_without_a_reference_the_answers_alone_are_shown(
    serve: Serve, model_file: Path, write_model: Callable[..., None]
) -> None:
    for reference in (None, {"pictures": 9, "shares": [0.5, 0.5], "confidence": 1}, {"pictures": "x"}, [1]):
        write_model(model_file, reference=reference)
        found = metrics(serve(model_file))
        assert "vit_answers_pictures" in found
        assert not any("reference" in name or "drift" in name for name in found)


class Gated:
    """Has a model wait until it is let go."""

    def __init__(self, client: Any) -> None:
        self.go, self.begun = threading.Event(), threading.Event()
        self.sizes: list[tuple[int, ...]] = []
        model = client.service.model.current
        run = model.run

        def gated(pictures: Any) -> Any:
            self.begun.set()
            assert self.go.wait(30)
            self.sizes.append(pictures.shape[:3])
            return run(pictures)

        object.__setattr__(model, "run", gated)


def test_a_full_queue_refuses_at_once_and_takes_all_of_a_request_or_nothing(
    serve: Serve, model_file: Path, picture: Picture
) -> None:
    client = serve(model_file, queue=3, files=3)
    gated = Gated(client)
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(client.post, "/predict", content=picture())
        assert gated.begun.wait(30)
        waiting = [pool.submit(client.post, "/predict", content=picture()) for _ in range(2)]
        while len(client.service.batcher.waiting) < 2:
            time.sleep(0.01)
        answer = client.post("/predict", files=[("f", ("a", picture()))] * 2)
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "1")
        assert len(client.service.batcher.waiting) == 2
        gated.go.set()
        assert [each.result().status_code for each in (first, *waiting)] == [200] * 3
    assert gated.sizes == [(1, 6, 8), (2, 6, 8)]  # what has gathered meanwhile is answered together


def test_what_takes_too_long_is_told_and_not_computed(serve: Serve, model_file: Path, picture: Picture) -> None:
    client = serve(model_file, seconds=1.5)
    gated = Gated(client)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(client.post, "/predict", content=picture(size=(8, 6)))
        assert gated.begun.wait(30)
        second = pool.submit(client.post, "/predict", content=picture(size=(9, 9)))
        assert [each.result().status_code for each in (first, second)] == [504, 504]
    gated.go.set()
    time.sleep(0.2)
    assert len(gated.sizes) == 1  # nobody waits for the other any more


def test_pictures_of_one_size_are_answered_together_and_each_gets_its_own(
    serve: Serve, model_file: Path, picture: Picture
) -> None:
    client = serve(model_file)
    gated = Gated(client)
    gated.go.set()
    colours = ["red", "lime", "blue", "lime", "red"]
    sizes = [(8, 6), (5, 5), (8, 6), (8, 6), (5, 5)]
    sent = [("f", ("x", picture(colour, size))) for colour, size in zip(colours, sizes, strict=True)]
    said = client.post("/predict", files=sent).json()["predictions"]
    assert [each["label"] for each in said] == ["red", "green", "blue", "green", "red"]
    assert sorted(gated.sizes) == [(2, 5, 5), (3, 6, 8)]


def test_what_goes_wrong_inside_is_a_line_here_and_none_of_their_business(
    serve: Serve, model_file: Path, picture: Picture, caplog: pytest.LogCaptureFixture
) -> None:
    client = serve(model_file)
    model = client.service.model.current
    object.__setattr__(model, "run", lambda pictures: (np.full((len(pictures), 3), np.nan, dtype=np.float32), None))
    with caplog.at_level("ERROR", "vit_lightning"):
        answer = client.post("/predict", content=picture())
    assert answer.status_code == 500
    assert "NaN" not in answer.text
    assert "ValueError" not in answer.text
    assert "gives no numbers (unexpected, at model.py:" in caplog.text


def test_a_large_picture_is_answered(serve: Serve, model_file: Path) -> None:
    content = io.BytesIO()
    Image.new("RGB", (2500, 2000), "blue").save(content, "PNG")
    said = serve(model_file).post("/predict", files=[("f", ("x", content.getvalue()))] * 2).json()["predictions"]
    assert [each["label"] for each in said] == ["blue", "blue"]


def test_the_room_for_bodies_is_given_back(serve: Serve, model_file: Path, picture: Picture) -> None:
    client = serve(model_file, megabytes=0.01)
    for content in (b"x", picture(), b"x" * 20_000):
        client.post("/predict", content=content)
    assert client.service.room.taken == 0
    client.service.room.taken = client.service.room.most
    answer = client.post("/predict", content=picture())
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "1")


def test_a_server_that_ends_takes_no_more(serve: Serve, model_file: Path, picture: Picture) -> None:
    client = serve(model_file)
    client.service.state.draining = True
    answer = client.post("/predict", content=picture())
    assert (answer.status_code, answer.headers["connection"]) == (503, "close")
    assert client.get("/ready").status_code == 503
    assert client.get("/health").status_code == 200
