"""Pictures that wait, and the threads that decode and answer them together."""

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field

import numpy as np

from vit_lightning.serve.limits import LARGE, Limits, RefusedError, decoded
from vit_lightning.serve.model import Answer, Bytes, Model

log = logging.getLogger(__name__)

#: What becomes of a picture: what is said of it, or why nothing is.
Outcome = Answer | Exception


@dataclass(eq=False)
class Waiting:
    """A picture that waits for its answer.

    Args:
        content: Its bytes.
        model: Which answers: the one that was there when it came.
        until: The moment after which nobody waits for it any more, on the monotonic clock.
        answer: For whoever waits, in the event loop.
    """

    content: bytes
    model: Model
    until: float
    answer: "asyncio.Future[Answer]"


@dataclass
class Together:
    """Decoded pictures of one size for one model."""

    waiting: list[Waiting] = field(default_factory=list)
    pictures: list[Bytes] = field(default_factory=list)


class Batcher:
    """A bounded queue, and threads that take from it.

    A thread that is free takes what waits, at most `most` pictures, decodes them and has those of one size answered in
    one call. Nobody waits for a batch to fill: while one is answered the next gathers.

    Args:
        limits: Of a picture.
        most: Pictures of a batch.
        queue: Pictures that may wait.
        threads: Each with one processor core.
        observe: Told the size of each batch.
    """

    def __init__(
        self, limits: Limits, *, most: int, queue: int, threads: int, observe: Callable[[int], None] = lambda _: None
    ) -> None:
        self.limits = limits
        self.most = most
        self.queue = queue
        self.observe = observe
        self.waiting: deque[Waiting] = deque()
        self.changed = threading.Condition()
        self.ended = False
        self.alone = threading.Lock()  # who has a large picture
        names = [f"answers-{number}" for number in range(threads)]
        self.threads = [threading.Thread(target=self.work, name=name, daemon=True) for name in names]

    def start(self) -> None:
        """Starts the threads."""
        for thread in self.threads:
            thread.start()

    def end(self) -> None:
        """Ends the threads after what they have in hand."""
        with self.changed:
            self.ended = True
            self.changed.notify_all()

    def submit(self, contents: Sequence[bytes], model: Model, until: float) -> "list[asyncio.Future[Answer]]":
        """Has pictures wait, all of them or none. To be called in the event loop.

        Raises:
            RefusedError: The queue is full.
        """
        loop = asyncio.get_running_loop()
        new = [Waiting(content, model, until, loop.create_future()) for content in contents]
        with self.changed:
            if len(self.waiting) + len(new) > self.queue:
                raise RefusedError(429, "too many pictures are waiting; try again in a moment", retry=1)
            self.waiting.extend(new)
            self.changed.notify(len(new))
        return [each.answer for each in new]

    def work(self) -> None:
        """What a thread does."""
        while batch := self.take():
            now = time.monotonic()
            self.answer([each for each in batch if each.until > now and not each.answer.cancelled()])

    def take(self) -> list[Waiting]:
        """What waits, as soon as anything does; nothing when it is to end."""
        with self.changed:
            while not self.waiting and not self.ended:
                self.changed.wait()
            return [self.waiting.popleft() for _ in range(min(len(self.waiting), self.most))]

    def answer(self, batch: Iterable[Waiting]) -> None:
        """Decodes and answers; large pictures one by one."""
        groups: dict[tuple[int, int, int], Together] = {}
        outcomes: list[tuple[Waiting, Outcome]] = []
        for each in batch:
            try:
                picture = decoded(each.content, self.limits, self.alone)
            except Exception as error:
                outcomes.append((each, error))
                continue
            height, width, _ = picture.shape
            large = height * width > LARGE
            group = Together() if large else groups.setdefault((id(each.model), height, width), Together())
            group.waiting.append(each)
            group.pictures.append(picture)
            if large:
                deliver(self.together(group))
        for group in groups.values():
            outcomes += self.together(group)
        deliver(outcomes)

    def together(self, group: Together) -> list[tuple[Waiting, Outcome]]:
        """What pictures of one size are answered in one call."""
        first, model = group.pictures[0], group.waiting[0].model
        self.observe(len(group.pictures))
        try:
            with self.alone if first.shape[0] * first.shape[1] > LARGE else nullcontext():
                answers = model.answer(first[None] if len(group.pictures) == 1 else np.stack(group.pictures))
        except Exception as error:
            return [(each, error) for each in group.waiting]
        return list(zip(group.waiting, answers, strict=True))


def deliver(outcomes: Sequence[tuple[Waiting, Outcome]]) -> None:
    """Hands outcomes to the event loop, all at once."""

    def hand_over() -> None:
        for waiting, outcome in outcomes:
            if waiting.answer.done():  # nobody waits any more
                continue
            if isinstance(outcome, Exception):
                waiting.answer.set_exception(outcome)
            else:
                waiting.answer.set_result(outcome)

    if outcomes:
        outcomes[0][0].answer.get_loop().call_soon_threadsafe(hand_over)
