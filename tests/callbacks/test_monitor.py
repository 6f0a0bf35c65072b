"""Curves class by class and step by step, in TensorBoard's own words."""

import math
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from sklearn.metrics import confusion_matrix, precision_score, recall_score
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util.tensor_util import make_ndarray
from torch import Tensor

from vit_lightning.callbacks.monitor import (
    LEGIBLE,
    THRESHOLDS,
    ClassMonitor,
    StepMonitor,
    curve_counts,
    tag_names,
)
from vit_lightning.data.datamodule import ImageDataModule
from vit_lightning.data.sources import find_classes
from vit_lightning.module import ViTClassifier


class Spy(ClassMonitor):
    """Keeps what it saw in the last epoch."""

    def on_validation_epoch_start(self, *args: Any, **kwargs: Any) -> None:
        super().on_validation_epoch_start(*args, **kwargs)
        self.labels: list[int] = []
        self.scores: list[Tensor] = []

    def on_validation_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, *args: Any, **kwargs: Any
    ) -> None:
        super().on_validation_batch_end(trainer, pl_module, outputs, batch, *args, **kwargs)
        self.labels += batch[1].tolist()
        self.scores.append(pl_module(batch[0]).softmax(dim=-1))


class SpyOnSteps(StepMonitor):
    """Keeps the weights after each step; a batch takes a second, all else a hundred."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.weights: list[Tensor] = []

    def on_fit_start(self, trainer: Trainer, pl_module: Any) -> None:
        self.weights.append(torch.nn.utils.parameters_to_vector(pl_module.net.parameters()).detach().clone())

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        self.now += 100.0

    def on_validation_start(self, trainer: Trainer, pl_module: Any) -> None:
        self.now += 100.0

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, *args: Any) -> None:
        self.now += 1.0
        super().on_train_batch_end(trainer, pl_module, *args)
        self.weights.append(torch.nn.utils.parameters_to_vector(pl_module.net.parameters()).detach().clone())


def fit(root: Path, callbacks: list[Any], guide: float = 0.0, **options: Any) -> None:
    torch.manual_seed(0)
    data = ImageDataModule(root=str(root), image_size=8, batch_size=10, num_workers=0, val_fraction=0.3)
    sizes: dict[str, Any] = {"image_size": 8, "patch_size": 4, "dim": 8, "depth": 1, "heads": 1}
    model = ViTClassifier(class_names=find_classes("folder", str(root)), pool="gap", lr=1e-2, guide=guide, **sizes)
    settings = {"max_epochs": 3, "limit_train_batches": 4, "log_every_n_steps": 2, "logger": False} | options
    trainer = Trainer(
        accelerator="cpu",
        callbacks=callbacks,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **settings,
    )
    trainer.fit(model, data)


def test_recall_confusion_and_curves_are_scikit_learns(tmp_path: Path, frames: Path) -> None:
    names = find_classes("folder", str(frames))
    spy = Spy(names)
    fit(frames, [spy], logger=TensorBoardLogger(tmp_path, name="", version="run"))
    events = EventAccumulator(str(tmp_path / "run"))
    events.Reload()
    labels, scores = np.array(spy.labels), torch.cat(spy.scores)
    recalls = recall_score(labels, scores.argmax(dim=1), labels=range(len(names)), average=None)
    for name, recall in zip(names, recalls, strict=True):
        found = events.Scalars(f"val/recall/{name}")
        assert [event.step for event in found] == [3, 7, 11]
        assert found[-1].value == pytest.approx(recall, abs=1e-6)
    torch.testing.assert_close(
        spy.confusion.compute().numpy(), confusion_matrix(labels, scores.argmax(dim=1), labels=range(len(names)))
    )
    assert [event.step for event in events.Images("val/confusion")] == [3, 7, 11]
    for index, name in enumerate(names):
        curve = make_ndarray(events.Tensors(f"val/pr/{name}")[-1].tensor_proto)
        assert curve.shape == (6, THRESHOLDS)
        for place in (0, 30, 60):
            predicted = scores[:, index].numpy() >= place / (THRESHOLDS - 1)
            expected = [
                precision_score(labels == index, predicted, zero_division=1),
                recall_score(labels == index, predicted),
            ]
            assert curve[4:, place] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("classes", "named"), [(3, True), (LEGIBLE + 1, False)])
def test_the_matrix_is_the_report_s_with_names_that_can_be_read(tmp_path: Path, classes: int, named: bool) -> None:
    """Of any script: matplotlib would warn of signs that its font lacks."""
    figures: list[Any] = []

    class Board(TensorBoardLogger):
        @property
        def experiment(self) -> Any:
            writer = super().experiment
            draw = writer.add_figure

            def add_figure(tag: str, figure: Any, step: int) -> None:
                figures.append(figure)
                draw(tag, figure, step)

            return SimpleNamespace(add_figure=add_figure, add_scalar=writer.add_scalar)

    trainer: Any = SimpleNamespace(
        sanity_checking=False,
        loggers=[Board(tmp_path)],
        current_epoch=2,
        max_epochs=9,
        check_val_every_n_epoch=1,
        is_global_zero=True,
        global_step=1,
    )
    module: Any = SimpleNamespace(device="cpu")
    monitor = ClassMonitor(["猫", "mouse", *map(str, range(2, classes))])
    monitor.on_validation_epoch_start(trainer, module)
    batch = (torch.empty(0), torch.tensor([0, 1, 1]))
    monitor.on_validation_batch_end(trainer, module, torch.eye(classes)[[0, 1, 0]], batch, 0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        monitor.on_validation_epoch_end(trainer, module)
    (axes,) = figures[0].axes
    shares = np.asarray(axes.collections[0].get_array()).reshape(classes, classes)
    assert shares[:2, :2].tolist() == [[1.0, 0.0], [0.5, 0.5]]
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names == (["猫", "mouse", "2"] if named else [])
    cells = [text.get_text().split() for text in axes.texts]
    assert cells == ([["100", "%", "1"], ["50", "%", "1"], ["50", "%", "1"]] if named else [])


def test_logits_between_0_and_1_are_no_probabilities(tmp_path: Path) -> None:
    logger = TensorBoardLogger(tmp_path, name="", version="run")
    settings = {"current_epoch": 0, "max_epochs": 1, "check_val_every_n_epoch": 1}
    trainer: Any = SimpleNamespace(sanity_checking=False, loggers=[logger], **settings)
    monitor = ClassMonitor(["no", "yes"])
    batch = (torch.empty(0), torch.tensor([1]))
    monitor.on_validation_batch_end(trainer, torch.nn.Module(), torch.tensor([[0.1, 0.9]]), batch, 0)  # type: ignore[arg-type]  # not looked at
    found = monitor.curves.confmat[:, 1, 1, 1].nonzero().max() / (THRESHOLDS - 1)
    assert found == pytest.approx(math.exp(0.9) / (math.exp(0.1) + math.exp(0.9)), abs=0.01)


@pytest.mark.parametrize("options", [{"limit_val_batches": 0}, {"fast_dev_run": True}, {"num_sanity_val_steps": 2}])
def test_without_validation_logger_or_whole_epochs(
    tmp_path: Path, frames: Path, options: dict[str, Any], recwarn: pytest.WarningsRecorder
) -> None:
    names = find_classes("folder", str(frames))
    (tmp_path / "run").mkdir()
    for logger in (False, TensorBoardLogger(tmp_path, name="", version="run")):
        fit(frames, [ClassMonitor(names), StepMonitor()], logger=logger, **options)
    assert not [warning for warning in recwarn if "before the ``update`` method" in str(warning.message)]
    events = EventAccumulator(str(tmp_path / "run"))
    events.Reload()
    seen = events.Tags()["images"]
    assert seen == (["val/confusion"] if "num_sanity_val_steps" in options else [])
    if seen:
        assert [event.step for event in events.Images("val/confusion")] == [3, 7, 11]  # not of the trial


@pytest.mark.parametrize("guide", [0.0, 1.0])  # the norms are the network's alone
def test_update_norm_and_images_per_second(
    tmp_path: Path, frames: Path, monkeypatch: pytest.MonkeyPatch, guide: float
) -> None:
    spy = SpyOnSteps()
    clock = SimpleNamespace(perf_counter=lambda: spy.now)
    monkeypatch.setattr("vit_lightning.callbacks.monitor.time", clock)
    fit(frames, [spy], guide, val_check_interval=1, logger=TensorBoardLogger(tmp_path, name="", version="run"))
    events = EventAccumulator(str(tmp_path / "run"))
    events.Reload()
    # Ten images a batch; neither validation, here after each batch, nor the time between epochs counts.
    speeds = events.Scalars("train/images_per_second")
    assert [(event.step, event.value) for event in speeds] == [(step, 10.0) for step in (1, 3, 5, 7, 9, 11)]
    for event in events.Scalars("train/update_norm"):
        before, after = spy.weights[event.step : event.step + 2]
        assert event.value == pytest.approx(float((after - before).norm() / before.norm()), rel=1e-4)
        assert 0 < event.value < 1


def test_a_curve_worked_by_hand() -> None:
    # One threshold; 6 images: 2 no and no, 1 no and yes, 1 yes and no, 2 yes and yes. Then one at which none is a yes.
    counts = torch.tensor([[[2, 1], [1, 2]], [[3, 0], [3, 0]]])
    tp, fp, tn, fn, precision, recall = curve_counts(counts)
    assert [part.tolist() for part in (tp, fp, tn, fn)] == [[2, 0], [1, 0], [2, 3], [1, 3]]
    assert precision.tolist() == pytest.approx([2 / 3, 1.0])
    assert recall.tolist() == pytest.approx([2 / 3, 0.0])


def test_tags_have_no_spaces_and_stay_apart() -> None:
    assert tag_names(["tom", "tom & jerry", "a b", "a_b", "Ärger-1.5"]) == [
        "tom",
        "tom_jerry",
        "a_b_2",
        "a_b_3",
        "Ärger-1.5",
    ]
