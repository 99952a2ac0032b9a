"""Both ways to copy tasks between servers, from Ratus and between engines, copy everything."""

from __future__ import annotations

from typing import Any

import pytest

from ratus import Client, Commit, Retry, Task
from ratus.testing import RatusServer
from tests.documents.pages import blocks

SAME = 'OLD = NEW = "http://127.0.0.1:8000"'


def fill(ratus: Client) -> None:
    """Tasks in every state, more than fit on a page, in several topics, one of them paused."""
    ratus.insert_tasks(
        (Task(id=f"n{n}", payload={"n": n}, priority=n % 3) for n in range(250)), topic="numbers"
    )
    ratus.insert_tasks([Task(id=f"t{n}", topic=f"topic {n}", defer="1h", ttl="2h") for n in range(120)])
    ratus.insert_tasks([Task(id=str(n), retry=Retry(max_attempts=1)) for n in range(4)], topic="states")
    done, failed, _ = (ratus.poll("states", consumer="somebody", timeout="1h") for _ in range(3))
    assert done is not None
    assert failed is not None
    done.set_result([1.5, "two"]).commit()
    failed.fail("boom").commit()
    ratus.patch_task("3", Commit(state=3))
    ratus.patch_topic("states", paused=True)


def everything(ratus: Client, topics: list[str]) -> dict[str, Any]:
    """Every task as it travels, in its order."""
    return {topic: [task.to_wire() for task in ratus.iter_tasks(topic)] for topic in topics}


@pytest.mark.parametrize("page", ["docs/migrating/ratus.md", "docs/engines/README.md"])
def test_a_copy_is_the_same(page: str) -> None:
    (code,) = [block.text for block in blocks(page) if block.language == "python" and SAME in block.text]
    with RatusServer() as old, RatusServer() as new, old.client() as source, new.client() as copy:
        fill(source)
        topics = ["numbers", "states", "topic 0", "topic 119"]
        before = everything(source, topics)
        active = next(task for task in before["states"] if task["state"] == 1)
        program = compile(code.replace(SAME, f"OLD, NEW = {old.url!r}, {new.url!r}"), page, "exec")
        for _ in range(2):  # whoever was interrupted begins anew
            exec(program, {})
        assert everything(copy, topics) == before
        assert everything(source, topics) == before
        assert len(copy.list_topics(limit=100)) == 100
        # Whoever held a task at the old server commits it at the new one.
        assert copy.patch_task(active["_id"], Commit(nonce=active["nonce"])).state == 2
        assert copy.get_topic("states").paused is (page == "docs/engines/README.md")
