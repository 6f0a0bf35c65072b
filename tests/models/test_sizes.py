"""Image and patch size that are left out."""

from typing import Literal

import pytest

from vit_lightning.models.sizes import LONGEST, fitting_sizes
from vit_lightning.models.vit import VisionTransformer

Size = int | tuple[int, int]


@pytest.mark.parametrize(
    ("pictures", "image_size", "patch_size"),
    [
        ((28, 28), 28, 4),  # MNIST: 7 x 7 patches
        ((32, 32), 32, 4),  # CIFAR
        ((64, 64), 64, 8),  # Tiny-ImageNet
        ((240, 427), (112, 192), 16),  # the frames of the study, at the size that it recommends
        ((500, 500), 144, 16),
        ((375, 500), (128, 176), 16),
        ((500, 375), (176, 128), 16),
        ((3000, 4000), (128, 176), 16),
        ((3, 60_000), (80, 288), 16),  # about four times as long as high, no more
        ((1, 1), 2, 2),
    ],
)
def test_both_follow_the_pictures(pictures: tuple[int, int], image_size: Size, patch_size: int) -> None:
    assert fitting_sizes(pictures) == (image_size, patch_size)


@pytest.mark.parametrize(
    ("image_size", "stem", "patch_size"),
    [
        (224, "patch", 16),
        ((112, 192), "conv", 16),
        (100, "patch", 10),
        (100, "conv", 4),  # a stem halves
        (75, "patch", 5),
        (16, "patch", 2),
        (8, "patch", 2),  # 16 patches: there are no smaller ones
    ],
)
def test_a_patch_divides_the_image_that_was_asked_for(image_size: Size, stem: str, patch_size: int) -> None:
    assert fitting_sizes((375, 500), image_size, stem=stem) == (image_size, patch_size)


@pytest.mark.parametrize(("image_size", "stem"), [(97, "patch"), (75, "conv")])
def test_an_image_that_no_patch_divides_is_refused_with_the_nearest(image_size: int, stem: str) -> None:
    asked, patch_size = fitting_sizes((375, 500), image_size, stem=stem)
    assert asked == image_size
    with pytest.raises(ValueError, match=r"not divisible by patch_size 16; the nearest that is: (96|80)"):
        VisionTransformer(num_classes=2, image_size=image_size, patch_size=patch_size)


@pytest.mark.parametrize(
    ("pictures", "patch_size", "image_size"),
    [
        ((375, 500), 8, (128, 168)),
        ((375, 500), 32, (128, 160)),
        ((28, 28), 7, 28),
        ((28, 28), 16, 32),
        ((9, 9), 40, 40),
    ],
)
def test_an_image_is_whole_patches_that_were_asked_for(
    pictures: tuple[int, int], patch_size: int, image_size: Size
) -> None:
    assert fitting_sizes(pictures, patch_size=patch_size) == (image_size, patch_size)


def test_what_is_given_stays() -> None:
    assert fitting_sizes((28, 28), (64, 96), 32) == ((64, 96), 32)


@pytest.mark.parametrize("stem", ["patch", "conv"])
def test_every_picture_gets_a_network(stem: Literal["patch", "conv"]) -> None:
    for height in (1, 2, 5, 17, 90, 333, 5000):
        for width in (1, 3, 31, 64, 250, 1999, 60_000):
            image_size, patch_size = fitting_sizes((height, width), stem=stem)
            net = VisionTransformer(
                num_classes=2, image_size=image_size, patch_size=patch_size, dim=8, depth=1, heads=1, stem=stem
            )
            rows, columns = net.grid
            assert rows * columns <= 200
            assert max(rows, columns) <= 2 * LONGEST * min(rows, columns)
