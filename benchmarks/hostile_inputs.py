"""Bad inputs for `benchmarks.hostile`, a kind a function: each draws one, and knows what reads it and must be named."""

import copy
import dataclasses
import inspect
import io
import json
import os
import pickle
import random
import re
import string
import zipfile
from collections.abc import Callable, Sequence
from contextlib import suppress
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

#: Values on a command line: those without a space, and all.
PLAIN = r"""
nan inf -inf -1 0 -0.0 1e400 1e308 -1e-9 1e-400 0x10 1_0 abc null true 1e3 0.5 1.5 2 ~ = auto 3 [1,2] [1,2,3] [] {}
[nan,nan] [0.9,2] [[1]] 2020-99-99 2020-01-01 ../../etc/passwd /dev/null / . - -- ' " \ %s%n ${HOME} x.csv x.csv:y (
1/5 5/1 0/0 -1/5 1/999999999999 00:00:00:01 99:99:99:99
"""
TEXTS = (
    *PLAIN.split(),
    *("", " ", "\t", "{a: 1}", "&a [*a]", "!x y", "!!binary x", "a\x00b", "\x1b[2J", "\u202egnp", "\u0661"),
    *("9" * 20, "9" * 5000, "x" * 5000, "[" * 400, "{" * 3000, f"!!python/object/apply:os.system ['touch {MARK}']"),
)

#: Values from Python.
VALUES: tuple[Any, ...] = (
    *(float("nan"), float("inf"), -float("inf"), -1, 0, 1, 2, 10**30, -(10**30), 1e308, 0.5, 1.0, True, False, None),
    *("", "x", "3", b"3", [], [1], [1, 2], [1, 2, 3], (16, 16), (16, "x"), {}, {"a": 1}, object(), int, "nan", [None]),
    *(np.float64("nan"), np.int64(4), 2**31, 2**63, 10**400, 3 + 4j, ["a", "a"], ["a", ""], ["a", 1], "cls", "random"),
)

#: Names of files, folders, classes and runs, likewise.
PLAIN_NAMES = r"""../x /x .. . a/../../x a\..\x =x +x -x @x best x.ckpt .hidden CON ' " %00 $x^2$"""
NAMES = (
    *PLAIN_NAMES.split(),
    *(
        "",
        "\tx",
        "a\nb",
        "a\rb",
        "\x1b[2Jx",
        "a\x00b",
        "a b",
        "\u202ex",
        "\udcffx",
        "<script>alert(1)</script>",
        "x" * 300,
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
    ends |= {"limit_train_batches"} if name.endswith("overfit_batches") else set()  # Lightning's word for its share
    ends |= {"divisible", "options begin with --"} if "size" in name or len(words) == 2 else set()
    return Case(f"{words}", lambda: readers.build(words), tuple(ends), ("fit", *WORDS, "--data.root=data", *words))


def configs(rng: random.Random, folder: Path, readers: Readers) -> Case:
    """A YAML that is damaged, or holds what no config does."""
    sound = "seed_everything: 1\nmodel:\n  depth: 1\n  lr: 0.001\n  betas: [0.9, 0.99]\ndata:\n  split: random\n"
    pick = rng.random()
    if pick < 0.35:
        content = rng.choice(bad_yamls(sound)).encode()
    elif pick < 0.7:
        option, value = rng.choice(sorted(readers.command.parser.get_defaults().keys())), rng.choice(TEXTS)
        section, _, name = option.rpartition(".")
        content = (f"{section}:\n  {name}: {value}\n" if section else f"{name}: {value}\n").encode(errors="replace")
    else:
        content = damaged(rng, sound.encode())
    (folder / "my.yaml").write_bytes(content)
    words = (f"--config={folder}/my.yaml",)
    keys = re.split(r"[:\n{]", content.decode(errors="replace"))
    return Case(
        f"my.yaml: {content[:300]!r}",
        lambda: readers.build(words),
        ("my.yaml", *(key.strip(" ?-!'\"").rpartition(".")[2] for key in keys if len(key) > 1)),
        ("fit", *WORDS, "--data.root=data", "--config=my.yaml"),
    )


def bad_yamls(sound: str) -> list[str]:
    """What no config is."""
    bomb = "a: &a [x, x]\n"  # whose aliases unfold to a hundred million values
    for before, name in zip("abcdefgh", "bcdefghi", strict=True):
        bomb += f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n"
    callback = "trainer:\n  callbacks:\n    class_path: os.system\n    init_args: {command: x}\n"
    changed = [sound.replace("depth", "dpeth"), sound.replace("lr", "depth"), sound.replace("\n  ", "\n\t")]
    added = [f"{sound}model:\n  depth: 2\n", f"{sound}\x00", f"%YAML 9.9\n---\n{sound}", f"---\n---\n{sound}"]
    lines = [
        "",
        "- 1",
        "just words",
        "model: 3",
        "model:",
        "1: 2",
        "null: 1",
        "? [a]\n: b",
        "model: {depth: 1",
        "run: ../x",
    ]
    lines += ["model: &a {x: *a}", f"model:\n  class_names: {'[' * 3000}", "a: &a\n  <<: *a"]
    lines += ["model: !x {depth: 1}"]
    lines += [f"model: !!python/object/apply:os.system ['touch {MARK}']", "data:\n  root: !!python/name:os.system"]
    lines += ["model:\n  lr: 2020-99-99", "model:\n  depth: !!int x", "trainer:\n  callbacks: [x]", "config: x.yaml"]
    return [*changed, *added, *(f"{line}\n" for line in lines), f"{bomb}model: *i\n", callback]


def arguments(rng: random.Random, folder: Path, readers: Readers) -> Case:
    """A constructor with one or two arguments that it was not made for."""
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
        pickles = [pickle.dumps(Evil()), pickle.dumps([Evil()], 0)]
        path.write_bytes(rng.choice([*pickles, b"", b"PK\x03\x04", b"\x80\x02.", rng.randbytes(500)]))
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

    words = rng.choice(
        [
            ("predict", "--images=data", "--run=my.ckpt"),
            ("test", "--data.root=data", "--run=my.ckpt"),
            ("fit", *WORDS, "--data.root=data", "--ckpt_path=my.ckpt"),
            ("fit", *WORDS, "--data.root=data", "--model.init_from=my.ckpt"),
        ]
    )
    settings = inspect.signature(VisionTransformer).parameters | inspect.signature(ViTClassifier).parameters
    return Case(f"my.ckpt of kind {pick}", read, ("my.ckpt", *settings), words)


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
    """A split.csv, or a CSV of groups or labels."""
    from vit_lightning.data.grouping import group_samples
    from vit_lightning.data.index import find_layout, find_samples
    from vit_lightning.data.labels import labelled_samples
    from vit_lightning.data.splits import read_split

    root, path, kind = readers.root, folder / "my.csv", rng.choice(["split", "group", "label"])
    samples = find_samples(root, find_layout(root))
    rows = [f"{each.path},{'g' if kind == 'group' else each.label}" for each in samples]
    if kind == "split":
        rows = [f"{row},{rng.choice(['train', 'val', 'test'])}" for row in rows]
    path.write_bytes(bad_table(rng, [{"split": "path,label,split"}.get(kind, f"path,{kind}"), *rows]))

    def read() -> None:
        if kind == "group":
            group_samples(samples, str(path))
        elif kind == "label":
            labelled_samples(root, path)
        else:
            read_split(path, root=root, classes=["a", "b"])

    words = {
        "split": ("--data.split=my.csv",),
        "group": ("--data.split=groups", "--data.group_by=my.csv"),
        "label": ("--data.labels=my.csv",),
    }[kind]
    named = ("my.csv", "split groups", "to train on for the class")  # of sound rows too few may be left to train
    return Case(f"my.csv: {path.read_bytes()[:200]!r}", read, named, ("fit", *WORDS, "--data.root=data", *words))


def bad_table(rng: random.Random, lines: list[str]) -> bytes:
    """A CSV with a bad cell, row or byte."""
    pick, place = rng.randrange(6), rng.randrange(len(lines))
    cells = lines[place].split(",")
    more = ["nan", "-1", "1e999", "", "'", "../../../etc/passwd", "/etc/passwd", "\u0661"]
    if pick in (0, 3):
        name = rng.choice([NAMES, more][pick // 3]).encode(errors="replace").decode()
        cells[rng.randrange(len(cells))] = name
        lines[place] = ",".join(cells)
    elif pick == 1:
        short, long = ",".join(cells[:-1]), ",".join([*cells, "x"])
        lines[place] = rng.choice([short, long, "", '"', "x" * 200_000, "\x00", lines[0]])
    elif pick == 2:
        lines.insert(place, lines[rng.randrange(len(lines))])
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
    Image.frombytes("RGB", (32, 24), rng.randbytes(32 * 24 * 3)).save(out, form)
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
        others = [b"", bytes(1000), rng.randbytes(300), b"GIF89a", b"\xff\xd8\xff", b"<svg/>", b"%!PS", b"II*\x00"]
        content = rng.choice(others)
    path = folder / f"my.{rng.choice(['png', 'jpg', 'gif', 'tif', 'bmp', 'webp'])}"
    path.write_bytes(content)

    def read() -> None:
        scan_pictures(folder, [path.name], folder / "cache")
        load_image(path)
        load_frame(path, frame_size((16, 16)))

    words = ("predict", "--run=good.ckpt", f"--images={path.name}")
    return Case(f"{path.name} from {form}, kind {pick}", read, (path.name,), words)


def statuses(rng: random.Random, folder: Path, readers: Readers) -> Case:
    """A log folder with a run whose status, config and history somebody else wrote; `runs` shows what it can."""
    from vit_lightning.callbacks.history import best_row
    from vit_lightning.commands.runs import main
    from vit_lightning.evaluation.training import read_training
    from vit_lightning.runs import read_numbers

    run = folder / "lightning_logs" / "my-run"
    (run / "report").mkdir(parents=True)
    sound: dict[str, Any] = {"state": "finished", "started": "2025-06-01T12:00:00+00:00", "epochs": 1, "max_epochs": 2}
    sound |= {"best": {"epoch": 1, "val/acc": 0.5}, "data": {"name": "x", "id": "1"}, "seconds": 3.5, "kind": "run"}
    sound |= {"split": {"id": "2", "kind": "random"}, "baselines": {"near_duplicates": 0.1, "flagged": True}}
    sound |= {"seen": {"seen": 0}, "ancestors": []}
    metrics = {"accuracy": 0.5, "part": "test", "split": {"id": "2"}, "intervals": {"accuracy": [0.4, 0.6]}}
    (run / "status.json").write_bytes(bad_json(rng, sound))
    told = bad_json(rng, metrics) if rng.random() < 0.5 else json.dumps(metrics).encode()
    (run / "report" / "metrics.json").write_bytes(told)
    (run / "config.yaml").write_bytes(damaged(rng, b"seed_everything: 0\nmodel:\n  lr: 0.001\n  depth: 6\n"))
    (run / "history.csv").write_bytes(bad_table(rng, ["epoch,train/loss,val/acc", "1,0.5,0.4", "2,0.4,0.5", "3,0.3,"]))
    tables: list[list[str]] = [[], ["--wide"], ["--json"], ["--sort=test"], ["--state=finished", "--split=ran*"]]
    asked = rng.choice([*tables, ["show", "my-run"], ["show", "my-run", "--json"], ["prune", "--name=*"]])

    def read() -> None:
        main([f"--logdir={folder / 'lightning_logs'}", *asked])
        best_row(read_numbers(run / "history.csv"))
        read_training(run, {})

    # `show` of a status that says nothing is refused.
    return Case(f"runs {asked}: {(run / 'status.json').read_bytes()[:300]!r}", read, ("my-run",), ("runs", *asked))


def bad_json(rng: random.Random, sound: dict[str, Any]) -> bytes:
    """JSON with another value somewhere, or damaged."""
    if rng.random() < 0.2:
        texts = ["[" * 100_000, "1" * 5000, "", "null", "[]", '"x"', "\ufeff{}", '{"a": 1, "a": 2}', "\x00"]
        return rng.choice([rng.choice(texts).encode(), damaged(rng, json.dumps(sound).encode(), times=3)])
    values: list[Any] = [None, True, -1, 0, 1e308, float("nan"), float("inf"), 10**400]
    values += ["", "x", "\x1b[2J", "x" * 3000, [], [[]], {}, {"a": {}}]
    for _ in range(rng.choice([1, 2, 5])):
        place = sound
        name = rng.choice(sorted(place))
        inner = place[name]
        if isinstance(inner, dict) and inner and rng.random() < 0.6:
            place, name = inner, rng.choice(sorted(inner))
        place[name] = copy.deepcopy(rng.choice(values))
    return json.dumps(sound).encode()


def predictions(rng: random.Random, folder: Path, readers: Readers) -> Case:
    """What `runs compare` and `folds` read of a tested run."""
    from vit_lightning.commands.runs import main
    from vit_lightning.evaluation.folds import read_member, summarise

    logs = folder / "lightning_logs"
    metrics: dict[str, Any] = {"accuracy": 0.5, "part": "test", "split": {"id": "2", "kind": "random"}, "images": 4}
    metrics |= {"data": {"name": "x"}, "run": "my-run", "per_class": {"a": {}, "b": {}}, "baselines": {"majority": 0.5}}
    metrics |= {"near_duplicates": {"share": 0.1, "flagged": True}, "groups": {"kind": "images", "count": 4}}
    sound = json.dumps(metrics).encode()
    for name in ("my-run", "other"):
        report = logs / name / "report"
        report.mkdir(parents=True)
        rows = [f"{each}.jpg,g{each % 2},{'ab'[each % 2]},{rng.choice('ab')},0.6,0.6,0.4" for each in range(4)]
        table = ["path,group,label,predicted,confidence,p_a,p_b", *rows]
        bad = name == "my-run"
        (report / "metrics.json").write_bytes(bad_json(rng, metrics) if bad and rng.random() < 0.6 else sound)
        (report / "predictions.csv").write_bytes(bad_table(rng, table) if bad else "\n".join(table).encode())
        (logs / name / "status.json").write_text('{"state": "finished", "split": {"id": "2"}}')
    comparing = rng.random() < 0.5

    def read() -> None:
        if comparing:
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
            entry = zipfile.ZipInfo(name.replace("\x00", "").encode(errors="replace").decode() or "x")
            if rng.random() < 0.3:
                entry.external_attr = 0o120777 << 16  # a link to what it holds
            archive.writestr(entry, rng.choice(["../../../outside", "x", "/etc/passwd"]))
    if rng.random() < 0.4:
        path.write_bytes(damaged(rng, path.read_bytes(), times=3))
    beside(out, "manifest.json").write_bytes(bad_json(rng, {"a/1.jpg": 1}))
    before = set(folder.rglob("*"))

    def read() -> None:
        with suppress(Exception):  # kagglehub's, which `download` puts into words
            _extract_archive(str(path), str(out))
        made = set(folder.rglob("*")) - before
        outside = [each for each in made if not each.is_relative_to(out)]
        assert not outside, f"unpacked outside: {outside}"
        assert not any(each.is_symlink() for each in made), "a link was unpacked"
        find_damage(out)

    return Case("my.zip", read)


def names(rng: random.Random, folder: Path, readers: Readers) -> Case:
    """A name of a run, or of a folder and its pictures."""
    from vit_lightning.data.index import find_layout, find_samples
    from vit_lightning.data.splits import read_split, write_split
    from vit_lightning.runs import find_checkpoint, find_run, new_run_folder, run_stem

    drawn = "".join(rng.choices(string.printable + "\x1b\u202e\u00e9", k=9))
    name = rng.choice(NAMES) if rng.random() < 0.7 else drawn
    logs, root, pick = folder / "lightning_logs", folder / "root", rng.randrange(3)

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
                (root / label).mkdir(parents=True, exist_ok=True)
                (root / label / f"{label}.jpg").touch()
            samples = [dataclasses.replace(each, split="val") for each in find_samples(root, find_layout(root))]
            write_split(folder / "split.csv", samples)
            again = read_split(folder / "split.csv", root=root, classes=[each.label for each in samples])
            assert again == samples, "read otherwise than written"

    fit = ("fit", *WORDS, "--data.root=data", f"--run={name}")
    words = rng.choice([fit, ("runs", "show", name), ("folds", f"--run={name}")])
    return Case(f"name {name!r}, kind {pick}", read, words=words)


def lines(rng: random.Random, folder: Path, readers: Readers) -> Case:
    """A command line of a command that needs no model."""
    from vit_lightning.commands.folds import main as folds
    from vit_lightning.commands.runs import main as runs

    value, pick = rng.choice(TEXTS), rng.random()
    if pick < 0.3:
        asked = [f"{rng.choice(['--folds', '--seeds', '--keep', '--fold'])}={value}", "--data.fold=1/5"]
        return Case(f"folds {asked}", lambda: folds(asked), words=("folds", *asked))
    if pick < 0.5:
        asked = ["prune", f"{rng.choice(['--keep-best', '--state', '--name'])}={value}"]
    else:
        own = ["--limit", "--sort", "--state", "--data", "--split", "--name", "--wide", "--json", "--nothing"]
        asked = [rng.choice([*own, "prune", "show", "compare"]), *([value] if rng.random() < 0.8 else [])]
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
