"""Thumbnails of 16 x 16 pixels: small enough to hold every image against every other, and to see what repeats."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vit_lightning.data.frames import Cache, find_frames
from vit_lightning.data.images import load_image
from vit_lightning.data.index import Sample
from vit_lightning.data.transforms import FrameSize
from vit_lightning.progress import track

#: Side in pixels.
SIDE = 16

#: Two pictures are near-duplicates where the root mean square of their thumbnails' difference is at most so much, of
#: 255, and at most such a share of either one's own deviation, since dull pictures differ little from one another.
#: Set by real pictures; docs/evaluation.md has the figures.
DIFFERENCE, SHARE = 10.0, 0.2

#: At most so many pictures with the thumbnail of one in another class are decoded whole.
LOOKED_AT = 200

#: So many distances are computed at a time, in float32.
CHUNK = 16_000_000

Thumbnails = npt.NDArray[np.uint8]


def read_thumbnails(root: Path, paths: Sequence[str], *, cache: Cache, cache_dir: Path) -> Thumbnails:
    """The thumbnails of pictures, (N, 16, 16, 3), decoded once and kept like the frames of training.

    Raises:
        OSError: A picture cannot be read.
        ValueError: There is no room for them in memory.
    """
    size, use = FrameSize(SIDE, SIDE, spare=1), f"at {SIDE} x {SIDE} pixels to compare them"
    wanted: Cache = "memory" if cache == "none" else cache
    try:
        frames = find_frames(root, paths, size, cache=wanted, cache_dir=cache_dir, use=use)
    except ValueError:  # they are small enough to do without a folder for them
        frames = find_frames(root, paths, size, cache="memory", cache_dir=cache_dir, use=use)
    thumbnails = np.empty((len(paths), SIDE, SIDE, 3), dtype=np.uint8)
    for index in range(len(paths)):
        thumbnails[index] = frames[index].numpy()
    return thumbnails


def distances(
    some: Thumbnails, others: Thumbnails, what: str = ""
) -> Iterator[tuple[slice, npt.NDArray[np.float32], npt.NDArray[np.bool_]]]:
    """Each of some thumbnails beside each of the others, so many at a time that memory does not matter.

    Args:
        some: (N, 16, 16, 3).
        others: (M, 16, 16, 3).
        what: What is done, for the progress bar; left out, there is none.

    Yields:
        Which n of `some`, the root mean square difference to all others (n, M), and whether they are near-duplicates.
    """
    rows = max(1, CHUNK // max(1, len(others)))
    reference = others.reshape(len(others), -1).astype(np.float32)
    lengths, spread = (reference**2).sum(axis=1), reference.std(axis=1)
    starts = range(0, len(some), rows)
    with track(what, total=len(starts)) if what and len(starts) > 1 else nullcontext(lambda _: None) as advance:
        for start in starts:
            part = slice(start, start + rows)
            own = some[part].reshape(-1, reference.shape[1]).astype(np.float32)
            squared = (own**2).sum(axis=1)[:, None] + lengths - 2 * own @ reference.T
            difference = np.sqrt(np.maximum(squared, 0) / reference.shape[1])
            limit = np.minimum(DIFFERENCE, SHARE * np.minimum(own.std(axis=1)[:, None], spread))
            # Equal pictures differ by what rounding leaves, and flat ones have no deviation.
            yield part, difference, difference <= np.maximum(limit, 0.5)
            advance(1)


def duplicate_groups(thumbnails: Thumbnails) -> npt.NDArray[np.int64]:
    """The group of each picture, (N,): pictures that a chain of near-duplicates joins share one."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    groups: npt.NDArray[np.int64] = np.arange(len(thumbnails))
    for part, _, near in distances(thumbnails, thumbnails, "looking for near-duplicates"):
        rows, columns = np.nonzero(near)
        # Group beside group, each pair once: where much looks alike, all pairs of pictures would fill the memory.
        pairs = np.unique(groups[rows + part.start] * len(groups) + groups[columns])
        graph = coo_array((np.ones(len(pairs), dtype=bool), np.divmod(pairs, len(groups))), shape=(len(groups),) * 2)
        groups = connected_components(graph, directed=False)[1].astype(np.int64)[groups]
    return groups


def in_two_classes(samples: Sequence[Sample], thumbnails: Thumbnails, root: Path) -> str | None:
    """One line that names pictures which are in two classes, or None.

    Equal thumbnails are the hint; then whole pictures are held against each other, since a scratch or a far-off bird
    does not show in a thumbnail, and may be all that tells two classes apart.

    Args:
        samples: Pictures and their classes.
        thumbnails: Theirs, (N, 16, 16, 3).
        root: The data's root folder.

    Raises:
        OSError: A picture cannot be read.
    """
    hints = list(several_labels(zip(samples, thumbnails, strict=True)))
    alike = [sample for group in hints for sample in group]
    pictures = ((sample, np.asarray(load_image(root / sample.path))) for sample in alike[:LOOKED_AT])
    found = list(several_labels(pictures))
    if not found:
        return None
    first = found[0][0]
    other = next(sample for sample in found[0] if sample.label != first.label)
    count = f"at least {len(found)}" if len(alike) > LOOKED_AT else f"{len(found)}"
    words = "picture is" if len(found) == 1 else "pictures are"
    return (
        f"{count} {words} in two classes, such as {first.path} and {other.path}: no model can be right about both; "
        "take the wrong one away"
    )


def several_labels(pictures: Iterable[tuple[Sample, npt.NDArray[np.uint8]]]) -> Iterator[list[Sample]]:
    """Those that are equal in every byte and not all of one class."""
    equal = defaultdict(list)
    for sample, pixels in pictures:
        equal[pixels.shape, hashlib.blake2b(pixels.tobytes(), digest_size=16).digest()].append(sample)
    return (group for group in equal.values() if len({sample.label for sample in group}) > 1)
