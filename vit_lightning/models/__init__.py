"""The Vision Transformer, in torch alone."""

from vit_lightning.models.vit import VisionTransformer

__all__ = ["VisionTransformer"]
