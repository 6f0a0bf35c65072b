"""What the terminal shows while one waits, and the log that keeps it."""

import errno
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from logging.handlers import MemoryHandler
from pathlib import Path

#: Signs of an error at most: what was given may be a whole file.
LONGEST = 1500

#: The project's own messages; Lightning's are let through from warnings up.
LOGGER = "vit_lightning"

#: The loggers whose records reach the user.
LOGGERS = (LOGGER, "lightning")

#: Columns of the narrowest terminal that lines are made for.
WIDTH = 80

#: Warnings that nobody can act on, by the beginning of the message; why each is none of the user's business.
NOISE = (
    # Advice on settings that were chosen with care: by measuring, or because the run is a small one.
    r".*does not have many workers which may be a bottleneck",
    r".*The number of training batches .* is smaller than the logging interval",
    # A run's own checkpoints are there when it goes on.
    r".*Checkpoint directory .* exists and is not empty",
    # test and predict need none of the callbacks that the weights were trained with.
    r".*Be aware that when using `ckpt_path`",
    # A run without a validation part has no best checkpoint; `fit` says what it has.
    r".*ModelCheckpoint.* could not find the monitored key",
    # A part that is empty is said by its name elsewhere.
    r".*Total length of `list` across ranks is zero",
    # The hook is there for the commands that do have such a loader.
    r".*You have overridden .* in `LightningModule` but have passed in",
    # TensorBoard's own package, which is used here, is there.
    r".*Starting from v1\.9\.0, `tensorboardX` has been removed",
    # Lightning 2.6 calls what torch 2.14 and jsonargparse 4.49 mean to take away; it is theirs to settle.
    r".*`isinstance\(treespec, LeafSpec\)` is deprecated",
    r"\s*``instantiate_classes`` was deprecated",
    r"\s*By default only one JsonargparseDeprecationWarning per type is shown",
    # MLflow 3.17 calls what SQLAlchemy 2.1 means to take away.
    r".*``noload`` loader strategy is deprecated",
    # What a file holds beyond numbers, words and tensors is refused in words of our own.
    r"Detected pickle protocol",
    # There is another way to read the pictures where torchvision's has gone.
    r"The image decoding and encoding capabilities of TorchVision are deprecated",
)


class ConsoleHandler(logging.Handler):
    """Prints records through rich, above a running progress bar, errors to the standard error stream.

    Long lines are left to the terminal to wrap.
    """

    def emit(self, record: logging.LogRecord) -> None:
        """Prints one record, warnings and errors with their level before them."""
        from rich import get_console
        from rich.console import Console

        console = Console(stderr=True) if record.levelno >= logging.ERROR else get_console()
        style = {logging.WARNING: "yellow", logging.ERROR: "bold red"}.get(record.levelno)
        console.print(self.format(record), style=style, markup=False, highlight=False, soft_wrap=True)


class Format(logging.Formatter):
    """`message`, or `warning: message`."""

    def format(self, record: logging.LogRecord) -> str:
        """The record's text."""
        text = record.getMessage()
        if not getattr(record, "table", False):  # whose lines are our own; a name may hold what a terminal obeys
            text = legible(text if record.name.startswith(LOGGER) else " ".join(text.split()))
        return text if record.levelno < logging.WARNING else f"{record.levelname.lower()}: {text}"


class TimeStamped(Format):
    """`Format` with the time before it."""

    def format(self, record: logging.LogRecord) -> str:
        """The record's text."""
        return f"{self.formatTime(record, '%Y-%m-%d %H:%M:%S')} {super().format(record)}"


def log_warning(message: Warning | str, category: type[Warning], *where: object, **more: object) -> None:
    """Takes the place of `warnings.showwarning`: one line, without the place in the code."""
    del category, where, more
    logging.getLogger(LOGGER).warning(" ".join(str(message).split()))


def set_up_logging(*, quiet: bool = False) -> None:
    """Sends the project's messages, Lightning's warnings and Python's warnings to the terminal.

    They are also remembered for `log_to`: what is known of the data is said before there is a run to keep it.

    Args:
        quiet: Let only errors through: the same run's main process says the rest.
    """
    handler = ConsoleHandler()
    handler.setFormatter(Format())
    memory = MemoryHandler(capacity=0)  # which keeps everything until it has a target
    logging.getLogger(LOGGER).setLevel(logging.ERROR if quiet else logging.INFO)
    for name in LOGGERS:
        logger = logging.getLogger(name)
        for old in logger.handlers:
            old.close()  # the log file of an earlier run in this process
        logger.handlers = [handler, memory]
        logger.propagate = False
    logging.getLogger("lightning").setLevel(logging.WARNING)
    for name in ("lightning.pytorch", "lightning.fabric"):
        logger = logging.getLogger(name)
        logger.setLevel(logging.WARNING)
        logger.handlers, logger.propagate = [], True  # its own would print past the terminal's bars and the log file
    warnings.showwarning = log_warning
    # Python hides these outside of the program's first file, and so would those of a callback that somebody adds.
    warnings.filterwarnings("default", category=DeprecationWarning)
    for message in NOISE:
        warnings.filterwarnings("ignore", message=message)


def is_set_up() -> bool:
    """Whether the project's messages go to the terminal by now."""
    return any(isinstance(handler, ConsoleHandler) for handler in logging.getLogger(LOGGER).handlers)


def log_to(path: Path) -> None:
    """Copies what the terminal shows, and what it has shown since `set_up_logging`, into a file, with the time."""
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(TimeStamped())
    for name in LOGGERS:
        logger = logging.getLogger(name)
        for memory in [old for old in logger.handlers if isinstance(old, MemoryHandler)]:
            memory.setTarget(handler)
            memory.flush()
            logger.removeHandler(memory)
        logger.addHandler(handler)


#: What shows progress in the terminal's place, given the words and the share that is done: the studio's pages have one.
SHOWN_BY: ContextVar[Callable[[str, float], object] | None] = ContextVar("SHOWN_BY", default=None)


@contextmanager
def track(description: str, total: int) -> Iterator[Callable[[int], None]]:
    """A progress bar on the terminal; the caller is given a function to say how many units were done.

    Where the output is no terminal, the description is printed once; where `SHOWN_BY` is set, that is told instead.
    """
    show, done = SHOWN_BY.get(), 0
    if show is not None:

        def advance(units: int) -> None:
            nonlocal done
            done += units
            show(description, min(1.0, done / total))

        advance(0)
        yield advance
        return
    from rich import get_console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = get_console()
    if not console.is_terminal:
        logging.getLogger(LOGGER).info(description)
        yield lambda _: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(description, total=total)
        yield lambda units: progress.advance(task, units)


def is_terminal() -> bool:
    """Whether anybody watches: progress bars are drawn only then."""
    return sys.stdout.isatty()


def legible(name: str, width: int | None = None) -> str:
    r"""A name from outside on one line: control signs, a newline among them, as escapes such as \n.

    Args:
        name: As of a file or a class; it may hold anything.
        width: Columns of the terminal that it may take; of a longer one the middle is left out.
    """
    text = name
    if not text.isprintable():
        text = "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in name)
    if width is None or (text.isascii() and len(text) <= width):
        return text
    from rich.cells import cell_len, set_cell_size

    if cell_len(text) <= width:
        return text
    head = set_cell_size(text, (width - 1) // 2).rstrip()  # half of a wide sign becomes a space
    tail = set_cell_size(text[::-1], width - 1 - cell_len(head)).rstrip()[::-1]
    return f"{head}…{tail}"


def told(error: Exception) -> str:
    """An error in one line, without the system's numbers and temporary names."""
    text = str(error).strip()
    if isinstance(error, OSError) and error.strerror:
        text = f"{error.strerror}: {error.filename}" if error.filename else error.strerror
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            where = f" for {os.path.dirname(error.filename)}" if error.filename else ""  # noqa: PTH120  # bytes, too
            text = f"{error.strerror}{where}; make room, then go on (a run with fit --resume RUN)"
    if "Original Traceback" in text:  # from a loader process: its own error is the last line
        text = text.splitlines()[-1].partition(": ")[2]
    text = " ".join(text.split()) or type(error).__name__
    text = text.encode(errors="backslashreplace").decode()
    return text if len(text) <= LONGEST else f"{text[: LONGEST // 2]} ... {text[-LONGEST // 2 :]}"
