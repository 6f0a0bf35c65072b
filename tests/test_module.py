"""The LightningModule: scores against scikit-learn, optimizer steps against hand-worked values."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from sklearn.metrics import accuracy_score, f1_score
from sklearn.utils.class_weight import compute_class_weight, compute_sample_weight
from torch.utils.data import DataLoader, TensorDataset

from vit_lightning.module import ViTClassifier
from vit_lightning.optim import warmup_cosine

SaveModel = Callable[[ViTClassifier, Path], str]

TINY: dict[str, Any] = {"num_classes": 4, "image_size": 8, "patch_size": 4, "dim": 16, "depth": 2, "heads": 2}


def classifier(**changes: Any) -> ViTClassifier:
    torch.manual_seed(0)
    return ViTClassifier(**(TINY | changes))


def images(count: int, classes: int = 4) -> TensorDataset:
    generator = torch.Generator().manual_seed(1)
    labels = torch.randint(classes, (count,), generator=generator)
    return TensorDataset(torch.randn(count, 3, 8, 8, generator=generator), labels)


def trainer(**changes: Any) -> Trainer:
    quiet: dict[str, Any] = {
        "accelerator": "cpu",
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "max_epochs": 1,
    }
    return Trainer(**(quiet | changes))


@pytest.mark.parametrize("classes_present", [4, 2])
def test_scores_count_every_sample_once_whatever_the_batches(classes_present: int) -> None:
    """The last batch has 2 images of 26: averaging over batches would weigh them four times."""
    model = classifier(init="article")
    data = images(26, classes_present)
    (scores,) = trainer().validate(model, DataLoader(data, batch_size=8), verbose=False)
    x, labels = data.tensors
    with torch.inference_mode():
        logits = model.eval()(x)
    guesses = logits.argmax(dim=1)
    assert scores["val/acc"] == pytest.approx(accuracy_score(labels, guesses), abs=1e-6)
    assert scores["val/f1"] == pytest.approx(f1_score(labels, guesses, average="macro"), abs=1e-6)
    assert scores["val/loss"] == pytest.approx(torch.nn.functional.cross_entropy(logits, labels).item(), abs=1e-5)
    assert 0 < scores["val/acc"] < 1


def test_test_scores_have_their_own_names() -> None:
    (scores,) = trainer().test(classifier(), DataLoader(images(8), batch_size=8), verbose=False)
    assert set(scores) == {"test/acc", "test/f1", "test/loss"}


def test_label_smoothing_is_for_training_alone() -> None:
    model = classifier(label_smoothing=0.5, init="article").eval()
    x, labels = images(16).tensors
    logged: dict[str, Any] = {}
    model.log = lambda name, value, **_: logged.update({name: value})  # type: ignore[method-assign]  # a spy
    model.log_dict = lambda *_, **__: None  # type: ignore[method-assign]  # a spy
    smooth = model.training_step((x, labels), 0)
    model.validation_step((x, labels), 0)
    log_probabilities = model(x).log_softmax(dim=-1)
    hard = -log_probabilities[range(16), labels].mean()
    torch.testing.assert_close(logged["val/loss"].compute(), hard)
    torch.testing.assert_close(smooth, 0.5 * hard - 0.5 * log_probabilities.mean())


@pytest.mark.parametrize(("cutmix", "mixed"), [(0.0, 0), (0.5, 20), (1.0, 40)])
def test_cutmix_mixes_that_share_of_the_training_batches_and_no_other(cutmix: float, mixed: int) -> None:
    model = classifier(cutmix=cutmix).eval()
    x, labels = images(16).tensors
    seen: list[torch.Tensor] = []
    model.net.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
    model.log = lambda *_, **__: None  # type: ignore[method-assign]  # a spy
    model.log_dict = lambda *_, **__: None  # type: ignore[method-assign]  # a spy
    for _ in range(40):
        model.training_step((x, labels), 0)
    assert sum(not torch.equal(each, x) for each in seen) == pytest.approx(
        mixed, abs=12 * (0 < cutmix < 1) + 2 * cutmix
    )
    seen.clear()
    model.validation_step((x, labels), 0)
    assert torch.equal(seen[0], x)


@pytest.mark.parametrize("changes", [{"optimizer": "sgd"}, {"cutmix": 1.5}, {"stem": "deep"}])
def test_a_choice_that_is_not_known_is_refused(changes: dict[str, Any]) -> None:
    (name,) = changes
    with pytest.raises(ValueError, match=name):
        classifier(**changes)


def test_a_stem_and_muon_learn_and_run_on_one_image_alike() -> None:
    model = classifier(stem="conv", pool="gap", optimizer="muon", lr=0.01, warmup_fraction=0.0)
    data = images(32)
    runner = trainer(max_epochs=12, gradient_clip_val=1.0)
    runner.fit(model, DataLoader(data, batch_size=16))
    assert runner.callback_metrics["train/acc"] > 0.6
    x = data.tensors[0][:3]
    with torch.inference_mode():
        together, alone = model.eval()(x), torch.stack([model(each) for each in x])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)


class Steps(Callback):
    """Notes learning rates and gradient norms as the optimizer meets them."""

    def __init__(self) -> None:
        self.rates: list[float] = []
        self.norms: list[float] = []  # of the gradients that a step used; the last step's is not seen
        self.logged: list[float] = []

    def on_before_zero_grad(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        gradients = [parameter.grad for parameter in pl_module.parameters() if parameter.grad is not None]
        if gradients:
            self.norms.append(torch.nn.utils.get_total_norm(gradients).item())

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        self.rates.append(optimizer.param_groups[0]["lr"])

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *batch: Any) -> None:
        if "train/grad_norm" in trainer.callback_metrics:  # not before the first optimizer step
            self.logged.append(trainer.callback_metrics["train/grad_norm"].item())


@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_schedule_moves_once_an_optimizer_step(accumulate: int) -> None:
    steps = Steps()
    model = classifier(lr=0.5, warmup_fraction=0.25)
    trainer(max_epochs=2, accumulate_grad_batches=accumulate, callbacks=[steps]).fit(
        model, DataLoader(images(32), batch_size=4)
    )
    total = 16 // accumulate
    expected = [0.5 * warmup_cosine(i, total_steps=total, warmup_steps=total // 4) for i in range(total)]
    assert steps.rates == pytest.approx(expected)
    assert steps.rates[total // 4] == 0.5


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_clipping_works_with_the_fused_optimizer(precision: Any) -> None:
    steps, model = Steps(), classifier(init="article", warmup_fraction=0.0)
    runner = trainer(precision=precision, gradient_clip_val=0.01, callbacks=[steps], limit_train_batches=3)
    runner.fit(model, DataLoader(images(32), batch_size=8))
    assert runner.optimizers[0].defaults["fused"] is True
    assert max(steps.norms) <= 0.0101
    assert len(steps.norms) == 2
    assert min(steps.logged) > 0.1  # the norm as it was before


def test_without_a_limit_gradients_keep_their_length() -> None:
    steps = Steps()
    runner = trainer(callbacks=[steps], limit_train_batches=2)
    runner.fit(classifier(init="article"), DataLoader(images(32), batch_size=16))
    assert steps.norms == pytest.approx(steps.logged[:1], rel=1e-4)


def test_clipping_by_value_is_refused() -> None:
    runner = trainer(gradient_clip_val=1.0, gradient_clip_algorithm="value")
    with pytest.raises(ValueError, match=r"'value'.*'norm'"):
        runner.fit(classifier(), DataLoader(images(8), batch_size=8))


@pytest.mark.parametrize(("decay_all", "groups"), [(False, [0.3, 0.0]), (True, [0.3])])
def test_weight_decay_reaches_the_groups(decay_all: bool, groups: list[float]) -> None:
    runner = trainer(limit_train_batches=1)
    runner.fit(classifier(weight_decay=0.3, decay_all=decay_all), DataLoader(images(8), batch_size=8))
    assert [group["weight_decay"] for group in runner.optimizers[0].param_groups] == groups


def test_a_few_images_can_be_learnt_by_heart() -> None:
    """The article's first debugging question; it fails when any part of the step is broken."""
    model = classifier(lr=1e-2, dim=32, warmup_fraction=0.05)
    runner = trainer(max_epochs=60)
    runner.fit(model, DataLoader(images(24), batch_size=8))
    assert runner.callback_metrics["train/acc"] == 1.0


def test_prediction_gives_probabilities_beside_paths() -> None:
    model = classifier(init="article").eval()
    x = images(3).tensors[0]
    prediction = model.predict_step((x, ["a", "b", "c"], ["", "", ""]), 0)
    assert prediction["path"] == ["a", "b", "c"]
    assert prediction["unreadable"] == {}
    torch.testing.assert_close(prediction["probabilities"], model(x).softmax(dim=-1))


def test_what_could_not_be_read_has_no_probabilities() -> None:
    model = classifier(init="article").eval()
    x = images(3).tensors[0]
    prediction = model.predict_step((x, ["a", "b", "c"], ["", "it is empty", ""]), 0)
    assert prediction["path"] == ["a", "c"]
    assert prediction["unreadable"] == {"b": "it is empty"}
    torch.testing.assert_close(prediction["probabilities"], model(x).softmax(dim=-1)[[0, 2]])
    nothing = model.predict_step((x, ["a", "b", "c"], ["cut", "cut", "cut"]), 0)
    assert nothing["probabilities"].shape == (0, 4)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"num_classes": None}, ["class_names", "num_classes"]),
        ({"class_names": ["cat", "dog"]}, ["is 4", "2 classes", "cat, dog"]),
        ({"warmup_fraction": 1.5}, ["warmup_fraction", "1.5"]),
        ({"label_smoothing": -0.1}, ["label_smoothing", "-0.1"]),
        ({"lr": -1.0}, ["lr", "-1.0"]),
    ],
)
def test_mistakes_are_named_with_their_numbers(changes: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011  # the words are the match
        classifier(**changes)
    for word in words:
        assert word in str(caught.value)


# Class weights and weights to start from


class Counted(LightningDataModule):
    """Five images of class 0, two of class 1, one each of the others."""

    labels = torch.tensor([0, 0, 0, 0, 0, 1, 1, 2, 3])

    def training_counts(self) -> list[int]:
        return [5, 2, 1, 1]

    def train_dataloader(self) -> DataLoader[Any]:
        torch.manual_seed(2)
        return DataLoader(TensorDataset(torch.randn(9, 3, 8, 8), self.labels), batch_size=4)


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_balanced_weights_are_scikit_learn_s_and_reach_the_training_loss_alone(label_smoothing: float) -> None:
    model = classifier(class_weights="balanced", init="article", label_smoothing=label_smoothing, lr=0.0)
    data = Counted()
    batch = data.train_dataloader().dataset[:]  # a TensorDataset: all nine images
    weights = compute_sample_weight("balanced", data.labels.tolist())
    with torch.no_grad():
        logits = model(batch[0])
        plain = torch.nn.functional.cross_entropy(logits, batch[1], reduction="none")
        if label_smoothing == 0:
            expected = (plain * torch.tensor(weights)).mean()
        else:  # torch's own definition; its mean divides by the weights of the batch, which here add up to 9
            by_class = torch.tensor(compute_class_weight("balanced", classes=np.arange(4), y=data.labels.numpy()))
            expected = torch.nn.functional.cross_entropy(
                logits.double(), batch[1], by_class, label_smoothing=label_smoothing
            )
    fitting = trainer(max_epochs=1)
    fitting.fit(model, datamodule=data)
    assert fitting.callback_metrics["train/loss"].item() == pytest.approx(expected.item(), abs=1e-5)
    (scores,) = trainer().validate(
        classifier(class_weights="balanced", init="article"),
        DataLoader(TensorDataset(*batch), batch_size=9),
        verbose=False,
    )
    assert scores["val/loss"] == pytest.approx(plain.mean().item(), abs=1e-5)


def test_balanced_weights_fit_a_model_in_half_precision() -> None:
    trainer(precision="bf16-true").fit(classifier(class_weights="balanced"), datamodule=Counted())


def test_balanced_weights_need_a_data_module_that_counts() -> None:
    with pytest.raises(ValueError, match="ImageDataModule"):
        trainer().fit(classifier(class_weights="balanced"), DataLoader(images(8), batch_size=8))


def start_from(source: str, **changes: Any) -> ViTClassifier:
    """The model as it is when training begins."""
    model = classifier(init_from=source, **changes)
    fitting = trainer(max_steps=0)
    fitting.fit(model, DataLoader(images(8), batch_size=8))
    return model


def test_training_starts_from_another_run_s_weights(tmp_path: Path, save_model: SaveModel) -> None:
    source = classifier(init="article")
    model = start_from(save_model(source, tmp_path / "a.ckpt"))
    torch.testing.assert_close(model.net.state_dict(), source.net.state_dict())


def test_a_checkpoint_s_own_weights_win_over_those_to_start_from(tmp_path: Path, save_model: SaveModel) -> None:
    """And the file that training started from is not looked for again."""
    model = classifier(init_from=save_model(classifier(init="article"), tmp_path / "a.ckpt"))
    fitting = trainer(max_epochs=1)
    data = DataLoader(images(8), batch_size=8)
    fitting.fit(model, data)
    fitting.save_checkpoint(tmp_path / "b.ckpt")
    (tmp_path / "a.ckpt").unlink()
    again = classifier(init_from=str(tmp_path / "a.ckpt"))
    trainer(max_epochs=1).fit(again, data, ckpt_path=tmp_path / "b.ckpt")
    torch.testing.assert_close(again.net.state_dict(), model.net.state_dict())


@pytest.mark.slow  # the compiler takes half a minute
def test_a_compiled_network_learns_the_same_and_keeps_the_names_of_its_weights() -> None:
    weights = []
    for compiled in (False, True):
        model = classifier(compile=compiled)
        trainer(max_epochs=2).fit(model, DataLoader(images(32), batch_size=16))
        weights.append(model.state_dict())
    assert weights[0].keys() == weights[1].keys()
    torch.testing.assert_close(weights[1], weights[0], atol=1e-4, rtol=0)
