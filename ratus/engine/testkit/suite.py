"""The contract suite as one class."""

from __future__ import annotations

from ratus.engine.testkit.contract.claiming import ClaimingTests
from ratus.engine.testkit.contract.claiming_by_id import ClaimingByIdTests
from ratus.engine.testkit.contract.clock_back import ClockBackTests
from ratus.engine.testkit.contract.committing import CommittingTests
from ratus.engine.testkit.contract.counting import CountingTests
from ratus.engine.testkit.contract.deleting import DeletingTests
from ratus.engine.testkit.contract.housekeeping import HousekeepingTests
from ratus.engine.testkit.contract.inserting import InsertingTests
from ratus.engine.testkit.contract.labels import LabelTests, WhereTests
from ratus.engine.testkit.contract.life import LifeTests
from ratus.engine.testkit.contract.limits import (
    ConcurrencyTests,
    HoldTests,
    OrderedTests,
    RateTests,
    WakingTests,
)
from ratus.engine.testkit.contract.listing import ListingTests
from ratus.engine.testkit.contract.notifying import NotifyingTests
from ratus.engine.testkit.contract.random_steps import RandomStepsTests
from ratus.engine.testkit.contract.rare_members import RareMemberTests
from ratus.engine.testkit.contract.records import RecordTests
from ratus.engine.testkit.contract.retrying import RetryingTests
from ratus.engine.testkit.contract.topics import TopicTests
from ratus.engine.testkit.contract.traits import TraitsTests
from ratus.engine.testkit.contract.turns import TurnsTests


class EngineContract(
    LifeTests,
    InsertingTests,
    RareMemberTests,
    ClaimingTests,
    ClaimingByIdTests,
    CommittingTests,
    RetryingTests,
    ListingTests,
    DeletingTests,
    TopicTests,
    RecordTests,
    LabelTests,
    WhereTests,
    TurnsTests,
    ConcurrencyTests,
    RateTests,
    OrderedTests,
    HoldTests,
    WakingTests,
    HousekeepingTests,
    ClockBackTests,
    CountingTests,
    NotifyingTests,
    TraitsTests,
    RandomStepsTests,
):
    """All that an engine has to keep, as tests. Derive a class from it and override `engines`.

    The name of that class begins with ``Test``, so that pytest collects it. Its file has to be importable by
    itself: one test starts a process that loads the file, makes an engine, writes to it and is killed. Tests
    of what the engine's `Traits` do not promise are skipped.

    ``machine_steps`` is how many random steps the long run makes, ``machine_seed`` the seed of these steps.
    Their defaults come from the environment: RATUS_MACHINE_STEPS (3000) and RATUS_MACHINE_SEED (1).
    """
