"""Checkpoints read and held against a network: which weights fit, and what has to stay as it was."""

import inspect
import logging
import pickle
import re
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import torch
from torch import Tensor, nn

from vit_lightning.arguments import shown
from vit_lightning.models.layers import FREE, patch_grid, resample_positions
from vit_lightning.models.vit import VisionTransformer
from vit_lightning.public_weights import read_exported, read_public

log = logging.getLogger(__name__)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """What a checkpoint of this project holds, on the CPU; nothing in it is executed, and nothing unpacked.

    Args:
        path: The checkpoint, or a `.safetensors` file that `export` has written: without a training and data.

    Raises:
        ValueError: It is another kind of file, half of one, or one that would run code or fill the memory.
    """
    if path.suffix == ".safetensors":
        return check_content(path, exported_checkpoint(path))
    try:
        check_archive(path)
        checkpoint: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        missing = {"state_dict", "hyper_parameters", "datamodule_hyper_parameters"} - checkpoint.keys()
    except Exception as error:  # torch raises what its readers do
        raise ValueError(f"{path} is no checkpoint of this project ({refusal(error)})") from error
    if missing:
        raise ValueError(f"{path} is no checkpoint of this project (without {', '.join(sorted(missing))})")
    return check_content(path, checkpoint)


def exported_checkpoint(path: Path) -> dict[str, Any]:
    """What a file that `export` has written holds, as a checkpoint has it.

    Raises:
        ValueError: It is another kind of file.
    """
    weights, arguments = read_exported(path)
    state = {f"net.{name}": tensor for name, tensor in weights.items()}
    return {"state_dict": state, "hyper_parameters": arguments, "datamodule_hyper_parameters": {}}


def check_content(path: Path, checkpoint: dict[str, Any]) -> dict[str, Any]:
    """A checkpoint as it is, if its parts are what they have to be.

    Raises:
        ValueError: It says which is not.
    """
    weights = checkpoint["state_dict"]
    if not isinstance(weights, dict) or not all(isinstance(each, Tensor) for each in weights.values()):
        raise ValueError(f"{path} is no checkpoint of this project (its state_dict holds more than tensors)")
    for name in ("hyper_parameters", "datamodule_hyper_parameters"):
        if not isinstance(checkpoint[name], dict) or not is_plain(checkpoint[name]):
            raise ValueError(f"{path} is no checkpoint of this project (its {name} are no names, numbers and lists)")
    for name in ("epoch", "global_step"):  # of a training; one that was saved without may be used all the same
        count = checkpoint.get(name, 0)
        if not isinstance(count, int) or count < 0:
            raise ValueError(f"{path} is no checkpoint of this project (its {name} is {shown(count)})")
    return checkpoint


def whole_epochs(checkpoint: Mapping[str, Any]) -> int:
    """The epochs that a checkpoint's training has done; it may be in the middle of a further one.

    Raises:
        ValueError: It does not say.
    """
    try:
        return int(checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError("the checkpoint holds weights, but not how far their training has come") from error


def check_training(path: Path, checkpoint: Mapping[str, Any]) -> None:
    """Refuses a checkpoint that holds weights alone, where a training is to go on from it.

    Raises:
        ValueError: It says what is missing.
    """
    kinds = {"epoch": int, "global_step": int, "pytorch-lightning_version": str, "loops": dict, "callbacks": dict}
    kinds |= {"optimizer_states": list, "lr_schedulers": list}
    missing = [name for name, kind in kinds.items() if not isinstance(checkpoint.get(name), kind)]
    if missing:
        raise ValueError(
            f"training cannot go on from {path} (without {', '.join(missing)}); to start from its weights give "
            "--model.init_from"
        )


def check_archive(path: Path) -> None:
    """Refuses an archive that would grow when it is read: torch packs its own without compression.

    Raises:
        ValueError: It is compressed, or its parts overlap.
        BadZipFile: It is broken.
    """
    if not zipfile.is_zipfile(path):
        return  # torch tells what else it may be
    with zipfile.ZipFile(path) as archive:
        parts = archive.infolist()
    unpacked = sum(part.file_size for part in parts)
    if unpacked > path.stat().st_size or any(part.compress_type != zipfile.ZIP_STORED for part in parts):
        raise ValueError(f"its parts would take {unpacked:,} bytes and are compressed, which no checkpoint is")


def refusal(error: Exception) -> str:
    """Why a checkpoint cannot be read, in a few words."""
    if isinstance(error, pickle.UnpicklingError) and (found := re.search(r"GLOBAL (\S+)", str(error))):
        return f"it holds {found[1]}, and what is more than numbers, words and tensors may run code: it is not read"
    return str(error) if type(error) is ValueError else type(error).__name__


def is_plain(value: object, most: int = 1_000_000) -> bool:
    """Whether a value is made of words, numbers, lists and dictionaries alone, and of not too many.

    A few lists that hold each other several times over would be unfolded for ever.
    """
    todo = [value]
    for _ in range(most):
        if not todo:
            return True
        each = todo.pop()
        if isinstance(each, dict):
            if not all(isinstance(name, str) for name in each):
                return False
            todo += each.values()
        elif isinstance(each, list | tuple):
            todo += each
        elif not isinstance(each, str | int | float | None):
            return False
    return False


def check_weights(path: Path, saved: Mapping[str, Tensor], module: nn.Module) -> None:
    """Refuses weights that are not those of a module, by name or shape.

    Raises:
        ValueError: A file that was changed, or of another version of this project.
    """
    shapes = ({name: tuple(each.shape) for name, each in state.items()} for state in (saved, module.state_dict()))
    theirs, ours = shapes
    unfit = sorted(name for name in theirs.keys() | ours.keys() if theirs.get(name) != ours.get(name))
    if unfit:
        raise ValueError(
            f"the weights in {path} do not fit the network: {', '.join(unfit[:3])} missing, unknown or of another "
            "shape; give a checkpoint that this version has written"
        )


def marked_arguments(module: type[nn.Module], mark: str) -> dict[str, bool]:
    """The arguments of a constructor, and whether its signature gives each the mark (`FREE`, `FROM_START`)."""
    hints = get_type_hints(module.__init__, include_extras=True)
    del hints["return"]
    return {name: get_origin(hint) is Annotated and mark in get_args(hint)[1:] for name, hint in hints.items()}


def binding_arguments(network: type[nn.Module] = VisionTransformer) -> list[str]:
    """A network's arguments that its weights depend on: all that its signature does not mark as `FREE` of them."""
    return [name for name, free in marked_arguments(network, FREE).items() if not free]


def changed_arguments(wanted: Mapping[str, Any], saved: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    """Which of the named arguments differ; a tuple and the list that a file makes of it are the same.

    An argument that the checkpoint does not know, since it is newer, has to have its default to be the same.
    """
    known = network_defaults() | dict(saved)
    return [name for name in names if plain(wanted[name]) != plain(known.get(name))]


def plain(value: object) -> object:
    """A tuple as the list that a file makes of it."""
    return list(value) if isinstance(value, tuple) else value


def network_defaults() -> dict[str, Any]:
    """The network's arguments that have a default, with it."""
    parameters = inspect.signature(VisionTransformer).parameters
    return {name: each.default for name, each in parameters.items() if each.default is not each.empty}


def complete(given: Mapping[str, Any], **sizes: Any) -> dict[str, Any]:  # noqa: ANN401  # arguments of any type
    """The network's arguments with the defaults of those that are left out, which is None for sizes.

    A checkpoint says all of them: a default that changes changes no old run.
    """
    return network_defaults() | dict(given) | {name: size for name, size in sizes.items() if size is not None}


def saved_sizes(path: Path) -> dict[str, Any]:
    """Image and patch size of the network that a file of weights belongs to.

    Raises:
        ValueError: It is no checkpoint of this project and no public one, or does not tell.
    """
    arguments = read_initial(path)[1]
    if "image_size" not in arguments:
        raise ValueError(f"the positions in {path} are of no square image; give --model.image_size and .patch_size")
    return {name: arguments[name] for name in ("image_size", "patch_size")}


def read_initial(path: Path, heads: int | None = None) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The network's weights in a checkpoint, or in a public one in timm's naming, and the arguments that belong to it.

    Raises:
        ValueError: It is neither.
    """
    if path.suffix == ".safetensors":
        return read_public(path, heads)
    saved = read_checkpoint(path)
    weights = {name.removeprefix("net."): tensor for name, tensor in saved["state_dict"].items()}
    return weights, network_defaults() | saved["hyper_parameters"]


def initial_weights(path: Path, net: VisionTransformer, arguments: Mapping[str, Any]) -> dict[str, Tensor]:
    """What a checkpoint's weights give a network to start from.

    Args:
        path: The checkpoint, or a public one in timm's naming (`.safetensors`).
        net: The network.
        arguments: Those it was built with, and its `class_names`.

    Returns:
        A state for `net`, with positions resampled to its image size; without a head where the classes are others, or,
        of a public one, which does not name them, where their number is another.

    Raises:
        ValueError: It is neither, or of a network that differs in more than size and classes.
    """
    weights, theirs = read_initial(path, arguments["heads"])
    adapted = ("image_size", "num_classes")  # by resampling, and by a fresh head
    fixed = [name for name in binding_arguments() if name not in adapted and name in theirs]
    if other := changed_arguments(arguments, theirs, fixed):
        flags = " ".join(f"--model.{name} {theirs[name]}" for name in other)
        raise ValueError(f"the weights in {path} belong to another network than asked for; give {flags}")
    if "position_embedding" in weights and "image_size" in theirs:
        grid = patch_grid(theirs["image_size"], theirs["patch_size"])
        weights["position_embedding"] = resample_positions(weights["position_embedding"], grid, net.grid)
    state = net.state_dict()
    telling = "class_names" if path.suffix != ".safetensors" else "num_classes"
    if plain(theirs.get(telling)) != plain(arguments[telling]):
        weights = {name: tensor for name, tensor in weights.items() if not name.startswith("head.")}
        state = {name: tensor for name, tensor in state.items() if not name.startswith("head.")}
    unfit = list(state.keys() ^ weights.keys())
    unfit += [name for name in state.keys() & weights.keys() if state[name].shape != weights[name].shape]
    if unfit:  # a file that was changed, or of another version of this project
        raise ValueError(
            f"the weights in {path} do not fit the network: {', '.join(sorted(unfit)[:3])} missing, unknown or of "
            "another shape; give a checkpoint that this version has written"
        )
    return weights


def take_initial_weights(path: Path, net: VisionTransformer, arguments: Mapping[str, Any]) -> None:
    """Puts `initial_weights` into a network, and says so.

    Raises:
        ValueError: As in `initial_weights`.
    """
    weights = initial_weights(path, net, arguments)
    net.load_state_dict(net.state_dict() | weights)
    fresh = "" if "head.weight" in weights else "; the head starts afresh: the classes are others"
    if not fresh and path.suffix == ".safetensors":
        fresh = f"; its head too, for as many classes: {arguments['class_names'][0]} is the first"
    log.info("weights from %s%s", path, fresh)
