"""Stands in for `fit`: leaves what a run leaves, epoch by epoch, without learning anything. It imports no torch.

Options beside those of `fit` that a sweep sets: `--score S` by which an epoch's score is S * epoch / (epoch + 1),
`--epochs N`, `--pause SECONDS` of an epoch, `--wrong LINE` to say and end with (unless it is `no`), `--diverge EPOCH`,
`--die EPOCH` to be killed behind it when it comes there for the first time, `--die-always true`, `--late SECONDS` of a
slow start.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

from filelock import FileLock


def main() -> int:
    assert sys.argv[1] == "fit"
    told = dict(word.removeprefix("--").split("=", 1) for word in sys.argv[2:])
    logs = Path(told.get("trainer.default_root_dir", ".")) / "lightning_logs"
    folder = logs / (told.get("resume") or told["run"])
    checkpoint = folder / "checkpoints" / "last.ckpt"
    time.sleep(float(told.get("late", 0)))
    with (logs / "started").open("a") as file:
        file.write(json.dumps(told) + "\n")
    if told.get("wrong", "no") != "no":
        print(f"error: {told['wrong']}\nterminating the others", file=sys.stderr)
        return 2
    if "resume" in told:
        told = json.loads((folder / "config.json").read_text())
        done = int(checkpoint.read_text())
    else:
        folder.mkdir()
        done = 0
        (folder / "config.json").write_text(json.dumps(told))
        (folder / "history.csv").write_text("epoch,val/acc\n")
    stopped: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: stopped.append(number))
    with FileLock(folder / ".lock"):
        for epoch in range(done + 1, int(told.get("epochs", 4)) + 1):
            time.sleep(float(told.get("pause", 0.02)))
            if told.get("diverge") == str(epoch):
                print("error: a weight in epoch 2 is nan: training has failed; lower --model.lr", file=sys.stderr)
                return 2
            with (folder / "history.csv").open("a") as file:
                file.write(f"{epoch},{float(told.get('score', 1)) * epoch / (epoch + 1):.6f}\n")
            (folder / "checkpoints").mkdir(exist_ok=True)
            checkpoint.write_text(str(epoch))
            if told.get("die") == str(epoch) and not (folder / "died").exists():
                (folder / "died").touch(exist_ok="die-always" in told)
                os.kill(os.getpid(), signal.SIGKILL)
            if "die-always" in told:
                checkpoint.write_text("0")
                os.kill(os.getpid(), signal.SIGKILL)
            if stopped:
                (folder / "status.json").write_text(json.dumps({"state": "interrupted"}))
                return 143
        (folder / "status.json").write_text(json.dumps({"state": "finished"}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
