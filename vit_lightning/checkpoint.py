"""Checkpoints read and held against a network: which weights fit, and what has to stay as it was."""

import inspect
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import torch
from torch import Tensor, nn

from vit_lightning.models.layers import FREE, patch_grid, resample_positions
from vit_lightning.models.vit import VisionTransformer

log = logging.getLogger(__name__)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """What a checkpoint of this project holds, on the CPU; nothing in it is executed.

    Raises:
        ValueError: It is another kind of file, or half of one.
    """
    try:
        checkpoint: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        missing = {"state_dict", "hyper_parameters", "datamodule_hyper_parameters"} - checkpoint.keys()
    except Exception as error:  # torch raises what its readers do
        raise ValueError(f"{path} is no checkpoint of this project ({type(error).__name__})") from error
    if missing:
        raise ValueError(f"{path} is no checkpoint of this project (without {', '.join(sorted(missing))})")
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

    def plain(value: object) -> object:
        return list(value) if isinstance(value, tuple) else value

    known = network_defaults() | dict(saved)
    return [name for name in names if plain(wanted[name]) != plain(known.get(name))]


def network_defaults() -> dict[str, Any]:
    """The network's arguments that have a default, with it."""
    parameters = inspect.signature(VisionTransformer).parameters
    return {name: each.default for name, each in parameters.items() if each.default is not each.empty}


def initial_weights(path: Path, net: VisionTransformer, arguments: Mapping[str, Any]) -> dict[str, Tensor]:
    """What a checkpoint's weights give a network to start from.

    Args:
        path: The checkpoint.
        net: The network.
        arguments: Those it was built with, and its `class_names`.

    Returns:
        A state for `net`, with positions resampled to its image size; without a head where the classes are others.

    Raises:
        ValueError: It is no checkpoint of this project, or of a network that differs in more than size and classes.
    """
    saved = read_checkpoint(path)
    theirs = network_defaults() | saved["hyper_parameters"]
    adapted = ("image_size", "num_classes")  # by resampling, and by a fresh head
    fixed = [name for name in binding_arguments() if name not in adapted]
    if other := changed_arguments(arguments, theirs, fixed):
        flags = " ".join(f"--model.{name} {theirs[name]}" for name in other)
        raise ValueError(f"the weights in {path} belong to another network than asked for; give {flags}")
    weights = {name.removeprefix("net."): tensor for name, tensor in saved["state_dict"].items()}
    if "position_embedding" in weights:
        grid = patch_grid(theirs["image_size"], theirs["patch_size"])
        weights["position_embedding"] = resample_positions(weights["position_embedding"], grid, net.grid)
    state = net.state_dict()
    if list(theirs["class_names"]) != list(arguments["class_names"]):
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
    log.info("weights from %s%s", path, fresh)
