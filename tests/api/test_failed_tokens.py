"""Unknown tokens are logged, now and then, and answered late; known ones are never in their way."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from ratus.api import failed_tokens
from ratus.api.auth import Tokens
from ratus.api.failed_tokens import FailedTokens
from tests.servers import Api, Client, assert_error, request_bytes, serving

TOKEN = "a-token-that-is-long-enough"
GUESS = "a-guess-that-must-not-be-logged"


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


def test_a_failure_is_logged_at_once_and_others_are_counted(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(failed_tokens, "DELAY_SECONDS", 0)
    monkeypatch.setattr(failed_tokens, "LOG_SECONDS", 0.05)

    async def run() -> None:
        failures = FailedTokens()
        for _ in range(5):
            await failures.delay("192.0.2.1")
        assert lines(caplog) == ["a request with an unknown token was refused"]
        while len(caplog.records) < 2:
            await asyncio.sleep(0.01)
        assert lines(caplog)[1] == "4 more requests with unknown tokens were refused"
        while failures._quiet:
            await asyncio.sleep(0.01)
        assert len(caplog.records) == 2
        await failures.delay("192.0.2.2")
        assert lines(caplog)[2] == "a request with an unknown token was refused"

    asyncio.run(run())


def test_no_more_than_some_are_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failed_tokens, "DELAY_SECONDS", 1e6)
    monkeypatch.setattr(failed_tokens, "MOST_HELD", 3)

    async def run() -> None:
        failures = FailedTokens()
        held = [asyncio.create_task(failures.delay("a")) for _ in range(3)]
        await asyncio.sleep(0)
        assert not await failures.delay("a")
        held[0].cancel()
        await asyncio.wait([held[0]])
        waiting = asyncio.create_task(failures.delay("a"))
        await asyncio.sleep(0)
        assert not waiting.done()

    asyncio.run(run())


def test_a_known_token_does_not_wait_behind_unknown_ones(tmp_path: Path) -> None:
    with serving(tmp_path, environment={"AUTH_TOKENS": TOKEN}) as server, Api(server.port, TOKEN) as api:
        guess = request_bytes("GET", "/v1/topics", headers={"authorization": f"Bearer {GUESS}"})
        strangers = [Client(server.port) for _ in range(failed_tokens.MOST_HELD + 10)]
        for stranger in strangers:
            stranger.send(guess)
        assert api.get("/v1/topics").status == 200
        answers = [stranger.answer() for stranger in strangers]
        for answer in answers:
            assert_error(answer, 401, "unknown token")
        for stranger in strangers:
            stranger.sock.close()
        server.wait_for_log("a request with an unknown token was refused client=127.0.0.1")
        assert server.log.count("unknown token") < 5
        assert GUESS not in server.log
        assert TOKEN not in server.log


def test_a_request_without_a_token_is_neither_logged_nor_held(
    tmp_path: Path,
) -> None:
    with serving(tmp_path, environment={"AUTH_TOKENS": TOKEN}) as server, Api(server.port) as stranger:
        assert_error(stranger.get("/v1/topics"), 401, "send the header")
        assert "unknown token" not in server.log


def test_short_tokens_are_warned_about_and_not_shown(tmp_path: Path) -> None:
    with serving(tmp_path, environment={"AUTH_TOKENS": f"short-secret {TOKEN} x:read"}) as server:
        server.wait_for_log("2 of 3 tokens have fewer than 16 characters")
        assert "short-secret" not in server.log


def test_long_tokens_are_not_warned_about(tmp_path: Path) -> None:
    with serving(tmp_path, environment={"AUTH_TOKENS": TOKEN}) as server:
        assert "characters" not in server.log


@pytest.mark.parametrize(("text", "short"), [("", 0), ("x" * 15, 1), ("x" * 16, 0), ("x" * 15 + ":read", 1)])
def test_what_counts_as_short(text: str, short: int) -> None:
    assert Tokens.parse(text).short == short
