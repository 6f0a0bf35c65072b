"""The registry's champion and candidate in MLflow: as aliases of model versions, with what was decided of them."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vit_lightning.tracking.store import STORE, connect, memory_of, store_of, why, without_password

if TYPE_CHECKING:
    from mlflow import MlflowClient

log = logging.getLogger(__name__)

#: The registry's aliases, which MLflow's models take over.
ALIASES = ("champion", "candidate")

#: A registered model's name, and the number of its version.
Model = tuple[str, int]

#: What MLflow takes of a sentence as a tag.
LONGEST = 5000


def mirror(registry: Mapping[str, Any], logs: Path) -> None:
    """Has MLflow's model versions bear the registry's aliases and decisions; where that cannot be, it is a warning.

    Versions that MLflow does not know, since their run was never exported with `--tracker mlflow`, are skipped, with a
    line if an alias is theirs. Where it knows none, nothing is done, and MLflow not imported.

    Args:
        registry: The content of `registry.json`: `versions`, `aliases` and `decisions`.
        logs: The folder of runs.
    """
    runs = {entry["version"]: folder_of(entry, logs) for entry in registry.get("versions", [])}
    stores: dict[str | None, dict[int, Model]] = {}
    for version, folder in runs.items():
        if (model := model_of(folder)) is not None:
            stores.setdefault(store_of(folder), {})[version] = model
    if not stores:
        return
    aliases = {alias: version for alias, version in registry.get("aliases", {}).items() if alias in ALIASES}
    unknown = set(aliases.values())
    for address, models in stores.items():
        try:
            client = connect(address, logs)
            tags = tags_of(client, models)
            there = {version: models[version] for version in tags}
            unknown -= there.keys()
            set_aliases(client, there, aliases)
            tag_decisions(client, there, tags, registry.get("decisions", []))
        except Exception as error:  # what MLflow and the libraries below it raise has no common class
            unknown -= models.keys()
            log.warning(
                "MLflow at %s is not told who is champion (%s); the next change tells it",
                *(without_password(address) or logs / STORE, why(error)),
            )
    for version in sorted(unknown):
        name = runs[version].name if version in runs else "RUN"
        log.info("version %s is no model in MLflow; export --run %s --tracker mlflow makes it one", version, name)


def folder_of(entry: Mapping[str, Any], logs: Path) -> Path:
    """The run's folder of a version, which may have come with the log folder from elsewhere."""
    here = logs / str(entry["run"])
    return here if here.is_dir() else Path(str(entry.get("folder", here)))


def model_of(folder: Path) -> Model | None:
    """The model that MLflow has of a run, as the run's folder remembers it; None for none."""
    model = memory_of(folder).get("model")
    if not isinstance(model, dict) or not isinstance(model.get("name"), str):
        return None
    return model["name"], int(model["version"])


def tags_of(client: "MlflowClient", models: Mapping[int, Model]) -> dict[int, dict[str, str]]:
    """The tags of each model that MLflow still has."""
    from mlflow.exceptions import MlflowException

    tags = {}
    for version, (name, number) in models.items():
        try:
            tags[version] = client.get_model_version(name, str(number)).tags
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
    return tags


def set_aliases(client: "MlflowClient", models: Mapping[int, Model], aliases: Mapping[str, int]) -> None:
    """Gives each alias to the version that has it, and takes it from all others, of other data's models, too."""
    for name in sorted({name for name, _ in models.values()}):
        has = {alias: int(version) for alias, version in client.get_registered_model(name).aliases.items()}
        for alias in ALIASES:
            holder = models.get(aliases.get(alias, 0))
            if holder is None or holder[0] != name:
                if alias in has:  # rather none than an old one
                    client.delete_registered_model_alias(name, alias)
            elif has.get(alias) != holder[1]:
                client.set_registered_model_alias(name, alias, str(holder[1]))


def tag_decisions(
    client: "MlflowClient",
    models: Mapping[int, Model],
    tags: Mapping[int, Mapping[str, str]],
    decisions: Sequence[Mapping[str, Any]],
) -> None:
    """Tags each version with the latest decision on it, `outcome`, `reason` and `decided`, where that is new."""
    latest = {decision["version"]: decision for decision in decisions if decision.get("version") in models}
    for version, decision in latest.items():
        told = {"outcome": decision.get("outcome"), "reason": decision.get("reason"), "decided": decision.get("time")}
        for tag, value in told.items():
            text = str(value)[:LONGEST]
            if value is not None and tags[version].get(tag) != text:
                name, number = models[version]
                client.set_model_version_tag(name, str(number), tag, text)
