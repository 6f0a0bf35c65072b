"""What this machine has, and what suits it."""

import ctypes
import os
import shutil
import sys
import time
from contextlib import suppress

import torch
from lightning.pytorch import Trainer

#: Through this the processes that Lightning starts for further devices learn the first one's choice.
PRECISION_VARIABLE = "VIT_LIGHTNING_PRECISION"

#: Names and numbers of glibc's malloc.h.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3

#: So many times as fast has bf16 to be: autocast's conversions take time, too.
WORTHWHILE = 1.3


def check_accelerator(name: object) -> None:
    """Refuses a GPU that the machine does not have.

    Raises:
        ValueError: There is none of the kind asked for.
    """
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    missing = {"cuda": not cuda, "mps": not mps, "gpu": not (cuda or mps)}
    if isinstance(name, str) and missing.get(name):
        raise ValueError(
            f"trainer.accelerator is {name}, but torch finds no such GPU on this machine; leave it out, or use "
            "--config configs/trainer/cpu.yaml"
        )


def check_compiler(accelerator: object) -> None:
    """Refuses to compile for a processor where there is no compiler, as torch would in the middle of the first step.

    Raises:
        ValueError: There is none by the name that torch looks for.
    """
    gpu = torch.cuda.is_available() or torch.backends.mps.is_available()
    name = os.environ.get("CXX") or {"win32": "cl", "darwin": "clang++"}.get(sys.platform, "g++")
    if (accelerator == "cpu" or not gpu) and shutil.which(name) is None:
        raise ValueError(
            f"model.compile needs the C++ compiler {name}, which is not installed; install it or leave it out"
        )


def keep_memory() -> None:
    """Has the C library keep what was freed instead of giving it back to the system each time.

    glibc asks the system for every larger tensor anew, page by page: that took a fifth of the time in which a processor
    labels a batch. Other C libraries are left as they are.
    """
    with suppress(OSError, AttributeError, TypeError):  # no glibc
        library = ctypes.CDLL(None)
        library.mallopt(M_MMAP_THRESHOLD, 2**30)
        library.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def device_name(trainer: Trainer) -> str:
    """The device in words: `cpu`, `cuda (NVIDIA ...)`, `2 x cpu`."""
    device = trainer.strategy.root_device
    name = f"cuda ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else device.type
    return name if trainer.world_size == 1 else f"{trainer.world_size} x {name}"


def fitting_precision(accelerator: object) -> str:
    """The Trainer's precision for a device: `bf16-mixed` where it computes faster in bf16, otherwise `32-true`.

    GPUs that compute in bf16 by themselves do. Of processors with instructions for it some are several times as fast
    and some half as fast as in fp32, so that they are timed. Apple's GPUs were not measured, and stay with fp32.

    Args:
        accelerator: As the Trainer takes it: `auto`, `cpu`, `gpu`, `cuda` or `mps`.
    """
    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    elif accelerator in ("auto", "gpu", "mps") and torch.backends.mps.is_available():
        native = False
    else:
        mkldnn = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]  # torch's is untyped
        known = mkldnn and torch.ops.mkldnn._is_mkldnn_bf16_supported()
        native = known and bf16_gain() > WORTHWHILE
    return "bf16-mixed" if native else "32-true"


def bf16_gain(size: int = 512, rounds: int = 5) -> float:
    """How many times as fast as in fp32 this processor multiplies matrices in bf16; takes a hundredth of a second.

    Args:
        size: Rows and columns of the matrices.
        rounds: Products of each kind; the quickest counts.
    """
    seconds = dict.fromkeys((torch.float32, torch.bfloat16), float("inf"))
    matrices = {dtype: torch.ones(size, size, dtype=dtype) for dtype in seconds}
    for matrix in matrices.values():
        matrix @ matrix  # the kernel is chosen, and built, the first time
    for _ in range(rounds):
        for dtype, matrix in matrices.items():
            began = time.perf_counter()
            matrix @ matrix
            seconds[dtype] = min(seconds[dtype], time.perf_counter() - began)
    return seconds[torch.float32] / seconds[torch.bfloat16]
