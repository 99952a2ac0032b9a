"""Calls of task functions as JSON: arguments and results are converted by the function's type hints.

A call on the wire is the payload `{"task": "images.resize", "args": [7], "kwargs": {"width": 320}}`; `args`
and `kwargs` may be left out where they are empty. A parameter or result with a hint is converted by pydantic
(dataclasses, models, datetime, UUID, Decimal, Path, Enum; bytes as base64), one without stays plain JSON.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain, repeat
from typing import Any, Final

import msgspec
from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.errors import PydanticSchemaGenerationError, PydanticUndefinedAnnotation, PydanticUserError
from pydantic_core import PydanticSerializationError

from ratus.calls.inputs import json_bytes
from ratus.core.models.json_values import to_json

_CONFIG: Final = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64", allow_inf_nan=False)

_UNHINTED: Final = (inspect.Parameter.empty, Any, object)

_SCALARS: Final = (bool, int, float, str)
"""Types that are written so that they can surely be read again."""

_POSITIONAL: Final = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


class Misfit(Exception):
    """A payload that the function cannot be called with; the text says why."""


class WireCall(msgspec.Struct):
    """The payload of a call, its arguments not decoded yet."""

    task: str
    args: list[msgspec.Raw] = msgspec.field(default_factory=list)
    kwargs: dict[str, msgspec.Raw] = msgspec.field(default_factory=dict)


_decode_call: Final = msgspec.json.Decoder(WireCall).decode


def read_call(payload: msgspec.Raw) -> WireCall:
    """The call that a payload stands for. Raises `Misfit` for a payload that is none."""
    try:
        return _decode_call(payload)
    except msgspec.MsgspecError as error:
        raise Misfit(
            'the payload is not the call of a task, such as {"task": "images.resize", "args": [7]}: '
            f"{error or 'there is none'}"
        ) from None


class Converter:
    """Converts the values of one parameter, or results, to JSON and back."""

    __slots__ = ("dump", "load")

    def __init__(self, hint: Any) -> None:
        self.dump: Callable[[Any], bytes]
        """JSON of a value. Raises `ValueError` for one that does not fit the hint or JSON."""
        self.load: Callable[[bytes | msgspec.Raw], Any]
        """The value of some JSON. Raises `ValueError` for what does not fit the hint."""
        if hint in _UNHINTED or hint is None or hint is type(None):
            self.dump, self.load = _dump_plain, msgspec.json.decode
        elif hint in _SCALARS:
            self.dump, self.load = _hinted(TypeAdapter(hint, config=_CONFIG), check=False)
        else:
            try:
                adapter: TypeAdapter[Any] = TypeAdapter(hint, config=_CONFIG)
            except (PydanticSchemaGenerationError, PydanticUndefinedAnnotation):
                raise
            except PydanticUserError:  # pydantic takes no settings for a model or dataclass by itself
                self.dump, self.load = _wrapped(TypeAdapter(tuple[hint], config=_CONFIG))
            else:
                self.dump, self.load = _hinted(adapter, check=True)


def _dump_plain(value: Any) -> bytes:
    return json_bytes(to_json(value))


def _hinted(
    adapter: TypeAdapter[Any], *, check: bool
) -> tuple[Callable[[Any], bytes], Callable[[bytes | msgspec.Raw], Any]]:
    validate, dump, load = (
        adapter.validator.validate_python,
        adapter.serializer.to_json,
        adapter.validator.validate_json,
    )

    def to_bytes(value: Any) -> bytes:
        try:
            data = dump(validate(value))
            if check:
                load(data)  # what cannot be read again is an error here, and not in the worker
        except PydanticSerializationError as error:
            raise ValueError(str(error)) from None
        return data

    return to_bytes, lambda data: load(bytes(data))


def _wrapped(
    adapter: TypeAdapter[Any],
) -> tuple[Callable[[Any], bytes], Callable[[bytes | msgspec.Raw], Any]]:
    """As `_hinted`, of an adapter of tuples of one value."""
    to_bytes, load = _hinted(adapter, check=True)

    def dump_one(value: Any) -> bytes:
        try:
            return to_bytes((value,))[1:-1]
        except ValidationError as error:
            raise ValueError(_first(error, below=1)) from None

    def load_one(data: bytes | msgspec.Raw) -> Any:
        try:
            return load(b"[%b]" % bytes(data))[0]
        except ValidationError as error:
            raise ValueError(_first(error, below=1)) from None

    return dump_one, load_one


class Signature:
    """What a task function takes and returns. `name` is its name on the wire.

    Raises `TypeError` for a function whose hints cannot be resolved or converted, which names the hint.
    """

    def __init__(
        self, function: Callable[..., Any], name: str, local_names: Mapping[str, Any] | None = None
    ) -> None:
        self._name = name
        self._head = b'{"task":' + json_bytes(name)
        self._signature = inspect.signature(function)
        hints = _hints(function, name, local_names)
        # By position, by name, and for what is left of either.
        self._positional: list[Converter] = []
        self._named: dict[str, Converter] = {}
        self._rest: Converter | None = None
        self._other: Converter | None = None
        self._least = 0
        for parameter in self._signature.parameters.values():
            hint = hints.get(parameter.name, parameter.empty)
            converter = _converter(hint, f"the parameter {parameter.name!r} of {name}")
            if parameter.kind is parameter.VAR_POSITIONAL:
                self._rest = converter
            elif parameter.kind is parameter.VAR_KEYWORD:
                self._other = converter
            else:
                self._named[parameter.name] = converter
                is_required = parameter.default is parameter.empty
                if parameter.kind in _POSITIONAL:
                    self._positional.append(converter)
                    self._least += is_required
                elif is_required:
                    self._least = 2**31  # a call by position alone never fits
        self._most = len(self._positional) if self._rest is None else 2**31
        self._result = _converter(hints.get("return", inspect.Parameter.empty), f"the result of {name}")

    def payload(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bytes:
        """The payload of a call. Raises `TypeError` for arguments that do not fit, or JSON cannot hold."""
        if kwargs or not self._least <= len(args) <= self._most:
            try:
                self._signature.bind(*args, **kwargs)
            except TypeError as error:
                raise TypeError(f"{self._name}(): {error}") from None
        values: list[bytes] = []
        place: str | None = None
        try:
            for converter, value in zip(self._converters(), args, strict=False):
                values.append(converter.dump(value))
            head = b'%b,"args":[%b]' % (self._head, b",".join(values))
            if not kwargs:
                return head + b"}"
            members = []
            for place, value in kwargs.items():
                members.append(b"%b:%b" % (json_bytes(place), self._by_name(place).dump(value)))
        except (ValueError, RecursionError) as error:
            raise TypeError(
                f"{self._name}(): argument {self._label(place, len(values))}: {_first(error)}"
            ) from None
        return b'%b,"kwargs":{%b}}' % (head, b",".join(members))

    def arguments(self, call: WireCall) -> tuple[list[Any], dict[str, Any]]:
        """The arguments of a call. Raises `Misfit` where the function does not take them."""
        args, kwargs = call.args, call.kwargs
        if kwargs or not self._least <= len(args) <= self._most:
            try:
                self._signature.bind(*args, **kwargs)
            except TypeError as error:
                raise Misfit(f"the arguments do not fit {self._name}: {error}") from None
        elif not args:
            return [], {}
        values: list[Any] = []
        place: str | None = None
        try:
            for converter, raw in zip(self._converters(), args, strict=False):
                values.append(converter.load(raw))
            members = {}
            for place, raw in kwargs.items():
                members[place] = self._by_name(place).load(raw)
        except ValueError as error:
            raise Misfit(
                f"the arguments do not fit {self._name}: {self._label(place, len(values))}: {_first(error)}"
            ) from None
        return values, members

    def dump_result(self, value: Any) -> bytes:
        """JSON of what the function returned. Raises `ValueError` where that cannot be written."""
        try:
            return self._result.dump(value)
        except ValueError as error:
            raise ValueError(f"the result of {self._name} does not fit: {_first(error)}") from None

    def load_result(self, value: Any) -> Any:
        """The result of plain JSON values, as the function's hint has it. Raises `ValueError`."""
        return self._result.load(msgspec.json.encode(value))

    def _converters(self) -> Iterator[Converter]:
        if self._rest is None:
            return iter(self._positional)
        return chain(self._positional, repeat(self._rest))

    def _by_name(self, name: str) -> Converter:
        converter = self._named.get(name, self._other)
        assert converter is not None, "the signature was bound"
        return converter

    def _label(self, name: str | None, number: int) -> str:
        """What to call an argument: its name, or that of the parameter for the position `number`."""
        if name is not None:
            return name
        names = list(self._signature.parameters)
        return names[number] if number < len(self._positional) else f"number {number + 1}"


def _hints(function: Callable[..., Any], name: str, local_names: Mapping[str, Any] | None) -> dict[str, Any]:
    try:
        return typing.get_type_hints(
            inspect.unwrap(function), localns=dict(local_names or {}), include_extras=True
        )
    except Exception as error:
        raise TypeError(
            f"the type hints of {name} cannot be read: {error}; a hint has to name what its module has, also "
            "while the program runs"
        ) from error


def _converter(hint: Any, what: str) -> Converter:
    try:
        return Converter(hint)
    except Exception as error:
        raise TypeError(
            f"{what} has the hint {hint!r}, which pydantic cannot convert to JSON: {_first(error)}; leave "
            "the hint out, or give a type that it knows"
        ) from error


def _first(error: Exception, below: int = 0) -> str:
    """An error in one line; of pydantic's, the first thing that was wrong, and where.

    `below`: how many levels of the place are ours.
    """
    if not isinstance(error, ValidationError):
        return str(error).partition("\n")[0]
    first = error.errors()[0]
    message = str(first["msg"].removeprefix("Value error, "))
    place = ".".join(str(part) for part in first["loc"][below:])
    return f"{place}: {message}" if place else message
