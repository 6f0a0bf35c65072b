"""Ctrl-C and SIGTERM at the end of a batch, where nothing is half done."""

import os
import signal
import threading
from types import FrameType
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.exceptions import SIGTERMException

NOTICE = b"\nstopping after this batch; Ctrl-C again stops at once\n"


class GracefulStop(Callback):
    """Ends a run that was sent Ctrl-C or SIGTERM when the batch is over; a second Ctrl-C does at once.

    Python raises KeyboardInterrupt wherever it happens to be: in the middle of a checkpoint's saving, or in a callback
    of a weak reference, where it is printed with a trace and forgotten. On SIGTERM Lightning speaks to the other
    processes in the middle of whatever they do, and may wait for ever. Here further processes of a run leave both to
    the first one, which ends them.
    """

    def __init__(self) -> None:
        self.received: int | None = None

    def take_over(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Takes the signals over; Lightning gives them back at the end, as it does with all signals.

        A process that ignores Ctrl-C was started in the background by a shell, where it is meant for something else.
        """
        if not self.on_main_thread():
            return
        taken = self.note if self.takes_signals(trainer) else signal.SIG_IGN
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, taken)

    on_train_start = on_validation_start = on_test_start = on_predict_start = take_over

    def takes_signals(self, trainer: Trainer) -> bool:
        """Whether this process is one that ends the run."""
        return trainer.local_rank == 0

    @staticmethod
    def on_main_thread() -> bool:
        """Whether signals may be taken here at all."""
        return threading.current_thread() is threading.main_thread()

    def note(self, number: int, frame: FrameType | None) -> None:
        """Remembers the first signal."""
        if number == signal.SIGINT:
            if self.received is not None:
                raise KeyboardInterrupt
            os.write(2, NOTICE)  # not through rich, whose lock the interrupted code may hold
        self.received = number

    def stop_if_asked(self, *_: Any, **__: Any) -> None:  # noqa: ANN401  # of four hooks
        """Ends the run where it was asked for."""
        self.end(self.received)

    @staticmethod
    def end(received: int | None) -> None:
        """Ends the run by the exception of a signal, if there was one."""
        if received is not None:
            raise KeyboardInterrupt if received == signal.SIGINT else SIGTERMException

    on_train_batch_end = on_validation_batch_end = on_test_batch_end = on_predict_batch_end = stop_if_asked
