"""Arguments held against what they may be: one helper for all numbers of network, training, data and trainer."""

import math
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


def check_number(
    name: str,
    value: object,
    *,
    least: float = -math.inf,
    most: float = math.inf,
    below: float = math.inf,
    whole: bool = False,
    optional: bool = False,
) -> None:
    """Refuses what is no number, not finite, or out of its range.

    Args:
        name: The argument's, for the message.
        value: Of the argument.
        least: The least value.
        most: The largest.
        below: What it has to stay under.
        whole: Whether it has to be a whole number.
        optional: Whether None passes, too: the argument may be left out.

    Raises:
        ValueError: The message says what was found and what is expected.
    """
    if value is None and optional:
        return
    known = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
    # NaN fails every comparison, and infinity one of them: all that is finite lies between.
    if known and least <= value <= most and -math.inf < value < below:  # type: ignore[operator]  # it is a number
        return
    kind = "a whole number" if whole else "a number"
    if below < math.inf:
        where = f" in [{bound(least)}, {bound(below)})"
    elif most < math.inf:
        where = f" from {bound(least)} to {bound(most)}"
    else:
        where = f" of at least {bound(least)}" if least > -math.inf else ""
    raise ValueError(f"{name} is {shown(value)}; expected {kind}{where}")


def both_sides(name: str, size: object) -> tuple[int, int]:
    """Height and width in pixels, of a size that is one number where the image is square.

    Raises:
        ValueError: It is neither one nor two numbers, or a side is out of its range.
    """
    sides = tuple(size) if isinstance(size, tuple | list) else (size, size)
    if len(sides) != 2:
        raise ValueError(f"{name} is {shown(size)}; expected one side, or height and width, as in [112,192]")
    for side in sides:
        check_number(name, side, least=1, most=2**16, whole=True)
    return sides


def check_words(**words: object) -> None:
    """Refuses what is neither a word, nor a path, nor left out.

    Raises:
        ValueError: The message names the first one, an argument of the data.
    """
    for name, value in words.items():
        if not isinstance(value, str | os.PathLike | None):
            raise ValueError(f"data.{name} is {shown(value)}; expected a word")  # noqa: TRY004  # a value, as all here


def check_choice(name: str, choice: object, known: tuple[str, ...]) -> None:
    """Refuses what is not one of the known choices.

    Raises:
        ValueError: The message lists them.
    """
    if not isinstance(choice, str) or choice not in known:
        raise ValueError(f"{name} is {shown(choice)}; choose {' or '.join(map(repr, known))}")


@contextmanager
def ended_after(seconds: float, text: str) -> Iterator[None]:
    """Ends what takes longer than that, if it is Python's own or looks out for signals, as regular expressions do.

    It needs the alarm of a process's main thread; elsewhere, and on Windows, there is no end.

    Raises:
        ValueError: It was ended; the message is `text`.
    """
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, frame: FrameType | None) -> None:  # noqa: ARG001  # a handler's signature
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    except TimeoutError as error:
        raise ValueError(text) from error
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def bound(value: float) -> str:
    """An end of a range."""
    return f"{value:.0f}" if abs(value) < 1e12 and value == int(value) else f"{value:g}"


def shown(value: object) -> str:
    """A value as a message shows it: of a long one the beginning."""
    try:
        text = repr(value) if isinstance(value, str) else str(value)
    except ValueError:  # a whole number of thousands of digits
        text = "a number of very many digits"
    return text if len(text) <= 40 else f"{text[:40]}..."
