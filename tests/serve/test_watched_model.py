"""The model's file: what it has to be, and what happens when another takes its place."""

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from vit_lightning.serve import model as module
from vit_lightning.serve.model import WatchedModel, load_model, stamp

Write = Callable[..., None]


def changed(path: Path, **props: str | None) -> None:
    """Writes other metadata into a model's file."""
    program = onnx.load(path)
    told = {each.key: each.value for each in program.metadata_props} | props
    del program.metadata_props[:]
    onnx.helper.set_model_props(program, {name: each for name, each in told.items() if each is not None})
    onnx.save(program, path)


def test_a_file_that_is_none_is_refused_in_a_line(model_file: Path, tmp_path: Path) -> None:
    good = model_file.read_bytes()
    with pytest.raises(FileNotFoundError):
        load_model(tmp_path / "nothing.onnx")
    for content in (b"", b"no model", good[: len(good) // 2], good[:-40]):
        model_file.write_bytes(content)
        with pytest.raises(ValueError, match="is no model that `export --format onnx` has written") as error:
            load_model(model_file)
        assert "\n" not in str(error.value)
    for names in (None, "[]", "{}", "red", '["a", 1]', '["a", "b"]'):
        model_file.write_bytes(good)
        changed(model_file, class_names=names)
        with pytest.raises(ValueError, match=r"class_names|2 classes"):
            load_model(model_file)
    program = onnx.load_model_from_string(good)
    program.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    onnx.save(program, model_file)
    with pytest.raises(ValueError, match="its input is not images of bytes"):
        load_model(model_file)


def waited(watched: WatchedModel, condition: Callable[[], bool]) -> None:
    for _ in range(500):
        if condition():
            return
        watched.ended.wait(0.02)
    raise AssertionError


def ended(watched: WatchedModel) -> None:
    """Ends it, and what it is in the midst of as well: it counts a model before it tells of it."""
    watched.end()
    watched.thread.join(10)
    assert not watched.thread.is_alive()


def test_a_newer_file_is_taken_over_and_a_broken_one_is_told_once(
    model_file: Path, write_model: Write, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "LOOK", 0.02)
    told: list[str] = []
    watched = WatchedModel(lambda: model_file, changed=lambda model: told.append(model.version))
    first = watched.current
    watched.thread.start()

    with caplog.at_level(logging.INFO, "vit_lightning"):
        write_model(model_file, run="second", names=["a", "b", "c"])
        waited(watched, lambda: bool(told))
        second = watched.current
        assert second.class_names == ["a", "b", "c"]
        assert told == [second.version]
        assert watched.taken_over == 1
        model_file.write_bytes(b"broken")
        waited(watched, lambda: watched.refused == 1)
        model_file.unlink()
        waited(watched, lambda: watched.refused == 2)
        watched.ended.wait(0.2)
        assert watched.current is second
        write_model(model_file, run="second", names=["a", "b", "c"])  # as it was: nothing to tell
        waited(watched, lambda: watched.seen == stamp(model_file))
        write_model(model_file, run="third")
        waited(watched, lambda: watched.taken_over == 2)
        ended(watched)
    lines = [record.getMessage() for record in caplog.records]
    assert [line.partition(" ")[0] for line in lines] == ["second", str(model_file), "No", "third"]
    assert all(second.version[:12] in line for line in lines)
    answers = first.answer(np.full((2, 3, 3, 3), 9, dtype=np.uint8))  # whoever began with it ends with it
    assert [answer.probabilities.shape for answer in answers] == [(3,), (3,)]


def test_a_champion_that_is_another_file_is_taken_over_and_back(
    model_file: Path,
    tmp_path: Path,
    write_model: Write,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(module, "LOOK", 0.02)
    other = tmp_path / "other.onnx"
    write_model(other, run="other")
    found: list[Path | Exception] = [model_file]

    def find() -> Path:
        if isinstance(found[0], Exception):
            raise found[0]
        return found[0]

    watched = WatchedModel(find)
    first = watched.current
    watched.thread.start()

    with caplog.at_level(logging.INFO, "vit_lightning"):
        found[0] = other
        waited(watched, lambda: watched.current.card["run"] == "other")
        found[0] = ValueError("the registry is broken")
        waited(watched, lambda: bool(watched.trouble))
        watched.ended.wait(0.2)
        assert watched.current.card["run"] == "other"
        found[0] = model_file
        waited(watched, lambda: watched.current.version == first.version)
        ended(watched)
    lines = [record.getMessage() for record in caplog.records]
    assert sum("the registry is broken" in line for line in lines) == 1  # once, however often it is asked
