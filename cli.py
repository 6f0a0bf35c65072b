"""The command line: `python cli.py --help`."""

import sys

from vit_lightning.cli import main

if __name__ == "__main__":
    sys.exit(main())
