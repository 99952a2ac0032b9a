"""Nonces: the fencing tokens of claims."""

from __future__ import annotations

import os
from collections.abc import Callable

NONCE_LENGTH = 16

_ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
# 248 is the largest multiple of 62 below 256: bytes from 248 on are dropped, so that no letter is favoured.
_LETTERS = bytes(_ALPHABET[value % 62] for value in range(256))
_UNEVEN = bytes(range(248, 256))


class Nonces:
    """Makes nonces: 16 random characters from A-Z, a-z, 0-9 (95 bits), unpredictable.

    Randomness is taken from the operating system a few thousand bytes at a time: a call for each nonce would
    cost more than the whole claim.
    """

    def __init__(self, source: Callable[[int], bytes] = os.urandom) -> None:
        self._source = source
        self._pool = ""
        self._at = 0

    def __call__(self) -> str:
        start = self._at
        end = start + NONCE_LENGTH
        if end > len(self._pool):
            self._pool = self._source(8192).translate(_LETTERS, _UNEVEN).decode("ascii")
            start, end = 0, NONCE_LENGTH
        self._at = end
        return self._pool[start:end]
