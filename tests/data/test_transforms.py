"""From a picture to a tensor: whole, normalised; and what each augmentation may change."""

import colorsys
import pickle

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image
from torch import Tensor

from vit_lightning.data.transforms import Augment, CropNearly, eval_transform, train_transform

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


def noise(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


def pixels(image: Image.Image) -> npt.NDArray[np.uint8]:
    return np.asarray(image)


def colours(normalised: Tensor) -> Tensor:
    """(3, H, W) normalised -> (H, W, 3) from 0 to 255."""
    return 255 * (normalised * torch.tensor(STD)[:, None, None] + torch.tensor(MEAN)[:, None, None]).permute(1, 2, 0)


def test_normalisation_is_exact_on_one_colour() -> None:
    found = eval_transform((4, 6))(Image.new("RGB", (9, 5), (255, 51, 0)))
    assert found.shape == (3, 4, 6)
    assert found.dtype == torch.float32
    for channel, value in zip(found, ((1 - 0.485) / 0.229, (0.2 - 0.456) / 0.224, -0.406 / 0.225), strict=True):
        assert channel.flatten().tolist() == pytest.approx([value] * 24, abs=1e-5)


@pytest.mark.parametrize("size", [(24, 40), (40, 24), (64, 16)])
def test_the_held_out_side_is_pillow_s_own_resize(size: tuple[int, int]) -> None:
    image = noise(57, 33)
    height, width = size
    resized = pixels(image.resize((width, height), Image.Resampling.BILINEAR)) / 255
    expected = ((resized - MEAN) / STD).transpose(2, 0, 1)
    torch.testing.assert_close(eval_transform(size)(image), torch.from_numpy(expected).float(), atol=1e-5, rtol=0)


@pytest.mark.parametrize("shape", [(160, 40), (40, 160)])
def test_nothing_is_cut_off_a_picture_of_another_shape(shape: tuple[int, int]) -> None:
    width, height = shape
    image = Image.new("RGB", shape)
    corners = {(0, 0): "red", (1, 0): "lime", (0, 1): "blue", (1, 1): "white"}
    for (right, down), colour in corners.items():
        x, y = right * (width - 8), down * (height - 8)
        image.paste(colour, (x, y, x + 8, y + 8))
    found = colours(eval_transform((20, 20))(image))
    assert found[0, 0].tolist() == pytest.approx([255, 0, 0], abs=40)
    assert found[0, -1].tolist() == pytest.approx([0, 255, 0], abs=40)
    assert found[-1, 0].tolist() == pytest.approx([0, 0, 255], abs=40)
    assert found[-1, -1].tolist() == pytest.approx([255, 255, 255], abs=40)


@pytest.mark.parametrize("augment", ["trivial", "light", "none"])
@pytest.mark.parametrize("size", [(16, 28), (28, 16)])
def test_training_pictures_have_the_size_asked_for(augment: Augment, size: tuple[int, int]) -> None:
    found = train_transform(size, augment)(noise(40, 30))
    assert found.shape == (3, *size)
    assert found.dtype == torch.float32


def test_without_augmentation_training_is_the_held_out_side() -> None:
    image, transform = noise(40, 30), train_transform((16, 16), "none")
    for _ in range(3):
        assert torch.equal(transform(image), eval_transform((16, 16))(image))


@pytest.mark.parametrize("augment", ["trivial", "light"])
def test_augmented_pictures_differ_from_draw_to_draw_and_repeat_with_the_seed(augment: Augment) -> None:
    image, transform = noise(40, 30), train_transform((16, 16), augment)

    def draws() -> Tensor:
        torch.manual_seed(3)
        return torch.stack([transform(image) for _ in range(8)])

    first = draws()
    assert len({tuple(draw.flatten().tolist()) for draw in first}) == 8
    assert torch.equal(first, draws())


def draws_of(image: Image.Image, augment: Augment, count: int) -> list[Tensor]:
    """(H, W, 3) each, 0 to 255."""
    torch.manual_seed(0)
    transform = train_transform((8, 8), augment)
    return [colours(transform(image)) for _ in range(count)]


def test_light_never_touches_a_colour() -> None:
    for found in draws_of(Image.new("RGB", (20, 12), (200, 100, 50)), "light", 60):
        torch.testing.assert_close(found, torch.tensor([200.0, 100, 50]).expand(8, 8, 3), atol=1e-3, rtol=0)


def test_trivial_changes_colours_now_and_then() -> None:
    hues = [
        colorsys.rgb_to_hsv(*found[4, 4].clamp(0, 255).tolist())[0]
        for found in draws_of(Image.new("RGB", (20, 12), (200, 100, 50)), "trivial", 60)
    ]
    same = sum(abs(hue - colorsys.rgb_to_hsv(200, 100, 50)[0]) < 0.01 for hue in hues)
    assert 15 < same < 58


@pytest.mark.parametrize("augment", ["trivial", "light"])
def test_about_every_second_picture_is_flipped(augment: Augment) -> None:
    image = Image.new("RGB", (40, 24))
    image.paste((255, 255, 255), (20, 0, 40, 24))
    brighter_left = [float(found[:, :2].mean() - found[:, -2:].mean()) for found in draws_of(image, augment, 80)]
    assert 24 < sum(gap > 0 for gap in brighter_left) < 56


def test_light_keeps_at_least_four_fifths_of_the_area() -> None:
    ramp = np.zeros((100, 100, 3), dtype=np.uint8)
    ramp[..., 0], ramp[..., 1] = np.arange(100), np.arange(100)[:, None]
    torch.manual_seed(0)
    transform = train_transform((100, 100), "light")
    image = Image.fromarray(ramp)
    areas = []
    for _ in range(60):
        found = colours(transform(image))
        wide, high = (float(found[..., k].max() - found[..., k].min()) + 1 for k in (0, 1))
        areas.append(wide * high / 100**2)
    assert min(areas) == pytest.approx(0.8, abs=0.03)
    assert max(areas) > 0.93


@pytest.mark.parametrize("augment", ["trivial", "light", "none"])
def test_transforms_reach_spawned_loader_processes(augment: Augment) -> None:
    transform, image = train_transform((16, 16), augment), noise(40, 30)
    arrived = pickle.loads(pickle.dumps(transform))
    torch.manual_seed(5)
    expected = transform(image)
    torch.manual_seed(5)
    assert torch.equal(arrived(image), expected)


def test_crops_of_wide_frames_reach_both_sides_and_fit() -> None:
    """A 16:9 picture with a red left edge and a blue right one: some crops show either, all keep 80 % of the area."""
    crop = CropNearly((64, 64))
    wide = torch.zeros(3, 90, 160)
    wide[0, :, :6], wide[2, :, -6:] = 1.0, 1.0
    torch.manual_seed(0)
    seen = [crop(wide) for _ in range(60)]
    red = [bool((picture[0, :, :2] > 0.5).any()) for picture in seen]
    blue = [bool((picture[2, :, -2:] > 0.5).any()) for picture in seen]
    assert 5 < sum(red) < 55
    assert 5 < sum(blue) < 55
    for _ in range(200):
        box = crop.make_params([wide])
        assert 0.78 <= box["height"] * box["width"] / (90 * 160) <= 1.0
        assert 0 <= box["top"] <= 90 - box["height"]
        assert 0 <= box["left"] <= 160 - box["width"]
        assert 0.75 <= (box["width"] / box["height"]) / (160 / 90) <= 1.3
