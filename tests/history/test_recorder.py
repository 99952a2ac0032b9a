"""What the recorder of histories takes for an answer."""

from __future__ import annotations

import math
from typing import Any

import pytest

from tests.history import recorder
from tests.servers import Answer


class Always:
    """A server that gives the same answer to every request."""

    def __init__(self, status: int) -> None:
        self._status = status

    def request(self, method: str, target: str, body: Any) -> Answer:
        return Answer(self._status, {}, b"{}")

    def close(self) -> None:
        pass


def ask(monkeypatch: pytest.MonkeyPatch, status: int) -> tuple[float, float, Any]:
    monkeypatch.setattr(recorder, "Api", lambda port: Always(status))
    return recorder._Caller([1], 0)("GET", "/v1/topics", None)


def test_an_internal_error_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(AssertionError, match="GET /v1/topics: 500"):
        ask(monkeypatch, 500)


def test_a_server_that_is_unavailable_gives_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    _, ended, value = ask(monkeypatch, 503)
    assert (ended, value) == (math.inf, None)


@pytest.mark.parametrize(("status", "value"), [(200, {}), (404, None)])
def test_other_answers(monkeypatch: pytest.MonkeyPatch, status: int, value: object) -> None:
    _, ended, found = ask(monkeypatch, status)
    assert ended < math.inf
    assert found == value
