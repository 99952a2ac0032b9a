"""Record what this version writes, once, when it is finished: `python -m tests.recorded.record VERSION`.

For each engine a folder `VERSION/ENGINE` with what it keeps its tasks in, and `expected.json` with everything
that the server answered about them before it was stopped, and the order in which it handed the due ones out.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from tests.recorded.scenario import everything, fill, order_of_claims
from tests.recorded.stores import STORES
from tests.servers import Api, serving

FOLDER = Path(__file__).parent


def record(version: str) -> None:
    """Write the folders of a version. Raises FileExistsError where one is there already."""
    for name, store in STORES.items():
        target = FOLDER / version / name
        target.mkdir(parents=True)
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            with store.flags(folder) as flags:
                with serving(folder, "--chore-interval", "0", *flags) as server, Api(server.port) as api:
                    fill(api)
                    expected = everything(api)
                store.save(folder, target)
                with serving(folder, "--chore-interval", "0", *flags) as server, Api(server.port) as api:
                    orders = order_of_claims(api, list(expected))
        document = {"topics": expected, "orders": orders}
        (target / "expected.json").write_text(json.dumps(document, indent=1, ensure_ascii=True) + "\n")
        print(f"{target.relative_to(FOLDER)}: {sum(len(each['tasks']) for each in expected.values())} tasks")


if __name__ == "__main__":
    record(sys.argv[1])
