"""Bad inputs for `benchmarks.hostile`, a kind a function: each draws one, and knows what reads it and must be named."""

import dataclasses
import io
import json
import os
import pickle
import random
import string
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from vit_lightning.data.datamodule import ImageDataModule
from vit_lightning.models.vit import VisionTransformer
from vit_lightning.module import ViTClassifier

#: What a pickle or a YAML would make if it were executed.
MARK = "executed-by-an-input"

#: A network small enough that thousands are built.
TINY: dict[str, Any] = {"image_size": 16, "patch_size": 8, "dim": 16, "depth": 1, "heads": 2}
WORDS = [*(f"--model.{name}={value}" for name, value in TINY.items()), "--data.num_workers=0", "--data.augment=none"]
WORDS += ["--trainer.accelerator=cpu", "--trainer.max_epochs=1", "--trainer.precision=32-true"]

#: Values on a command line.
TEXTS = (
    *("nan", "inf", "-inf", "-1", "0", "-0.0", "1e400", "1e308", "-1e-9", "1e-400", "9" * 20, "9" * 5000, "0x10"),
    *("1_0", "\u0661", "", " ", "abc", "null", "true", "1e3", "0.5", "1.5", "2", "~", "=", "[1,2]", "[1,2,3]", "[]"),
    *("[nan,nan]", "[0.9,2]", "{a: 1}", "{}", "[[1]]", "&a [*a]", "[" * 400, "{" * 3000, "2020-99-99", "2020-01-01"),
    *(
        "!!python/object/apply:os.system ['touch executed-by-an-input']",
        "!!binary x",
        "!x y",
        "\x1b[2J",
        "\t",
        "x" * 5000,
    ),
    *("../../etc/passwd", "/dev/null", "/", ".", "a\x00b", "\u202egnp", "%s%n", "${HOME}", "-", "--", "'", '"', "\\"),
    *(
        "1/5",
        "5/1",
        "0/0",
        "-1/5",
        "1/999999999999",
        "x.csv",
        "x.csv:y",
        "(",
        "00:00:00:01",
        "99:99:99:99",
        "auto",
        "3",
    ),
)

#: Values from Python.
VALUES: tuple[Any, ...] = (
    *(float("nan"), float("inf"), -float("inf"), -1, 0, 1, 2, 10**30, -(10**30), 1e308, 0.5, 1.0, True, False, None),
    *("", "x", "3", b"3", [], [1], [1, 2], [1, 2, 3], (16, 16), (16, "x"), {}, {"a": 1}, object(), int, "nan", [None]),
    *(np.float64("nan"), np.int64(4), 2**31, 2**63, 10**400, 3 + 4j, ["a", "a"], ["a", ""], ["a", 1], "cls", "random"),
)

#: Names of files, folders, classes and runs.
NAMES = (
    *(
        "../x",
        "/x",
        "..",
        ".",
        "",
        "a/../../x",
        "a\\..\\x",
        "=x",
        "+x",
        "-x",
        "@x",
        "\tx",
        "a\nb",
        "a\rb",
        "\x1b[2Jx",
        "x" * 300,
    ),
    *(
        "best",
        "x.ckpt",
        ".hidden",
        "a\x00b",
        "\u202ex",
        "\udcffx",
        "CON",
        "a b",
        "<script>alert(1)</script>",
        "'\"",
        "%00",
        "$x^2$",
    ),
)


@dataclasses.dataclass(frozen=True)
class Case:
    """One bad input.

    Args:
        what: It, in a line.
        read: Reads it. It may do so (not all is bad), or raise a ValueError or OSError of one line.
        named: Of these one has to be in that line; empty where there is nothing to name.
        words: The same as a command line, if it is one; paths are relative to the folder that the case was drawn in.
    """

    what: str
    read: Callable[[], object]
    named: tuple[str, ...] = ()
    words: tuple[str, ...] = ()


class Evil:
    """Would make a file when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        """What a pickle would call."""
        return os.system, (f"touch {MARK}",)


# What is read


@dataclasses.dataclass
class Readers:
    """What is made once: the parser of `fit`, a good checkpoint, and a folder of pictures.

    Args:
        root: Pictures of two classes.
        checkpoint: A file.
    """

    root: Path
    checkpoint: Path

    def __post_init__(self) -> None:
        from vit_lightning.commands.fit import Fit

        class Parsed(Fit):
            """Parses, and builds nothing."""

            def before_instantiate_classes(self) -> None:
                """Nothing is built."""

            def instantiate_classes(self) -> None:
                """Nothing is built."""

        self.command = Parsed([*WORDS, f"--data.root={self.root}"])

    def build(self, words: Sequence[str]) -> None:
        """What `fit` does with its words before the data are looked at, and a pass of the network."""
        from vit_lightning.cli_errors import check_configs
        from vit_lightning.commands.model_command import check_trainer

        words = [*WORDS, f"--data.root={self.root}", *words]
        check_configs(words)
        self.command.parse_arguments(self.command.parser, words)
        options = self.command.options
        if not isinstance(options.model, str):
            check_trainer(options.trainer)
            options.model.class_names = options.model.class_names or ["a", "b"]
            model = ViTClassifier(**options.model.as_dict())
            ImageDataModule(**options.data.as_dict())
            pass_through(model.net)


def pass_through(net: VisionTransformer) -> None:
    """A working model gives finite logits."""
    if sum(each.numel() for each in net.parameters()) < 2_000_000 and net.grid[0] * net.grid[1] < 2000:
        with torch.inference_mode():
            logits = net.eval()(torch.zeros(net.image_shape))
        assert torch.isfinite(logits).all(), "no working model"


# Kinds


def options(rng: random.Random, folder: Path, readers: Readers) -> Case:
    """One option of `fit` with a bad value, or a misspelt one."""
    names = [each for action in readers.command.parser._actions for each in action.option_strings if each[:2] == "--"]
    names = [name for name in names if not name.startswith(("--print_config", "--help", "--config", "--resume"))]
    name, value = rng.choice(names), rng.choice(TEXTS)
    if rng.random() < 0.1:
        place = rng.randrange(2, len(name))
        name = name[:place] + rng.choice(string.printable[:90] + "\x1b\u00e9") + name[place + rng.randrange(2) :]
    words = (f"{name}={value}",) if rng.random() < 0.8 else (name, value)
    # The end of a name is enough: what is wrong may be said of model.image_size or of the image's height.
    ends = {name.lstrip("-"), name.rpartition(".")[2].rstrip("+"), name.lstrip("-").partition("=")[0]}
    ends |= {"divisible", "options begin with --"} if "size" in name or len(words) == 2 else set()
    return Case(f"{words}", lambda: readers.build(words), tuple(ends), ("fit", *WORDS, "--data.root=data", *words))


def configs(rng: random.Random, folder: Path, readers: Readers) -> Case:
    """A YAML that is damaged, or holds what no config does."""
    sound = (
        "seed_everything: 1\nmodel:\n  depth: 1\n  lr: 0.001\n  betas: [0.9, 0.99]\ndata:\n  seed: 1\n  split: random\n"
    )
    bombs = "a: &a [x, x]\n" + "".join(
        f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
    )
    texts = [
        *(
            "",
            "- 1\n",
            "just words",
            "model: 3\n",
            "model:\n",
            "1: 2\n",
            "null: 1\n",
            "? [a]\n: b\n",
            "model: {depth: 1\n",
        ),
        *("model: &a {x: *a}\n", f"{bombs}model: *i\n", f"model:\n  class_names: {'[' * 3000}\n", "a: &a\n  <<: *a\n"),
        *("model: !!python/object/apply:os.system ['touch executed-by-an-input']\n", "model: !x {depth: 1}\n"),
        *("data:\n  root: !!python/name:os.system\n", "model:\n  lr: 2020-99-99\n", "model:\n  depth: !!int x\n"),
        *(
            f"{sound}model:\n  depth: 2\n",
            sound.replace("depth", "dpeth"),
            sound.replace("lr", "depth"),
            sound + "\x00",
        ),
        *(
            sound.replace("\n  ", "\n\t"),
            "%YAML 9.9\n---\n" + sound,
            "---\n---\n" + sound,
            "trainer:\n  callbacks: [x]\n",
        ),
        *(
            "trainer:\n  callbacks:\n    class_path: os.system\n    init_args: {command: x}\n",
            "config: x.yaml\n",
            "run: ../x\n",
        ),
    ]
    pick = rng.random()
    if pick < 0.35:
        content = rng.choice(texts).encode()
    elif pick < 0.7:
        option, value = rng.choice(sorted(readers.command.parser.get_defaults().keys())), rng.choice(TEXTS)
        section, _, name = option.rpartition(".")
        content = (f"{section}:\n  {name}: {value}\n" if section else f"{name}: {value}\n").encode(errors="replace")
    else:
        content = damaged(rng, sound.encode())
    (folder / "my.yaml").write_bytes(content)
    words = (f"--config={folder}/my.yaml",)
    keys = [each.strip(" :?-'\"") for each in content.decode(errors="replace").replace(":", "\n").splitlines()]
    return Case(
        f"my.yaml: {content[:300]!r}",
        lambda: readers.build(words),
        ("my.yaml", *(key.rpartition(".")[2] for key in keys if len(key) > 1)),
        ("fit", *WORDS, "--data.root=data", "--config=my.yaml"),
    )


def arguments(rng: random.Random, folder: Path, readers: Readers) -> Case:
    """A constructor with one or two arguments that it was not made for."""
    import inspect

    made = rng.choice([VisionTransformer, ViTClassifier, ImageDataModule])
    network = list(inspect.signature(VisionTransformer).parameters)
    own = [name for name in inspect.signature(made).parameters if name not in ("self", "network")]
    names = own + (network if made is ViTClassifier else [])
    given: dict[str, Any] = {} if made is ImageDataModule else {**TINY, "num_classes": 2}
    bad = {name: rng.choice(VALUES) for name in rng.sample(names, rng.choice([1, 1, 1, 2]))}
    free = {"root", "cache_dir", "split", "group_by", "init_from", "compile", "decay_all"}  # paths, names, yes or no

    def read() -> None:
        module = made(**given | bad)
        if not isinstance(module, ImageDataModule) and not bad.keys() & {"init_from"}:
            pass_through(module.net if isinstance(module, ViTClassifier) else module)

    named = {*bad, *(name.partition("_")[0] for name in bad), *(["model"] if bad.keys() & free else [])}
    return Case(f"{made.__name__}({bad})", read, tuple(named))


def checkpoints(rng: random.Random, folder: Path, readers: Readers) -> Case:
    """A checkpoint that is damaged, would run code, would fill the memory, or is of something else."""
    from vit_lightning.checkpoint import initial_weights, read_checkpoint
    from vit_lightning.inference import load_classifier

    path = folder / "my.ckpt"
    content = readers.checkpoint.read_bytes()
    pick = rng.randrange(8)
    if pick == 0:
        path.write_bytes(content[: rng.randrange(len(content))])
    elif pick == 1:
        path.write_bytes(damaged(rng, content, times=rng.choice([1, 3, 30])))
    elif pick == 2:
        torch.save({"state_dict": {}, rng.choice(["hyper_parameters", "epoch", "x"]): Evil()}, path)
    elif pick == 3:
        path.write_bytes(
            rng.choice(
                [pickle.dumps(Evil()), pickle.dumps([Evil()], 0), b"", b"PK\x03\x04", b"\x80\x02.", rng.randbytes(500)]
            )
        )
    elif pick == 4:  # a bomb
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("archive/data.pkl", bytes(20_000_000))
            archive.writestr("archive/version", "3")
    else:
        saved = torch.load(readers.checkpoint, weights_only=True)
        for _ in range(rng.choice([1, 2])):
            change(rng, saved)
        torch.save(saved, path)

    def read() -> None:
        read_checkpoint(path)
        model = load_classifier(path)
        initial_weights(path, VisionTransformer(num_classes=2, **TINY), {**model.hparams})

    use = rng.choice([("predict", "--images=data", "--run=my.ckpt"), ("test", "--data.root=data", "--run=my.ckpt")])
    fit = ("fit", *WORDS, "--data.root=data", rng.choice(["--ckpt_path=my.ckpt", "--model.init_from=my.ckpt"]))
    words = rng.choice([use, fit])
    return Case(f"my.ckpt of kind {pick}", read, ("my.ckpt", *TINY, "class", "lr", "betas", "pool", "mlp_ratio"), words)


def change(rng: random.Random, saved: dict[str, Any]) -> None:
    """Changes something in what a checkpoint holds."""
    section = rng.choice(["", "state_dict", "hyper_parameters", "datamodule_hyper_parameters"])
    place = saved if not section else saved.get(section)
    if not isinstance(place, dict) or not place:
        saved["state_dict"] = rng.choice([None, 3, [], {"x": 1}])
        return
    name = rng.choice(sorted(place))
    values = [*VALUES[:13], None, "x", [], {}, torch.zeros(3), torch.full((16,), float("nan")), {"a": {}}, [[[]]]]
    if rng.random() < 0.3:
        del place[name]
    elif rng.random() < 0.2:
        place[rng.choice(["x", "lr", "net.x", "dim"])] = rng.choice(values)
    else:
        place[name] = rng.choice(values)


def tables(rng: random.Random, folder: Path, readers: Readers) -> Case:
    """A split.csv, or a CSV of groups."""
    from vit_lightning.data.index import find_layout, find_samples
    from vit_lightning.data.splits import group_samples, read_split

    root = readers.root
    samples = find_samples(root, find_layout(root))
    rows = [f"{each.path},{each.label},{rng.choice(['train', 'val', 'test'])}" for each in samples]
    lines = (
        ["path,label,split", *rows] if rng.random() < 0.5 else ["path,group", *(f"{each.path},g" for each in samples)]
    )
    path = folder / "my.csv"
    path.write_bytes(bad_table(rng, lines))
    if lines[0] == "path,group":
        read: Callable[[], object] = lambda: group_samples(samples, str(path))
        words = ("--data.split=groups", "--data.group_by=my.csv")
    else:
        read = lambda: read_split(path, root=root, classes=["a", "b"])
        words = ("--data.split=my.csv",)
    return Case(f"my.csv: {path.read_bytes()[:200]!r}", read, ("my.csv",), ("fit", *WORDS, "--data.root=data", *words))


def bad_table(rng: random.Random, lines: list[str]) -> bytes:
    """A CSV with a bad cell, row or byte."""
    pick, place = rng.randrange(6), rng.randrange(len(lines))
    cells = lines[place].split(",")
    if pick == 0:
        cells[rng.randrange(len(cells))] = rng.choice(NAMES).encode(errors="replace").decode()
        lines[place] = ",".join(cells)
    elif pick == 1:
        lines[place] = rng.choice(
            [",".join(cells[:-1]), ",".join([*cells, "x"]), "", '"', "x" * 200_000, "\x00", lines[0]]
        )
    elif pick == 2:
        lines.insert(place, lines[rng.randrange(len(lines))])
    elif pick == 3:
        cells[rng.randrange(len(cells))] = rng.choice(
            ["nan", "-1", "1e999", "", "'", "../../../etc/passwd", "/etc/passwd", "\u0661"]
        )
        lines[place] = ",".join(cells)
    elif pick == 4:
        lines = lines[:place]
    content = "\n".join(lines).encode()
    return damaged(rng, content) if pick == 5 else content


def pictures(rng: random.Random, folder: Path, readers: Readers) -> Case:
    """A picture that is damaged, enormous, or none."""
    from vit_lightning.data.frames import load_frame
    from vit_lightning.data.images import load_image
    from vit_lightning.data.scan import scan_pictures
    from vit_lightning.data.transforms import frame_size

    form = rng.choice(["PNG", "JPEG", "GIF", "TIFF", "BMP", "WEBP"])
    out = io.BytesIO()
    Image.fromarray(np.random.default_rng(rng.randrange(2**32)).integers(0, 255, (24, 32, 3), dtype=np.uint8)).save(
        out, form
    )
    content = out.getvalue()
    pick = rng.randrange(5)
    if pick == 0:
        content = content[: rng.randrange(len(content))]
    elif pick == 1:
        content = damaged(rng, content, times=rng.choice([1, 5, 50]))
    elif pick == 2:
        content = damaged(rng, content[:60], times=4) + content[60:]  # heads hold the sizes
    elif pick == 3 and form == "PNG":
        content = content[:16] + rng.randbytes(8) + content[24:]
    elif pick == 4:
        content = rng.choice(
            [b"", b"\x00" * 1000, rng.randbytes(300), b"GIF89a", b"\xff\xd8\xff", b"<svg/>", b"%!PS", b"II*\x00"]
        )
    path = folder / f"my.{rng.choice(['png', 'jpg', 'gif', 'tif', 'bmp', 'webp'])}"
    path.write_bytes(content)

    def read() -> None:
        scan_pictures(folder, [path.name], folder / "cache")
        load_image(path)
        load_frame(path, frame_size((16, 16)))

    return Case(
        f"{path.name} from {form}, kind {pick}",
        read,
        (path.name,),
        ("predict", "--run=my-run", f"--images={path.name}"),
    )


def statuses(rng: random.Random, folder: Path, readers: Readers) -> Case:
    """A log folder with a run whose status, config and history somebody else wrote; `runs` shows what it can."""
    from vit_lightning.callbacks.history import best_row
    from vit_lightning.commands.runs import main
    from vit_lightning.evaluation.training import read_training
    from vit_lightning.runs import read_numbers

    run = folder / "lightning_logs" / "my-run"
    (run / "report").mkdir(parents=True)
    sound = {
        **{"state": "finished", "started": "2025-06-01T12:00:00+00:00", "epochs": 1, "max_epochs": 2, "seconds": 3.5},
        **{
            "best": {"epoch": 1, "val/acc": 0.5},
            "data": {"name": "x", "id": "1"},
            "split": {"id": "2", "kind": "random"},
        },
        **{"baselines": {"near_duplicates": 0.1, "flagged": True}, "seen": {"seen": 0}, "ancestors": [], "kind": "run"},
    }
    metrics = {
        "accuracy": 0.5,
        "part": "test",
        "split": {"id": "2"},
        "intervals": {"accuracy": [0.4, 0.6]},
        "macro_f1": 0.4,
    }
    (run / "status.json").write_bytes(bad_json(rng, sound))
    (run / "report" / "metrics.json").write_bytes(
        bad_json(rng, metrics) if rng.random() < 0.5 else json.dumps(metrics).encode()
    )
    (run / "config.yaml").write_bytes(damaged(rng, b"seed_everything: 0\nmodel:\n  lr: 0.001\n  depth: 6\n"))
    (run / "history.csv").write_bytes(bad_table(rng, ["epoch,train/loss,val/acc", "1,0.5,0.4", "2,0.4,0.5", "3,0.3,"]))
    logs = f"--logdir={folder / 'lightning_logs'}"
    asked = rng.choice([[], ["--wide"], ["--json"], ["--sort=test"], ["show", "my-run"], ["show", "my-run", "--json"]])
    asked = rng.choice([asked, ["prune", "--name=*"], ["prune", "--keep-best=1"], ["--state=finished", "--split=ran*"]])

    def read() -> None:
        main([logs, *asked])
        rows = read_numbers(run / "history.csv")
        best_row(rows)
        read_training(run, {})

    # `show` of a status that says nothing is refused.
    return Case(f"runs {asked}: {(run / 'status.json').read_bytes()[:300]!r}", read, ("my-run",), ("runs", *asked))


def bad_json(rng: random.Random, sound: dict[str, Any]) -> bytes:
    """JSON with another value somewhere, or damaged."""
    if rng.random() < 0.2:
        deep = rng.choice(["[" * 100_000, "1" * 5000, "", "null", "[]", '"x"', "\ufeff{}", '{"a": 1, "a": 2}', "\x00"])
        return rng.choice([deep.encode(), damaged(rng, json.dumps(sound).encode(), times=3)])
    values = [
        None,
        True,
        -1,
        0,
        1e308,
        float("nan"),
        float("inf"),
        "",
        "x",
        "\x1b[2J",
        "x" * 3000,
        [],
        [[]],
        {},
        {"a": {}},
        10**400,
    ]
    for _ in range(rng.choice([1, 2, 5])):
        place = sound
        name = rng.choice(sorted(place))
        inner = place[name]
        if isinstance(inner, dict) and inner and rng.random() < 0.6:
            place, name = inner, rng.choice(sorted(inner))
        place[name] = rng.choice(values)
    return json.dumps(sound).encode()


def predictions(rng: random.Random, folder: Path, readers: Readers) -> Case:
    """What `runs compare` and `folds` read of a tested run."""
    from vit_lightning.commands.runs import main
    from vit_lightning.evaluation.folds import read_member, summarise

    logs = folder / "lightning_logs"
    metrics: dict[str, Any] = {
        **{
            "accuracy": 0.5,
            "part": "test",
            "split": {"id": "2", "kind": "random"},
            "data": {"name": "x"},
            "run": "my-run",
        },
        **{"near_duplicates": {"share": 0.1, "flagged": True}, "images": 4, "per_class": {"a": {}, "b": {}}},
        **{"groups": {"kind": "images", "count": 4}, "baselines": {"majority": 0.5}},
    }
    for name in ("my-run", "other"):
        report = logs / name / "report"
        report.mkdir(parents=True)
        lines = [f"{each}.jpg,g{each % 2},{'ab'[each % 2]},{rng.choice('ab')},0.6,0.6,0.4" for each in range(4)]
        lines.insert(0, "path,group,label,predicted,confidence,p_a,p_b")
        bad = name == "my-run"
        told = bad_json(rng, metrics) if bad and rng.random() < 0.6 else json.dumps(metrics).encode()
        (report / "metrics.json").write_bytes(told)
        (report / "predictions.csv").write_bytes(bad_table(rng, lines) if bad else "\n".join(lines).encode())
        (logs / name / "status.json").write_text('{"state": "finished", "split": {"id": "2"}}')

    def read() -> None:
        if rng.random() < 0.5:
            main([f"--logdir={logs}", "compare", "my-run", "other"])
        else:
            summarise("whole", [read_member("my-run", 1, 0, logs / "my-run" / "report")])

    what = f"{(logs / 'my-run/report/predictions.csv').read_bytes()[:200]!r}"
    return Case(what, read, ("my-run", ".jpg"), ("runs", "compare", "my-run", "other"))


def archives(rng: random.Random, folder: Path, readers: Readers) -> Case:
    """An archive whose parts would lie elsewhere, as the download unpacks it; and a damaged manifest beside it."""
    from kagglehub.http_resolver import _extract_archive

    from vit_lightning.data.kaggle import HANDLE, beside, find_damage

    out = folder / "cache" / "datasets" / HANDLE
    out.mkdir(parents=True)
    path = folder / "my.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name in (*rng.sample(NAMES, 2), "a/1.jpg"):
            with_link = zipfile.ZipInfo(name.replace("\x00", "").encode(errors="replace").decode() or "x")
            if rng.random() < 0.3:
                with_link.external_attr = 0o120777 << 16
            archive.writestr(with_link, rng.choice(["../../../outside", "x", "/etc/passwd"]))
    if rng.random() < 0.4:
        path.write_bytes(damaged(rng, path.read_bytes(), times=3))
    beside(out, "manifest.json").write_bytes(bad_json(rng, {"a/1.jpg": 1}))
    before = {each for each in folder.rglob("*") if not each.is_relative_to(out)}

    def read() -> None:
        try:
            _extract_archive(str(path), str(out))
        except Exception:  # kagglehub's, which `download` puts into words
            pass
        outside = {each for each in folder.rglob("*") if not each.is_relative_to(out)} - before
        assert not outside, f"unpacked outside: {outside}"
        assert not any(each.is_symlink() for each in out.rglob("*")), "a link was unpacked"
        find_damage(out)

    return Case("my.zip", read)


def names(rng: random.Random, folder: Path, readers: Readers) -> Case:
    """A name of a run, or of a folder and its pictures."""
    from vit_lightning.data.index import find_layout, find_samples
    from vit_lightning.data.splits import read_split, write_split
    from vit_lightning.runs import find_checkpoint, find_run, new_run_folder, run_stem

    name = rng.choice(NAMES) if rng.random() < 0.7 else "".join(rng.choices(string.printable + "\x1b\u202e\u00e9", k=9))
    logs = folder / "lightning_logs"
    pick = rng.randrange(3)

    def read() -> None:
        if pick == 0:
            made = new_run_folder(logs, name, "x")
            assert made.parent == logs, f"made {made}"
            assert made.name.isprintable()
        elif pick == 1:
            assert new_run_folder(logs, None, run_stem([Path(f"{name}.yaml")])).parent == logs
            try:
                find_run(name, logs)
            finally:
                find_checkpoint(name, logs)
        else:
            for label in (name, "b"):
                (folder / "root" / label).mkdir(parents=True, exist_ok=True)
                (folder / "root" / label / f"{label}.jpg").touch()
            samples = find_samples(folder / "root", find_layout(folder / "root"))
            write_split(folder / "split.csv", samples := [dataclasses.replace(each, split="val") for each in samples])
            classes = [each.label for each in samples]
            assert read_split(folder / "split.csv", root=folder / "root", classes=classes) == samples, "read otherwise"

    words = rng.choice(
        [("fit", *WORDS, "--data.root=data", f"--run={name}"), ("runs", "show", name), ("folds", f"--run={name}")]
    )
    return Case(f"name {name!r}, kind {pick}", read, words=tuple(word.replace("\x00", "") for word in words))


def lines(rng: random.Random, folder: Path, readers: Readers) -> Case:
    """A command line of a command that needs no model."""
    from vit_lightning.commands.folds import main as folds
    from vit_lightning.commands.runs import main as runs

    value = rng.choice(TEXTS).replace("\x00", "")
    own = [
        "--limit",
        "--sort",
        "--state",
        "--data",
        "--split",
        "--name",
        "--wide",
        "--json",
        "--nothing",
        "prune",
        "show",
        "compare",
    ]
    asked = [rng.choice(own), *([value] if rng.random() < 0.8 else [])]
    if rng.random() < 0.3:
        asked = [f"{rng.choice(['--folds', '--seeds', '--keep', '--fold'])}={value}", "--data.fold=1/5"]
        return Case(f"folds {asked}", lambda: folds(asked), words=("folds", *asked))
    asked = ["prune", f"{rng.choice(['--keep-best', '--state', '--name'])}={value}"] if rng.random() < 0.2 else asked
    return Case(f"runs {asked}", lambda: runs([f"--logdir={folder}", *asked]), words=("runs", *asked))


def damaged(rng: random.Random, content: bytes, times: int = 1) -> bytes:
    """The same with bytes changed, left out or put in."""
    data = bytearray(content)
    for _ in range(times):
        if not data:
            break
        place, pick = rng.randrange(len(data)), rng.randrange(4)
        if pick == 0:
            data[place] ^= 1 << rng.randrange(8)
        elif pick == 1:
            del data[place : place + rng.choice([1, 2, 10])]
        elif pick == 2:
            data[place:place] = rng.choice(
                [b"\x00", b"\xff\xfe", b"\n", b"'", b'"', b",", b"\x1b[2J", rng.randbytes(5)]
            )
        else:
            data[place : place + 4] = b"\xff\xff\xff\xff"
    return bytes(data)


#: Share of the cases that each kind has.
KINDS: dict[str, tuple[Callable[[random.Random, Path, Readers], Case], int]] = {
    "options": (options, 24),
    "configs": (configs, 14),
    "arguments": (arguments, 18),
    "checkpoints": (checkpoints, 10),
    "tables": (tables, 7),
    "pictures": (pictures, 8),
    "statuses": (statuses, 7),
    "predictions": (predictions, 4),
    "archives": (archives, 2),
    "names": (names, 3),
    "lines": (lines, 3),
}
