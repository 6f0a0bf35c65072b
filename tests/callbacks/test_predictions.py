"""The CSV of `predict`, batch by batch."""

import csv
import errno
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from rich.cells import cell_len

from vit_lightning.callbacks.pictures import LINE, MARGIN, magnified
from vit_lightning.callbacks.predictions import LONGEST, NAMED, SHOWN, PredictionWriter, shown_size
from vit_lightning.data.loading import UnlabelledImages
from vit_lightning.data.transforms import frame_size, normalise
from vit_lightning.evaluation.attention import attention_of, overlay
from vit_lightning.module import ViTClassifier
from vit_lightning.progress import set_up_logging

NAMES = ["ant", "bee", "cat", "dog"]
NOBODY: Any = None  # neither the Trainer nor the model is looked at


def write(path: Path, batches: list[tuple[list[str], list[list[float]]]], names: list[str]) -> PredictionWriter:
    writer = PredictionWriter(path, names)
    writer.on_predict_start(NOBODY, NOBODY)
    for index, (paths, probabilities) in enumerate(batches):
        outputs: Any = {"path": paths, "probabilities": torch.tensor(probabilities), "unreadable": {}}
        writer.on_predict_batch_end(NOBODY, NOBODY, outputs, None, index)
    return writer


def test_each_image_has_its_row_whatever_the_batch(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "labels.csv"
    batches = [
        (["x/a.png", "x/b.png"], [[0.1, 0.6, 0.05, 0.25], [0.7, 0.0, 0.2, 0.1]]),
        (["c"], [[0.0, 0.0, 0.0, 1.0]]),
    ]
    write(path, batches, NAMES).on_predict_end(NOBODY, NOBODY)
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["path"] for row in rows] == ["x/a.png", "x/b.png", "c"]
    first = [rows[0][name] for name in ("label", "index", "confidence", "label_2", "confidence_2", "label_3")]
    assert first == ["bee", "1", "0.600000", "dog", "0.250000", "ant"]
    assert [row["label"] for row in rows] == ["bee", "ant", "dog"]


def test_two_classes_have_two_columns(tmp_path: Path) -> None:
    write(tmp_path / "labels.csv", [(["a"], [[0.25, 0.75]])], NAMES[:2]).on_predict_end(NOBODY, NOBODY)
    header, row = (tmp_path / "labels.csv").read_text().splitlines()
    assert header == "path,label,index,confidence,label_2,confidence_2"
    assert row == "a,bee,1,0.750000,ant,0.250000"


def test_the_terminal_shows_the_first_ones_and_counts_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logging()
    capsys.readouterr()
    paths = [f"folder/{number:03}.jpg" for number in range(SHOWN + 5)]
    probabilities = [[0.9, 0.06, 0.04, 0.0]] * len(paths)
    batches = [(paths[i : i + 8], probabilities[i : i + 8]) for i in range(0, len(paths), 8)]
    write(tmp_path / "labels.csv", batches, NAMES).on_predict_end(NOBODY, NOBODY)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "folder/000.jpg  ant (0) 90.0%, then bee 6.0%, cat 4.0%"
    assert sum(line.startswith("folder/") for line in lines) == SHOWN
    assert "... and 5 more" in lines
    assert f"{SHOWN + 5} images: ant {SHOWN + 5}" in lines[-1]


def test_what_was_labelled_before_an_error_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logging()
    writer = write(tmp_path / "labels.csv", [(["a"], [[0.25, 0.75]])], NAMES[:2])
    writer.on_exception(NOBODY, NOBODY, RuntimeError())
    assert (tmp_path / "labels.csv").read_text().count("\n") == 2
    assert "after 1 images" in capsys.readouterr().out


ODD = 'a "quoted", name\nof two lines\r\x1b[31m 猫.png'


def rows_of(path: Path) -> list[dict[str, Any]]:
    """What a reader of the format finds."""
    if path.suffix == ".csv":
        with path.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))
    text = path.read_text(encoding="utf-8")
    found: list[dict[str, Any]] = (
        json.loads(text) if path.suffix == ".json" else list(map(json.loads, text.splitlines()))
    )
    return found


@pytest.mark.parametrize("ending", ["csv", "json", "jsonl"])
def test_the_ending_says_the_format_and_paths_come_back_as_they_were(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"labels.{ending}"
    batches = [
        ([ODD, "a\rb"], [[0.1, 0.6, 0.05, 0.25], [0.7, 0.0, 0.2, 0.1]]),
        ([], []),
        (["c"], [[0.0, 0.0, 0.0, 1.0]]),
    ]
    write(path, batches, NAMES).on_predict_end(NOBODY, NOBODY)
    rows = rows_of(path)
    assert [row["path"] for row in rows] == [ODD, "a\rb", "c"]  # where nothing else asks for quotes
    expected = {"path": ODD, "label": "bee", "index": 1, "confidence": 0.6}
    expected |= {"label_2": "dog", "confidence_2": 0.25, "label_3": "ant", "confidence_3": 0.1}
    if ending == "csv":
        expected = {
            name: f"{value:.6f}" if isinstance(value, float) else str(value) for name, value in expected.items()
        }
    assert rows[0] == expected
    assert list(rows[0]) == list(expected)


@pytest.mark.parametrize("ending", ["csv", "json", "jsonl"])
def test_the_file_is_whole_after_every_batch(tmp_path: Path, ending: str) -> None:
    """So that even a power cut leaves one that can be read."""
    path = tmp_path / f"labels.{ending}"
    writer = write(path, [], NAMES)
    assert rows_of(path) == []
    for number in range(3):
        outputs: Any = {"path": [f"{number}"], "probabilities": torch.tensor([[0.1, 0.6, 0.2, 0.1]]), "unreadable": {}}
        writer.on_predict_batch_end(NOBODY, NOBODY, outputs, None, number)
        assert [row["path"] for row in rows_of(path)] == [str(each) for each in range(number + 1)]


class SmallDisk(io.FileIO):
    """Takes 400 bytes in all."""

    def write(self, data: Any) -> int:
        room = 400 - self.tell()
        if len(data) > room:
            super().write(data[:room])
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(data)


@pytest.mark.parametrize("ending", ["csv", "json", "jsonl"])
def test_a_full_disk_takes_back_the_row_that_it_tore(tmp_path: Path, ending: str, told: list[tuple[str, str]]) -> None:
    path = tmp_path / f"labels.{ending}"
    writer = write(path, [(["first"], [[0.1, 0.6, 0.2, 0.1]])], NAMES)
    assert writer.table is not None
    writer.table.file = SmallDisk(path, "r+")
    outputs: Any = {"path": ["x" * 150] * 3, "probabilities": torch.full((3, 4), 0.25), "unreadable": {}}
    with pytest.raises(OSError, match="No space left") as error:
        writer.on_predict_batch_end(NOBODY, NOBODY, outputs, None, 1)
    writer.on_exception(NOBODY, NOBODY, error.value)
    assert [row["path"] for row in rows_of(path)] == ["first"]
    assert told == [("WARNING", f"broken off after 1 images; their labels are in {path}")]


def test_another_ending_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    for name in ("labels.txt", "labels", "labels.csv.gz"):
        with pytest.raises(ValueError, match=rf"{name} has to end in \.csv, \.json or \.jsonl"):
            PredictionWriter(tmp_path / name, NAMES)
    PredictionWriter(tmp_path / "LABELS.JSON", NAMES)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("top", "count"), [(1, 1), (2, 2), (4, 4), (9, 4)])
def test_so_many_classes_are_told(tmp_path: Path, top: int, count: int, told: list[tuple[str, str]]) -> None:
    writer = PredictionWriter(tmp_path / "labels.json", NAMES, top=top)
    writer.on_predict_start(NOBODY, NOBODY)
    outputs: Any = {"path": ["a"], "probabilities": torch.tensor([[0.4, 0.3, 0.2, 0.1]]), "unreadable": {}}
    writer.on_predict_batch_end(NOBODY, NOBODY, outputs, None, 0)
    writer.on_predict_end(NOBODY, NOBODY)
    ((_, *values),) = (row.values() for row in rows_of(tmp_path / "labels.json"))
    assert values == ["ant", 0, 0.4, "bee", 0.3, "cat", 0.2, "dog", 0.1][: 1 + 2 * count]
    line = ["a  ant (0) 40.0%", ", then bee 30.0%", ", cat 20.0%", ", dog 10.0%"]
    assert told[0][1] == "".join(line[:count])


@pytest.mark.parametrize("top", [0, -1])
def test_no_class_at_all_is_refused(tmp_path: Path, top: int) -> None:
    with pytest.raises(ValueError, match=f"--top is {top}; .* at least 1"):
        PredictionWriter(tmp_path / "labels.csv", NAMES, top=top)


def test_the_terminal_has_a_line_an_image_whatever_the_names(tmp_path: Path, told: list[tuple[str, str]]) -> None:
    names = ["jerry_and_tom_in_one_picture_of_a_long_video", "two\nlines", "猫" * 30, "dog"]
    paths = [ODD, f"folder/{'long' * 30}0001.jpg", "x/a.png"]
    for number, which in enumerate((paths, paths[2:])):
        told.clear()
        path = tmp_path / f"{number}.csv"
        write(path, [(which, [[0.5, 0.3, 0.04, 0.16]] * len(which))], names).on_predict_end(NOBODY, NOBODY)
        lines = [text for _, text in told]
        assert len(lines) == len(which) + 1
        assert max(map(cell_len, lines[:-1])) <= 80
        assert all(line.isprintable() for line in lines)
    assert lines[0] == "x/a.png  jerry_and_t…a_long_video (0) 50.0%, then two\\nlines 30.0%, dog 16.0%"
    writer = write(tmp_path / "bad.csv", [], NAMES)
    spoil(writer, ODD)
    writer.on_predict_end(NOBODY, NOBODY)
    assert told[-1][1].isprintable()


def spoil(writer: PredictionWriter, *paths: str) -> None:
    """A batch of which nothing could be read."""
    outputs: Any = {"path": [], "probabilities": torch.empty(0, 4), "unreadable": dict.fromkeys(paths, "it is empty")}
    writer.on_predict_batch_end(NOBODY, NOBODY, outputs, None, 0)


def test_a_single_unreadable_file_is_one_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logging()
    writer = write(tmp_path / "labels.csv", [], NAMES)
    spoil(writer, "x/bad.jpg")
    writer.on_predict_end(NOBODY, NOBODY)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "error: x/bad.jpg has no label: it is empty\n"
    assert writer.unreadable == 1
    assert (tmp_path / "labels.csv").read_text().count("\n") == 1  # an earlier command's labels are not left there


def test_unreadable_files_have_a_table_of_their_own(tmp_path: Path, told: list[tuple[str, str]]) -> None:
    writer = write(tmp_path / "labels.csv", [(["a.jpg"], [[0.1, 0.6, 0.05, 0.25]])], NAMES)
    bad = [f"bad{number}.jpg" for number in range(NAMED + 3)]
    spoil(writer, *bad[:2])
    spoil(writer, *bad[2:])
    spoil(writer)
    writer.on_predict_end(NOBODY, NOBODY)
    with (tmp_path / "labels.csv").open(newline="") as file:
        assert [row["path"] for row in csv.DictReader(file)] == ["a.jpg"]
    with (tmp_path / "labels.unreadable.csv").open(newline="") as file:
        assert list(csv.DictReader(file)) == [{"path": path, "reason": "it is empty"} for path in bad]
    bad_news = [(level, text) for level, text in told if level != "INFO"]
    assert bad_news[:-1] == [("WARNING", f"{path} has no label: it is empty") for path in bad[:NAMED]]
    table = tmp_path / "labels.unreadable.csv"
    assert bad_news[-1] == (
        "ERROR",
        f"{len(bad)} of {len(bad) + 1} files could not be read and have no label; all are listed in {table}",
    )


def test_no_table_is_left_where_all_could_be_read(tmp_path: Path) -> None:
    (tmp_path / "labels.unreadable.csv").write_text("path,reason\nx,of an earlier command\n")
    write(tmp_path / "labels.csv", [(["a"], [[0.25, 0.75]])], NAMES[:2]).on_predict_end(NOBODY, NOBODY)
    assert [path.name for path in tmp_path.iterdir()] == ["labels.csv"]


@pytest.mark.parametrize(
    ("size", "expected"), [((480, 854), (480, 854)), ((3000, 1500), (1024, 512)), ((9, 16), (9, 16))]
)
def test_pictures_keep_their_shape(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert shown_size(*size) == expected
    assert shown_size(1, 100_000) == (1, LONGEST)


def test_each_labelled_image_has_a_picture_with_the_attention(tmp_path: Path, told: list[tuple[str, str]]) -> None:
    noise = np.random.default_rng(0)
    long = "ä" * 120 + ".png"  # 240 bytes, and the row's number makes them more than a name may have
    sizes = {"wide/frame.png": (20, 40), "bad.png": (0, 0), "high/frame.png": (30, 10), long: (16, 16)}
    paths = [tmp_path / name for name in sizes]
    for path, (height, width) in zip(paths, sizes.values(), strict=True):
        path.parent.mkdir(exist_ok=True)
        if height:
            Image.fromarray(noise.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(path)
        else:
            path.write_bytes(b"")
    torch.manual_seed(0)
    model = ViTClassifier(class_names=NAMES, image_size=(8, 16), patch_size=4, dim=8, depth=2, heads=2).eval()
    dataset = UnlabelledImages(paths, frame_size((8, 16)))
    images, names, reasons = zip(*map(dataset.__getitem__, range(4)), strict=True)
    batch: Any = [normalise(torch.stack(images)), list(names), list(reasons)]
    folder = tmp_path / "out" / "labels-attention"
    folder.mkdir(parents=True)
    for kept in ("00007-earlier.png", "mine.png"):
        (folder / kept).touch()

    writer = PredictionWriter(tmp_path / "out" / "labels.csv", NAMES, attention=True)
    writer.on_predict_start(NOBODY, model)
    with torch.inference_mode():
        for part in (slice(0, 3), slice(3, 4)):
            piece: Any = [values[part] for values in batch]
            writer.on_predict_batch_end(NOBODY, model, model.predict_step(piece, 0), piece, 0)
    writer.on_predict_end(NOBODY, model)

    drawn = [path.name for path in sorted(folder.iterdir())]
    assert drawn == ["00001-frame.png", "00002-frame.png", f"00003-{'ä' * 60}.png", "mine.png"]
    assert any(text.endswith("over them in " + str(folder)) for _, text in told)
    for name, index, beside, factor in (("00001-frame.png", 0, False, 6), ("00002-frame.png", 2, True, 8)):
        picture = magnified(torch.from_numpy(np.array(Image.open(paths[index]))), factor)  # to 240 pixels
        attention = attention_of(model.net, batch[0][index : index + 1])[0]
        expected = torch.cat([picture, overlay(picture, attention)], dim=1 if beside else 0)
        seen = torch.from_numpy(np.array(Image.open(folder / name)))
        lines = (len(seen) - len(expected) - 2 * MARGIN) // LINE
        assert lines > 2 if beside else lines == 2  # three classes do not fit above 160 pixels, and are not cut off
        seen = seen[-MARGIN - len(expected) : -MARGIN, MARGIN : MARGIN + expected.shape[1]]
        torch.testing.assert_close(seen, expected, rtol=0, atol=1)


def test_without_attention_there_is_no_folder(tmp_path: Path) -> None:
    write(tmp_path / "labels.csv", [(["a"], [[0.25, 0.75]])], NAMES[:2]).on_predict_end(NOBODY, NOBODY)
    assert [path.name for path in tmp_path.iterdir()] == ["labels.csv"]
