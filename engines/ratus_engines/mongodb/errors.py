"""What the driver's errors mean: to a client, to an operation whose answer is missing, to the fallbacks."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from bson.errors import InvalidDocument
from pymongo.errors import (
    BulkWriteError,
    ConfigurationError,
    ConnectionFailure,
    DocumentTooLarge,
    ExecutionTimeout,
    OperationFailure,
    PyMongoError,
    WriteConcernError,
)

from ratus.core.errors import InternalError, PayloadTooLarge, RatusError, ServiceUnavailable

logger = logging.getLogger("ratus.engines.mongodb")

# A sharded findAndModify whose query lacks the shard key, and a change of a shard key by a query that does
# not hold all of it: the two refusals after which the other form of the operation is tried.
FALLBACK_CODES = frozenset({61, 31025})

_UNAUTHORIZED, _AUTHENTICATION_FAILED = 13, 18
_REFUSED = frozenset({_UNAUTHORIZED, _AUTHENTICATION_FAILED})

# The document would grow beyond 16 MiB: as updates, replacements and inserts say it.
_TOO_LARGE = frozenset({10334, 17419, 17420})

# States of a member or of the whole deployment that pass: not primary (any more), shutting down, interrupted,
# out of time, majority not known yet, no member that can be written to, a cursor or plan that ended with one
# of these, a conflict with another write.
_PASSING = frozenset({6, 7, 43, 50, 63, 64, 89, 91, 112, 133, 134, 175, 189, 202, 237, 262, 317, 384})
_PASSING_TOO = frozenset({9001, 10058, 10107, 11600, 11601, 11602, 13388, 13435, 13436})

# Labels by which the database or the driver marks errors of any code that pass.
_PASSING_LABELS = ("RetryableWriteError", "TransientTransactionError", "ResumableChangeStreamError")

# A bad value and a plan that cannot be made, if their text says so.
_NO_HINT = frozenset({2, 291})

# Characters of a text for clients and logs; the driver's own describes the whole topology.
_LONGEST_REASON = 200


def reason(error: BaseException) -> str:
    """Why, in one line. The driver's messages hold host names but never a password."""
    text = " ".join(str(error).partition(", full error:")[0].split()) or type(error).__name__
    return text if len(text) <= _LONGEST_REASON else text[:_LONGEST_REASON] + "..."


def translate(error: PyMongoError | InvalidDocument) -> RatusError:
    """The error that a client gets for one of the driver's."""
    if is_too_large(error):
        return PayloadTooLarge("the task would be larger than MongoDB can store (16 MiB)")
    code = getattr(error, "code", None)
    if code in _REFUSED:
        logger.error("MongoDB refuses this server: %s", reason(error))
        return ServiceUnavailable(f"MongoDB refuses this server: {reason(error)}")
    if is_passing(error):
        return ServiceUnavailable(f"MongoDB cannot be reached: {reason(error)}")
    if isinstance(error, ConfigurationError):
        return ServiceUnavailable(f"MongoDB cannot be used: {reason(error)}")
    if code in FALLBACK_CODES:
        return InternalError(
            f"MongoDB refuses this operation on a sharded collection (code {code}); "
            "without --mongodb-disable-auto-fallback there is another way"
        )
    logger.error("MongoDB answered with an error: %s", reason(error))
    return InternalError(f"MongoDB: {reason(error)}")


def is_too_large(error: BaseException) -> bool:
    """Whether a document would grow beyond what MongoDB stores; of a bulk write, one or more of them."""
    if isinstance(error, BulkWriteError):
        return any(failure.get("code") in _TOO_LARGE for failure in error.details.get("writeErrors") or ())
    return isinstance(error, DocumentTooLarge) or getattr(error, "code", None) in _TOO_LARGE


def refusal(error: PyMongoError | InvalidDocument) -> RatusError | None:
    """The error for a client whose own write is at fault; ``None`` where writes of others fail as well."""
    if is_passing(error) or is_missing_hint(error):
        return None
    translated = translate(error)
    return None if isinstance(translated, ServiceUnavailable) else translated


def is_passing(error: BaseException) -> bool:
    """Whether the error is temporary (no connection, no primary, a time limit), so that a retry may help."""
    if isinstance(error, ConnectionFailure | ExecutionTimeout | WriteConcernError):
        return True
    if isinstance(error, BulkWriteError):
        return _is_passing_bulk(error.details)
    if isinstance(error, PyMongoError) and (
        error.timeout or any(map(error.has_error_label, _PASSING_LABELS))
    ):
        return True
    return is_passing_code(getattr(error, "code", None))


def is_passing_code(code: object) -> bool:
    """Whether an error of this code, of a command or of one item of a bulk write, passes."""
    return code in _PASSING or code in _PASSING_TOO


def _is_passing_bulk(details: Mapping[str, Any]) -> bool:
    """Whether all failures of a bulk write pass. The code of the error as a whole says nothing about that."""
    failures = details.get("writeErrors") or ()
    if failures:
        return all(is_passing_code(failure.get("code")) for failure in failures)
    return bool(details.get("writeConcernErrors"))


def may_have_happened(error: BaseException) -> bool:
    """Whether a write that ended with this error may have been carried out, although no answer says so.

    A refusal by the database or by Ratus says that it was not. Any other error, also a defect of the driver,
    may have come after the write.
    """
    if isinstance(error, PyMongoError):
        return is_passing(error)
    return not isinstance(error, InvalidDocument | RatusError)


def is_missing_hint(error: BaseException) -> bool:
    """Whether an index that was named in a hint is gone."""
    return (
        isinstance(error, OperationFailure) and "hint" in str(error).lower() and error.code in (2, 27, 17007)
    )
