"""A recipe, changed as one likes, held against the data at once, and started."""

from collections.abc import Sequence
from pathlib import Path

import streamlit as st

from vit_lightning.runs import plain_name
from vit_lightning.studio import jobs
from vit_lightning.studio.roots import Place
from vit_lightning.studio.views.shared import ask, begin, command, go_to, mistake, page, plain


@page
def show(where: Place) -> None:
    """The page."""
    from vit_lightning.studio.fields import form, recipes, words_of

    st.title("Train")
    state = st.session_state
    found = recipes()
    asked: dict[str, str] = state.setdefault("asked", {"data.source": "demo"})
    wanted = state.get("recipe", "demo")
    name = st.selectbox("Recipe", list(found), index=list(found).index(wanted) if wanted in found else 0, key="choice")
    if name != wanted:  # what was changed was of another recipe; the pictures stay
        state["recipe"] = name
        state["asked"] = asked = {key: text for key, text in asked.items() if key in ("data.source", "data.root")}
    recipe = found[name]
    fields, before = form(str(recipe), recipe.stat().st_mtime)
    # The pictures are chosen on the page Data; a recipe's own source is what it names.
    st.text(f"Pictures: {asked.get('data.root') or asked.get('data.source', 'demo')} (chosen on the page Data)")
    groups = list(dict.fromkeys(each.group for each in fields))
    groups.sort(key=["Network", "Optimisation", "Augmentation", "Data", "Run"].index)
    for tab, group in zip(st.tabs(groups), groups, strict=True):
        with tab:
            ask([each for each in fields if each.group == group], before, asked, name)
    if st.button("Back to the recipe", disabled=not set(asked) - {"data.source", "data.root"}, key="reset"):
        state["asked"] = {key: text for key, text in asked.items() if key in ("data.source", "data.root")}
        for field in fields:
            state.pop(f"{name}/{field.name}", None)
        st.rerun()
    words = words_of(recipe, before, asked)
    if not valid(where, words, asked):
        command(["fit", *words], "This command would be refused, too")
        return
    one, several = st.tabs(["One run", "A sweep"])
    with one:
        start_run(where, words, name)
    with several:
        start_sweep(where, words, name, [field.name for field in fields])


def valid(where: Place, words: list[str], asked: dict[str, str]) -> bool:
    """Says whether it can be trained, in the command line's own words."""
    from vit_lightning.studio.cost import cost_of
    from vit_lightning.studio.fields import check_paths

    try:
        check_paths(asked, where)
        if "data.root" in asked:
            where.roots.inside(asked["data.root"])
        with st.spinner("looking whether it fits"):
            cost = cost_of(tuple(words))
    except (ValueError, OSError) as error:
        mistake(error)
        return False
    st.session_state["device"] = cost.device
    st.success(f"**architecture valid** {plain('; '.join(cost.lines()))}", icon=":material/check_circle:")
    return True


def start_run(where: Place, words: list[str], stem: str) -> None:
    """One run, by a name that is free."""
    name = st.text_input("Name of the run", value=free_name(where, stem), key=f"name-{free_name(where, stem)}").strip()
    words = ["fit", *words, f"--run={name}"]
    if st.button("Start training", type="primary", key="start"):
        plain_name(name)
        if (where.logs / name).exists():
            raise ValueError(f"the run {name} already exists in {where.logs}; choose another name")
        check_root(where, words)
        begin(where, words, st.session_state.get("device", "cpu"))
        st.session_state["watched"] = [name]
        go_to("watch")
    command(words)


def start_sweep(where: Place, words: list[str], stem: str, names: Sequence[str]) -> None:
    """A grid over any fields: a run a point."""
    from vit_lightning.studio.fields import check_grid

    text = st.text_area(
        "What varies, an option a line",
        value="model.depth=3,4,6",
        key="grid",
        help="Every combination is trained; the runs are compared on the validation images.",
    )
    name = st.text_input("Name of the sweep", value=f"{stem}-sweep", key="sweep-name").strip()
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    words = ["sweep", *words, *(f"--grid={line}" for line in lines), f"--run={name}"]
    if st.button("Start the sweep", key="start-sweep"):
        check_grid(lines, names, where)
        check_root(where, words)
        begin(where, words, st.session_state.get("device", "cpu"))
        go_to("home")
    command(words)


def check_root(where: Place, words: list[str]) -> None:
    """Refuses data with a link to outside the roots."""
    for word in words:
        if word.startswith("--data.root="):
            where.roots.check_tree(word.partition("=")[2])


def free_name(where: Place, stem: str) -> str:
    """The next name that neither a run nor a job that waits has."""
    taken = {job.run for job in jobs.jobs_in(where.logs) if job.active}
    number = 1
    while (name := f"{stem}-{number:03}") in taken or Path(where.logs / name).exists():
        number += 1
    return name
