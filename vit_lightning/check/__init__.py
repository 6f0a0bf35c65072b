"""The debugging list that is worth going through before an hour of training is spent, in about a minute.

Each function looks at one thing and says what it found. Nothing of a run is opened or kept; every step that computes is
bounded in seconds.
"""

from vit_lightning.check.checklist import run

__all__ = ["run"]
