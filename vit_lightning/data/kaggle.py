"""The Tom & Jerry frames from Kaggle."""

import os
from pathlib import Path

#: Pinned: an unversioned handle asks Kaggle at every start, and fails without a network even when all is cached.
HANDLE = "balabaskar/tom-and-jerry-image-classification/versions/3"

#: The set's class folders; `tom_jerry_0` is neither of the two, `tom_jerry_1` both.
CLASSES = ("jerry", "tom", "tom_jerry_0", "tom_jerry_1")


def download(cache_dir: Path) -> Path:
    """Downloads the frames once; later calls make no request.

    Args:
        cache_dir: Where downloads are kept.

    Returns:
        The folder with Kaggle's own layout.

    Raises:
        FileNotFoundError: The download failed; the message names the set, the cache and the way round.
    """
    os.environ["KAGGLEHUB_CACHE"] = str(cache_dir)
    import kagglehub  # half a second, needed only here

    try:
        return Path(kagglehub.dataset_download(HANDLE))
    except Exception as error:  # kagglehub raises what its HTTP library does
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise FileNotFoundError(
            f"could not download {HANDLE} from Kaggle into {cache_dir}: {reason}; check the network and try again, "
            "or point --data.root at a copy"
        ) from error
