"""What the terminal shows while one waits, and the log that keeps it."""

import logging
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from logging.handlers import MemoryHandler
from pathlib import Path

#: The project's own messages; Lightning's are let through from warnings up.
LOGGER = "vit_lightning"

#: The loggers whose records reach the user.
LOGGERS = (LOGGER, "lightning")

#: Advice that does not apply to this project's runs, by the beginning of the message.
NOISE = (
    r".*does not have many workers which may be a bottleneck",
    r".*The number of training batches .* is smaller than the logging interval",
    r".*Checkpoint directory .* exists and is not empty",
    r".*`isinstance\(treespec, LeafSpec\)` is deprecated",
    r".*Starting from v1\.9\.0, `tensorboardX` has been removed",
    r".*Be aware that when using `ckpt_path`",
    r".*ModelCheckpoint.* could not find the monitored key",
    r".*Total length of `list` across ranks is zero",
    r".*You have overridden .* in `LightningModule` but have passed in",
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
    for name in ("lightning", "lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.showwarning = log_warning
    for message in NOISE:
        warnings.filterwarnings("ignore", message=message)
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    warnings.filterwarnings("ignore", category=FutureWarning)


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


@contextmanager
def track(description: str, total: int) -> Iterator[Callable[[int], None]]:
    """A progress bar on the terminal; the caller is given a function to say how many units were done.

    Where the output is no terminal, the description is printed once.
    """
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
