"""A parser for the commands that need neither model nor data."""

import argparse
from typing import NoReturn


class LineParser(argparse.ArgumentParser):
    """Gives mistakes to whoever shows them as a line."""

    def error(self, message: str) -> NoReturn:
        """Raises what argparse would print with its usage.

        Raises:
            ValueError: Always.
        """
        raise ValueError(f"{message}; see `{self.prog} --help`")
