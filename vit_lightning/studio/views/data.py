"""Which pictures: their classes, what cannot be read, how they look augmented, and what their split is worth."""

import streamlit as st

from vit_lightning.progress import SHOWN_BY
from vit_lightning.studio import jobs
from vit_lightning.studio.roots import Place
from vit_lightning.studio.views.shared import (
    ask,
    begin,
    browse,
    command,
    go_to,
    guarded,
    mistake,
    page,
    plain,
    show_job,
)

#: What there is to choose, by the word of `data.source`, with the recipe that suits it.
SOURCES = {"demo": ("The demo", "demo"), "folder": ("A folder", "folder"), "kaggle": ("Tom & Jerry", "tom_and_jerry")}

#: Options that say which pictures, and not how they are trained on.
WHICH = ("data.source", "data.root")


@page
def show(where: Place) -> None:
    """The page."""
    from vit_lightning.studio.fields import check_paths, form, recipes, words_of

    st.title("Data")
    state = st.session_state
    asked: dict[str, str] = state.setdefault("asked", {})
    before_source = asked.get("data.source", "demo")
    source = st.segmented_control(
        "Pictures", list(SOURCES), default=before_source, format_func=lambda word: SOURCES[word][0], key="source"
    )
    source = source or before_source
    found = recipes()
    recipe = found.get(SOURCES[source][1]) or next(iter(found.values()))
    if asked.get("data.source") != source:
        asked.clear()
        state["recipe"] = recipe.stem
    asked["data.source"] = source
    asked.pop("data.root", None)
    if source == "folder":
        folder = browse(where, "folder")
        asked["data.root"] = str(folder)
        st.caption("It holds a folder of pictures for each class, or train / val / test folders of such.")
    elif source == "kaggle":
        st.caption("The frames are downloaded from Kaggle once, with your own account there.")
    fields, before = form(str(recipe), recipe.stat().st_mtime)
    with st.expander("How they are split, and augmented"):
        ask(
            [each for each in fields if each.group == "Data" or each.name == "data.augment"], before, asked, recipe.stem
        )
    words = words_of(recipe, before, asked)
    if st.button("Look at them", type="primary", key="look"):
        check_paths(asked, where)
        if source == "folder":
            where.roots.check_tree(asked["data.root"])
        look_at(words)
    if state.get("view-words") == words:
        show_view(where, words)
    else:
        command(["check", *words], "The same, and more, on the command line")


def look_at(words: list[str]) -> None:
    """Looks, and remembers what was seen for this session."""
    bar = st.progress(0.0, "opening and comparing the pictures; new ones take a while")
    before = SHOWN_BY.set(lambda text, share: bar.progress(share, plain(text)))
    try:
        from vit_lightning.studio.datasets import look  # imports torch

        st.session_state["view"], st.session_state["view-words"] = look(words), words
    except (ValueError, OSError) as error:
        mistake(error)
    finally:
        SHOWN_BY.reset(before)
        bar.empty()


def show_view(where: Place, words: list[str]) -> None:
    """What was seen."""
    view = st.session_state["view"]
    st.text(view.line)
    for finding in view.findings:
        sentence = f"**{finding.name}** {plain(finding.text)}"
        if finding.level == "ok":
            st.markdown(f":green[:material/check_circle:] {sentence}")
        else:
            (st.warning if finding.level == "warning" else st.error)(sentence)
    st.subheader("Classes")
    rows = [{"class": name} | {part: counts[name] for part, counts in view.counts.items()} for name in view.classes]
    st.dataframe(rows, hide_index=True)
    st.subheader("Samples, plain above augmented")
    st.image(list(view.samples), width=128)
    if view.unreadable:
        st.subheader("Cannot be read")
        st.dataframe([{"file": name, "reason": reason} for name, reason in view.unreadable.items()], hide_index=True)
    left, right = st.columns(2)
    if left.button("Train on these", type="primary", width="stretch", key="train-on-these"):
        go_to("train")
    if right.button("Check everything, about a minute", width="stretch", key="check"):
        st.session_state["check"] = begin(where, ["check", *words]).id
    command(["check", *words])
    show_check(where)


@st.fragment(run_every=1)
@guarded
def show_check(where: Place) -> None:
    """What `check` says, as it comes."""
    for job in jobs.jobs_in(where.logs):
        if job.id == st.session_state.get("check"):
            show_job(job, lines=60)
