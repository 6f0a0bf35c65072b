"""Another command as a process of its own, whose lines are shown as they come."""

import signal
import subprocess
import sys


def called(command: str, *words: str) -> int:
    """Runs it, and gives its exit status; where this process is stopped, the other one is told to stop as it does.

    Raises:
        KeyboardInterrupt: It was stopped.
    """
    process = subprocess.Popen([sys.executable, "-m", "vit_lightning.cli", command, *words])
    try:
        status = process.wait()
    except BaseException:
        process.send_signal(signal.SIGTERM)  # Ctrl-C on a terminal has reached it already; SIGTERM has not
        process.wait()
        raise
    if status in (130, 128 + signal.SIGTERM):
        raise KeyboardInterrupt
    return status
