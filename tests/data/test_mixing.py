"""CutMix: what is pasted where, and how the loss shares labels out."""

import pytest
import torch
from torch import Tensor

from vit_lightning.data.mixing import cut_and_mix


def total(logits: Tensor, labels: Tensor) -> Tensor:
    """A loss that tells its labels: their sum."""
    return labels.float().sum()


@pytest.mark.parametrize("seed", range(8))
def test_a_rectangle_is_another_image_s_and_the_loss_knows_its_share(seed: int) -> None:
    torch.manual_seed(seed)
    images = torch.arange(6.0)[:, None, None, None].expand(6, 3, 20, 30).contiguous()  # each of one number
    before, labels = images.clone(), 10.0 ** torch.arange(6)
    (mixed, own), loss = cut_and_mix((images, labels), total)
    assert torch.equal(images, before)
    assert torch.equal(own, labels)
    pasted = (mixed != images).any(dim=0)  # that of an image with itself is not seen
    others = []
    for number, picture in enumerate(mixed):
        values = picture.unique().tolist()
        assert number in values or pasted.all()
        others.append(next((value for value in values if value != number), number))
    assert sorted(others) == list(range(6))  # every image once
    rows, columns = pasted[0].any(dim=1).nonzero(), pasted[0].any(dim=0).nonzero()
    if pasted.any():
        top, bottom, left, right = rows.min(), rows.max() + 1, columns.min(), columns.max() + 1
        assert pasted[:, top:bottom, left:right].all()
        assert pasted.sum() == 3 * (bottom - top) * (right - left)
    share = 1 - pasted.float().mean().item()
    expected = share * labels.sum() + (1 - share) * sum(10.0 ** int(other) for other in others)
    assert loss(torch.empty(0), labels).item() == pytest.approx(float(expected), rel=1e-5)


def test_shares_are_spread_over_all_sizes_and_repeat_with_the_seed() -> None:
    images, labels = torch.arange(2.0)[:, None, None, None].expand(2, 1, 32, 32).contiguous(), torch.arange(2)

    def draw(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return cut_and_mix((images, labels), total)[0][0]

    shares = torch.tensor([(draw(seed) != images).float().mean() for seed in range(200)])
    assert (shares < 0.1).any()
    assert (shares > 0.6).any()
    assert torch.equal(draw(3), draw(3))
