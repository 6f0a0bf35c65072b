"""Ctrl-C waits for the batch's end, and a second one does not."""

import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from torch.utils.data import DataLoader, Dataset, TensorDataset

from vit_lightning.callbacks.signals import NOTICE, GracefulStop
from vit_lightning.data.loading import start_worker


@pytest.fixture(autouse=True)
def in_the_foreground() -> Iterator[None]:
    """A shell has its background jobs ignore Ctrl-C, and the tests may be one."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class Interrupted(LightningModule):
    """Is sent so many Ctrl-C in the middle of its second batch."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.times = times
        self.whole: list[int] = []

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        if batch_idx == 1:
            for _ in range(self.times):
                os.kill(os.getpid(), signal.SIGINT)
        self.whole.append(batch_idx)
        return self.weight.sum()

    predict_step = training_step

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=1.0)


def trainer() -> Trainer:
    return Trainer(
        accelerator="cpu",
        max_epochs=1,
        logger=False,
        callbacks=[GracefulStop()],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


@pytest.mark.parametrize("method", ["fit", "predict"])
@pytest.mark.parametrize(("times", "whole"), [(1, [0, 1]), (2, [0])])
def test_one_ctrl_c_lets_the_batch_end_and_two_do_not(
    method: str, times: int, whole: list[int], capfd: pytest.CaptureFixture[str]
) -> None:
    module = Interrupted(times)
    interrupted = trainer()
    with pytest.raises(SystemExit):
        getattr(interrupted, method)(module, DataLoader(TensorDataset(torch.zeros(4, 1))))
    assert module.whole == whole
    if method == "fit":
        assert module.weight.item() == -len(whole)  # what was begun is in the weights, what was not is not
    assert NOTICE.decode() in capfd.readouterr().err
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_the_signal_is_python_s_again_after_a_run() -> None:
    module = Interrupted(0)
    trainer().fit(module, DataLoader(TensorDataset(torch.zeros(4, 1))))
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_what_runs_in_the_background_leaves_ctrl_c_alone() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    module = Interrupted(3)
    trainer().fit(module, DataLoader(TensorDataset(torch.zeros(4, 1))))
    assert module.whole == [0, 1, 2, 3]


class Shaken(Dataset[int]):
    """Every item comes with a Ctrl-C."""

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> int:
        os.kill(os.getpid(), signal.SIGINT)
        return index


def test_loader_processes_go_on_until_the_main_process_ends_them() -> None:
    loader = DataLoader(Shaken(), num_workers=1, worker_init_fn=start_worker)
    assert [int(item) for item in loader] == [0, 1, 2]
