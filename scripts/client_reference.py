"""Write the reference parts of docs/client.md and docs/app.md from the docstrings of all public names.

python scripts/client_reference.py            # writes them anew; a test holds them to what this gives
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator
from enum import IntEnum
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel

import ratus
from ratus import app as ratus_app
from ratus.core.errors import RatusError

DOCS: Final = Path(__file__).resolve().parent.parent / "docs"
MARK: Final = "<!-- Below: made by scripts/client_reference.py from the docstrings. -->\n"

LONGEST_LINE: Final = 100
"""Characters of a signature on one line."""

ALIASES: Final = {
    "DurationLike": 'A length of time: text such as `"1h30m"`, a number of seconds, or a `timedelta`.',
    "TimeLike": "An instant: an aware `datetime`, or RFC 3339 text.",
    "LabelValue": "The value of a label: a text, an integer, or several of these.",
    "Handler": "A function that takes a `Delivery`. Returning commits it, raising fails it.",
    "AsyncHandler": "The same as a coroutine function that takes an `AsyncDelivery`.",
}

WITHOUT_SIGNATURE: Final = (
    "LanePage",
    "AppWorker",
    "AsyncDelivery",
    "AsyncTransport",
    "Delivery",
    "Execution",
    "Job",
    "TaskFunction",
    "TaskPage",
    "Transport",
)
"""Classes that a program does not make, or makes of its own."""

SHOWN_AS: Final = {"SyncCalls": "Client", "AsyncCalls": "AsyncClient"}
"""Annotations by the base of a public class, and that class: what a program has is always a client."""


def of_app(name: str) -> bool:
    """Whether a public name stands on the page of apps."""
    return name in ratus_app.__all__


def app_reference() -> str:
    """The reference of apps, as Markdown."""
    parts = ["## Reference\n"]
    for name in sorted(ratus_app.__all__, key=str.lower):
        value = getattr(ratus, name)
        if inspect.isclass(value):
            parts += _class(name, value)
        else:
            parts += [f"#### {name}\n", _signature(f"ratus.{name}", value), f"{_doc(value)}\n"]
    return "\n".join(parts)


def reference() -> str:
    """The reference of clients, as Markdown."""
    names = [name for name in ratus.__all__ if name != "__version__" and not of_app(name)]
    kinds: dict[str, list[str]] = {"Clients": [], "Tasks and what belongs to them": [], "Errors": []}
    for name in names:
        value = getattr(ratus, name)
        if inspect.isclass(value) and issubclass(value, RatusError):
            kinds["Errors"].append(name)
        elif inspect.isclass(value) and issubclass(value, BaseModel | IntEnum):
            kinds["Tasks and what belongs to them"].append(name)
        elif name not in ALIASES:
            kinds["Clients"].append(name)
    parts = ["## Reference\n"]
    for title, members in kinds.items():
        parts.append(f"### {title}\n")
        if title == "Errors":
            parts += _errors(members)
            continue
        for name in members:
            parts += _class(name, getattr(ratus, name))
    parts.append("### Kinds of arguments\n")
    parts += ["| name | what it is |\n| --- | --- |"]
    parts += [f"| `{name}` | {text} |" for name, text in sorted(ALIASES.items())]
    return "\n".join(parts) + "\n"


def _class(name: str, kind: type[Any]) -> Iterator[str]:
    yield f"#### {name}\n"
    yield f"{_doc(kind)}\n"
    if issubclass(kind, IntEnum):
        yield "| name | number |\n| --- | --- |"
        yield "\n".join(f"| `{name}.{member.name}` | {member.value} |" for member in kind) + "\n"
        return
    if issubclass(kind, BaseModel):
        yield "| member | meaning |\n| --- | --- |"
        for field, info in kind.model_fields.items():
            yield f"| `{field}` | {(info.description or '').replace('|', chr(92) + '|')} |"
        yield ""
        return
    if "__init__" in vars(kind) and name not in WITHOUT_SIGNATURE:
        yield _signature(name, vars(kind)["__init__"])
    if name.startswith("Async"):  # tests/client/test_twins.py holds this to be true
        twin = name.removeprefix("Async")
        yield f"It has what `{twin}` has, with the same arguments; methods that make calls are awaited.\n"
        return
    for member, value in _members(kind):
        if isinstance(value, property):
            yield f"**`{name}.{member}`**: {_doc(value)}\n"
        else:
            yield _signature(f"{name}.{member}", value)
            yield f"{_doc(value)}\n"


def _members(kind: type[Any]) -> Iterator[tuple[str, Any]]:
    """What a class has of its own and from its bases in this package, in the order of the source."""
    seen: set[str] = set()
    for base in reversed([each for each in kind.__mro__ if each.__module__.startswith("ratus.")]):
        for name, value in vars(base).items():
            if name.startswith("_") or name in seen:
                continue
            if isinstance(value, property) or inspect.isfunction(value):
                seen.add(name)
                yield name, getattr(kind, name) if inspect.isfunction(value) else vars(base)[name]


def _errors(names: list[str]) -> Iterator[str]:
    yield "| error | status | when |\n| --- | --- | --- |"
    for name in names:
        kind = getattr(ratus, name)
        first = _doc(kind).split("\n\n")[0].replace("\n", " ")
        yield f"| `{name}` | {'' if not kind.status or kind is RatusError else kind.status} | {first} |"
    yield ""


def _signature(name: str, function: Callable[..., Any]) -> str:
    signature = inspect.signature(function)
    texts: list[str] = []
    for parameter in signature.parameters.values():
        if parameter.name == "self":
            continue
        if parameter.kind is parameter.KEYWORD_ONLY and "*" not in texts:
            texts.append("*")
        default = "" if parameter.default is parameter.empty else f" = {parameter.default!r}"
        default = default.replace("<factory>", "{}")
        texts.append(f"{parameter.name}: {SHOWN_AS.get(parameter.annotation, parameter.annotation)}{default}")
    result = "" if "." not in name else f" -> {signature.return_annotation}"
    line = f"{name}({', '.join(texts)}){result}"
    if len(line) > LONGEST_LINE:
        line = f"{name}(\n" + "".join(f"    {text},\n" for text in texts) + f"){result}"
    return f"```text\n{line}\n```\n"


def _doc(value: Any) -> str:
    text = inspect.getdoc(value)
    assert text, f"{value} has no docstring"
    return text


PAGES: Final = {"client.md": reference, "app.md": app_reference}
"""What writes the reference of each page."""


def page(name: str, text: str) -> str:
    """The page with its reference made anew."""
    guide, mark, _ = text.partition(MARK)
    assert mark, f"{name} has lost its mark"
    return f"{guide}{mark}\n{PAGES[name]()}"


if __name__ == "__main__":
    for each in PAGES:
        path = DOCS / each
        path.write_text(page(each, path.read_text(encoding="utf-8")), encoding="utf-8")
    sys.exit(0)
