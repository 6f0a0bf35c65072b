"""Attention maps of models whose attention is known, and the picture over the picture."""

from typing import Literal

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from vit_lightning.evaluation.attention import attention_of, flow, overlay
from vit_lightning.models.vit import VisionTransformer

KINDS: tuple[Literal["last", "rollout"], ...] = ("last", "rollout")


def network(pool: Literal["cls", "gap"], depth: int = 1, heads: int = 2) -> VisionTransformer:
    """A grid of 2 rows and 3 columns of patches, whose embedding is their mean colour in the first of 8 numbers."""
    torch.manual_seed(0)
    net = VisionTransformer(
        num_classes=3,
        image_size=(8, 12),
        patch_size=4,
        dim=8,
        depth=depth,
        heads=heads,
        dropout=0.5,
        attention_dropout=0.5,
        pool=pool,
    )
    return net.train()


def looking_at(patch: int, pool: Literal["cls", "gap"], depth: int = 1) -> VisionTransformer:
    """A network each of whose tokens looks at one patch alone: the one position whose key is not small."""
    net = network(pool, depth)
    with torch.no_grad():
        net.patch_embedding.projection.weight.zero_()
        net.position_embedding.zero_()
        net.position_embedding[0, patch + (pool == "cls"), 0] = 1.0
        if net.class_token is not None:
            net.class_token.zero_()
        for block in net.blocks:
            qkv = block.attention.qkv
            qkv.weight.zero_()
            qkv.bias.zero_()
            qkv.bias[:8] = 10.0  # all queries are the same
            qkv.weight[8:16, 0] = 10.0  # keys: the first number of the token, which after the norm is large there alone
            block.attention.out.weight.zero_()
            block.mlp.contract.weight.zero_()  # the blocks leave the tokens as they are
    return net


@pytest.mark.parametrize("pool", ["cls", "gap"])
@pytest.mark.parametrize("patch", [0, 4])
def test_a_model_that_looks_at_one_patch(pool: Literal["cls", "gap"], patch: int) -> None:
    net = looking_at(patch, pool)
    expected = F.one_hot(torch.tensor(patch), 6).view(2, 3).float().expand(3, 2, 3)
    torch.testing.assert_close(attention_of(net, torch.randn(3, 3, 8, 12), "last"), expected)
    if pool == "cls":  # half of it stays with the class token, which is not shown
        torch.testing.assert_close(attention_of(net, torch.randn(3, 3, 8, 12), "rollout"), expected)
    else:  # half of each token's stays with itself: (1/2) / 6, and the patch has all the others' halves
        torch.testing.assert_close(attention_of(net, torch.randn(3, 3, 8, 12)), (expected + 1 / 6) / 2)
    assert net.training


def test_rollout_worked_by_hand() -> None:
    # Two heads whose mean is A1 = [[.5, .5], [0, 1]]; then A2 = [[0, 1], [.5, .5]].
    first = torch.tensor([[[[1.0, 0.0], [0.0, 1.0]], [[0.0, 1.0], [0.0, 1.0]]]])
    second = torch.tensor([[[0.0, 1.0], [0.5, 0.5]]]).expand(1, 2, 2, 2)
    # (A1 + I)/2 = [[.75, .25], [0, 1]]; (A2 + I)/2 = [[.5, .5], [.25, .75]]; the second times the first:
    expected = torch.tensor([[[0.375, 0.625], [0.1875, 0.8125]]])
    torch.testing.assert_close(flow([first, second], "rollout"), expected)
    torch.testing.assert_close(flow([first, second], "last"), second[:, 0])


def test_blocks_that_change_nothing_leave_the_class_token_with_itself() -> None:
    # Each token's attention is even over all seven: (A + I)/2 three times over, I's part being 1/8.
    net = looking_at(0, "cls", depth=3)
    with torch.no_grad():
        net.position_embedding.zero_()
    torch.testing.assert_close(attention_of(net, torch.randn(1, 3, 8, 12)), torch.full((1, 2, 3), 1 / 6))


def test_a_class_token_that_looks_at_itself_alone_gives_an_even_map() -> None:
    net = looking_at(-1, "cls")  # the class token's own position
    attention = attention_of(net, torch.randn(1, 3, 8, 12))
    torch.testing.assert_close(attention, torch.full((1, 2, 3), 1 / 6))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pool", ["cls", "gap"])
def test_each_map_is_a_share_in_rows_and_columns(pool: Literal["cls", "gap"], kind: Literal["last", "rollout"]) -> None:
    net = network(pool, depth=3).eval()
    images = torch.randn(11, 3, 8, 12)
    attention = attention_of(net, images, kind)
    assert attention.shape == (11, 2, 3)
    assert attention.dtype == torch.float32
    assert (attention >= 0).all()
    torch.testing.assert_close(attention.sum(dim=(1, 2)), torch.ones(11))
    torch.testing.assert_close(attention_of(net, images[9:], kind), attention[9:])  # whatever the batch; no dropout
    assert not net.training


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="'first'; choose 'last' or 'rollout'"):
        attention_of(network("cls"), torch.zeros(1, 3, 8, 12), "first")  # type: ignore[arg-type]  # on purpose


def lightness(picture: Tensor) -> Tensor:
    return picture.float() @ torch.tensor([0.299, 0.587, 0.114])


def test_the_overlay_is_lightest_where_the_attention_is_largest() -> None:
    picture = torch.full((40, 90, 3), 128, dtype=torch.uint8)
    attention = torch.full((2, 3), 0.1)
    attention[1, 2] = 0.5
    seen = overlay(picture, attention)
    assert seen.shape == picture.shape
    assert seen.dtype == torch.uint8
    light = lightness(seen)
    assert divmod(int(light.argmax()), 90)[0] >= 20
    assert divmod(int(light.argmax()), 90)[1] >= 60
    assert light[30, 75] > light[10, 15] + 80
    torch.testing.assert_close(overlay(picture, attention / 1000), seen)  # whatever its share


def test_even_attention_shows_the_picture_darkened() -> None:
    picture = (255 * torch.rand(20, 30, 3)).to(torch.uint8)
    even = torch.full((2, 3), 1 / 6)
    even[0, 0] += 1e-8
    seen = overlay(picture, even)
    assert (lightness(seen) <= 0.65 * lightness(picture) + 2).all()
    assert lightness(seen).std() > 1  # and it is still there


@pytest.mark.parametrize("pool", ["cls", "gap"])
@torch.inference_mode()
def test_one_block_or_head_alone(pool: Literal["cls", "gap"]) -> None:
    net, images = network(pool, depth=3).eval(), torch.randn(2, 3, 8, 12)
    _, blocks = net(images, return_attention=True)
    for block, head in ((0, 0), (1, 1), (2, None)):
        chosen = blocks[block].mean(dim=1) if head is None else blocks[block][:, head]  # B N N
        rows = chosen[:, 0, 1:] if pool == "cls" else chosen.mean(dim=1)
        expected = (rows / rows.sum(dim=1, keepdim=True)).view(2, 2, 3)
        torch.testing.assert_close(attention_of(net, images, block=block, head=head), expected)
    torch.testing.assert_close(attention_of(net, images, block=2), attention_of(net, images, "last"))
    with pytest.raises(ValueError, match="block is 3; expected a whole number from 0 to 2"):
        attention_of(net, images, block=3)
    with pytest.raises(ValueError, match="head is -1; expected a whole number from 0 to 1"):
        attention_of(net, images, block=0, head=-1)
