"""What several pages share: mistakes in a line, commands to copy, names that are no markup, folders, fields."""

import functools
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ParamSpec

import streamlit as st

from vit_lightning.progress import legible, told
from vit_lightning.runs import Run
from vit_lightning.studio import jobs
from vit_lightning.studio.roots import Place, place

log = logging.getLogger(__name__)

Asked = ParamSpec("Asked")

#: Signs that Streamlit's texts take for markup.
MARKUP = re.compile(r"([\\`*_{}\[\]()#+\-.!|<>~:$&\"'/^=])")


def plain(text: object) -> str:
    """A text from outside for a place that takes markup: every sign stands for itself."""
    return MARKUP.sub(r"\\\1", legible(str(text)))


def guarded(part: Callable[Asked, None]) -> Callable[Asked, None]:
    """A part of a page whose mistakes are told in a line, as on the command line; nothing is lost by one."""

    @functools.wraps(part)
    def shown(*args: Asked.args, **kwargs: Asked.kwargs) -> None:
        try:
            part(*args, **kwargs)
        except Exception as error:  # as `cli.py` does; what Streamlit itself raises to start anew is none
            mistake(error)

    return shown


def page(show: Callable[[Place], None]) -> Callable[[], None]:
    """A page, which is given where the studio works."""
    return lambda: guarded(show)(place())


def mistake(error: Exception) -> None:
    """Shows an error in one line."""
    text = told(error)
    if not isinstance(error, ValueError | OSError):
        log.exception("unexpected")
        text = f"{type(error).__name__}: {text} (unexpected; the studio's terminal shows where)"
    st.error(plain(text), icon=":material/error:")


def command(words: Sequence[str], what: str = "The same on the command line") -> None:
    """Shows a command, ready to be copied."""
    st.caption(what)
    st.code(jobs.command_line(words), language="bash", wrap_lines=True)


def go_to(name: str) -> None:
    """Opens another page of the studio."""
    pages = st.session_state.get("pages")
    if pages:  # not where one page is looked at by itself
        st.switch_page(pages[name])


def begin(where: Place, words: Sequence[str], device: str = "cpu") -> jobs.Job:
    """Starts a command, and says so."""
    job = jobs.start(where.logs, words, device)
    st.toast(plain(f"started: {job.command} {job.run or ''}"))
    return job


def show_job(job: jobs.Job, *, lines: int = 12) -> None:
    """A job's state, its command and the end of its log."""
    marks = {"done": "green", "running": "blue", "waiting": "gray", "stopped": "orange", "failed": "red"}
    st.badge(job.state, color=marks.get(job.state, "red"))  # type: ignore[arg-type]  # a word of Streamlit's
    st.code(job.line, language="bash", wrap_lines=True)
    if job.state == "lost":
        st.text("its process is gone, by a kill or a power cut; a training's run can be resumed on the page Watch")
    said = job.tail(lines)
    if job.state == "failed":
        st.error(plain(job.reason()), icon=":material/error:")
    if said:
        st.code("\n".join(said), language=None, height=220)


def choose_run(runs: Sequence[Run], label: str, key: str, wanted: str | None = None) -> Run | None:
    """A run out of many, by its name; the latest first."""
    names = [run.name for run in runs]
    if not names:
        st.info("There is no such run yet. The page Train starts one.")
        return None
    index = names.index(wanted) if wanted in names else 0
    name = st.selectbox(label, names, index=index, key=key)
    return next((run for run in runs if run.name == name), None)


def browse(where: Place, key: str) -> Path:
    """A folder below the roots, entered step by step.

    Raises:
        ValueError: It lies outside.
    """
    roots = where.roots
    here = roots.inside(st.session_state.setdefault(key, str(roots.folders[0])))

    def enter() -> None:
        if name := st.session_state.get(f"{key}-into"):
            st.session_state[key] = str(here / name)
            st.session_state[f"{key}-into"] = None

    def climb() -> None:
        st.session_state[key] = str(here.parent)

    def change() -> None:
        st.session_state[key] = st.session_state[f"{key}-root"]

    if len(roots.folders) > 1:
        names = [str(folder) for folder in roots.folders]
        current = next((name for name in names if here.is_relative_to(name)), names[0])
        st.selectbox("Root", names, index=names.index(current), key=f"{key}-root", on_change=change)
    st.code(str(here), language=None, wrap_lines=True)
    left, right = st.columns([1, 4], vertical_alignment="bottom")
    left.button("Up", key=f"{key}-up", on_click=climb, disabled=here in roots.folders, width="stretch")
    inside = roots.subfolders(here)
    words = f"Folders in it ({len(inside)})" if inside else "No folder in it"
    right.selectbox(
        words, inside, index=None, key=f"{key}-into", on_change=enter, placeholder="go into", disabled=not inside
    )
    return here


def cells(count: int, columns: int) -> list["st.delta_generator.DeltaGenerator"]:
    """Places in rows of so many columns: on a phone, where columns stand below one another, they keep their order."""
    rows = [st.columns(columns) for _ in range(-(-count // columns))]
    return [place for row in rows for place in row][:count]


def ask(fields: Sequence[Any], before: Mapping[str, str], asked: dict[str, str], key: str, columns: int = 3) -> None:
    """Shows fields, and takes what they say into `asked`, which pages share.

    Args:
        fields: As of `studio.fields`.
        before: Each one's text in the recipe.
        asked: What was asked for by now, by name.
        key: Distinguishes the widgets of one recipe from those of another.
        columns: Beside one another.
    """
    for spot, field in zip(cells(len(fields), columns), fields, strict=True):
        text = asked.get(field.name, before[field.name])
        title, own, help_ = f"`{field.name}`", f"{key}/{field.name}", field.help or None
        with spot:
            if field.kind == "choice":
                at = field.choices.index(text) if text in field.choices else 0
                said = str(st.selectbox(title, field.choices, at, format_func=or_left_out, key=own, help=help_))
            elif field.kind == "switch":
                said = str(st.toggle(title, value=text == "true", key=own, help=help_)).lower()
            elif field.kind == "whole":
                said = str(st.number_input(title, value=int(text), step=1, key=own, help=help_))
            else:
                said = str(st.text_input(title, value=text, placeholder="left out", key=own, help=help_)).strip()
        if said != before[field.name]:
            asked[field.name] = said
        else:
            asked.pop(field.name, None)


def or_left_out(word: str) -> str:
    """A choice, also the one of none."""
    return word or "left out"


def word_of(run: Run) -> str:
    """A run on a command line: its name, or its folder where the name would be taken for an option."""
    return str(run.folder) if run.name.startswith("-") else run.name
