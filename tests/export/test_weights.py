"""Exported weights, read by timm's own network and by ours."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from PIL import Image
from safetensors import safe_open
from timm.data.config import resolve_data_config
from timm.data.transforms_factory import create_transform
from timm.layers.hybrid_embed import HybridEmbed
from timm.models.vision_transformer import VisionTransformer as TimmTransformer
from torch import nn

from vit_lightning.export.weights import known_to_timm, read_back, timm_config, write_weights
from vit_lightning.inference import load_classifier, predict_paths
from vit_lightning.module import ViTClassifier
from vit_lightning.public_weights import our_name, timm_name

SIZES: dict[str, Any] = {"image_size": 32, "patch_size": 8, "dim": 24, "depth": 2, "heads": 3}


def exported(folder: Path, **changes: Any) -> ViTClassifier:
    """A model with random weights of every kind, and its files in a folder."""
    torch.manual_seed(0)
    model = ViTClassifier(class_names=["ant", "bee", "cow"], **(SIZES | changes)).eval()
    with torch.no_grad():
        for tensor in model.net.state_dict().values():
            if tensor.is_floating_point():
                tensor.add_(torch.rand_like(tensor), alpha=0.2)
    write_weights(model, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(timm_config(model, {"licence": "MIT"})))
    return model


@pytest.mark.parametrize(
    "changes",
    [{}, {"pool": "gap"}, {"image_size": (32, 48)}, {"in_channels": 1, "mlp_ratio": 1.5}],
    ids=["cls", "gap", "oblong", "grey"],
)
@torch.inference_mode()
def test_timm_builds_the_very_network(tmp_path: Path, changes: dict[str, Any]) -> None:
    model = exported(tmp_path, **changes)
    theirs = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    images = torch.randn(4, *model.net.image_shape)
    logits = model(images)
    assert logits.std() > 0.01
    torch.testing.assert_close(theirs(images), logits, atol=1e-4, rtol=0)
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        names = set(file.keys())
    assert names == theirs.state_dict().keys()  # with none left over: strict
    assert "vit_lightning" not in " ".join(names)


@pytest.mark.parametrize("channels", [1, 3])
@torch.inference_mode()
def test_timm_s_preprocessing_is_nearly_ours(tmp_path: Path, channels: int) -> None:
    model = exported(tmp_path, image_size=(32, 48), in_channels=channels)
    picture = Image.radial_gradient("L").resize((90, 70))
    picture = Image.merge("RGB", (picture, picture.rotate(90), picture.rotate(180)))
    picture.save(tmp_path / "a.png")
    theirs = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    transform = create_transform(**resolve_data_config(model=theirs))  # type: ignore[no-untyped-call]  # timm's own
    found = theirs(transform(picture if channels == 3 else picture.convert("L"))[None]).softmax(dim=-1)[0]
    ((_, expected),) = predict_paths(model, [tmp_path / "a.png"])
    torch.testing.assert_close(found, expected, atol=5e-3, rtol=0)


@torch.inference_mode()
def test_of_a_convolutional_stem_the_names_are_those_of_timm_s_hybrid(tmp_path: Path) -> None:
    model = exported(tmp_path, stem="conv")
    assert not known_to_timm(model)
    assert "architecture" not in json.loads((tmp_path / "config.json").read_text())
    layers: list[nn.Module] = []
    for before, after in ((3, 6), (6, 12), (12, 24)):
        layers += [nn.Conv2d(before, after, 3, 2, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
    backbone = nn.Sequential(*layers)
    backbone.num_features = 24  # type: ignore[assignment]  # as timm's backbones say it
    theirs = TimmTransformer(
        img_size=32,
        patch_size=1,
        embed_dim=24,
        depth=2,
        num_heads=3,
        num_classes=3,
        embed_layer=partial(HybridEmbed, backbone=backbone, feature_size=(4, 4), feature_ratio=8),
    ).eval()
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        theirs.load_state_dict({name: file.get_tensor(name) for name in file.keys()}, strict=True)  # noqa: SIM118  # no dict
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(theirs(images), model(images), atol=1e-4, rtol=0)


@pytest.mark.parametrize("changes", [{}, {"stem": "conv", "pool": "gap", "image_size": [32, 48], "optimizer": "muon"}])
@torch.inference_mode()
def test_it_is_read_back_to_the_bit(tmp_path: Path, changes: dict[str, Any]) -> None:
    model = exported(tmp_path, init_from="/home/someone/weights.ckpt", **changes)
    assert b"/home/someone" not in (tmp_path / "model.safetensors").read_bytes()
    images = torch.randn(2, *model.net.image_shape)
    for again in (
        read_back(tmp_path / "model.safetensors"),
        load_classifier(tmp_path),
        load_classifier(tmp_path / "model.safetensors"),
    ):
        assert torch.equal(again(images), model(images))
        assert again.class_names == ["ant", "bee", "cow"]
        assert not again.training
        state = again.state_dict()
        assert {name: each.dtype for name, each in model.state_dict().items()} == {n: t.dtype for n, t in state.items()}


def test_names_there_and_back() -> None:
    for stem in ("patch", "conv"):
        for name in ViTClassifier(num_classes=2, stem=stem, **SIZES).net.state_dict():
            assert our_name(timm_name(name)) == name
