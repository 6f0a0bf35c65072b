"""Image and patch size that suit pictures, for who does not choose them."""

import math

from vit_lightning.arguments import both_sides

#: Pixels of an image at most: those of 112 x 192, beyond which the accuracy study gained nothing in the same time.
PIXELS = 112 * 192

#: Patches of an image at least, where the picture has the pixels: a grid of 7 x 7.
LEAST_PATCHES = 49

#: How many times longer one side of an image is than the other at most.
LONGEST = 4

#: The sides of patches that are tried, the largest first; a convolutional stem halves, and takes no others.
HALVINGS = (16, 8, 4, 2)


def fitting_sizes(
    pictures: tuple[int, int],
    image_size: int | tuple[int, int] | None = None,
    patch_size: int | None = None,
    *,
    stem: str = "patch",
) -> tuple[int | tuple[int, int], int]:
    """The size that is left out, so that it fits the pictures and the other one; what is given stays as it is.

    The image is as large as the pictures up to `PIXELS`, of their shape up to `LONGEST`, with sides that are whole
    numbers of patches; a patch is the largest of `HALVINGS` that leaves `LEAST_PATCHES`. Of an image size that was
    given it has to divide both sides, and may be any divisor where patches are projected.

    Args:
        pictures: Height and width that the pictures typically have, in pixels.
        image_size: The model's, if it was given.
        patch_size: The model's, if it was given.
        stem: The model's.

    Returns:
        Image size, one number where it is square, and patch size. Where no patch divides the image, one that the
        network refuses with the nearest image size.

    Raises:
        ValueError: The image size is none.
    """
    if image_size is not None:
        sides: tuple[float, float] = both_sides("model.image_size", image_size)
    else:
        side = math.sqrt(min(PIXELS, pictures[0] * pictures[1]))
        stretch = math.sqrt(min(LONGEST, max(1 / LONGEST, pictures[0] / pictures[1])))
        sides = (side * stretch, side / stretch)
    if patch_size is None:
        tried: tuple[int, ...] = HALVINGS
        if image_size is not None:
            known = HALVINGS if stem == "conv" else range(HALVINGS[0], 1, -1)
            tried = tuple(side for side in known if not any(each % side for each in sides)) or HALVINGS[:1]
        enough = (side for side in tried if math.prod(round(each / side) for each in sides) >= LEAST_PATCHES)
        patch_size = next(enough, tried[-1])
    if image_size is None:
        height, width = (max(1, round(side / max(1, patch_size))) * patch_size for side in sides)
        image_size = height if height == width else (height, width)
    return image_size, patch_size
