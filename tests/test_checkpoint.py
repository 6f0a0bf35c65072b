"""Which weights fit which network: resampling against timm's, and what is refused."""

import math
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import pytest
import torch
from timm.layers.pos_embed import resample_abs_pos_embed
from torch import nn

from vit_lightning.callbacks.checkpoints import AtomicCheckpointIO
from vit_lightning.checkpoint import binding_arguments, changed_arguments, initial_weights, read_checkpoint
from vit_lightning.inference import load_classifier
from vit_lightning.models.layers import FREE, Rate
from vit_lightning.module import ViTClassifier

TINY: dict[str, Any] = {"num_classes": 4, "image_size": 8, "patch_size": 4, "dim": 16, "depth": 2, "heads": 2}

SaveModel = Callable[[ViTClassifier, Path], str]


def classifier(**changes: Any) -> ViTClassifier:
    torch.manual_seed(0)
    return ViTClassifier(**(TINY | changes))


def started_from(path: str, model: ViTClassifier) -> dict[str, torch.Tensor]:
    return initial_weights(Path(path), model.net, model.hparams)


def test_other_classes_get_a_fresh_head_and_another_size_resampled_positions(
    tmp_path: Path, save_model: SaveModel
) -> None:
    source = classifier(init="article", class_names=["a", "b"], num_classes=None)
    model = classifier(image_size=(12, 16), num_classes=3)
    found = started_from(save_model(source, tmp_path / "a.ckpt"), model)
    theirs = source.net.state_dict()
    assert found.keys() == {name for name in theirs if not name.startswith("head.")}
    for name, tensor in found.items():
        expected = theirs[name]
        if name == "position_embedding":
            expected = resample_abs_pos_embed(expected, [3, 4], old_size=[2, 2], num_prefix_tokens=1)
        torch.testing.assert_close(tensor, expected)


def test_same_number_of_other_classes_gets_a_fresh_head_too(tmp_path: Path, save_model: SaveModel) -> None:
    source = classifier(init="article", class_names=["a", "b", "c", "d"])
    found = started_from(save_model(source, tmp_path / "a.ckpt"), classifier(class_names=["a", "b", "c", "e"]))
    assert not any(name.startswith("head.") for name in found)


def test_weights_of_another_network_are_refused_with_what_would_fit(tmp_path: Path, save_model: SaveModel) -> None:
    path = save_model(classifier(dim=32, heads=4), tmp_path / "a.ckpt")
    with pytest.raises(ValueError, match=r"give --model.dim 32 --model.heads 4$"):
        started_from(path, classifier())


def test_rates_and_initialisation_may_be_others(tmp_path: Path, save_model: SaveModel) -> None:
    source = classifier(init="article", dropout=0.1, drop_path=0.2)
    found = started_from(save_model(source, tmp_path / "a.ckpt"), classifier())
    torch.testing.assert_close(found, dict(source.net.state_dict()))


@pytest.mark.parametrize("change", ["more", "fewer", "shape"])
def test_weights_that_the_network_does_not_have_are_refused(tmp_path: Path, save_model: SaveModel, change: str) -> None:
    path = save_model(classifier(), tmp_path / "a.ckpt")
    content = torch.load(path, weights_only=True)
    weights = content["state_dict"]
    if change == "more":
        weights["net.blocks.2.norm1.weight"] = torch.ones(16)
    elif change == "fewer":
        del weights["net.blocks.1.norm2.bias"]
    else:
        weights["net.norm.weight"] = torch.ones(8)
    torch.save(content, path)
    named = {"more": "blocks.2.norm1.weight", "fewer": "blocks.1.norm2.bias", "shape": "norm.weight"}[change]
    with pytest.raises(ValueError, match=f"do not fit the network: {named} missing, unknown or of another shape"):
        started_from(path, classifier())


class Evil:
    """Makes a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.mark}",)


def good(tmp_path: Path, save_model: SaveModel) -> dict[str, Any]:
    content: dict[str, Any] = torch.load(save_model(classifier(), tmp_path / "good.ckpt"), weights_only=True)
    return content


@pytest.mark.parametrize("place", ["x", "state_dict", "hyper_parameters"])
def test_code_in_a_checkpoint_is_named_and_not_run(tmp_path: Path, save_model: SaveModel, place: str) -> None:
    path, mark = tmp_path / "evil.ckpt", tmp_path / "mark"
    torch.save(good(tmp_path, save_model) | {place: Evil(mark)}, path)
    readers: list[Callable[[Path], object]] = [
        read_checkpoint,
        load_classifier,
        lambda path: started_from(str(path), classifier()),
    ]
    for read in readers:
        with pytest.raises(
            ValueError, match=r"evil.ckpt is no checkpoint of this project \(it holds posix.system, and"
        ):
            read(path)
    with pytest.raises(pickle.UnpicklingError):
        AtomicCheckpointIO().load_checkpoint(path, weights_only=False)  # whatever Lightning is asked for
    assert not mark.exists()
    torch.load(path, weights_only=False)
    assert mark.exists()  # it would have


def test_an_archive_that_would_grow_is_not_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "bomb.ckpt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(10_000_000))
    with pytest.raises(ValueError, match=r"bomb.ckpt .* \(its parts would take 10,000,000 bytes and are compressed"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"state_dict": {"x": 3}}, "its state_dict holds more than tensors"),
        ({"state_dict": []}, "its state_dict holds more than tensors"),
        ({"hyper_parameters": 3}, "its hyper_parameters are no names, numbers and lists"),
        ({"hyper_parameters": {"lr": torch.zeros(2)}}, "its hyper_parameters are no names, numbers and lists"),
        ({"datamodule_hyper_parameters": {3: 4}}, "its datamodule_hyper_parameters are no names"),
        ({"epoch": -1}, "its epoch is -1"),
        ({"global_step": "x"}, "its global_step is 'x'"),
    ],
)
def test_what_a_checkpoint_may_not_hold(
    tmp_path: Path, save_model: SaveModel, change: dict[str, Any], said: str
) -> None:
    torch.save(good(tmp_path, save_model) | change, tmp_path / "a.ckpt")
    with pytest.raises(ValueError, match=rf"a.ckpt is no checkpoint of this project \({said}"):
        read_checkpoint(tmp_path / "a.ckpt")


def test_lists_that_hold_each_other_many_times_are_refused(tmp_path: Path, save_model: SaveModel) -> None:
    nested: list[Any] = []
    for _ in range(40):  # 2^40 in all
        nested = [nested, nested]
    torch.save(good(tmp_path, save_model) | {"hyper_parameters": {"lr": nested}}, tmp_path / "a.ckpt")
    with pytest.raises(ValueError, match="its hyper_parameters are no names"):
        read_checkpoint(tmp_path / "a.ckpt")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"lr": math.nan}, "lr is nan"),
        ({"nothing": 1}, "nothing"),
        ({"dim": 10**9}, "dim is"),
        ({"depth": 2.5}, "depth"),
    ],
)
def test_a_model_that_cannot_be_rebuilt_is_named(
    tmp_path: Path, save_model: SaveModel, settings: dict[str, Any], said: str
) -> None:
    content = good(tmp_path, save_model)
    content["hyper_parameters"] |= settings
    torch.save(content, tmp_path / "a.ckpt")
    with pytest.raises(ValueError, match=rf"the model of .*a.ckpt cannot be rebuilt: .*{said}"):
        load_classifier(tmp_path / "a.ckpt")


def test_the_signature_says_what_weights_depend_on() -> None:
    class Lever(nn.Module):
        def __init__(
            self, *, width: int, rate: Rate = 0.0, start: Annotated[str, FREE] = "zero", stem: int = 1
        ) -> None:
            super().__init__()

    assert binding_arguments(Lever) == ["width", "stem"]
    free = {"dropout", "attention_dropout", "mlp_dropout", "drop_path", "init"}
    assert not free & set(binding_arguments())
    assert {"heads", "pool", "mlp_ratio", "image_size", "in_channels", "num_classes"} <= set(binding_arguments())


def test_lists_and_tuples_are_the_same_and_what_is_not_saved_has_its_default() -> None:
    wanted = {"image_size": (8, 16), "pool": "cls", "heads": 4}
    assert changed_arguments(wanted, {"image_size": [8, 16], "heads": 8}, list(wanted)) == ["heads"]
    assert changed_arguments(wanted | {"pool": "gap"}, {"image_size": [8, 16], "heads": 4}, list(wanted)) == ["pool"]


def test_python_saves_as_much_as_the_command_line(tmp_path: Path, save_model: SaveModel) -> None:
    """All of the network's arguments, given or not, so that a checkpoint says what it is."""
    saved = read_checkpoint(Path(save_model(classifier(), tmp_path / "a.ckpt")))["hyper_parameters"]
    assert set(binding_arguments()) | {"dropout", "attention_dropout", "mlp_dropout", "drop_path", "init"} <= set(saved)
    assert saved["mlp_ratio"] == 4.0
    assert saved["class_names"] == ["0", "1", "2", "3"]
    assert "network" not in saved


@pytest.mark.parametrize("content", [{}, {"state_dict": {}}, [1]])
def test_other_files_are_no_checkpoints(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "a.ckpt")
    with pytest.raises(ValueError, match="is no checkpoint of this project"):
        read_checkpoint(tmp_path / "a.ckpt")
