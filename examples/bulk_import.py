"""A bulk import of a real data set: every character of the Unicode database becomes a task to work on.

The database comes with Python, about 145,000 characters with their names. Or give a CSV file of your own,
whose first line names the columns and whose first column is the id:

    python examples/bulk_import.py [--url URL] [--limit N] [FILE.csv]

Importing a second time inserts nothing twice, since ids are taken from the data.
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
import unicodedata
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from ratus import Client, Delivery, Task

TOPIC = "characters"


def characters() -> Iterator[Task]:
    """A task for each character of the Unicode database that has a name."""
    for code in range(sys.maxunicode + 1):
        name = unicodedata.name(chr(code), "")
        if name:
            payload = {"name": name, "category": unicodedata.category(chr(code))}
            yield Task(id=f"U+{code:04X}", topic=TOPIC, payload=payload)


def rows(path: Path) -> Iterator[Task]:
    """A task for each row of a CSV file; the first column is the id."""
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            yield Task(id=next(iter(row.values())), topic=TOPIC, payload=row)


def main() -> None:
    """Import, then tally the categories with one worker, and say how fast both were."""
    parser = argparse.ArgumentParser(description="Import a real data set, and work on it.")
    parser.add_argument("file", nargs="?", type=Path, help="a CSV file; by default the Unicode database")
    parser.add_argument("--url", default="http://127.0.0.1:8000", help="where the server is")
    parser.add_argument("--limit", type=int, help="only the first so many")
    given = parser.parse_args()
    tasks = characters() if given.file is None else rows(given.file)

    with Client(given.url) as ratus:
        begun = time.perf_counter()
        # Tasks may come from a generator: each batch is sent as soon as it is full.
        created = ratus.insert_tasks(islice(tasks, given.limit)).created
        seconds = time.perf_counter() - begun
        print(f"imported {created:,} tasks in {seconds:.1f} s, {created / seconds:,.0f}/s")

        left = ratus.get_topic(TOPIC).due or 0
        if not left:
            print("there is nothing to work on; it was done before")
            return
        total = left
        tally: Counter[str] = Counter()

        def work(delivery: Delivery) -> None:
            nonlocal left
            tally[delivery.payload.get("category", "?")] += 1
            left -= 1
            if not left:
                ratus.stop()

        begun = time.perf_counter()
        ratus.subscribe(TOPIC, work)
        seconds = time.perf_counter() - begun
        print(f"worked on {total:,} tasks in {seconds:.1f} s, {total / seconds:,.0f}/s")
        for category, count in tally.most_common(3):
            print(f"{count:>8,}  {category}")


if __name__ == "__main__":
    main()
