"""The exported model that answers, and the newer one that takes its place."""

import hashlib
import json
import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from vit_lightning.evaluation.conformal import limit_of
from vit_lightning.progress import told
from vit_lightning.runs import finite

log = logging.getLogger(__name__)

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

#: Seconds from one look at the model's file to the next.
LOOK = 1.0

#: What the file has to have: see vit_lightning/export/onnx.py, which cannot be imported without torch.
INPUT, OUTPUT, DISTANCE = "images", "probabilities", "distance"


@dataclass(frozen=True)
class Answer:
    """What a model says of a picture.

    Args:
        probabilities: Of the classes, (K,).
        stranger: Whether it is unlike all that the model was trained on; None where the file does not tell.
    """

    probabilities: Floats
    stranger: bool | None = None


@dataclass(frozen=True)
class Model:
    """A loaded model.

    Args:
        run: From pictures (B, h, w, 3) of one size to probabilities (B, K), and distances from training (B,) or None.
        class_names: The classes, in the order of the probabilities.
        version: SHA-256 of the file.
        card: What the file says of itself.
    """

    run: Callable[[Bytes], tuple[Floats, Floats | None]]
    class_names: list[str]
    version: str
    card: Mapping[str, Any]

    @cached_property
    def limit(self) -> float | None:
        """The threshold of sets that `test` or `folds` has found for the run; None where there is none."""
        return limit_of(self.card.get("sets"))

    @cached_property
    def farthest(self) -> float | None:
        """The distance from which a picture is a stranger, likewise of `test`."""
        section = self.card.get("strangers")
        return finite(section.get("threshold")) if isinstance(section, dict) else None

    def answer(self, pictures: Bytes) -> list[Answer]:
        """What it says of pictures (B, h, w, 3).

        Raises:
            ValueError: The model gives no numbers.
        """
        probabilities, distances = self.run(pictures)
        if not np.isfinite(probabilities).all():
            raise ValueError(f"the model {self.version[:12]} gives no numbers")
        if distances is None or self.farthest is None:
            return list(map(Answer, probabilities))
        return [Answer(*each) for each in zip(probabilities, (distances > self.farthest).tolist(), strict=True)]


def load_model(path: Path) -> Model:
    """Reads an exported file, and has it answer once.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is none that `export` has written.
    """
    content = path.read_bytes()  # once: what is hashed is what answers
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # the threads that call it are the parallel ones
    options.log_severity_level = 4  # what is wrong is raised, too
    options.enable_cpu_mem_arena = False  # it would keep what the largest picture took for good
    try:
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        model = described(session, hashlib.sha256(content).hexdigest())
        model.answer(np.zeros((1, 2, 3, 3), dtype=np.uint8))
    except Exception as error:  # onnxruntime's own have no common class
        why = told(error)[:200]
        raise ValueError(f"{path} is no model that `export --format onnx` has written ({why})") from error
    return model


def described(session: Any, version: str) -> Model:  # noqa: ANN401  # onnxruntime has no types
    """A model from a session and what is in its metadata.

    Raises:
        ValueError: Input, output or classes are not those of an exported model.
    """
    inputs, outputs = session.get_inputs(), session.get_outputs()
    if [(each.name, each.type, len(each.shape)) for each in inputs] != [(INPUT, "tensor(uint8)", 4)]:
        raise ValueError(f"its input is not {INPUT} of bytes in four dimensions")
    card = {name: value_of(text) for name, text in session.get_modelmeta().custom_metadata_map.items()}
    names = card.get("class_names")
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise ValueError("its metadata have no class_names")
    asked = [name for name in (OUTPUT, DISTANCE) if name in [each.name for each in outputs]]
    if OUTPUT not in asked:
        raise ValueError(f"it has no output {OUTPUT}")

    def run(pictures: Bytes) -> tuple[Floats, Floats | None]:
        found, *distances = session.run(asked, {INPUT: pictures})
        if found.shape != (len(pictures), len(names)):
            raise ValueError(f"it gives {found.shape} for {len(pictures)} pictures and {len(names)} classes")
        return found, distances[0] if distances else None

    return Model(run, names, version, card)


def value_of(text: str) -> Any:  # noqa: ANN401  # whatever JSON holds
    """What a text in the metadata stands for: JSON where it is an object, a list or null, otherwise itself."""
    if not text.startswith(("{", "[", "null")):
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


class WatchedModel:
    """The model of a file; when another file takes its place, that one's.

    A newer file is loaded and tried while the older model goes on. What is being answered keeps the model that it began
    with. A file that cannot be used is told in one line, once, and the older model stays.

    Args:
        find: Where the file is, asked at every look. `export` exchanges it in one step, and the champion's changes.
        changed: Called with each newer model.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is none that `export` has written.
    """

    def __init__(self, find: Callable[[], Path], changed: Callable[[Model], None] = lambda _: None) -> None:
        self.find = find
        self.path = find()
        self.changed = changed
        self.seen = stamp(self.path)
        self.current = load_model(self.path)
        self.loaded = time.time()
        self.taken_over = self.refused = 0
        self.trouble = ""
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.watch, name="model", daemon=True)

    def watch(self) -> None:
        """Looks until it is ended."""
        before = self.seen
        while not self.ended.wait(LOOK):
            self.ask()
            found = stamp(self.path)
            if found == before and found != self.seen:  # whoever writes it is through
                self.seen = found
                self.look()
            before = found

    def ask(self) -> None:
        """Finds the file once more; where it cannot be said, it stays the same."""
        try:
            self.path, self.trouble = self.find(), ""
        except (OSError, ValueError) as error:
            if told(error) != self.trouble:
                self.trouble = told(error)
                log.warning("%s; %s goes on", self.trouble, self.current.version[:12])

    def look(self) -> None:
        """Takes the file's model over, if it is another and can be used."""
        try:
            model = load_model(self.path)
        except Exception as error:  # whatever it is, the older one answers
            self.refused += 1
            log.warning("%s; %s goes on", told(error), self.current.version[:12])
            return
        if model.version == self.current.version:
            return
        before, self.current, self.loaded = self.current, model, time.time()
        self.taken_over += 1
        self.changed(model)
        log.info("%s (%s) takes the place of %s", name_of(model), model.version[:12], before.version[:12])

    def end(self) -> None:
        """Stops looking."""
        self.ended.set()


def name_of(model: Model) -> str:
    """The name of the run that a model was exported from."""
    return str(model.card.get("run") or "a model")


def stamp(path: Path) -> tuple[int, int, int] | None:
    """What differs between two files of one name: number, size and time of change; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns
