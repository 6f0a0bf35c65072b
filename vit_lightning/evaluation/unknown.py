"""What is kept beside a run of what its weights do not know, for `predict`, `export` and the studio; without torch."""

import json
import logging
from pathlib import Path
from typing import Any

from vit_lightning.files import sha256_of, write_text
from vit_lightning.runs import read_json

log = logging.getLogger(__name__)

#: In a run's folder.
UNKNOWN = "report/unknown.json"


def keep_unknown(run: Path, checkpoint: Path, **sections: dict[str, Any] | None) -> None:
    """Keeps what was found of a checkpoint's weights, beside what is known of the same weights already.

    Args:
        run: The run's folder.
        checkpoint: The weights; of others nothing that is kept here holds.
        sections: By name; None leaves what there is.
    """
    path, weights = run / UNKNOWN, sha256_of(checkpoint)
    before = read_json(path)
    known = before if before.get("weights") == weights else {"weights": weights}
    known |= {name: section for name, section in sections.items() if section is not None}
    if len(known) == 1:
        path.unlink(missing_ok=True)  # what is left there is of other weights
        return
    path.parent.mkdir(exist_ok=True)
    write_text(path, json.dumps(known, indent=2) + "\n")


def read_unknown(run: Path | None, checkpoint: Path) -> dict[str, Any]:
    """What is kept of these weights; nothing where there is no run or no such file, or it is of other weights."""
    if run is None or not (run / UNKNOWN).is_file():
        return {}
    found = read_json(run / UNKNOWN)
    if found.get("weights") == sha256_of(checkpoint):
        return found
    log.warning("%s is of other weights than %s and counts for nothing: test the run again", run / UNKNOWN, checkpoint)
    return {}
