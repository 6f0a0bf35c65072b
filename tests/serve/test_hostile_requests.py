"""A small campaign of `benchmarks.hostile_requests` against a real server, and that it sees what is a failure."""

from pathlib import Path

import pytest

from benchmarks.hostile_requests import campaign, judge


@pytest.mark.slow
def test_300_hostile_requests(model_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    failed = campaign(model_file, tmp_path, 300, 20_000, 1500.0)
    told = capsys.readouterr().out
    assert not failed, told
    assert told.startswith("300 requests in ")


def test_the_campaign_sees_what_is_a_failure() -> None:
    head = b"HTTP/1.1 %d X\r\ncontent-type: application/json\r\n\r\n"
    assert judge(b"") == ("closed", "")
    assert judge(head % 200 + b"{}") == ("200", "")
    assert judge(b"HTTP/1.1 100 \r\n\r\n" + head % 422 + b'{"error": "no picture"}') == ("422", "")
    assert judge(head % 500 + b'{"error": "x"}')[1].startswith("status 500")
    assert judge(head % 422 + b'{"detail": []}')[1].startswith("no JSON")
    assert judge(head % 422 + b'{"error": "a\\nb"}')[1].startswith("no line")
    assert judge(head % 400 + b"Traceback (most recent call last)")[1].startswith("a trace")
    assert judge(b"\x00\x01")[1].startswith("no HTTP")
