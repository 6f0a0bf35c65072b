"""`serve`: with what it is asked, who may reach it, and where its file comes from."""

import socket
from pathlib import Path

import pytest

from vit_lightning import cli
from vit_lightning.commands import serve


def refusal(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert cli.main(["serve", *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.0.1", "::", "example.org"])
def test_another_host_is_refused_without_a_token(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    monkeypatch.delenv(serve.TOKEN, raising=False)
    assert "there is no token; set VIT_LIGHTNING_TOKEN, or add --expose" in refusal(capsys, "--host", host)
    options = serve.parse(["--host", host])
    serve.check_reach(options, "s3cret")
    assert options.host == host


def test_exposing_is_warned_of(capsys: pytest.CaptureFixture[str]) -> None:
    options = serve.parse(["--expose"])
    serve.check_reach(options, "")
    assert options.host == "0.0.0.0"
    assert capsys.readouterr().err.startswith("warning: whoever reaches port 8000 of 0.0.0.0 may ask")
    serve.check_reach(options, "s3cret")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--port=70000"], "65535"),
        (["--port=x"], "--port is 'x'; expected a whole number"),
        (["--max-mb=0"], "--max-mb is '0'; expected a number above 0"),
        (["--timeout=nan"], "--timeout is 'nan'; expected a number above 0"),
        (["--queue=3"], "--queue is 3, and a request may have 32 pictures"),
        (["--run=a", "--model=b"], "--run and --model are both given"),
        (["--run=nothing"], "no run 'nothing'"),
        ([], "no finished run"),
        (["--model=nothing.onnx"], "--model nothing.onnx is no file; give a .onnx"),
        (["--model=."], "--model . is no file"),
    ],
)
def test_mistakes_are_one_line(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    words: list[str],
    line: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert line in refusal(capsys, *words, *([] if words and "port" in words[0] else ["--port=0"]))


def test_a_taken_port_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        told = refusal(capsys, "--port", str(taken.getsockname()[1]))
    assert "cannot listen on 127.0.0.1" in told
    assert "--port" in told


def test_without_the_extra_and_with_a_strange_token_it_says_so(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(serve.TOKEN, "a\nb")
    assert "no header can carry" in refusal(capsys)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert "pip install 'vit-lightning[serve]'" in refusal(capsys)


def test_a_run_s_file_is_found_without_its_checkpoint_and_exported_where_there_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    export = tmp_path / "lightning_logs/first/export"
    export.mkdir(parents=True)
    (export / "model.onnx").touch()
    assert serve.exported("first", ".") == Path("lightning_logs/first/export/model.onnx")
    (export / "model.onnx").unlink()
    with pytest.raises(ValueError, match="first could not be exported"):
        serve.exported("first", ".")
    told = capfd.readouterr()
    assert told.out.startswith("first has no export/model.onnx yet")
    assert "has no checkpoint in" in told.err  # of `export`, a process of its own
    (tmp_path / "lone.ckpt").touch()
    with pytest.raises(ValueError, match=r"lone\.ckpt lies in no run's folder; export it"):
        serve.exported("lone.ckpt", ".")
