"""Tokens and what they may do.

Tokens are separated by white space or commas. A bare token may do everything; ``TOKEN:produce+consume`` may
do only that. They are compared in constant time and never logged.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from hmac import compare_digest

from ratus.api.routes import ADMIN, SCOPES
from ratus.core.errors import Forbidden, Unauthorized, UnknownToken

SHORT = 16
"""A token with fewer characters than this may be guessed."""

_SEPARATORS = re.compile(r"[\s,]+")
_TOKEN = re.compile(rb"[\x21-\x7e]+")
_BEARER = b"bearer "


@dataclass(frozen=True, slots=True)
class Token:
    """A secret and the scopes it carries."""

    secret: bytes
    scopes: frozenset[str]


class Tokens:
    """The tokens that are known. If there are none, no request needs one."""

    def __init__(self, tokens: Collection[Token] = ()) -> None:
        self._tokens = tuple(tokens)

    def __len__(self) -> int:
        return len(self._tokens)

    def __add__(self, others: Tokens) -> Tokens:
        return Tokens(self._tokens + others._tokens)

    @property
    def short(self) -> int:
        """How many tokens have fewer than `SHORT` characters."""
        return sum(len(token.secret) < SHORT for token in self._tokens)

    @classmethod
    def parse(cls, text: str, source: str = "") -> Tokens:
        """Tokens from a setting or a file, which ``source`` names.

        Raises `ValueError` that names the source and the place in it, but not the token.
        """
        where = f"{source}: " if source else ""
        tokens = []
        for number, word in enumerate(filter(None, _SEPARATORS.split(text)), 1):
            secret, colon, names = word.partition(":")
            scopes = frozenset(names.split("+")) if colon else frozenset({ADMIN})
            unknown = scopes - set(SCOPES)
            if not secret or not _TOKEN.fullmatch(secret.encode()):
                raise ValueError(
                    f"{where}token {number}: it must be of printable ASCII characters before the colon"
                )
            if unknown:
                raise ValueError(
                    f"{where}token {number}: unknown scope; write TOKEN:SCOPE+SCOPE with {', '.join(SCOPES)}"
                )
            tokens.append(Token(secret.encode(), scopes))
        return cls(tokens)

    def check(self, authorization: bytes | None, scopes: tuple[str, ...] | None) -> None:
        """Check that an ``Authorization`` header has a known token with one of these scopes (``None``: any).

        Raises `Unauthorized` without a known token (`UnknownToken` if it has another), and `Forbidden` if the
        token has none of the scopes.
        """
        if authorization is None:
            raise Unauthorized("send the header Authorization: Bearer TOKEN")
        if authorization[: len(_BEARER)].lower() != _BEARER:
            raise Unauthorized("the scheme must be Bearer")
        secret = authorization[len(_BEARER) :].strip()
        found = None
        for token in self._tokens:  # all of them, so that the time taken reveals nothing
            if compare_digest(token.secret, secret):
                found = token
        if found is None:
            raise UnknownToken("unknown token")
        if scopes is not None and ADMIN not in found.scopes and found.scopes.isdisjoint(scopes):
            needed = dict.fromkeys((*scopes, ADMIN))
            raise Forbidden(f"this needs a token with the scope {' or '.join(needed)}")
