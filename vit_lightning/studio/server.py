"""The server's own process: Streamlit, which ends when whoever started it is gone.

python -m vit_lightning.studio.server --server.port 8501 ...
"""

import importlib
import os
import sys
import threading
from pathlib import Path


def main() -> None:
    """Serves the pages; what follows on the command line are Streamlit's settings."""
    threading.Thread(target=end_with_the_other_side, daemon=True).start()
    threading.Thread(target=warm_up, daemon=True).start()
    from streamlit.web.cli import main as streamlit

    sys.argv = ["streamlit", "run", str(Path(__file__).with_name("app.py")), *sys.argv[1:]]
    streamlit()


def end_with_the_other_side() -> None:
    """Ends this process when the standard input closes: `cli.py studio` holds the other end, also when it is killed."""
    while os.read(0, 4096):
        pass
    os._exit(0)


def warm_up() -> None:
    """Imports torch and the parser while one still reads the first page."""
    importlib.import_module("vit_lightning.studio.fields")


if __name__ == "__main__":
    main()
