"""Resizing in whole numbers against torchvision's, and the network around it."""

import pytest
import torch
from torchvision.transforms.v2 import functional

from vit_lightning.data.transforms import normalise
from vit_lightning.export.network import PictureClassifier, at_once, in_halves, resized, weights_of_bytes
from vit_lightning.export.onnx import resizes_in_integers
from vit_lightning.models.vit import VisionTransformer


def along(rows: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    return rows @ weights.T


def as_bytes(rows: torch.Tensor, new_size: int) -> torch.Tensor:
    return resized(along, rows.float(), *weights_of_bytes(rows.shape[-1], new_size)).to(torch.uint8)


@pytest.mark.parametrize("size", [1, 2, 7, 31, 64, 100, 427])
@pytest.mark.parametrize("new_size", [1, 8, 33, 112, 224])
def test_a_row_is_resized_as_torch_resizes_bytes(size: int, new_size: int) -> None:
    if not resizes_in_integers():
        pytest.skip("torchvision resizes bytes in fractions on this processor")
    row = torch.randint(0, 256, (3, 1, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(size))
    assert torch.equal(as_bytes(row, new_size), functional.resize(row, [1, new_size], antialias=True))


@pytest.mark.parametrize(("size", "new_size"), [(640, 112), (427, 192), (2000, 96)])
def test_no_sum_is_rounded(size: int, new_size: int) -> None:
    if not resizes_in_integers():
        pytest.skip("torchvision resizes bytes in fractions on this processor")
    rows = torch.randint(0, 256, (3, 2000, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(size))
    assert torch.equal(as_bytes(rows, new_size), functional.resize(rows, [2000, new_size], antialias=True))


def test_both_ways_of_summing_agree_where_both_are_exact() -> None:
    weights, shift = weights_of_bytes(300, 96)
    assert shift == 2**16
    rows = torch.randint(0, 256, (500, 300), generator=torch.Generator().manual_seed(0)).float()
    shares = weights / shift
    assert torch.equal(at_once(along, rows, shares, shift), in_halves(along, rows, shares, shift))
    assert float((255 * weights.sum(dim=1)).max()) < 2**24


def test_a_row_of_one_colour_keeps_it() -> None:
    weights, shift = weights_of_bytes(1000, 7)
    assert weights.max() < 2**15
    assert shift >= 512
    row = torch.full((1, 1000), 200, dtype=torch.uint8)
    assert torch.equal(as_bytes(row, 7), torch.full((1, 7), 200, dtype=torch.uint8))


@pytest.mark.parametrize("pool", ["cls", "gap"])
@pytest.mark.parametrize("channels", [1, 3])
@torch.inference_mode()
def test_probabilities_and_embeddings_are_the_network_s(pool: str, channels: int) -> None:
    torch.manual_seed(0)
    sizes = {"image_size": (16, 24), "patch_size": 8, "dim": 16, "depth": 2, "heads": 2, "in_channels": channels}
    net = VisionTransformer(num_classes=3, pool=pool, init="article", **sizes).eval()  # type: ignore[arg-type]  # of many types
    pictures = torch.randint(0, 256, (2, 40, 50, 3), dtype=torch.uint8)
    found, embedding = PictureClassifier(net, integers=resizes_in_integers())(pictures)
    frames = functional.resize(pictures.permute(0, 3, 1, 2), [16, 24], antialias=True).permute(0, 2, 3, 1)
    torch.testing.assert_close(found, net(normalise(frames, channels)).softmax(dim=-1), atol=1e-6, rtol=0)
    torch.testing.assert_close(net.head(embedding).softmax(dim=-1), found)
    fractions = PictureClassifier(net, integers=False)(pictures)[0]
    torch.testing.assert_close(fractions, found, atol=0.05, rtol=0)  # a step of 255 here and there
