"""What a model says of itself to people: how good it is, on what, and what it cannot do."""

from collections.abc import Mapping
from typing import Any

import yaml

from vit_lightning.progress import legible

#: Licences by the names that model hubs have for them; of others the hub is told the words.
HUB_LICENCES = (
    *("mit", "apache-2.0", "bsd-3-clause", "gpl-3.0", "agpl-3.0", "lgpl-3.0", "cc0-1.0", "unlicense", "openrail"),
    *("cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0", "cc-by-nd-4.0", "cc-by-nc-sa-4.0", "cc-by-nc-nd-4.0"),
)

#: What was held out by each kind of split, and what a score on it is worth.
SPLITS = {
    "random": "Pictures were held out at random: where they are frames of films, near copies of them were trained on.",
    "blocks": "Whole stretches of neighbouring frames were held out.",
    "groups": "Whole groups of pictures were held out.",
    "folders": "The pictures came in ready-made parts.",
}

LIMITS = "It knows its classes alone and gives one of them to any picture, whatever that shows; look at the confidence."

#: What the card says of its use, by whether timm can build the network.
USES = """\
With vit_lightning, which decodes, resizes and normalises pictures itself:

```python
from vit_lightning.inference import load_classifier, predict_paths

model = load_classifier("FOLDER")  # that of this file
for path, probabilities in predict_paths(model, ["a.jpg"]):
    print(path, model.class_names[int(probabilities.argmax())])
```
"""
TIMM = """
With timm, which builds the very network from `config.json`; its resizing differs a little, and the scores with it:

```python
import timm
from PIL import Image

model = timm.create_model("local-dir:FOLDER", pretrained=True).eval()
data = timm.data.resolve_data_config(model=model)
picture = timm.data.create_transform(**data)(Image.open("a.jpg").convert("{mode}"))
print(model(picture[None]).softmax(dim=-1))
```
"""
NO_TIMM = """
timm has no such network and does not load this file: its patches come from small convolutions (`patch_embed.backbone`),
batch normalisation among them. All other tensors are those of timm's `VisionTransformer`, by name and shape.
"""


def scores(facts: Mapping[str, Any]) -> list[str]:
    """How good a model is, in sentences: each score with what it was measured on.

    Args:
        facts: From `describe`.
    """
    test, val, told = facts.get("test") or {}, facts.get("val") or {}, []
    if "accuracy" in test:
        part, groups = test.get("part", "test"), test.get("groups") or {}
        words = f"Accuracy {test['accuracy']:.3f} on {test.get('images', 0):,} {part} pictures"
        if interval := (test.get("intervals") or {}).get("accuracy"):
            over = f" over {groups['count']:,} {groups['kind']}" if groups.get("count") else ""
            words += f", 95 % interval {interval[0]:.3f} to {interval[1]:.3f}{over}"
        told.append(words + ".")
        if "macro_f1" in test:
            told.append(f"Macro-F1 {test['macro_f1']:.3f}, the mean over the classes.")
    else:
        told.append("It was not tested on held-out pictures.")
    if "val/acc" in val:
        told.append(f"Validation accuracy {val['val/acc']:.3f}, which chose the weights and is likely to flatter them.")
    if facts.get("split") in SPLITS:
        told.append(SPLITS[facts["split"]])
    if (test.get("near_duplicates") or {}).get("flagged"):
        share = test["near_duplicates"].get("share", 0.0)
        told.append(f"The split leaks: {share:.0%} of these have a near-duplicate in training, so it measures memory.")
    return told


def model_card(facts: Mapping[str, Any], arguments: Mapping[str, Any], *, timm: bool) -> str:
    """`README.md` of an exported model, with the head that model hubs read.

    Args:
        facts: From `describe`.
        arguments: Those of the model.
        timm: Whether timm can build the network.
    """
    height, width = facts["image_size"]
    sizes = f"{arguments['depth']} blocks of width {arguments['dim']} with {arguments['heads']} heads"
    pool = "the class token" if arguments["pool"] == "cls" else "the mean over the patches"
    colours = "grey" if arguments["in_channels"] == 1 else "colour"
    stem = "small convolutions" if arguments["stem"] == "conv" else "one projection"
    start = arguments.get("init_from")
    origin = "trained from scratch" if start is None else "trained from other weights, **not from scratch**"
    data = f"{marked(facts.get('data') or 'not known')} (identity `{facts.get('data_id') or 'not known'}`)"
    lines = [
        f"# {marked(facts['run'])}",
        f"A plain Vision Transformer that tells {len(facts['class_names'])} classes of pictures apart, {origin} by "
        f"{facts['made_by']}.",
        f"- Classes, in the order of the outputs: {', '.join(map(marked, facts['class_names']))}",
        f"- Data: {data}; split: {facts.get('split') or 'not known'}",
        f"- Network: {height}x{width} pixels (height x width) in {colours}, in "
        f"patches of {arguments['patch_size']} by {stem}, {sizes}; the head reads {pool}",
        f"- Licence: {marked(facts['licence'])}. The pictures that it was trained on may have a say in that.",
        "## How good it is",
        "\n".join(f"- {sentence}" for sentence in scores(facts)),
        "## How to use it",
        (USES + (TIMM.format(mode="L" if arguments["in_channels"] == 1 else "RGB") if timm else NO_TIMM)).rstrip(),
        "## Limits",
        f"- {LIMITS}\n- The scores hold for pictures like those that were held out, and for no others.\n- Nobody has "
        "looked whether it does harm to whom it is used on: it is not for decisions about people.",
    ]
    head = yaml.safe_dump(front_matter(facts, timm=timm), sort_keys=False, allow_unicode=True)
    lists = "\n".join(lines[2:6])
    return f"---\n{head}---\n\n" + "\n\n".join([*lines[:2], lists, *lines[6:]]).rstrip() + "\n"


def front_matter(facts: Mapping[str, Any], *, timm: bool) -> dict[str, Any]:
    """What model hubs read: licence, task, and the test score."""
    licence = str(facts["licence"])
    slug = "-".join(licence.lower().split())
    if licence == "not stated":
        told: dict[str, Any] = {"license": "unknown"}
    elif slug in HUB_LICENCES:
        told = {"license": slug}
    else:
        told = {"license": "other", "license_name": legible(licence)}
    told["pipeline_tag"] = "image-classification"
    told |= {"library_name": "timm"} if timm else {}
    told["tags"] = ["image-classification", "vision-transformer", "vit_lightning", *(["timm"] if timm else [])]
    test = facts.get("test") or {}
    if "accuracy" in test:
        found = [{"type": "accuracy", "name": "Accuracy", "value": round(test["accuracy"], 4)}]
        if "macro_f1" in test:
            found.append({"type": "f1", "name": "Macro-F1", "value": round(test["macro_f1"], 4)})
        name = legible(facts.get("data") or "not known")
        data = {"type": name, "name": f"{name} ({facts.get('split')}, {test.get('part', 'test')})"}
        result = {"task": {"type": "image-classification"}, "dataset": data, "metrics": found}
        told |= {"metrics": ["accuracy", "f1"], "model-index": [{"name": legible(facts["run"]), "results": [result]}]}
    return told


def marked(name: str) -> str:
    """A name from outside as Markdown takes it for text: in a span of code, without what would end one."""
    return f"`{legible(name).replace('`', chr(39))}`"
