"""What a network costs before it is trained: parameters, tokens, memory, and the time of an epoch."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from vit_lightning.commands.runs_table import bytes_in_words, duration
from vit_lightning.data.index import find_layout, find_samples
from vit_lightning.data.sources import demo_root
from vit_lightning.studio.fields import Draft, draft

#: Bytes a weight while AdamW trains in fp32: itself, its gradient, and two averages.
BYTES = 16

#: Images of the step that is timed, seconds in which it is repeated, and the most weights of a network that is.
TIMED, PATIENCE, LARGEST = 4, 0.5, 200_000_000


@dataclass(frozen=True)
class Cost:
    """What is known of a network before the first step."""

    parameters: int
    tokens: int
    grid: tuple[int, int]
    image: tuple[int, int]
    images: int | None  # that train, about; None where the data are not here yet
    device: str
    memory: int | None = None  # bytes, about
    rate: float | None = None  # images a second; None where it was not timed

    def lines(self) -> list[str]:
        """The same in words."""
        told = [
            f"{self.parameters:,} parameters",
            f"{self.tokens} tokens: {self.grid[0]} x {self.grid[1]} patches of an image of "
            f"{self.image[0]}x{self.image[1]}",
        ]
        if self.memory is not None:
            told.append(f"about {bytes_in_words(self.memory)} of memory in training")
        if self.rate is None:
            told.append(f"the time of an epoch on {self.device} is measured by check")
        elif self.images is None:
            told.append(f"about {self.rate:.3g} images a second on {self.device}")
        else:
            told.append(f"an epoch of about {self.images:,} images takes about {duration(self.images / self.rate)}")
        return told


@lru_cache(maxsize=32)
def cost_of(words: tuple[str, ...]) -> Cost:
    """What the `fit` of these options costs; a training step of a few images is timed on a processor.

    Raises:
        ValueError: What is wrong, as `fit` would say it.
        FileNotFoundError: A folder or run is missing.
    """
    drafted = draft(words)
    net, options = drafted.model.net, drafted.options
    parameters = sum(parameter.numel() for parameter in net.parameters())
    found = Cost(
        parameters=parameters,
        tokens=net.position_embedding.shape[1],
        grid=net.grid,
        image=(net.image_shape[1], net.image_shape[2]),
        images=training_images(drafted),
        device=device_of(str(options.trainer.accelerator)),
    )
    if found.device != "cpu" or parameters > LARGEST:
        return found
    seconds, trained, saved = time_step(words)
    memory = BYTES * trained + saved * options.data.batch_size
    return Cost(**vars(found) | {"memory": memory, "rate": 1 / seconds})


def time_step(words: Sequence[str]) -> tuple[float, int, int]:
    """Seconds that a training step takes an image on the processor, numbers that it trains, bytes kept an image."""

    class Timed(Draft):
        """A draft with weights."""

        def instantiate_classes(self) -> None:
            self.config_init = self.parser.instantiate(self.config)
            self.model = self.config_init.model

    model = Timed(list(words)).model.train()
    model.setup("fit")  # where there is a guide, it is trained, too
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    images, targets = torch.rand(TIMED, *model.net.image_shape), torch.zeros(TIMED, dtype=torch.long)
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}

    def step() -> Tensor:
        loss: Tensor = model.loss(model(images), targets) + model.guidance((images, targets), model.loss)
        return loss

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        step()
    saved = sum(size for place, size in kept.items() if place not in weights)
    seconds, began = math.inf, time.perf_counter()
    while seconds == math.inf or time.perf_counter() - began < PATIENCE:  # the quickest: others may compute, too
        start = time.perf_counter()
        step().backward()  # type: ignore[no-untyped-call]  # torch's is untyped
        seconds = min(seconds, time.perf_counter() - start)
    trained = sum(parameter.numel() for parameter in model.parameters())
    return seconds / TIMED, trained, saved // TIMED


def training_images(drafted: Draft) -> int | None:
    """How many images train, about: what a split leaves out beside its held-out parts is not looked for."""
    data = drafted.datamodule
    root = data.root
    if root is None:
        root = demo_root(data.settings.cache_dir) if data.source == "demo" else None
    if root is None or not root.is_dir():
        return None
    layout = find_layout(root)
    samples = find_samples(root, layout)
    if layout.ready_made:
        samples = [sample for sample in samples if sample.split == "train"]
        return len(samples)
    settings = data.settings
    test = settings.test_fraction if settings.fold is None else 1 / settings.fold.of
    count: int = round(len(samples) * (1 - settings.val_fraction - test))
    return min(count, settings.subset * len(layout.classes)) if settings.subset else count


def device_of(accelerator: str) -> str:
    """What a training computes on: `cpu`, `cuda` or `mps`."""
    if accelerator not in ("cpu", "mps") and torch.cuda.is_available():
        return "cuda"
    return "mps" if accelerator != "cpu" and torch.backends.mps.is_available() else "cpu"
