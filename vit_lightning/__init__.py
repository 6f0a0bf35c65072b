"""Train a plain Vision Transformer from scratch on a folder of images, and use it."""

__version__ = "0.1.0"
