"""Whether the answers of late are those that the model gave on held-out pictures."""

import math
import threading
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vit_lightning.serve.model import Floats, Model


@dataclass(frozen=True)
class Shares:
    """How often each class was the answer, and how sure the answers were.

    Args:
        pictures: How many were answered.
        shares: Of each class, in the model's order; they add up to 1, or are all 0 without a picture.
        confidence: The mean probability of the class that was answered.
    """

    pictures: int
    shares: list[float]
    confidence: float


def reference_of(model: Model) -> Shares | None:
    """What `export` has written of the model's answers on held-out pictures; None where there is nothing sound."""
    told: Any = model.card.get("reference")
    try:
        found = Shares(int(told["pictures"]), [float(each) for each in told["shares"]], float(told["confidence"]))
    except (LookupError, TypeError, ValueError, OverflowError):
        return None
    sound = len(found.shares) == len(model.class_names) and all(0 <= each <= 1 for each in found.shares)
    return found if sound and found.pictures > 0 and math.isfinite(found.confidence) else None


class Window:
    """The last so many answers of one model.

    Args:
        model: Whose; the answers of an older one are forgotten.
        length: Answers.
    """

    def __init__(self, model: Model, length: int) -> None:
        self.model = model
        self.answers: deque[tuple[int, float]] = deque(maxlen=length)
        self.lock = threading.Lock()

    def add(self, model: Model, probabilities: Floats) -> None:
        """Adds an answer (K,)."""
        with self.lock:
            if model is self.model:
                index = int(probabilities.argmax())
                self.answers.append((index, float(probabilities[index])))

    def begin(self, model: Model) -> None:
        """Goes on with another model's answers."""
        with self.lock:
            self.model = model
            self.answers.clear()

    def shares(self) -> tuple[Model, Shares]:
        """Whose answers there are, and what they were."""
        with self.lock:
            model, answers = self.model, list(self.answers)
        counts, total = Counter(index for index, _ in answers), max(1, len(answers))
        confidence = sum(sure for _, sure in answers) / total
        return model, Shares(len(answers), [counts[k] / total for k in range(len(model.class_names))], confidence)


def stability_index(now: Shares, before: Shares) -> float:
    """The population stability index of the classes: sum over classes of (p - q) ln(p / q).

    p and q are the shares now and before, each from its counts with half a picture added to every class, so that a
    class without any does no harm. It is Jeffreys' symmetric divergence; Siddiqi, "Credit Risk Scorecards" (2006),
    calls it stable below 0.1 and shifted beyond 0.25. 0 where nothing was answered yet. See `by_chance`.
    """
    if not now.pictures:
        return 0.0
    return sum((p - q) * math.log(p / q) for p, q in zip(smoothed(now), smoothed(before), strict=True))


def smoothed(found: Shares) -> list[float]:
    """The shares with half a picture added to each class."""
    total = found.pictures + len(found.shares) / 2
    return [(share * found.pictures + 0.5) / total for share in found.shares]


def by_chance(now: Shares, before: Shares) -> float:
    """About what the index is on average where nothing has changed: (K - 1)(1/n + 1/m) of n and m pictures.

    Over the factor 1/n + 1/m it follows a chi-squared distribution with K - 1 degrees of freedom (Yurdakul,
    "Statistical Properties of Population Stability Index", 2018).
    """
    classes: Sequence[float] = now.shares
    return (len(classes) - 1) * (1 / now.pictures + 1 / before.pictures) if now.pictures else 0.0
