"""With `--trace-headers`, tasks take their trace context from the request where they bring none."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.servers import Api, serving

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
OTHER = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
STATE = "rojo=00f067aa0ba902b7"


@pytest.fixture(scope="module")
def tracing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    flags = ["--trace-headers", "--chore-interval", "0"]
    with serving(tmp_path_factory.mktemp("tracing"), *flags) as running, Api(running.port) as client:
        yield client


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_a_task_gets_those_of_the_request(tracing: Api, name: str, method: str) -> None:
    headers = {"traceparent": PARENT, "tracestate": STATE, "baggage": "a=1"}
    tracing.request(method, f"/topics/{name}/tasks/{name}", {}, headers=headers)
    assert tracing.task(name)["trace"] == {"traceparent": PARENT, "tracestate": STATE}


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_a_task_of_a_batch_keeps_its_own(tracing: Api, name: str, method: str) -> None:
    own = {"traceparent": OTHER}
    data = [{"_id": f"{name} {n}", **({"trace": own} if n == 1 else {})} for n in range(600)]
    tracing.request(method, f"/topics/{name}/tasks", {"data": data}, headers={"traceparent": PARENT})
    assert tracing.task(f"{name} 1")["trace"] == own
    assert all(tracing.task(f"{name} {n}")["trace"] == {"traceparent": PARENT} for n in (0, 2, 599))


@pytest.mark.parametrize(
    ("headers", "trace"),
    [
        ({}, None),
        ({"tracestate": STATE}, None),
        ({"traceparent": PARENT.upper(), "tracestate": STATE}, None),
        ({"traceparent": PARENT[:-1]}, None),
        ({"traceparent": PARENT, "tracestate": "a=\u00e9"}, {"traceparent": PARENT}),
        ({"traceparent": PARENT, "tracestate": "a=" + "1" * 9000}, {"traceparent": PARENT}),
    ],
)
def test_what_is_malformed_is_ignored(
    tracing: Api, name: str, headers: dict[str, str], trace: dict[str, str] | None
) -> None:
    assert tracing.request("POST", f"/topics/{name}/tasks/{name}", {}, headers=headers).status == 201
    assert tracing.task(name).get("trace") == trace


def test_without_the_setting_headers_mean_nothing(api: Api, name: str) -> None:
    api.request("POST", f"/topics/{name}/tasks/{name}", {}, headers={"traceparent": PARENT})
    assert "trace" not in api.task(name)
