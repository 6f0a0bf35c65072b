"""One training step of the article's model (224 px, patch 16, D 256, 6 blocks, 8 heads), beside its peers.

    python -m benchmarks.step [--batch 16] [--rounds 7] [--compile 1] [--png FILE] [--json]

A step is forward, cross-entropy, backward, clipping of the gradients' norm to 1, AdamW. All are in one process, in
turn, on the same images in memory. Peers run in fp32 with AdamW's defaults, as their readers would begin, and at their
best: fused AdamW, in fp32 or under bf16 autocast, compiled where it is asked for. The matrix rate is that of the
machine's own product of 2048 x 2048 matrices, in the quicker of the two kinds of numbers.
"""

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.measure import Contender, Rates, arguments, check, draw, finish, interleave, ratio, show
from benchmarks.plain import PlainViT, plain_step
from vit_lightning.hardware import bf16_gain, fitting_precision
from vit_lightning.models.vit import VisionTransformer
from vit_lightning.optim import parameter_groups

SIZE, PATCH, DIM, DEPTH, HEADS, CLASSES = 224, 16, 256, 6, 8, 4

#: A processor without instructions for bf16 takes a hundred times as long in it, which is nobody's best.
HOPELESS = 0.25


def peers() -> dict[str, Callable[[float], nn.Module]]:
    """The plain ViTs of other packages, by the rate of every dropout they have."""
    found: dict[str, Callable[[float], nn.Module]] = {}
    installed = check(["timm", "vit_pytorch", "transformers"])
    if "timm" in installed:
        from timm.models.vision_transformer import VisionTransformer as Timm

        found["timm"] = lambda rate: Timm(
            img_size=SIZE,
            patch_size=PATCH,
            embed_dim=DIM,
            depth=DEPTH,
            num_heads=HEADS,
            num_classes=CLASSES,
            pos_drop_rate=rate,
            proj_drop_rate=rate,
            attn_drop_rate=rate,
        )
    from torchvision.models import VisionTransformer as Torchvision

    found["torchvision"] = lambda rate: Torchvision(
        SIZE, PATCH, DEPTH, HEADS, DIM, 4 * DIM, dropout=rate, attention_dropout=rate, num_classes=CLASSES
    )
    if "vit_pytorch" in installed:
        from vit_pytorch import ViT

        found["vit-pytorch"] = lambda rate: ViT(
            image_size=SIZE,
            patch_size=PATCH,
            num_classes=CLASSES,
            dim=DIM,
            depth=DEPTH,
            heads=HEADS,
            dim_head=DIM // HEADS,
            mlp_dim=4 * DIM,
            dropout=rate,
            emb_dropout=rate,
        )
    if "transformers" in installed:
        found["transformers"] = transformers_vit
    return found


def transformers_vit(rate: float) -> nn.Module:
    """Hugging Face's, which gives more than logits."""
    from transformers import ViTConfig, ViTForImageClassification

    class Logits(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            settings: dict[str, Any] = {
                "hidden_size": DIM,
                "num_hidden_layers": DEPTH,
                "num_attention_heads": HEADS,
                "intermediate_size": 4 * DIM,
                "hidden_dropout_prob": rate,
                "attention_probs_dropout_prob": rate,
                "image_size": SIZE,
                "patch_size": PATCH,
                "num_labels": CLASSES,
            }
            self.inner = ViTForImageClassification(ViTConfig(**settings))

        def forward(self, x: Tensor) -> Tensor:
            logits: Tensor = self.inner(x).logits
            return logits

    return Logits()


def step(
    model: nn.Module, optimizer: torch.optim.Optimizer, images: Tensor, labels: Tensor, *, bf16: bool
) -> Contender:
    """A contender that trains one step."""
    model.train()

    def work() -> float:
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            loss = F.cross_entropy(model(images), labels)
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return len(labels)

    return work


def ours(images: Tensor, labels: Tensor, rate: float, *, bf16: bool) -> Contender:
    """This project's network with the optimizer that its module gives it."""
    torch.manual_seed(0)
    model = VisionTransformer(num_classes=CLASSES, dropout=rate, attention_dropout=rate, mlp_dropout=rate)
    optimizer = torch.optim.AdamW(parameter_groups(model, weight_decay=0.05), lr=3e-4, fused=True)
    return step(model, optimizer, images, labels, bf16=bf16)


def contenders(images: Tensor, labels: Tensor, rate: float, *, bf16: bool, compiled: bool) -> dict[str, Contender]:
    """All of them at one rate of dropout."""
    found = {"ours (fp32)": ours(images, labels, rate, bf16=False)}
    if bf16:
        found["ours (bf16)"] = ours(images, labels, rate, bf16=True)
    plain = PlainViT(rate)
    optimizer = torch.optim.AdamW(plain.parameters(), lr=3e-4)

    def plain_work() -> float:
        plain_step(plain, optimizer, images, labels)
        return len(labels)

    found["plain"] = plain_work
    for name, build in peers().items():
        for way in ("default", "fused, fp32", *["fused, bf16"] * bf16, *["compiled, fp32"] * compiled):
            torch.manual_seed(0)
            model = build(rate)
            if way.startswith("compiled"):
                model.compile()
            theirs = torch.optim.AdamW(model.parameters(), lr=3e-4, fused=way != "default")
            found[f"{name} ({way})"] = step(model, theirs, images, labels, bf16=way.endswith("bf16"))
    return found


def matrix_rate(size: int = 2048, rounds: int = 9, *, bf16: bool) -> dict[str, float]:
    """Floating-point operations a second in products of square matrices, of fp32 and of bf16 numbers."""
    rates = {}
    for name, dtype in (("fp32", torch.float32), *[("bf16", torch.bfloat16)] * bf16):
        matrix, seconds = torch.ones(size, size, dtype=dtype), []
        for _ in range(rounds):
            began = time.perf_counter()
            matrix @ matrix
            seconds.append(time.perf_counter() - began)
        rates[name] = 2 * size**3 / sorted(seconds)[rounds // 2]
    return rates


def operations(tokens: int = (SIZE // PATCH) ** 2 + 1) -> float:
    """Floating-point operations of one training image by the paper's formulas: all tokens of all blocks, no tricks.

    A product with a matrix costs two for each of its numbers and each token; backward costs twice forward.
    """
    linear = 12 * DIM * DIM  # q, k, v, their mixing, and the MLP's two
    attention = 2 * tokens * DIM
    return 3 * 2 * (tokens * DEPTH * (linear + attention) + (tokens - 1) * 3 * PATCH**2 * DIM)


def main() -> None:
    """Measures, and prints what came out."""
    options = arguments(__doc__, batch=16, rounds=7, compile=0)
    torch.manual_seed(0)
    images, labels = torch.randn(options.batch, 3, SIZE, SIZE), torch.randint(CLASSES, (options.batch,))
    tables: dict[str, dict[str, Rates]] = {}
    gain = bf16_gain()
    bf16 = gain > HOPELESS
    if not bf16:
        print(f"left out: bf16, which this processor computes {1 / gain:.0f} times as slowly as fp32")
    rates = matrix_rate(bf16=bf16)
    print(", ".join(f"matrices of {name} at {rate / 1e9:.0f} GFLOP/s" for name, rate in rates.items()))
    limit = max(rates.values()) / operations()
    print(f"{operations() / 1e9:.2f} GFLOP an image: at most {limit:.0f} images/s")
    ratios = {}
    for rate in (0.0, 0.1):
        table = interleave(
            contenders(images, labels, rate, bf16=bf16, compiled=bool(options.compile)), rounds=options.rounds
        )
        chosen = "ours (bf16)" if fitting_precision("cpu") == "bf16-mixed" else "ours (fp32)"
        mine = table[chosen]
        title = f"step, batch {options.batch}, dropout {rate:g}"
        tables[title] = table
        show(title, table, chosen)
        theirs = {name: each for name, each in table.items() if not name.startswith(("ours", "plain"))}
        best = max(theirs, key=lambda name: theirs[name].median)
        defaults = [ratio(mine, each) for name, each in theirs.items() if "default" in name]
        print(f"{chosen}: {ratio(mine, theirs[best]):.2f}x the fastest peer, {best};", end=" ")
        print(f"{min(defaults):.2f}x to {max(defaults):.2f}x the peers' defaults;", end=" ")
        print(f"{ratio(mine, table['plain']):.2f}x plain; {mine.median / limit:.0%} of the matrix rate")
        if rate == 0.0:
            ratios = {
                "to_best_peer": ratio(mine, theirs[best]),
                "to_plain": ratio(mine, table["plain"]),
                "of_limit": mine.median / limit,
            }
    draw(options.png, tables)
    finish(options, ratios)


if __name__ == "__main__":
    main()
