"""Says what is wrong with a command or a config in one line that one can act on."""

import difflib
import re
from collections.abc import Sequence
from typing import Any

import yaml

from vit_lightning.arguments import shown
from vit_lightning.files import expanded

#: How Python's types are called in messages.
TYPES = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "str": "a word",
    "tuple": "a list",
    "NoneType": "null",
}


def nearest(name: str, options: Sequence[str]) -> str | None:
    """The option that was probably meant: of the most similar spelling, for `--dept` without its section too."""
    if name.endswith(("epoch", "epochs")):
        return "--trainer.max_epochs"  # the nearest by its letters is min_epochs
    if "." not in name:
        words = {option.rpartition(".")[2].lstrip("-"): option for option in reversed(options)}
        near = difflib.get_close_matches(name.lstrip("-"), words, n=1, cutoff=0.65)
        return words[near[0]] if near else None
    return next(iter(difflib.get_close_matches(name, options, n=1, cutoff=0.7)), None)


def explain(message: str, options: Sequence[str]) -> str:
    """What jsonargparse says of a mistake, in plain words.

    Args:
        message: Its error.
        options: The command's options, as `--model.depth`.

    Returns:
        What was found, what was expected and, for a misspelt name, the nearest right one; the message itself where
        nothing is known to be said better.
    """
    message = " ".join(message.split())
    value = re.search(r'Parser key "([^"]+)": (.*)', message)
    unknown = re.search(r"unrecognized arguments?: (\S+)", message, re.IGNORECASE)
    key = re.search(r"(?:Group '([^']+)' )?does not accept option '([^']+)'", message)
    if unknown and not unknown[1].startswith("-"):
        return f"there is nothing to do with {unknown[1]!r}; options begin with --, as in --model.depth 6"
    if not value and (refused := re.search(r"Option '([^']+)' is not accepted", message)):
        return f"there is no option {refused[1]}; --help lists all"
    if unknown or key:
        name = unknown[1].partition("=")[0] if unknown else "--" + ".".join(filter(None, key.groups())) if key else ""
        longer = [option for option in options if option.startswith(name)]  # options are not abbreviated
        near = ", ".join(longer[:5]) or nearest(name, options)
        shown, near = (name, near) if unknown else (name[2:], near and near[2:])  # in a file there are no dashes
        inside = "" if unknown or not value else f"{value[1]}: "
        return f"{inside}there is no option {shown}; " + (f"did you mean {near}?" if near else "--help lists all")
    if valueless := re.search(r"argument (?:-\w/)?(--\S+): expected", message):
        return f"{valueless[1]} needs a value after it"
    if requirement := re.search(r"class_path '[^']*?(\w+)': Requirement '([^']+)' not met", message):
        return f"{requirement[1]} needs {requirement[2]}, which is not installed: pip install '{requirement[2]}'"
    if problem := re.search(
        r"Problem with given class_path '([^']+)': (.+?)(?= - Expected| - Problem| Given value|$)", message
    ):
        return f"{value[1] + ': ' if value else ''}{problem[1]} cannot be used: {problem[2]}"
    if value and (found := re.search(r"(?:Got|Given) value:(.*)$", value[2])):
        shown = found[1].strip() or "empty"
        if "Expected a dot import path" in message or "subclass" in message or "callbacks" in value[1]:
            return f"{value[1]} is {shown}; expected the name of such a class, and its arguments where it needs them"
        choices, kinds = [], []
        for expected in re.findall(r"Expected an? (typing\.Literal\[.*?\]|<class '[^']+'>)", value[2]):
            if expected.startswith("typing"):
                choices += [choice.strip(" '") for choice in expected[len("typing.Literal[") : -1].split(",")]
            else:
                kind = expected[len("<class '") : -2].rpartition(".")[2]
                kinds.append(TYPES.get(kind, f"a {kind}"))
        if choices:
            kinds.insert(0, f"one of {', '.join(dict.fromkeys(choices))}")
        if kinds:
            return f"{value[1]} is {shown}; expected {' or '.join(dict.fromkeys(kinds))}"
    return message


#: Values of a config at most.
LARGEST = 100_000


#: Brackets in brackets at most: the time that YAML's reader takes grows with their square.
DEPTH = 100


class ConfigError(ValueError):
    """What is wrong with a config that is YAML."""


class ConfigLoader(yaml.SafeLoader):
    """Reads YAML, but refuses a key that stands twice: YAML's own reader silently keeps the later one.

    So it does aliases (`*name`) that unfold to more than `LARGEST` values: a dozen lines of them fill any memory.
    """

    def get_single_node(self) -> yaml.Node | None:
        """The document, whose aliases are sound."""
        node: yaml.Node | None = super().get_single_node()
        if node is not None:
            unfolded(node, {}, ())
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """A mapping whose keys are words that all differ."""
        lines: dict[str, int] = {}
        for key, _ in node.value:
            line = key.start_mark.line + 1
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in lines:
                    stand = f"`{key.value}:` stands in line {lines[key.value]} and again in line {line}"
                    raise ConfigError(f"{stand}; put what belongs together under one")
                lines[key.value] = line
        return super().construct_mapping(node, deep)


def too_deep(text: str) -> bool:
    """Whether more than `DEPTH` brackets are open at once."""
    depth = 0
    for sign in re.findall(r"[\[{\]}]", text):
        depth = max(0, depth + (1 if sign in "[{" else -1))
        if depth > DEPTH:
            return True
    return False


def unfolded(node: yaml.Node, known: dict[int, int], around: tuple[int, ...]) -> int:
    """How many values a node is once its aliases are followed.

    Raises:
        ConfigError: More than `LARGEST`, or without end.
    """
    if isinstance(node, yaml.ScalarNode):
        return 1
    if id(node) in around:
        raise ConfigError(f"what begins in line {node.start_mark.line + 1} holds itself by an alias; write it out")
    if id(node) not in known:
        entries = [each for pair in node.value for each in (pair if isinstance(pair, tuple) else (pair,))]
        known[id(node)] = 1 + sum(unfolded(each, known, (*around, id(node))) for each in entries)
        if known[id(node)] > LARGEST:
            line = node.start_mark.line + 1
            raise ConfigError(f"what begins in line {line} is more than {LARGEST:,} values; is it a config?")
    return known[id(node)]


def check_configs(words: Sequence[str]) -> None:
    """Opens every config that a command names, since the parser's own errors do not say in which file they are.

    Args:
        words: The command line.

    Raises:
        FileNotFoundError: A file is missing, or is a folder.
        ValueError: A file is no YAML, holds something else than sections, or holds one of them twice.
    """
    for place, word in enumerate(words):
        if digits := re.search(r"\d{4301,}", word):  # Python reads no longer ones, and does not say where one stands
            before = word.partition("=")[0] if "=" in word else words[place - 1]
            raise ValueError(f"{shown(before)} has a number of {len(digits[0])} digits; expected fewer")
        if too_deep(word):
            raise ValueError(f"{shown(word)} has brackets in more than {DEPTH} brackets; expected a value")
        option, equals, value = word.partition("=")
        name = value if equals else "".join(words[place + 1 : place + 2])
        if option in ("-c", "--config") and name and not name.startswith("-"):
            check_config(name)


def check_config(name: str) -> None:
    """Opens one config.

    Raises:
        FileNotFoundError: It is missing, or is a folder.
        ValueError: It is no YAML, holds something else than sections, or holds one of them twice.
    """
    path = expanded(name)
    if not path.is_file():
        found = "is a folder" if path.is_dir() else "does not exist"
        raise FileNotFoundError(f"the config {name} {found}; give a YAML file such as configs/demo.yaml")
    try:
        text = path.read_text(encoding="utf-8")
        if too_deep(text):
            raise RecursionError
        content = yaml.load(text, ConfigLoader)  # a SafeLoader
    except yaml.MarkedYAMLError as error:
        line = f" in line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ValueError(f"the config {name} is no YAML: {error.problem}{line}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"the config {name} is no YAML: it is no plain text") from error
    except ConfigError as error:
        raise ValueError(f"in the config {name} {error}") from error
    except (ValueError, LookupError, TypeError, AttributeError) as error:  # of a date or number that is none
        raise ValueError(f"the config {name} is no YAML: {error}") from error
    except RecursionError as error:
        raise ValueError(f"the config {name} is no YAML: its brackets are too deep") from error
    if not isinstance(content, dict):
        raise ValueError(  # noqa: TRY004  # what a file holds is a value
            f"the config {name} holds no settings; expected sections such as `model:` and `data:`, as in "
            "configs/demo.yaml"
        )
    if "config" in content:
        raise ValueError(f"the config {name} has the section `config`; give several files by a --config each")
    strange = [key for key in content if not isinstance(key, str)]
    if strange:
        raise ValueError(f"the config {name} has the section {shown(strange[0])}; expected names such as `model:`")
    for section in ("trainer", "model", "data"):
        if section in content and not isinstance(content[section], dict):
            raise ValueError(  # what a file holds is a value
                f"the section `{section}` of the config {name} holds no settings; expected lines such as "
                "`depth: 6` below `model:`, or none at all"
            )
