"""Ctrl-C at the end of a batch, where nothing is half done."""

import os
import signal
import threading
from types import FrameType
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

NOTICE = b"\nstopping after this batch; Ctrl-C again stops at once\n"


class DeferredInterrupt(Callback):
    """Raises KeyboardInterrupt for a Ctrl-C when the batch is over; a second one does at once.

    Python raises it wherever it happens to be: in the middle of a checkpoint's saving, or in a callback of a weak
    reference, where it is printed with a trace and forgotten. Further processes of a run leave it to the first one,
    which ends them.
    """

    def __init__(self) -> None:
        self.asked = False

    def take_over(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Takes the signal over; Lightning gives it back at the end, as it does with all signals.

        A process that ignores it was started in the background by a shell, whose Ctrl-C is meant for something else.
        """
        ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        if not ignored and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, self.note if trainer.local_rank == 0 else signal.SIG_IGN)

    on_train_start = on_validation_start = on_test_start = on_predict_start = take_over

    def note(self, number: int, frame: FrameType | None) -> None:
        """Remembers the first Ctrl-C."""
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        os.write(2, NOTICE)  # not through rich, whose lock the interrupted code may hold

    def stop_if_asked(self, *_: Any, **__: Any) -> None:  # noqa: ANN401  # of four hooks
        """Ends the run where it was asked for."""
        if self.asked:
            raise KeyboardInterrupt

    on_train_batch_end = on_validation_batch_end = on_test_batch_end = on_predict_batch_end = stop_if_asked
