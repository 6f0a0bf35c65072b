"""A parser for the commands that need neither model nor data."""

import argparse
import re
from collections.abc import Callable
from typing import NoReturn

from vit_lightning.arguments import shown


class LineParser(argparse.ArgumentParser):
    """Gives mistakes to whoever shows them as a line."""

    def error(self, message: str) -> NoReturn:
        """Raises what argparse would print with its usage.

        Raises:
            ValueError: Always.
        """
        valued = re.fullmatch(r"argument (?:-\w/)?(\S+): (is .*)", message, re.DOTALL)  # by a function of this file
        told = " ".join(valued.groups()) if valued else message
        raise ValueError(f"{told}; see `{self.prog} --help`")


def whole(least: int) -> Callable[[str], int]:
    """The type of an option that takes a whole number from so many up."""

    def read(text: str) -> int:
        if not re.fullmatch(r"[+-]?[0-9]{1,9}", text) or int(text) < least:
            raise argparse.ArgumentTypeError(f"is {shown(text)}; expected a whole number from {least} up")
        return int(text)

    return read
