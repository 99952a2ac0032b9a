"""The documentation page: its files, and the page itself in a real browser."""

from __future__ import annotations

import gzip
import json
import os
import re
from pathlib import Path
from urllib.parse import urljoin

import pytest

from ratus.api import docs
from tests.api import browser
from tests.api.browser import Browser, browsing
from tests.servers import Api, serving


def test_the_page_asks_for_nothing_but_files_that_are_there() -> None:
    body, content_type = docs.page()
    addresses = re.findall(r'(?:src|href)="([^"]+)"', body.decode())

    assert content_type == "text/html; charset=utf-8"
    assert "openapi.yaml" in addresses
    for address in set(addresses) - {"openapi.yaml"}:
        assert docs.asset(address.removeprefix("assets/")) is not None, address


@pytest.mark.parametrize("base", ["http://a.example/", "https://a.example/queue/", "https://a.example/a/b/"])
def test_all_addresses_are_below_that_of_the_page(base: str) -> None:
    """A proxy may serve everything under a path of its own."""
    page, script = docs.page()[0].decode(), docs.asset("start.js")
    assert script is not None
    addresses = re.findall(r'(?:src|href)="([^"]+)"', page)
    addresses += re.findall(r'url: "([^"]+)"', script[0].decode())
    assert len(addresses) == 6
    for address in addresses:
        name = address.removeprefix("assets/")
        assert urljoin(base, address) == (base + address if name == address else f"{base}assets/{name}")
    (server,) = json.loads(docs.specification("json"))["servers"]
    assert urljoin(f"{base}openapi.json", server["url"]) == base


@pytest.mark.parametrize("name", docs.ASSETS)
def test_an_asset_is_the_same_compressed(name: str) -> None:
    plain, compressed = docs.asset(name), docs.asset(name, gzip=True)

    assert plain is not None
    assert compressed is not None
    assert gzip.decompress(compressed[0]) == plain[0]
    assert compressed[1] == plain[1]


@pytest.mark.parametrize(
    "name", ["", "index.html", "LICENSE", "../docs.py", "..%2Fdocs.py", "/etc/passwd", "\x00"]
)
def test_nothing_else_is_an_asset(name: str) -> None:
    assert docs.asset(name) is None


def test_the_version_of_swagger_ui_is_recorded() -> None:
    assets = Path(docs.__file__).parent / "assets"
    name, version = (assets / "VERSION").read_text().split()
    bundle = docs.asset("swagger-ui-bundle.js")

    assert name == "swagger-ui-dist"
    assert bundle is not None
    assert f'"{version}"'.encode() in bundle[0]
    assert "Apache License" in (assets / "LICENSE").read_text()
    assert "SmartBear" in (assets / "NOTICE").read_text()


def _needs_browser() -> None:
    if not (missing := browser.missing()):
        return
    if os.environ.get("CI") == "true":
        pytest.fail(f"a real browser is required in CI; install {missing}")
    pytest.skip(f"not installed: {missing}")


def _operation(window: Browser, tag: str, name: str) -> str:
    """Open an operation, try it as it stands, and give the whole answer as text."""
    box = f"#operations-{tag}-{name}"
    window.click(f"{box} .opblock-summary-control")
    window.click(f"{box} .btn.execute")
    return window.text(f"{box} .live-responses-table .response")


def test_the_page_in_a_browser(tmp_path: Path) -> None:
    _needs_browser()
    with serving(tmp_path) as server, Api(server.port) as api, browsing(tmp_path) as window:
        url = f"http://127.0.0.1:{server.port}"
        window.open(f"{url}/")
        document = api.get("/openapi.json").json
        operations = [words for item in document["paths"].values() for words in item.values()]

        assert window.until(f"document.querySelectorAll('.opblock').length === {len(operations)}")
        assert window.until("document.title") == "Ratus"
        for words in operations:
            assert window.until(
                f"document.getElementById('operations-{words['tags'][0]}-{words['operationId']}')"
            )

        inserted = _operation(window, "tasks", "insert_task")
        polled = _operation(window, "promises", "poll")
        window.screenshot(tmp_path / "page.png")
        task = api.task("1")
        complaints, requested = window.complaints(), window.requested(f"{url}/")

    assert inserted.startswith("201")
    assert '"created": 1' in inserted
    assert polled.startswith("200")
    assert '"state": 1' in polled
    assert (task["state"], task["consumer"]) == (1, "https://consumer.example.com")
    assert complaints == []
    assert f"{url}/openapi.json" in requested
    elsewhere = [address for address in requested if not address.startswith((f"{url}/", "data:"))]
    assert elsewhere == []
