"""What earlier versions wrote (a snapshot, a file, a collection) is read as it was meant; see `record.py`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.recorded.scenario import everything, order_of_claims
from tests.recorded.stores import STORES
from tests.servers import Api, serving

FOLDER = Path(__file__).parent
RECORDED = sorted(path.parent.relative_to(FOLDER) for path in FOLDER.glob("*/*/expected.json"))


def test_there_is_a_recording_of_every_engine() -> None:
    assert {path.name for path in RECORDED} == STORES.keys()


@pytest.mark.parametrize("recorded", RECORDED, ids=str)
def test_everything_is_as_it_was_recorded(recorded: Path, tmp_path: Path) -> None:
    store = STORES[recorded.name]
    expected = json.loads((FOLDER / recorded / "expected.json").read_text())

    with store.flags(tmp_path) as flags:
        store.load(FOLDER / recorded, tmp_path)
        with serving(tmp_path, "--chore-interval", "0", *flags) as server, Api(server.port) as api:
            found = everything(api)
            assert found.keys() == expected["topics"].keys()
            for name, topic in expected["topics"].items():
                # Since then, topics say why they hand out nothing.
                closed = {"closed": "paused"} if topic["topic"].get("paused") else {}
                assert found[name]["topic"] == topic["topic"] | closed
                # Compared as text: 0 and -0.0, 1 and true are equal in Python.
                assert list(map(json.dumps, found[name]["tasks"])) == list(map(json.dumps, topic["tasks"]))
        # What was read is written again, as this version writes it, and is still the same.
        with serving(tmp_path, "--chore-interval", "0", *flags) as server, Api(server.port) as api:
            assert everything(api) == found
            assert order_of_claims(api, list(expected["topics"])) == expected["orders"]
