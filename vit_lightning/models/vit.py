"""The Vision Transformer of Dosovitskiy et al., "An Image is Worth 16x16 Words" (2020), from top to bottom.

Equation numbers are the paper's (section 3.1 and appendix A). Shape letters, here and in the whole project:
B batch, C channels, H W image height and width, P patch side, N tokens, D width, h heads, d = D / h, K classes.
"""

import math
from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vit_lightning.arguments import both_sides, check_choice, check_number
from vit_lightning.models.layers import (
    FREE,
    LARGEST,
    ConvolutionalStem,
    Dropout,
    DropPath,
    Rate,
    check_memory,
    check_rates,
    check_sizes,
    patch_grid,
)


class PatchEmbedding(nn.Module):
    """Cuts an image into P x P patches and projects each to D numbers: the `x_p E` of equation 1.

    A convolution whose kernel and stride are both P is that linear projection: it sees each patch once.
    """

    def __init__(self, *, in_channels: int, patch_size: int, dim: int) -> None:
        super().__init__()
        self.projection = nn.Conv2d(in_channels, dim, kernel_size=patch_size, stride=patch_size)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, N, D) with N = HW / P^2, row by row from the top left."""
        x = self.projection(x)  # B D H/P W/P
        return x.flatten(2).transpose(1, 2)  # B N D


class MultiHeadSelfAttention(nn.Module):
    """Multi-head self-attention, equations 5 to 8 (appendix A).

    `dropout` falls on the attention weights and on the output of the projection.
    """

    def __init__(self, *, dim: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        if dim % heads:
            raise ValueError(f"dim {dim} is not divisible by heads {heads}; choose heads that divide dim")
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)  # U_qkv of equation 5: the three projections side by side
        self.dropout = Dropout(dropout)
        self.out = nn.Linear(dim, dim)  # U_msa of equation 8
        self.out_dropout = Dropout(dropout)

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Equation 5: (B, N, D) -> queries, keys and values, each (B, h, N, d)."""
        qkv = self.qkv(x).unflatten(-1, (3, self.heads, -1))  # B N 3 h d
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # each B h N d
        return q, k, v

    def forward(self, x: Tensor, first: int | None = None) -> Tensor:
        """(B, N, D) -> (B, N, D), through torch's fused kernel, which computes `eager_attention` without storing A.

        Args:
            x: The tokens.
            first: Compute only so many tokens, (B, first, D). They look at all the others all the same.
        """
        rate = self.dropout.rate if self.training else 0.0
        if rate > 0.0 and x.device.type == "cpu" and not torch.compiler.is_compiling():
            # The fused kernel of processors knows no dropout.
            return self.eager_attention(x, first)[0]
        q, k, v = self.project(x)
        heads = F.scaled_dot_product_attention(q[:, :, :first], k, v, dropout_p=rate)
        return self.merge(heads)

    def eager_attention(self, x: Tensor, first: int | None = None) -> tuple[Tensor, Tensor]:
        """The same as `forward`, step by step: for the reader, and for looking at A.

        Returns:
            The output (B, N, D) and the attention A (B, h, N, N), before dropout; row i of A says where token i looks,
            and sums to 1. With `first` there are only so many tokens and rows.
        """
        q, k, v = self.project(x)
        q = q[:, :, :first] / math.sqrt(q.shape[-1])
        scores = q @ k.transpose(-2, -1)  # B h N N
        attention = scores.softmax(dim=-1)  # equation 6
        heads = self.dropout(attention) @ v  # equation 7, B h N d
        return self.merge(heads), attention

    def merge(self, heads: Tensor) -> Tensor:
        """Equation 8: heads (B, h, N, d) side by side, then projected: (B, N, D)."""
        return self.out_dropout(self.out(heads.transpose(1, 2).flatten(2)))


class MLP(nn.Module):
    """Two linear layers with a GELU between, D -> rD -> D, the same for every token (section 3.1)."""

    def __init__(self, *, dim: int, hidden_dim: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.expand = nn.Linear(dim, hidden_dim)
        self.contract = nn.Linear(hidden_dim, dim)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, D) -> (B, N, D)."""
        x = self.dropout(F.gelu(self.expand(x)))
        return self.dropout(self.contract(x))


class EncoderBlock(nn.Module):
    """One pre-norm block of the encoder, equations 2 and 3."""

    def __init__(
        self, *, dim: int, heads: int, mlp_ratio: float, attention_dropout: float, mlp_dropout: float, drop_path: float
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attention = MultiHeadSelfAttention(dim=dim, heads=heads, dropout=attention_dropout)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = MLP(dim=dim, hidden_dim=int(dim * mlp_ratio), dropout=mlp_dropout)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor, first: int | None = None) -> Tensor:
        """(B, N, D) -> (B, N, D), or (B, first, D) where only the first tokens are wanted."""
        x = x[:, :first] + self.drop_path(self.attention(self.norm1(x), first))  # equation 2
        return x + self.drop_path(self.mlp(self.norm2(x)))  # equation 3


class VisionTransformer(nn.Module):
    """A plain ViT classifier: patches, class token, positions, L encoder blocks, linear head (equations 1 to 4).

    Args:
        num_classes: K, the number of classes.
        image_size: Side in pixels of a square image, or (height, width).
        patch_size: P, side of a patch in pixels; divides height and width.
        in_channels: C, 3 for colour, 1 for grey.
        dim: D, the width of every token.
        depth: L, the number of encoder blocks.
        heads: h, attention heads a block; divides `dim`.
        mlp_ratio: Hidden width of the MLP over D.
        dropout: Rate on the embedded tokens.
        attention_dropout: Rate on attention weights and attention output.
        mlp_dropout: Rate after each layer of the MLP.
        drop_path: Rate of the last block; the others rise to it linearly from 0.
        pool: `cls` reads the class token (the paper); `gap` has none and averages the patch tokens.
        stem: `patch` projects each patch by itself (the paper); `conv` is `ConvolutionalStem`.
        init: `vit` follows the paper's code: Glorot-uniform matrices (q, k and v each by itself), the patch projection
            normal by its fan-in, positions normal with 0.02, biases and head zero; but there the class token starts at
            zero and the MLP's biases are normal with 1e-6, here they are normal with 0.02 and zero. `article` leaves
            torch's own initialisation and draws class token and positions from a unit normal.

    Raises:
        ValueError: A size that does not divide, a number out of its range or an unknown choice.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        image_size: int | tuple[int, int] = 224,
        patch_size: int = 16,
        in_channels: int = 3,
        dim: int = 256,
        depth: int = 6,
        heads: int = 8,
        mlp_ratio: float = 4.0,
        dropout: Rate = 0.0,
        attention_dropout: Rate = 0.0,
        mlp_dropout: Rate = 0.0,
        drop_path: Rate = 0.0,
        pool: Literal["cls", "gap"] = "cls",
        stem: Literal["patch", "conv"] = "patch",
        init: Annotated[Literal["vit", "article"], FREE] = "vit",
    ) -> None:
        super().__init__()
        height, width = both_sides("image_size", image_size)
        sizes = {"patch_size": patch_size, "in_channels": in_channels, "dim": dim, "depth": depth, "heads": heads}
        check_sizes(num_classes=num_classes, **sizes)
        check_rates(dropout=dropout, attention_dropout=attention_dropout, mlp_dropout=mlp_dropout, drop_path=drop_path)
        check_choice("pool", pool, ("cls", "gap"))
        check_choice("stem", stem, ("patch", "conv"))
        check_choice("init", init, ("vit", "article"))
        check_number("mlp_ratio", mlp_ratio, least=0, most=LARGEST)
        if dim * mlp_ratio < 1:
            raise ValueError(f"mlp_ratio {mlp_ratio} leaves dim {dim} no hidden unit; it has to be at least 1 / dim")

        self.image_shape = (in_channels, height, width)
        self.grid = patch_grid(image_size, patch_size)
        self.pool = pool
        tokens = self.grid[0] * self.grid[1] + (pool == "cls")
        weights = dim * (tokens + in_channels * patch_size**2 + num_classes + depth * dim * (4 + 2 * mlp_ratio))
        check_memory(weights, {"image_size": image_size, **sizes, "mlp_ratio": mlp_ratio, "num_classes": num_classes})

        embedding = ConvolutionalStem if stem == "conv" else PatchEmbedding
        self.patch_embedding = embedding(in_channels=in_channels, patch_size=patch_size, dim=dim)
        self.class_token = nn.Parameter(torch.zeros(1, 1, dim)) if pool == "cls" else None
        self.position_embedding = nn.Parameter(torch.zeros(1, tokens, dim))
        self.dropout = Dropout(dropout)
        blocks = (
            EncoderBlock(
                dim=dim,
                heads=heads,
                mlp_ratio=mlp_ratio,
                attention_dropout=attention_dropout,
                mlp_dropout=mlp_dropout,
                drop_path=drop_path * i / max(1, depth - 1),
            )
            for i in range(depth)
        )
        self.blocks: Sequence[EncoderBlock] = nn.ModuleList(blocks)  # type: ignore[assignment]  # torch's is untyped
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.head = nn.Linear(dim, num_classes)
        self.initialise(init)

    @torch.no_grad()
    def initialise(self, init: Literal["vit", "article"]) -> None:
        """Draws all weights afresh; the one place where it is done."""
        if init == "vit":  # as the paper's own code does, but for the class token and the MLP's biases
            for module in self.modules():
                if isinstance(module, nn.Linear | nn.Conv2d) and module.bias is not None:
                    nn.init.zeros_(module.bias)
            projection = self.patch_embedding.projection.weight
            nn.init.normal_(projection, std=1 / math.sqrt(projection[0].numel()))
            for block in self.blocks:
                attention, mlp = block.attention, block.mlp
                matrices = (attention.out.weight, mlp.expand.weight, mlp.contract.weight)
                for matrix in (*attention.qkv.weight.chunk(3), *matrices):
                    nn.init.xavier_uniform_(matrix)
            nn.init.zeros_(self.head.weight)
        std = 0.02 if init == "vit" else 1.0
        nn.init.normal_(self.position_embedding, std=std)
        if self.class_token is not None:
            nn.init.normal_(self.class_token, std=std)

    def embed(self, x: Tensor) -> Tensor:
        """Equation 1: (B, C, H, W) -> (B, N, D), or (B, N + 1, D) with the class token, which comes first."""
        x = self.patch_embedding(x)
        if self.class_token is not None:
            x = torch.cat([self.class_token.expand(x.shape[0], -1, -1), x], dim=1)
        return self.dropout(x + self.position_embedding)

    def encode(self, x: Tensor, maps: list[Tensor] | None = None) -> Tensor:
        """Equations 1 to 3: (B, C, H, W) -> encoded tokens (B, N, D), or the class token that the head reads alone.

        Each block's attention is added to `maps`.
        """
        x = self.embed(x)
        for block in self.blocks:
            if maps is not None:
                maps.append(block.attention.eager_attention(block.norm1(x))[1])
            # Of the last block's tokens the head reads the class token alone: the others are not computed.
            x = block(x, first=1 if block is self.blocks[-1] and self.pool == "cls" else None)
        return x

    def pooled(self, x: Tensor) -> Tensor:
        """Equation 4: encoded tokens (B, N, D), or the class token alone, (B, 1, D) -> what the head reads, (B, D)."""
        x = self.norm(x)
        return x[:, 0] if self.pool == "cls" else x.mean(dim=1)  # B D

    def classify(self, x: Tensor) -> Tensor:
        """The pooled token and the head: encoded tokens -> logits (B, K)."""
        x = self.pooled(x)
        with torch.autocast(x.device.type, enabled=False):  # bf16 has three digits: too few for a probability
            return self.head(x.to(self.head.weight.dtype))

    def forward(self, x: Tensor, *, return_attention: bool = False) -> Tensor | tuple[Tensor, list[Tensor]]:
        """Logits of a batch, or of one image.

        Args:
            x: Normalised images (B, C, H, W), or one (C, H, W).
            return_attention: Also give the attention of each block. It is computed beside the fused pass, at extra
                cost: for the few images that are shown.

        Returns:
            Logits (B, K), or (K,) for one image; with `return_attention` also a list of L maps (B, h, N, N), or
            (h, N, N).

        Raises:
            ValueError: The image's channels, height or width are not the model's.
        """
        if x.ndim not in (3, 4) or tuple(x.shape[-3:]) != self.image_shape:
            raise ValueError(
                f"the input has shape {tuple(x.shape)}; expected (B, C, H, W) or (C, H, W) "
                f"with (C, H, W) = {self.image_shape}"
            )
        one = x.ndim == 3
        maps: list[Tensor] = []
        logits = self.classify(self.encode(x[None] if one else x, maps if return_attention else None))
        if one:
            logits, maps = logits[0], [attention[0] for attention in maps]
        return (logits, maps) if return_attention else logits
