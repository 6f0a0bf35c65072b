"""All runs, ranked as `runs` ranks them; one in full, two compared, some removed."""

import html
import subprocess
import sys
from argparse import Namespace
from collections.abc import Sequence

import streamlit as st

from vit_lightning.commands.runs import decisions_on, facts_of
from vit_lightning.commands.runs_table import FOOTNOTES, SORTS, cells_of, chosen, section_title, sections_of, titles_of
from vit_lightning.registry import read_registry
from vit_lightning.runs import STATES, Run, read_numbers
from vit_lightning.studio import jobs
from vit_lightning.studio.roots import Place
from vit_lightning.studio.views.shared import begin, choose_run, command, go_to, guarded, page, plain, show_job, word_of

#: Data sets and splits whose runs are shown at once.
SECTIONS = 10


@page
def show(where: Place) -> None:
    """The page."""
    st.title("Runs")
    everything = where.runs()
    if not everything:
        st.info("There is no run yet. The page Train starts one.")
        return
    left, middle, right, last = st.columns(4)
    states = left.multiselect("State", STATES, key="states")
    name = middle.text_input("Name", placeholder="demo-*", key="names").strip()
    data = right.text_input("Data", placeholder="name or id", key="datasets").strip()
    sort = last.selectbox("Order within a split", list(SORTS), key="sort")
    options = Namespace(state=",".join(states) or None, name=name or None, data=data or None, split=None)
    found = chosen(everything, options)
    show_champion(where)
    show_table(found, sort)
    words = [f"--{key}={value}" for key, value in vars(options).items() if value]
    command(["runs", *words, *([f"--sort={sort}"] if sort != "val" else []), "--wide"])
    if not found:
        return
    one, two, going = st.tabs(["One run", "Two compared", "Make room"])
    with one:
        run = choose_run(found, "Run", "one")
        if run is not None:
            show_run(where, run)
    with two:
        compare(where, found)
    with going:
        prune(found)


def show_champion(where: Place) -> None:
    """Who is champion, and why."""
    why = read_registry(where.logs).why()
    if why is not None:
        st.success(plain(why), icon=":material/trophy:")


def show_table(runs: Sequence[Run], sort: str) -> None:
    """The table, section by section: scores within one may be ranked against each other."""
    titles, sections, said = titles_of(runs, wide=True), sections_of(runs), ""
    for section in sections[:SECTIONS]:
        rows = []
        for run in sorted(section, key=SORTS[sort]):
            cells = [cell.strip() for cell in cells_of(run, wide=True)]
            rows.append(dict(zip(titles, cells, strict=True)))
        said += " ".join(row["val/acc"] + row["state"] for row in rows)
        st.text(section_title(section))
        st.dataframe(rows, hide_index=True, height=min(460, 38 + 36 * len(rows)))
    if len(sections) > SECTIONS:
        st.caption(f"... and runs on {len(sections) - SECTIONS:,} more data sets and splits; the filters find them")
    for mark, text in FOOTNOTES.items():
        if mark in said:
            st.caption(f"\\{mark} {text}")


def show_run(where: Place, run: Run) -> None:
    """One run in full."""
    first, second, third = st.columns(3)
    if first.button("Watch it", key="watch-it", width="stretch"):
        st.session_state["watched"] = [run.name]
        go_to("watch")
    if second.button("Use it", key="use-it", width="stretch", disabled=run.is_folds):
        st.session_state["used"] = run.name
        go_to("use")
    words = ["test", f"--run={run.name}"]
    if third.button("Test it on images it has not seen", key="test-it", width="stretch", disabled=run.is_folds):
        st.session_state["testing"] = begin(where, words).id
    testing(where)
    tabs = st.tabs(["Report", "Record", "Configuration", "Layers", "History"])
    with tabs[0]:
        path = where.file_of(run, "report/report.html")
        if path is None:
            st.info("It was not tested yet.")
        else:
            show_report(path.read_text(encoding="utf-8", errors="replace"))
        command(words)
    with tabs[1]:
        facts = [*facts_of(run), *decisions_on(run, read_registry(where.logs))]
        st.dataframe([{"what": key, "value": text} for key, text in facts], hide_index=True)
        command(["runs", "show", word_of(run)])
        command(["promote", word_of(run)], "To make it the champion, if it is really better")
    with tabs[2]:
        config = where.file_of(run, "config.yaml")
        st.code(config.read_text(encoding="utf-8", errors="replace") if config else "", language="yaml", height=480)
        command(["fit", f"--config={run.folder / 'config.yaml'}"], "The same training once more")
    with tabs[3]:
        log = where.file_of(run, "run.log")
        st.code(layers_in(log.read_text(encoding="utf-8", errors="replace") if log else ""), language=None)
    with tabs[4]:
        st.dataframe(read_numbers(run.folder / "history.csv"), hide_index=True)


@st.fragment(run_every=1)
@guarded
def testing(where: Place) -> None:
    """What `test` says, as it comes."""
    for job in jobs.jobs_in(where.logs):
        if job.id == st.session_state.get("testing"):
            show_job(job)


def show_report(page: str) -> None:
    """The report in a frame without scripts and without this page's origin: a run's folder may come from elsewhere."""
    frame = (
        f'<iframe sandbox srcdoc="{html.escape(page, quote=True)}" style="width:100%;height:880px;border:0"></iframe>'
    )
    st.iframe(frame, height=900)


def layers_in(log: str) -> str:
    """The network layer by layer, as the run's log has it; the latest where it went on."""
    lines = log.splitlines()
    begins = [index for index, line in enumerate(lines) if "output shape" in line and "parameters" in line]
    if not begins:
        return "the run's log has no summary of the network"
    table = []
    for line in lines[begins[-1] :]:
        table.append(line)
        if " total" in f" {line.strip()}" and line.strip().startswith("total"):
            break
    return "\n".join(table)


def compare(where: Place, runs: Sequence[Run]) -> None:
    """Whether two tested runs really differ."""
    tested = [run for run in runs if run.is_folds or where.file_of(run, "report/predictions.csv") is not None]
    if len(tested) < 2:
        st.info("It takes two runs that were tested; one is tested under One run.")
        return
    left, right = st.columns(2)
    names = [run.name for run in tested]
    first = left.selectbox("Run", names, key="first")
    second = right.selectbox("and run", names, index=1, key="second")
    asked = [word_of(run) for name in (first, second) for run in tested if run.name == name]
    words = ["runs", "compare", *asked]
    if st.button("Compare", key="compare"):
        st.code(said_by(words), language=None, wrap_lines=True)
    command(words)


def prune(runs: Sequence[Run]) -> None:
    """What would be removed; and only then its removal."""
    names = st.multiselect("Runs that may go", [run.name for run in runs], key="going")
    only = st.toggle("only their checkpoints", key="only")
    going = [word_of(run) for run in runs if run.name in names]
    words = ["runs", "prune", *going, *(["--checkpoints"] if only else [])]
    if not names:
        st.caption("Runs that others started from stay, and so do those that train.")
        return
    if st.button("What would go?", key="dry"):
        st.session_state["going-dry"] = words
    if st.session_state.get("going-dry") == words:
        st.code(said_by(words), language=None, wrap_lines=True)
        if st.button("Remove them for good", key="remove", type="primary"):
            st.code(said_by([*words, "--yes"]), language=None, wrap_lines=True)
            st.session_state.pop("going-dry")
    command([*words, "--yes"])


def said_by(words: Sequence[str]) -> str:
    """What a command of a second says."""
    called = [sys.executable, "-m", "vit_lightning.cli", *words]
    done = subprocess.run(called, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False)
    return (done.stdout + done.stderr).strip()
