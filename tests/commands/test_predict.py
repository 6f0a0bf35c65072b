"""`predict` on videos, on pictures from the web and on one from standard input."""

import csv
import importlib.util
import io
import json
import shutil
import subprocess
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from vit_lightning.cli import main
from vit_lightning.inference import Smoothing, find_images, load_classifier, predict_paths, predict_video

needs_ffmpeg = pytest.mark.skipif(
    shutil.which("ffmpeg") is None or importlib.util.find_spec("torchcodec") is None, reason="needs ffmpeg, torchcodec"
)


@pytest.fixture(scope="module")
def home(frames: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run, eight frames as s0.png and so on, and where there is ffmpeg a lossless film of them, two a second."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("home")
    for number, path in enumerate(sorted(frames.rglob("*.jpg"))[::12]):
        Image.open(path).save(folder / f"s{number}.png")
    if shutil.which("ffmpeg"):
        words = ["-framerate", "2", "-i", "s%d.png", "-c:v", "ffv1", "-pix_fmt", "gbrp", "film.mkv"]
        subprocess.run(["ffmpeg", "-loglevel", "error", *words], check=True, cwd=folder, stdin=subprocess.DEVNULL)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        model = ["--model.image_size=[16,32]", "--model.patch_size=8", "--model.dim=16", "--model.heads=2"]
        assert main(["fit", f"--data.root={frames}", *model, "--run=one", "--trainer.max_epochs=1"]) == 0
    return folder


@pytest.fixture(autouse=True)
def at_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def predict(output: Path, *words: str) -> int:
    return main(["predict", f"--output={output}", *words])


@needs_ffmpeg
def test_a_film_s_rows_are_those_of_the_pictures_it_is_made_of(tmp_path: Path) -> None:
    stills = [f"s{number}.png" for number in range(8)]
    assert predict(tmp_path / "stills.csv", "--images", *stills) == 0
    assert predict(tmp_path / "film.csv", "--every=0.5", "--images", "film.mkv") == 0
    pictures, frames = rows(tmp_path / "stills.csv"), rows(tmp_path / "film.csv")
    assert "time" not in pictures[0]
    assert [float(row.pop("time")) for row in frames] == [number / 2 for number in range(8)]
    assert list(frames[0]) == list(pictures[0])  # the columns before the time
    assert [{**row, "path": ""} for row in frames] == [{**row, "path": ""} for row in pictures]
    assert {row["path"] for row in frames} == {"film.mkv"}


@needs_ffmpeg
def test_films_and_pictures_keep_their_order_and_bad_ones_are_listed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "text.avi").write_text("no film")
    names = ["s3.png", str(tmp_path / "empty.mp4"), "film.mkv", "s1.png", str(tmp_path / "text.avi")]
    assert predict(tmp_path / "out.csv", "--every=2", "--data.batch_size=2", "--images", *names) == 1
    found = rows(tmp_path / "out.csv")
    assert [(row["path"], row["time"]) for row in found] == [
        *(("s3.png", ""), ("film.mkv", "0.000000"), ("film.mkv", "2.000000"), ("s1.png", ""))
    ]
    reasons = {Path(row["path"]).name: row["reason"] for row in rows(tmp_path / "out.unreadable.csv")}
    assert reasons["empty.mp4"] == "the file is empty"
    assert "no video that FFmpeg can read" in reasons["text.avi"]
    said = capsys.readouterr()
    assert "film.mkv 2.0 s" in said.out
    assert "4 images and frames" in said.out
    assert "2 files could not be read and have no label" in said.err
    assert predict(tmp_path / "out.json", "--every=2", "--images", "film.mkv", "s1.png") == 0
    assert [row["time"] for row in json.loads((tmp_path / "out.json").read_text())] == [0.0, 2.0, None]


@needs_ffmpeg
def test_smoothed_probabilities_are_means_over_the_window(tmp_path: Path) -> None:
    model = load_classifier()
    each = torch.stack([found for _, found in predict_paths(model, [f"s{number}.png" for number in range(8)])])
    (times, smooth) = zip(*predict_video(model, "film.mkv", every=0.5, smooth=1.0, batch_size=3), strict=True)
    assert list(times) == [number / 2 for number in range(8)]
    for number in range(8):  # half a second on either side is one frame
        expected = each[max(0, number - 1) : number + 2].mean(dim=0)
        torch.testing.assert_close(smooth[number], expected, atol=1e-6, rtol=0)
    options = ["--every=0.5", "--smooth=1", "--data.batch_size=3"]
    options += ["--trainer.precision=32-true"]  # as the call above; bf16, where it is chosen, rounds
    assert predict(tmp_path / "out.csv", *options, "--images=film.mkv") == 0
    for row, probabilities in zip(rows(tmp_path / "out.csv"), smooth, strict=True):
        assert float(row["confidence"]) == pytest.approx(float(probabilities.max()), abs=2e-6)
    plain = [found for _, found in predict_video(model, "film.mkv", every=0.5)]
    torch.testing.assert_close(torch.stack(plain), each, atol=1e-6, rtol=0)


def test_a_window_ends_with_its_film_and_leaves_pictures_alone() -> None:
    generator = np.random.default_rng(0)
    frames = [("a", index * 0.1) for index in range(9)] + [("p", None), ("p", None), ("a", 0.0), ("b", 0.0), ("b", 0.1)]
    values = [torch.tensor(row) for row in generator.random((len(frames), 3))]
    smoothing, found = Smoothing(0.4), []
    for (path, seconds), value in zip(frames, values, strict=True):
        smoothing.add(path, seconds, value)
        found += list(smoothing.ready())
        assert len(smoothing.known) <= 6
    found += list(smoothing.rest())
    assert [(path, seconds) for path, seconds, _ in found] == frames
    expected = [torch.stack(values[max(0, index - 2) : min(index + 3, 9)]).mean(dim=0) for index in range(9)]
    expected += [*values[9:12], *[torch.stack(values[12:]).mean(dim=0)] * 2]
    torch.testing.assert_close(torch.stack([value for *_, value in found]), torch.stack(expected))


@needs_ffmpeg
def test_the_attention_over_frames_is_drawn(tmp_path: Path) -> None:
    assert (
        predict(tmp_path / "out.csv", "--every=2", "--smooth=4", "--attention", "--images", "film.mkv", "s1.png") == 0
    )
    names = sorted(path.name for path in (tmp_path / "out-attention").iterdir())
    assert names == ["00001-film.png", "00002-film.png", "00003-s1.png"]


@needs_ffmpeg
def test_films_are_taken_by_name_and_by_glob_and_left_out_of_folders(
    home: Path, tmp_path: Path, told: list[tuple[str, str]]
) -> None:
    shutil.copy("film.mkv", tmp_path / "a.mkv")
    with pytest.raises(FileNotFoundError, match=r"holds no image \(1 \.mkv file\)"):
        find_images([str(tmp_path)])
    shutil.copy("s0.png", tmp_path / "b.png")
    assert find_images([str(tmp_path)]) == [tmp_path / "b.png"]
    assert told[-1][1].startswith(f"left out in {tmp_path}: 1 video; name it, as ")
    assert find_images([str(tmp_path / "*")]) == [tmp_path / "a.mkv", tmp_path / "b.png"]
    assert find_images([str(tmp_path / "a.mkv"), "-", "http://host/x.png"]) == [
        *(tmp_path / "a.mkv", "<stdin>", "http://host/x.png")
    ]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--every=0", "--images=s0.png"], "--every is 0"),
        (["--every=nan", "--images=s0.png"], "every is nan; expected a number"),
        (["--smooth=-1", "--images=s0.png"], "--smooth is -1"),
        (["--images=ftp://host/x.png"], "ftp://host/x.png is no address of the web"),
    ],
)
def test_mistakes_are_one_line(tmp_path: Path, words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert predict(tmp_path / "out.csv", *words) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out.csv").exists()


def test_without_a_decoder_a_film_is_refused_and_pictures_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "torchcodec" else find(name))
    (tmp_path / "a.mp4").write_bytes(b"any")
    assert predict(tmp_path / "out.csv", "--images", "s0.png", str(tmp_path / "a.mp4")) == 2
    assert capsys.readouterr().err.strip().endswith("pip install 'vit-lightning[video]', or -e '.[video]'")
    assert predict(tmp_path / "out.csv", "--images", "s0.png") == 0


def test_pictures_from_the_web_and_from_standard_input(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("urllib.request.getproxies", dict)
    monkeypatch.setattr(SimpleHTTPRequestHandler, "log_message", lambda *_: None)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=str(home)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(Path("s1.png").read_bytes()), isatty=bool))
    try:
        url = f"http://127.0.0.1:{server.server_port}/s0.png"
        gone = url.replace("s0", "gone")
        assert predict(tmp_path / "out.csv", "--attention", "--images", url, gone, "-") == 1
    finally:
        server.shutdown()
        server.server_close()
    assert predict(tmp_path / "files.csv", "--images", "s0.png", "s1.png") == 0
    found, files = rows(tmp_path / "out.csv"), rows(tmp_path / "files.csv")
    assert [row.pop("path") for row in found] == [url, "<stdin>"]
    assert [row.pop("path") for row in files] == ["s0.png", "s1.png"]
    assert found == files
    assert rows(tmp_path / "out.unreadable.csv") == [{"path": gone, "reason": "the server answers 404 (Not Found)"}]
    assert "gone.png has no label: the server answers 404" in capsys.readouterr().err
    assert len(list((tmp_path / "out-attention").iterdir())) == 2
