"""From a frame's bytes to the model's numbers; and what each augmentation may change."""

import colorsys
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from vit_lightning.data.transforms import (
    Augment,
    CropNearly,
    CropSquarely,
    FrameSize,
    frame_size,
    normalise,
    restored,
    train_transform,
)


def noise(height: int, width: int) -> Tensor:
    """Bytes (3, height, width)."""
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, height, width), dtype=np.uint8))


def plain(height: int, width: int, *colour: int) -> Tensor:
    """Bytes (3, height, width) of one colour."""
    return torch.tensor(colour, dtype=torch.uint8)[:, None, None].expand(3, height, width).contiguous()


def test_normalisation_is_exact() -> None:
    found = normalise(torch.tensor([255, 51, 0], dtype=torch.uint8).expand(2, 4, 6, 3))
    assert found.shape == (2, 3, 4, 6)
    assert found.dtype == torch.float32
    for channel, value in zip(found[1], ((1 - 0.485) / 0.229, (0.2 - 0.456) / 0.224, -0.406 / 0.225), strict=True):
        assert channel.flatten().tolist() == pytest.approx([value] * 24, abs=1e-5)


@pytest.mark.parametrize("channels", [3, 1])
def test_what_was_normalised_is_restored_to_the_byte(channels: int) -> None:
    frames = noise(256, 64).permute(1, 2, 0)[None]
    found = restored(normalise(frames, channels))
    expected = frames
    if channels == 1:
        luma = 0.299 * frames[..., 0] + 0.587 * frames[..., 1] + 0.114 * frames[..., 2]
        expected = luma.round().to(torch.uint8)[..., None].expand_as(frames)
    assert found.dtype == torch.uint8
    assert found.shape == frames.shape
    apart = (found.int() - expected.int()).abs().max()
    assert apart <= (0 if channels == 3 else 1)  # a brightness may lie at half a step


@pytest.mark.parametrize("augment", ["trivial", "strong", "light", "article"])
@pytest.mark.parametrize("size", [(16, 28), (28, 16)])
def test_training_images_have_the_size_asked_for(augment: Augment, size: tuple[int, int]) -> None:
    found = train_transform(size, augment)(noise(40, 30))
    assert found.shape == (3, *size)
    assert found.dtype == torch.uint8


def test_without_augmentation_nothing_changes() -> None:
    frame = noise(16, 16)
    assert torch.equal(train_transform((16, 16), "none")(frame), frame)


@pytest.mark.parametrize("augment", ["trivial", "strong", "light", "article"])
def test_augmented_images_differ_from_draw_to_draw_and_repeat_with_the_seed(augment: Augment) -> None:
    frame, transform = noise(40, 30), train_transform((16, 16), augment)

    def draws() -> Tensor:
        torch.manual_seed(3)
        return torch.stack([transform(frame) for _ in range(8)])

    first = draws()
    assert len({tuple(draw.flatten().tolist()) for draw in first}) == 8
    assert torch.equal(first, draws())


def draws_of(frame: Tensor, augment: Augment, count: int) -> list[Tensor]:
    """(3, 8, 8) each."""
    torch.manual_seed(0)
    transform = train_transform((8, 8), augment)
    return [transform(frame) for _ in range(count)]


def test_light_never_touches_a_colour() -> None:
    for found in draws_of(plain(12, 20, 200, 100, 50), "light", 60):
        assert torch.equal(found, plain(8, 8, 200, 100, 50))


def test_trivial_changes_colours_now_and_then() -> None:
    hues = [
        colorsys.rgb_to_hsv(*found[:, 4, 4].tolist())[0]
        for found in draws_of(plain(12, 20, 200, 100, 50), "trivial", 60)
    ]
    same = sum(abs(hue - colorsys.rgb_to_hsv(200, 100, 50)[0]) < 0.01 for hue in hues)
    assert 15 < same < 58


@pytest.mark.parametrize("augment", ["trivial", "light"])
def test_about_every_second_image_is_flipped(augment: Augment) -> None:
    frame = plain(24, 40, 0, 0, 0)
    frame[:, :, 20:] = 255
    brighter_left = [
        float(found[..., :2].float().mean() - found[..., -2:].float().mean()) for found in draws_of(frame, augment, 80)
    ]
    assert 24 < sum(gap > 0 for gap in brighter_left) < 56


def test_light_keeps_at_least_four_fifths_of_the_area() -> None:
    ramp = torch.zeros(3, 100, 100, dtype=torch.uint8)
    ramp[0], ramp[1] = torch.arange(100), torch.arange(100)[:, None]
    torch.manual_seed(0)
    transform = train_transform((100, 100), "light")
    areas = []
    for _ in range(60):
        found = transform(ramp).int()
        wide, high = (int(found[k].max() - found[k].min()) + 1 for k in (0, 1))
        areas.append(wide * high / 100**2)
    assert min(areas) == pytest.approx(0.8, abs=0.03)
    assert max(areas) > 0.93


@pytest.mark.parametrize("augment", ["trivial", "strong", "light", "article", "none"])
def test_transforms_reach_spawned_loader_processes(augment: Augment) -> None:
    transform, frame = train_transform((16, 16), augment), noise(40, 30)
    arrived = pickle.loads(pickle.dumps(transform))
    torch.manual_seed(5)
    expected = transform(frame)
    torch.manual_seed(5)
    assert torch.equal(arrived(frame), expected)


@pytest.mark.parametrize("picture", [(480, 854), (720, 1280), (854, 480), (300, 300), (40, 2000), (20, 16), (224, 225)])
@pytest.mark.parametrize("image_size", [(224, 224), (112, 192)])
@pytest.mark.parametrize("augment", ["trivial", "strong", "article"])
def test_frames_are_so_large_that_crops_are_not_enlarged(
    picture: tuple[int, int], image_size: tuple[int, int], augment: Augment
) -> None:
    """Unless a crop of the picture itself would be, in that direction."""
    frame = frame_size(image_size, augment)(*picture)
    share = (0.5, 1.0) if augment == "strong" else (0.8, 1.0)
    crop = CropSquarely(image_size, scale=share) if augment == "article" else CropNearly(image_size, share)
    torch.manual_seed(0)
    for _ in range(100):
        box = crop.make_params([torch.empty(3, *frame)])
        for side, cropped in enumerate((box["height"], box["width"])):
            whole = frame[side] == picture[side]
            assert cropped >= image_size[side] - 1 or whole  # rounding may take a pixel
    assert all(side <= whole for side, whole in zip(frame, picture, strict=True))


def test_frames_are_no_larger_than_that() -> None:
    assert frame_size((224, 224), "trivial")(480, 854) == (280, 280)
    assert frame_size((112, 192), "strong")(480, 854) == (183, 314)  # by sqrt(0.5 * 3 / 4)
    assert frame_size((224, 224), "article")(480, 854) == (224, 399)  # the middle is cropped, 224 high
    assert frame_size((224, 224), "article")(1000, 1000) == (290, 290)  # 224 / sqrt(0.8 * 3 / 4)
    assert frame_size((112, 192))(480, 854) == (112, 192)
    assert frame_size((112, 192), "none") == frame_size((112, 192))
    assert frame_size((112, 192))(50, 50) == (112, 192)  # without a crop it is the image itself


def test_each_kind_of_frame_has_a_name_of_its_own() -> None:
    sizes = [FrameSize(8, 16), FrameSize(16, 8), FrameSize(8, 16, "near"), FrameSize(8, 16, "square")]
    sizes.append(FrameSize(8, 16, "half"))
    assert len({str(size) for size in sizes}) == 5


def test_strong_crops_down_to_half_of_the_area_and_stretches_no_further_than_a_third() -> None:
    crop: Any = train_transform((64, 64), "strong").transforms[0]  # type: ignore[index]  # torch's are untyped
    torch.manual_seed(0)
    boxes = [crop.make_params([torch.empty(3, 900, 1600)]) for _ in range(400)]
    shares = [box["height"] * box["width"] / (900 * 1600) for box in boxes]
    stretches = [box["width"] / box["height"] / (1600 / 900) for box in boxes]
    assert 0.495 < min(shares) < 0.52
    assert max(shares) > 0.97
    assert 1.25 < max(stretches) < 1.34
    assert 0.745 < min(stretches) < 0.8


def test_strong_changes_colours_more_often_than_trivial() -> None:
    colour = plain(12, 20, 200, 100, 50)
    changed = {
        augment: sum(not torch.equal(found, plain(8, 8, 200, 100, 50)) for found in draws_of(colour, augment, 120))
        for augment in ("trivial", "strong")
    }
    assert changed["strong"] > changed["trivial"] + 12  # of the second change, as many again are none


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


def test_grey_is_pillow_s_with_the_colours_statistics_mixed_alike() -> None:
    frames = torch.randint(256, (2, 5, 7, 3), dtype=torch.uint8)
    found = normalise(frames, 1)
    assert found.shape == (2, 1, 5, 7)
    grey = np.stack([np.asarray(Image.fromarray(frame.numpy()).convert("L"), dtype=np.float32) for frame in frames])
    mean = 0.299 * 0.485 + 0.587 * 0.456 + 0.114 * 0.406
    std = 0.299 * 0.229 + 0.587 * 0.224 + 0.114 * 0.225
    torch.testing.assert_close(found[:, 0], torch.from_numpy((grey / 255 - mean) / std), atol=1 / 255 / std, rtol=0)
