"""What the parser says, in plain words."""

from pathlib import Path

import pytest

from vit_lightning.cli_errors import check_configs, explain, nearest

#: Eight lines that unfold to a hundred million values.
BOMB = b"".join(
    b"%c: &%c [%s]\n" % (name + 1, name + 1, b", ".join([b"*%c" % name] * 9)) for name in range(ord("a"), ord("i"))
)

OPTIONS = [
    "--help",
    "--config",
    "--model.depth",
    "--model.dim",
    "--model.lr",
    "--data.root",
    "--trainer.max_epochs",
    "--trainer.min_epochs",
]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("--model.dpth", "--model.depth"),
        ("--modell.depth", "--model.depth"),
        ("--depth", "--model.depth"),
        ("--dept", "--model.depth"),
        ("--trainer.epochs", "--trainer.max_epochs"),
        ("--epochs", "--trainer.max_epochs"),
        ("--hlep", "--help"),
        ("--model.optimizer.lr", None),
        ("--zzzzz", None),
    ],
)
def test_the_nearest_option(name: str, meant: str | None) -> None:
    assert nearest(name, OPTIONS) == meant


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ("unrecognized arguments: --model.dpth=3", "there is no option --model.dpth; did you mean --model.depth?"),
        ("Unrecognized arguments: --zzzzz 3 4", "there is no option --zzzzz; --help lists all"),
        (
            "unrecognized arguments: extra",
            "there is nothing to do with 'extra'; options begin with --, as in --model.depth 6",
        ),
        ("Group 'model' does not accept option 'dpth'", "there is no option model.dpth; did you mean model.depth?"),
        (
            "unrecognized arguments: --model.d=3",
            "there is no option --model.d; did you mean --model.depth, --model.dim?",
        ),
        (
            "Subcommand 'fit' does not accept option 'model.dpth'",
            "there is no option model.dpth; did you mean model.depth?",
        ),
        (
            "Parser key \"model.depth\":\n  Expected a <class 'int'>. Got value: three",
            "model.depth is three; expected a whole number",
        ),
        (
            "Parser key \"data.augment\": Expected a typing.Literal['trivial', 'none']. Got value: strong",
            "data.augment is strong; expected one of trivial, none",
        ),
        (
            "Parser key \"x\": Does not validate against any of the Union subtypes Subtypes: [<class 'int'>] Errors: "
            "- Expected a <class 'int'> - Expected a <class 'NoneType'> Given value type: <class 'str'> "
            "Given value: two",
            "x is two; expected a whole number or null",
        ),
        ("argument -c/--config: expected one argument", "--config needs a value after it"),
        ("argument --model: expected one argument", "--model needs a value after it"),
        ("something else", "something else"),
    ],
)
def test_mistakes_in_plain_words(message: str, said: str) -> None:
    assert explain(message, OPTIONS) == said


@pytest.mark.parametrize("words", [["-c", "F"], ["--config", "F"], ["--config=F"], ["fit", "--config=F", "--x=1"]])
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"model: {depth: 3\n", "no YAML: .*line 2"),
        (b"model:\n\tdepth: 3\n", "no YAML: .*line 2"),
        (b"just words", "holds no settings"),
        (b"- 1\n- 2\n", "holds no settings"),
        (b"", "holds no settings"),
        (b"\xff\xfe\x00binary", "no plain text"),
        (b"\x00", "no plain text"),
        (b"model:\n  depth: 3\ndata:\n  seed: 1\nmodel:\n  dim: 8\n", "`model:` stands in line 1 and again in line 5"),
        (b"model:\n  depth: 3\n  depth: 4\n", "`depth:` stands in line 2 and again in line 3"),
        (
            b"model: !!python/object/apply:os.system ['touch x']\n",
            "no YAML: could not determine a constructor .* line 1",
        ),
        (b"model: !x {depth: 1}\n", "no YAML: could not determine a constructor .* line 1"),
        (b"model: &a\n  x: *a\n", "what begins in line 1 holds itself by an alias"),
        (b"a: &a [x, x]\n" + BOMB + b"model: *i\n", "what begins in line 6 is more than 100,000 values"),
        (b"model: {depth: " + b"[" * 3000, "no YAML: its brackets are too deep"),
        (b"data:\n  seed: 2020-99-99\n", "no YAML: month must be in 1..12"),
        (b"data:\n  seed: " + b"9" * 5000, "no YAML: Exceeds the limit"),
        (b"1: 2\n", "has the section 1; expected names such as `model:`"),
        (b"? [a]\n: b\n", "no YAML: found unhashable key"),
    ],
)
def test_a_config_that_cannot_be_read_is_named(words: list[str], content: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "my.yaml"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"the config .*my.yaml .*{said}"):
        check_configs([word.replace("F", str(path)) for word in words])


def test_numbers_without_end_are_named_by_their_option() -> None:
    for words in (["--model.lr", "9" * 5000], [f"--model.lr={'9' * 5000}"]):
        with pytest.raises(ValueError, match=r"^'--model.lr' has a number of 5000 digits; expected fewer$"):
            check_configs(words)


def test_a_missing_config_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere\.yaml does not exist"):
        check_configs(["--config", "nowhere.yaml"])
    with pytest.raises(FileNotFoundError, match="is a folder"):
        check_configs([f"--config={tmp_path}"])


def test_sound_configs_pass(tmp_path: Path) -> None:
    path = tmp_path / "my.yaml"
    path.write_text("model: {depth: 3}")
    check_configs(["fit", "--config", str(path), f"-c={path}", "--config"])
