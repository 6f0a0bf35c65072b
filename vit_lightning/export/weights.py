"""A trained model's weights under timm's names, with the `config.json` that timm builds their network by."""

import json
from pathlib import Path
from typing import Any

from vit_lightning.checkpoint import exported_checkpoint
from vit_lightning.data.transforms import LUMA, MEAN, STD
from vit_lightning.inference import rebuild
from vit_lightning.module import ViTClassifier
from vit_lightning.public_weights import RECORD, timm_name

#: The ViT among timm's of which all sizes are then given: what it is called has no say in them.
ARCHITECTURE = "vit_base_patch16_224"


def write_weights(model: ViTClassifier, path: Path) -> None:
    """Writes the network's tensors, and in the metadata the arguments that `load_classifier` rebuilds the model by.

    Args:
        model: From `load_classifier`.
        path: The file.
    """
    from safetensors.torch import save_file

    tensors = {timm_name(name): tensor.contiguous() for name, tensor in model.net.state_dict().items()}
    # Where the weights started from is a path of the machine that trained them.
    arguments = {name: value for name, value in model.hparams.items() if name != "init_from"}
    save_file(tensors, path, metadata={"format": "pt", RECORD: json.dumps(arguments)})


def read_back(path: Path) -> ViTClassifier:
    """The model of a file that `write_weights` has written, whatever the file's name."""
    return rebuild(path, exported_checkpoint(path))


def known_to_timm(model: ViTClassifier) -> bool:
    """Whether timm can build the network: it has no ViT with our convolutional stem."""
    return bool(model.hparams["stem"] == "patch")


def timm_config(model: ViTClassifier, facts: dict[str, Any]) -> dict[str, Any]:
    """`config.json` as model hubs and timm have it.

    Without the parts that timm builds a network by where it cannot: it would build another.

    Args:
        model: From `load_classifier`.
        facts: What the model says of itself, from `describe`.
    """
    given, (channels, height, width), classes = model.hparams, model.net.image_shape, model.class_names
    pool = "token" if given["pool"] == "cls" else "avg"
    sizes = {"patch_size": given["patch_size"], "embed_dim": given["dim"], "depth": given["depth"]}
    arguments = {"img_size": [height, width], "in_chans": channels, **sizes, "num_heads": given["heads"]}
    arguments |= {"mlp_ratio": given["mlp_ratio"], "class_token": pool == "token", "global_pool": pool}
    colours = (MEAN, STD)
    if channels == 1:  # of the brightness, as `normalise` has it
        colours = tuple((sum(share * each for share, each in zip(LUMA, values, strict=True)),) for values in colours)  # type: ignore[assignment]  # of one colour
    seen = {"input_size": [channels, height, width], "fixed_input_size": True, "interpolation": "bilinear"}
    seen |= {"crop_pct": 1.0, "crop_mode": "squash", "mean": list(colours[0]), "std": list(colours[1])}
    seen |= {"num_classes": len(classes), "first_conv": "patch_embed.proj", "classifier": "head"}
    config: dict[str, Any] = {"num_classes": len(classes), "num_features": given["dim"], "global_pool": pool}
    config |= {"label_names": classes, "pretrained_cfg": seen | {"license": facts["licence"], "label_names": classes}}
    if known_to_timm(model):
        config |= {"architecture": ARCHITECTURE, "model_args": arguments | {"fc_norm": False}}
    return config | {RECORD: facts}
