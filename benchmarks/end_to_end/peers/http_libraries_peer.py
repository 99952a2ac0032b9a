"""How many small requests a second each HTTP library gets through, against a server that runs.

python http_libraries_peer.py URL SECONDS ROUNDS LIBRARY ...
"""

# The libraries are not installed where types are checked.
# mypy: ignore-errors

from __future__ import annotations

import asyncio
import http.client
import importlib
import json
import statistics
import sys
import time
from urllib.parse import urlsplit

from ratus.calls.address import Address
from ratus.calls.async_connections import AsyncConnections
from ratus.calls.http1 import Requests
from ratus.calls.sync_connections import SyncConnections

URL = sys.argv[1]
SECONDS = float(sys.argv[2])
ROUNDS = int(sys.argv[3])
NAMES = sys.argv[4:]
TARGET = "/v1/topics/bench/tasks/1"
BODY = b'{"payload":{"hello":"world"}}'
AT_ONCE = 32


def ours():
    address = Address.parse(URL)
    transport = SyncConnections(address, tls=None, connect_seconds=10.0)
    requests = Requests(address, token="", agent="bench", compress=False)
    return lambda: transport.exchange(requests.write("PUT", TARGET, BODY), 10.0).status


def standard_library():
    parts = urlsplit(URL)
    connection = http.client.HTTPConnection(parts.hostname, parts.port)

    def put():
        connection.request("PUT", TARGET, BODY, {"content-type": "application/json"})
        answer = connection.getresponse()
        answer.read()
        return answer.status

    return put


def with_urllib3():
    pool = importlib.import_module("urllib3").PoolManager()
    return lambda: pool.request("PUT", URL + TARGET, body=BODY).status


def with_session(name):
    def make():
        session = importlib.import_module(name).Session()
        return lambda: session.put(URL + TARGET, data=BODY).status_code

    return make


def with_httpx():
    client = importlib.import_module("httpx").Client()
    return lambda: client.put(URL + TARGET, content=BODY).status_code


async def ours_async():
    address = Address.parse(URL)
    transport = AsyncConnections(address, tls=None, connect_seconds=10.0)
    requests = Requests(address, token="", agent="bench", compress=False)

    async def put():
        return (await transport.exchange(requests.write("PUT", TARGET, BODY), 10.0)).status

    return put, transport.close


async def with_aiohttp():
    session = importlib.import_module("aiohttp").ClientSession()

    async def put():
        async with session.put(URL + TARGET, data=BODY) as answer:
            await answer.read()
            return answer.status

    return put, session.close


async def with_httpx_async():
    client = importlib.import_module("httpx").AsyncClient()

    async def put():
        return (await client.put(URL + TARGET, content=BODY)).status_code

    return put, client.aclose


async def with_niquests_async():
    session = importlib.import_module("niquests").AsyncSession()

    async def put():
        return (await session.put(URL + TARGET, data=BODY)).status_code

    return put, session.close


BLOCKING = {
    "ratus": ours,
    "http.client": standard_library,
    "urllib3": with_urllib3,
    "requests": with_session("requests"),
    "niquests": with_session("niquests"),
    "httpx": with_httpx,
}
ASYNC = {
    "ratus": ours_async,
    "aiohttp": with_aiohttp,
    "niquests": with_niquests_async,
    "httpx": with_httpx_async,
}


def measure(make):
    put = make()
    put()  # connects
    count, begun = 0, time.perf_counter()
    while (passed := time.perf_counter() - begun) < SECONDS:
        assert put() in (200, 201)
        count += 1
    return count / passed


async def measure_async(make):
    put, close = await make()
    count, begun = 0, time.perf_counter()

    async def work():
        nonlocal count
        while time.perf_counter() - begun < SECONDS:
            assert await put() in (200, 201)
            count += 1

    await asyncio.gather(*(work() for _ in range(AT_ONCE)))
    rate = count / (time.perf_counter() - begun)
    await close()
    return rate


def main():
    rows = []
    for mode, makers, run in (
        ("blocking, one at a time", BLOCKING, measure),
        (f"asyncio, {AT_ONCE} at a time", ASYNC, lambda make: asyncio.run(measure_async(make))),
    ):
        makers = {name: make for name, make in makers.items() if name in NAMES}
        rates = {name: [] for name in makers}
        for _ in range(ROUNDS):
            for name, make in makers.items():
                rates[name].append(run(make))
        rows += (
            {"mode": mode, "library": name, "requests/s": statistics.median(rates[name])} for name in makers
        )
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
