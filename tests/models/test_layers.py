"""Dropouts by counting, resampling against timm's, the stem by what its tokens see."""

import math

import pytest
import torch
from timm.layers.pos_embed import resample_abs_pos_embed

from vit_lightning.models.layers import ConvolutionalStem, Dropout, DropPath, resample_positions


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_dropout_drops_each_number_by_itself_at_its_rate_and_keeps_the_mean(rate: float, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    x = torch.ones(999, 1001, dtype=dtype, requires_grad=True)  # no multiple of four
    y = Dropout(rate)(x)
    dropped = (y == 0).float()
    error = 4 * math.sqrt(rate * (1 - rate) / x.numel())
    assert dropped.mean().item() == pytest.approx(rate, abs=error + 1 / 2**16)
    torch.testing.assert_close(y[y != 0].float().unique(), torch.tensor([1 / (1 - rate)]), atol=0, rtol=0.005)
    flat = dropped.flatten() - rate
    for lag in (1, 2, 3, 4, 8, 1001):  # four of them come from one draw
        assert (flat[lag:] * flat[:-lag]).mean().item() == pytest.approx(0.0, abs=error)
    y.sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad, y)


def test_dropout_repeats_with_the_seed_only() -> None:
    x, dropout = torch.ones(1000), Dropout(0.5)
    torch.manual_seed(1)
    first, second = dropout(x), dropout(x)
    assert not torch.equal(first, second)
    torch.manual_seed(1)
    assert torch.equal(dropout(x), first)
    assert Dropout(0.0)(x) is x
    assert dropout.eval()(x) is x


def test_drop_path_drops_whole_images_and_keeps_the_mean() -> None:
    torch.manual_seed(0)
    x = torch.ones(4000, 2, 3)
    y = DropPath(0.25)(x)
    torch.testing.assert_close(y.unique(), torch.tensor([0.0, 4 / 3]))
    assert y.mean().item() == pytest.approx(1.0, abs=0.03)
    assert (y.flatten(1).std(dim=1) == 0).all()


@pytest.mark.parametrize("extra", [0, 1])
@pytest.mark.parametrize("new", [(6, 10), (3, 2), (4, 6), (7, 4)])
def test_positions_are_resampled_as_timm_does(new: tuple[int, int], extra: int) -> None:
    torch.manual_seed(0)
    positions = torch.randn(1, extra + 4 * 6, 16)
    expected = resample_abs_pos_embed(positions, list(new), old_size=[4, 6], num_prefix_tokens=extra)
    torch.testing.assert_close(resample_positions(positions, (4, 6), new), expected)


def test_a_stem_halves_the_image_up_to_the_patch_and_doubles_its_channels_up_to_the_width() -> None:
    stem = ConvolutionalStem(in_channels=3, patch_size=16, dim=192)
    assert [layer.out_channels for layer in stem.modules() if isinstance(layer, torch.nn.Conv2d)] == [
        *(24, 48, 96, 192),
        192,
    ]
    assert stem(torch.randn(2, 3, 32, 64)).shape == (2, 8, 192)
    assert ConvolutionalStem(in_channels=1, patch_size=4, dim=8)(torch.randn(1, 1, 8, 8)).shape == (1, 4, 8)


def test_tokens_of_a_stem_are_row_by_row_and_see_their_neighbourhood_alone() -> None:
    torch.manual_seed(0)
    stem = ConvolutionalStem(in_channels=3, patch_size=4, dim=8).eval()
    blank = torch.zeros(1, 3, 24, 24)
    marked = blank.clone()
    marked[:, :, 8, 12] = 1.0  # the first row of the patch in row 2, column 3, of six
    moved = (stem(marked) - stem(blank)).abs().amax(dim=2)[0].view(6, 6) > 1e-6
    assert moved[2, 3]
    assert set(map(tuple, moved.nonzero().tolist())) <= {(row, column) for row in (1, 2, 3) for column in (2, 3, 4)}


@pytest.mark.parametrize(("patch_size", "dim", "said"), [(12, 64, "power of two"), (1, 64, "power"), (16, 60, "by 8")])
def test_a_stem_that_cannot_be_is_refused_in_a_line(patch_size: int, dim: int, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        ConvolutionalStem(in_channels=3, patch_size=patch_size, dim=dim)
