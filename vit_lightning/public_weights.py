"""Weights as timm names them, in a `.safetensors` file: public ones of plain ViTs, and those that we export."""

import importlib.util
import json
import logging
import math
import re
from pathlib import Path
from typing import Any

from torch import Tensor

log = logging.getLogger(__name__)

#: timm's name of each part of the network, and ours.
NAMES = {
    "cls_token": "class_token",
    "pos_embed": "position_embedding",
    "patch_embed.backbone": "patch_embedding.convolutions",  # of timm's HybridEmbed, which no plain ViT has
    "patch_embed.proj": "patch_embedding.projection",
    "attn.qkv": "attention.qkv",
    "attn.proj": "attention.out",
    "mlp.fc1": "mlp.expand",
    "mlp.fc2": "mlp.contract",
}

#: What a plain ViT has, in timm's names.
PLAIN = re.compile(
    r"cls_token|pos_embed|(patch_embed\.proj|norm|head|blocks\.\d+\.(norm[12]|attn\.(qkv|proj)|mlp\.fc[12]))"
    r"\.(weight|bias)"
)

#: Numbers of a token that an attention head has in every plain ViT that timm has weights of: the file does not say.
HEAD_WIDTH = 64

#: The metadata of a file that we have exported under which the arguments of its model stand.
RECORD = "vit_lightning"


def read_public(path: Path, heads: int | None = None) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The weights in a file, and the arguments of `VisionTransformer` that their shapes show.

    Args:
        path: The file.
        heads: Those of the network that gets the weights, for a warning where they are unusual.

    Returns:
        Weights by our names, and arguments; the image is taken to be square, and has no `image_size` where the number
        of its patches is no square. There are no `heads` among them.

    Raises:
        ValueError: The file cannot be read, or is of no plain ViT; or the package that reads it is missing.
    """
    weights = {name: tensor.float() for name, tensor in read_tensors(path)[0].items()}
    blocks = [int(found[1]) for name in weights if (found := re.match(r"blocks\.(\d+)\.", name))]
    other = sorted(name for name in weights if not PLAIN.fullmatch(name))
    if other:
        raise ValueError(f"{path} holds {shorten(other)}, which a plain ViT in timm's naming does not have")
    try:
        dim, in_channels, patch_size, _ = weights["patch_embed.proj.weight"].shape
        hidden, tokens = len(weights["blocks.0.mlp.fc1.weight"]), weights["pos_embed"].shape[1]
    except (KeyError, ValueError, IndexError) as error:
        raise ValueError(f"{path} holds no plain ViT in timm's naming (no patches, positions or blocks)") from error
    pool = "cls" if "cls_token" in weights else "gap"
    patches = tokens - (pool == "cls")
    arguments: dict[str, Any] = {
        "patch_size": patch_size,
        "in_channels": in_channels,
        "dim": dim,
        "depth": max(blocks) + 1,
    }
    arguments |= {"mlp_ratio": hidden / dim, "pool": pool, "stem": "patch"}
    if is_square(patches):
        arguments["image_size"] = patch_size * math.isqrt(patches)
    if "head.weight" in weights:
        arguments["num_classes"] = len(weights["head.weight"])
    if heads is not None and heads * HEAD_WIDTH != dim:
        usual = f": --model.heads {dim // HEAD_WIDTH}" if dim % HEAD_WIDTH == 0 else ""
        log.warning(
            "%s does not say how many heads its attention has, and other than model.heads %d would be another network; "
            "timm's have one for every %d numbers of a token%s",
            *(path, heads, HEAD_WIDTH, usual),
        )
    return {our_name(name): tensor for name, tensor in weights.items()}, arguments


def read_exported(path: Path) -> tuple[dict[str, Tensor], Any]:
    """The network's weights by our names in a file that `export` has written, and the arguments of its model.

    Raises:
        ValueError: The file cannot be read, or `export` has not written it; or the package that reads it is missing.
    """
    weights, told = read_tensors(path)
    try:
        arguments = json.loads(told[RECORD])
    except (KeyError, ValueError, RecursionError) as error:
        raise ValueError(
            f"{path} does not say of which model its weights are: `export --format safetensors` has not written it; a "
            "plain ViT's weights can start a training, with --model.init_from"
        ) from error
    return {our_name(name): tensor for name, tensor in weights.items()}, arguments


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """All tensors in a file, and its metadata.

    Raises:
        ValueError: The file cannot be read, or the package that reads it is missing.
    """
    if importlib.util.find_spec("safetensors") is None:
        raise ValueError(f"{path} needs safetensors: pip install 'vit-lightning[weights]', or -e '.[weights]'")
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118  # no dict
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} cannot be read as safetensors ({' '.join(str(error).split())})") from error


def our_name(name: str) -> str:
    """This project's name of one of timm's weights."""
    for theirs, ours in NAMES.items():
        name = renamed(name, theirs, ours)
    return name


def timm_name(name: str) -> str:
    """The name that timm has for one of the network's weights."""
    for theirs, ours in NAMES.items():
        name = renamed(name, ours, theirs)
    return name


def renamed(name: str, part: str, other: str) -> str:
    """A weight's name with another name for one part of the network."""
    return re.sub(rf"(^|\.){re.escape(part)}(?=\.|$)", rf"\g<1>{other}", name)


def is_square(number: int) -> bool:
    """Whether a whole number is one's square."""
    return number > 0 and math.isqrt(number) ** 2 == number


def shorten(names: list[str]) -> str:
    """The first of several names, and how many more."""
    return names[0] + (f" and {len(names) - 1} more" if len(names) > 1 else "")
