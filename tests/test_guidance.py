"""The CNN that learns beside the ViT."""

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from vit_lightning.guidance import Guide
from vit_lightning.inference import rebuild
from vit_lightning.models.vit import VisionTransformer
from vit_lightning.module import ViTClassifier

SMALL: dict[str, Any] = {"image_size": 16, "patch_size": 4, "dim": 16, "depth": 2, "heads": 2, "pool": "gap"}


def pictures(count: int = 12, side: int = 16) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(count, 3, side, side, generator=generator), torch.arange(count) % 3


def network(**changes: Any) -> VisionTransformer:
    torch.manual_seed(0)
    return VisionTransformer(num_classes=3, **(SMALL | changes)).train()


def trainer(folder: Path, **settings: Any) -> Trainer:
    quiet = dict.fromkeys(("logger", "enable_progress_bar", "enable_model_summary", "enable_checkpointing"), False)
    return Trainer(default_root_dir=folder, accelerator="cpu", **(quiet | {"max_epochs": 2} | settings))


def classifier(**changes: Any) -> ViTClassifier:
    torch.manual_seed(0)
    return ViTClassifier(num_classes=3, **(SMALL | {"guide": 1.0} | changes))


def batches() -> DataLoader[tuple[Tensor, ...]]:
    return DataLoader(TensorDataset(*pictures()), batch_size=6)


@pytest.mark.parametrize(
    ("size", "patch", "sides"),
    [
        ((32, 32), 4, [(8, 8), (8, 8)]),
        ((96, 160), 16, [(12, 20), (6, 10)]),
        ((28, 28), 7, [(7, 7), (7, 7)]),
        ((64, 128), 32, [(8, 16), (4, 8)]),  # the last ones are averaged, to 2 x 4
        ((8, 8), 1, [(8, 8), (8, 8)]),
    ],
)
def test_the_last_map_has_the_grid_of_the_tokens_or_is_averaged_to_it(
    size: tuple[int, int], patch: int, sides: list[tuple[int, int]]
) -> None:
    net = network(image_size=size, patch_size=patch)
    guide, images = Guide(net), torch.rand(2, 3, *size)
    assert [tuple(each.shape[1:]) for each in guide.maps(images)] == [(8, *sides[0]), (16, *sides[1])]
    net(images)
    assert guide(images, torch.tensor([0, 1]), F.cross_entropy)[1].isfinite()


@pytest.mark.parametrize(("depth", "blocks"), [(1, (0, 0)), (2, (0, 1)), (3, (0, 2)), (6, (2, 5))])
def test_the_distance_is_that_of_the_middle_and_the_last_blocks_tokens(depth: int, blocks: tuple[int, int]) -> None:
    net = network(depth=depth)
    guide, (images, labels) = Guide(net), pictures()
    net(images)
    _, distance = guide(images, labels, F.cross_entropy)
    tokens, x = [], net.embed(images)
    for block in net.blocks:
        x = block(x)
        tokens.append(x)
    errors = []
    for block_number, projection, found in zip(blocks, guide.projections, guide.maps(images), strict=True):
        flat = found.permute(0, 2, 3, 1).reshape(-1, found.shape[1])  # 4 x 4 of a batch below one another
        wanted = (flat - flat.mean(dim=0)) / (flat.var(dim=0, correction=0).sqrt() + 1e-3)
        said = projection(tokens[block_number]).reshape(-1, found.shape[1])
        errors.append(((said - wanted) ** 2).mean())
    torch.testing.assert_close(distance, (errors[0] + errors[1]) / 2)


def test_the_tokens_follow_the_maps_and_not_the_maps_the_tokens() -> None:
    net = network()
    guide, (images, labels) = Guide(net), pictures()
    net(images)
    own, distance = guide(images, labels, F.cross_entropy)
    distance.backward(retain_graph=True)
    assert all(parameter.grad is None for parameter in [*guide.stages.parameters(), *guide.head.parameters()])
    assert all(block.mlp.expand.weight.grad.abs().sum() > 0 for block in net.blocks)  # type: ignore[union-attr]  # it has one
    net.zero_grad()
    own.backward()
    assert all(block.mlp.expand.weight.grad is None for block in net.blocks)
    assert all(parameter.grad is not None for parameter in guide.stages.parameters())


def test_validation_is_not_listened_to_and_nothing_of_a_step_is_kept() -> None:
    net = network()
    guide, (images, labels) = Guide(net), pictures()
    net(images)
    guide(images, labels, F.cross_entropy)
    net.eval()(images)
    assert guide.tokens == {}


def test_a_training_learns_beside_its_guide_which_no_weights_keep(tmp_path: Path) -> None:
    model = classifier(lr=0.01, warmup_fraction=0.0)
    runner = trainer(tmp_path, max_epochs=40)
    runner.fit(model, batches())
    path = tmp_path / "last.ckpt"
    runner.save_checkpoint(path)
    images, labels = pictures()
    assert model.guide is not None
    assert (model.guide.eval().head(model.guide.maps(images)[-1].mean(dim=(2, 3))).argmax(dim=1) == labels).all()
    checkpoint = torch.load(path)
    assert all(name.startswith("net.") for name in checkpoint["state_dict"])
    assert checkpoint["guide"].keys() == model.guide.state_dict().keys()
    again = rebuild(path, checkpoint)
    assert again.guide is None
    torch.testing.assert_close(again(images), model.eval()(images))


def test_the_networks_gradients_are_clipped_without_the_guides() -> None:
    model = classifier()
    model.setup("fit")
    assert model.guide is not None
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, 10.0)
    before = [parameter.grad.clone() for parameter in model.net.parameters() if parameter.grad is not None]
    model.on_before_optimizer_step(torch.optim.SGD(model.parameters(), lr=1.0))
    norm = torch.nn.utils.get_total_norm([each.grad for each in model.guide.parameters() if each.grad is not None])
    assert float(norm) == pytest.approx(1.0)
    after = [parameter.grad for parameter in model.net.parameters()]
    assert len(before) == len(after)
    assert all(new is not None and torch.equal(old, new) for old, new in zip(before, after, strict=True))


def test_a_guide_moves_the_weights_and_none_leaves_them_as_they_were(tmp_path: Path) -> None:
    ends = []
    for guide in (0.0, 0.0, 1.0):
        model = classifier(guide=guide)
        trainer(tmp_path).fit(model, batches())
        ends.append(model.net.blocks[0].mlp.expand.weight.detach())
        assert (model.guide is None) == (guide == 0)
    assert torch.equal(ends[0], ends[1])
    assert not torch.allclose(ends[0], ends[2])


def test_a_training_does_not_go_on_with_another_guide(tmp_path: Path) -> None:
    runner = trainer(tmp_path, max_epochs=1)
    runner.fit(classifier(), batches())
    path = tmp_path / "last.ckpt"
    runner.save_checkpoint(path)
    checkpoint = torch.load(path)
    del checkpoint["guide"]["head.bias"]
    torch.save(checkpoint, path)
    with pytest.raises(ValueError, match=r"head.bias missing"):
        trainer(tmp_path).fit(classifier(), batches(), ckpt_path=str(path), weights_only=True)


@pytest.mark.parametrize(("before", "after"), [(0.0, 1.0), (0.5, 0.0)])
def test_a_training_goes_on_with_a_guide_or_without_as_it_began(tmp_path: Path, before: float, after: float) -> None:
    runner = trainer(tmp_path, max_epochs=1)
    runner.fit(classifier(guide=before), batches())
    path = tmp_path / "last.ckpt"
    runner.save_checkpoint(path)
    told = "beside" if before else "without"
    with pytest.raises(ValueError, match=rf"last\.ckpt was trained {told} a guide.*give --model\.guide {before:g}, or"):
        trainer(tmp_path).fit(classifier(guide=after), batches(), ckpt_path=str(path), weights_only=True)


@pytest.mark.parametrize("other", [0.0, 1.0])
def test_who_has_a_guide_can_be_scored_with_weights_of_any(tmp_path: Path, other: float) -> None:
    paths = [tmp_path / "own.ckpt", tmp_path / "other.ckpt"]
    models = [classifier(lr=0.01), classifier(guide=other)]
    for path, model in zip(paths, models, strict=True):
        runner = trainer(tmp_path, max_epochs=1)
        runner.fit(model, batches())
        runner.save_checkpoint(path)
    own = {name: weights.clone() for name, weights in models[0].guide.state_dict().items()}  # type: ignore[union-attr]  # it has one
    trainer(tmp_path).test(models[0], batches(), ckpt_path=str(paths[1]), weights_only=True, verbose=False)
    theirs = models[1].net.state_dict()
    assert all(torch.equal(weights, theirs[name]) for name, weights in models[0].net.state_dict().items())
    assert models[0].guide is not None
    assert all(torch.equal(weights, own[name]) for name, weights in models[0].guide.state_dict().items())


def test_what_is_logged_is_the_network_s_loss_alone(tmp_path: Path) -> None:
    runner, model = trainer(tmp_path, max_epochs=1, limit_train_batches=1), classifier()
    runner.fit(model, batches())
    assert float(runner.logged_metrics["train/loss_step"]) == pytest.approx(float(runner.logged_metrics["train/loss"]))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"guide": -1.0}, "guide is -1.0"),
        ({"guide": float("nan")}, "guide is nan"),
        ({"pool": "cls"}, "give --model.pool gap or --model.guide 0"),
        ({"ema": 0.9}, "give --model.guide 0 or leave out --model.ema"),
        ({"patch_size": 16}, "give a smaller --model.patch_size or --model.guide 0"),
    ],
)
def test_what_does_not_go_with_a_guide_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        classifier(**changes)
