"""Train a plain Vision Transformer from scratch on a folder of images, and use it."""

import os

__version__ = "0.1.0"

# onnxruntime would keep a number for this machine in the user's cache folder, and report what it is used for.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
