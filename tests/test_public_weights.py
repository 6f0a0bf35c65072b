"""Public weights in timm's naming, held against timm's own network."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from timm.models.vision_transformer import VisionTransformer as TimmTransformer

from vit_lightning.checkpoint import initial_weights, saved_sizes
from vit_lightning.cli import main
from vit_lightning.models.vit import VisionTransformer
from vit_lightning.module import ViTClassifier

THEIRS: dict[str, Any] = {"img_size": 32, "patch_size": 8, "embed_dim": 128, "depth": 3, "num_heads": 2}
OURS: dict[str, Any] = {"image_size": 32, "patch_size": 8, "dim": 128, "depth": 3, "heads": 2}
Save = Callable[..., tuple[TimmTransformer, Path]]


@pytest.fixture
def public(tmp_path: Path) -> Save:
    """timm's network with random weights of every kind, and its file."""

    def make(**changes: Any) -> tuple[TimmTransformer, Path]:
        torch.manual_seed(0)
        net = TimmTransformer(**(THEIRS | {"num_classes": 5} | changes)).eval()
        with torch.no_grad():
            for parameter in net.parameters():  # timm's own has biases, a head and positions near 0
                parameter.add_(torch.randn_like(parameter), alpha=0.05)
        save_file(net.state_dict(), tmp_path / "vit.safetensors")
        return net, tmp_path / "vit.safetensors"

    return make


def taken(path: Path, **changes: Any) -> VisionTransformer:
    """Our network with a file's weights."""
    model = ViTClassifier(**(OURS | {"num_classes": 5} | changes)).eval()
    model.net.load_state_dict(model.net.state_dict() | initial_weights(path, model.net, model.hparams))
    return model.net


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ({}, {}),
        ({"class_token": False, "global_pool": "avg", "fc_norm": False}, {"pool": "gap"}),
        ({"img_size": (32, 48)}, {"image_size": (32, 48)}),
        ({"in_chans": 1, "mlp_ratio": 2.0}, {"in_channels": 1, "mlp_ratio": 2.0}),
    ],
    ids=["cls", "gap", "oblong", "grey"],
)
@torch.inference_mode()
def test_the_logits_are_timm_s(public: Save, theirs: dict[str, Any], ours: dict[str, Any]) -> None:
    net, path = public(**theirs)
    model = taken(path, **ours)
    images = torch.randn(4, *model.image_shape)
    logits = net(images)
    assert logits.std() > 0.1
    torch.testing.assert_close(model(images), logits, atol=1e-4, rtol=0)


def test_another_image_size_resamples_positions_and_another_number_of_classes_gets_a_fresh_head(public: Save) -> None:
    net, path = public()
    model = taken(path, image_size=(48, 64), num_classes=3)
    assert model.position_embedding.shape == (1, 6 * 8 + 1, 128)
    torch.testing.assert_close(model.position_embedding[:, 0], net.state_dict()["pos_embed"][:, 0])
    assert not model.head.weight.any()
    torch.testing.assert_close(model.blocks[2].mlp.expand.weight, net.state_dict()["blocks.2.mlp.fc1.weight"])


def test_sixteen_bit_weights_become_thirty_two(public: Save, tmp_path: Path) -> None:
    net, _ = public()
    half = {name: tensor.half() for name, tensor in net.state_dict().items()}
    save_file(half, tmp_path / "half.safetensors")
    assert taken(tmp_path / "half.safetensors").norm.weight.dtype == torch.float32


@pytest.mark.parametrize(
    ("theirs", "ours", "message"),
    [
        ({}, {"dim": 64, "depth": 2}, r"another network than asked for; give --model.dim 128 --model.depth 3$"),
        ({}, {"stem": "conv"}, r"another network than asked for; give --model.stem patch$"),
        ({}, {"pool": "gap"}, r"give --model.pool cls$"),
        (
            {"init_values": 1e-5},
            {},
            r"holds blocks.0.ls1.gamma and 5 more, which a plain ViT in timm's naming does not",
        ),
        ({"reg_tokens": 4}, {}, r"holds reg_token, which a plain ViT"),
        ({"global_pool": "avg"}, {"pool": "gap"}, r"holds fc_norm.bias and 1 more, which a plain ViT"),
        ({"qkv_bias": False}, {}, r"do not fit the network: blocks.0.attention.qkv.bias"),
        ({"img_size": (32, 48)}, {}, r"do not fit the network: position_embedding"),
        ({"no_embed_class": True}, {}, r"do not fit the network: position_embedding"),
    ],
)
def test_another_network_is_refused(public: Save, theirs: dict[str, Any], ours: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        taken(public(**theirs)[1], **ours)


def test_unusual_heads_are_told_of(public: Save, told: list[tuple[str, str]]) -> None:
    _, path = public()
    taken(path)
    assert not told
    taken(path, heads=4)
    ((level, line),) = told
    assert level == "WARNING"
    assert line.endswith("timm's have one for every 64 numbers of a token: --model.heads 2")


def test_sizes_that_are_left_out_are_the_file_s(public: Save) -> None:
    assert saved_sizes(public()[1]) == {"image_size": 32, "patch_size": 8}
    with pytest.raises(ValueError, match=r"of no square image; give --model.image_size and \.patch_size"):
        saved_sizes(public(img_size=(32, 48))[1])


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "cannot be read as safetensors"), (b"\xff" * 100, "cannot be read as safetensors"), (None, "no plain ViT")],
)
def test_another_file_is_refused(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "vit.safetensors"
    if content is None:
        save_file({"head.weight": torch.zeros(2, 2)}, path)
    else:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        taken(path)


def test_the_reader_s_package_may_be_missing(public: Save, monkeypatch: pytest.MonkeyPatch) -> None:
    _, path = public()
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(ValueError, match=r"needs safetensors: pip install 'vit-lightning\[weights\]'"):
        taken(path)


def test_fit_starts_from_them(
    public: Save, frames: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    net, path = public(num_classes=4)
    command = ["fit", f"--data.root={frames}", "--model.dim=128", "--model.depth=3", "--model.heads=2"]
    command += ["--trainer.max_epochs=1", "--trainer.accelerator=cpu", "--data.num_workers=0", "--run=tuned"]
    assert main([*command, f"--model.init_from={path}", "--model.lr=0"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "what vit.safetensors learned from is not known: maybe these very" in out
    assert "its head too, for as many classes: jerry is the first" in out
    checkpoint = torch.load("lightning_logs/tuned/checkpoints/last.ckpt")
    assert checkpoint["hyper_parameters"]["image_size"] == 32
    torch.testing.assert_close(checkpoint["state_dict"]["net.head.weight"], net.state_dict()["head.weight"])
    assert main([*command, "--model.init_from=none.safetensors"]) == 2
    assert "none.safetensors do not exist" in capsys.readouterr().err
