"""Nonces: what they are made of, and that no two are alike."""

from __future__ import annotations

import string
from collections import Counter
from itertools import count

from ratus.core.nonces import Nonces

LETTERS = string.ascii_uppercase + string.ascii_lowercase + string.digits


def test_nonces_are_16_letters_and_digits_each_different() -> None:
    make = Nonces()
    nonces = [make() for _ in range(20_000)]
    assert {len(nonce) for nonce in nonces} == {16}
    assert set("".join(nonces)) == set(LETTERS)
    assert len(set(nonces)) == 20_000


def test_two_makers_agree_on_nothing() -> None:
    one, two = Nonces(), Nonces()
    assert {one() for _ in range(1000)}.isdisjoint({two() for _ in range(1000)})


def test_no_letter_is_favoured() -> None:
    """From a source that gives every byte equally often, every letter comes equally often."""
    asked: list[int] = []

    def source(size: int) -> bytes:
        asked.append(size)
        return bytes(range(256)) * (size // 256)

    make = Nonces(source)
    letters = Counter(make() for _ in range(1000))
    counts = Counter("".join(letters.elements())[: 62 * 4 * 64 - 64])
    assert set(counts) == set(LETTERS)
    assert max(counts.values()) - min(counts.values()) <= 64
    assert len(asked) < 10


def test_the_randomness_of_a_nonce_is_used_once() -> None:
    """Every byte of the source goes into at most one nonce, and nothing else does."""
    numbers = count()
    given: list[bytes] = []

    def source(size: int) -> bytes:
        data = b"".join((next(numbers) % 62).to_bytes(1, "big") for _ in range(size))
        given.append(data)
        return data

    make = Nonces(source)
    nonces = "".join(make() for _ in range(1024))
    expected = "".join(LETTERS[value] for data in given for value in data)
    assert nonces == expected[: len(nonces)]
