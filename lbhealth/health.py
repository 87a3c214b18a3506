"""How results become a state: rise, fall, and the counting of the hybrid types.

Pure functions; `now` comes with each result.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace

from lbhealth.model import CheckResult, HealthState, Schedule, Verdict

__all__ = [
    "ADOPTED_DOWN",
    "ADOPTED_UP",
    "UNKNOWN",
    "Health",
    "Step",
    "Transition",
    "hybrid_after",
    "hybrid_step",
    "observe",
]


@dataclass(frozen=True, slots=True)
class Health:
    """What is known of one check.

    `streak` counts the latest results that speak against `state` (0 = none).  `confirmed`
    is False until a verdict supports the state; before that it is a guess from the kernel's
    table.  `was_up`: has been up at some time, adoption included.  `since` is monotonic.
    """

    state: HealthState = HealthState.UNKNOWN
    streak: int = 0
    since: float = 0.0
    last: CheckResult | None = None
    confirmed: bool = False
    was_up: bool = False

    @property
    def pending(self) -> bool:
        """A change of state is possible with the next results; the fast interval applies."""
        return self.streak > 0 or not self.confirmed


UNKNOWN = Health()
"""A server that was not in the table: the first verdict decides."""

ADOPTED_UP = Health(state=HealthState.UP, was_up=True)
"""A server found in the table with weight > 0: it takes `fall` failures to take it out."""

ADOPTED_DOWN = Health(state=HealthState.DOWN)
"""A server found in the table with weight 0: it takes `rise` passes to bring it back."""


@dataclass(frozen=True, slots=True)
class Transition:
    """A change of state, and the result that caused it."""

    old: HealthState
    new: HealthState
    cause: CheckResult


def observe(
    health: Health, result: CheckResult, schedule: Schedule
) -> tuple[Health, Transition | None]:
    """Fold one result into the health of its check.

    An ERROR verdict changes nothing but `last`.  From UNKNOWN the first PASS or FAIL decides
    at once; else `rise` passes in a row bring a server up and `fall` failures take it down.
    """
    if result.verdict is Verdict.ERROR:
        return replace(health, last=result), None
    says = HealthState.UP if result.verdict is Verdict.PASS else HealthState.DOWN
    if says is health.state:
        return replace(health, streak=0, last=result, confirmed=True), None
    streak = health.streak + 1
    needed = schedule.rise if says is HealthState.UP else schedule.fall
    if health.state is not HealthState.UNKNOWN and streak < needed:
        return replace(health, streak=streak, last=result), None
    changed = Health(
        state=says,
        streak=0,
        since=result.started + result.duration,
        last=result,
        confirmed=True,
        was_up=health.was_up or says is HealthState.UP,
    )
    return changed, Transition(health.state, says, result)


class Step(enum.Enum):
    """Which half of a hybrid check runs next."""

    CONNECT = enum.auto()
    NEGOTIATE = enum.auto()


def hybrid_step(count: int, connects: int) -> Step:
    """Say what a hybrid check does next; `count` comes from `hybrid_after`.

    A new check starts with `count == connects`, so that the first probe negotiates.
    """
    return Step.CONNECT if count < connects else Step.NEGOTIATE


def hybrid_after(count: int, connects: int, verdict: Verdict) -> int:
    """Return the counter after a probe, as ldirectord counts its combined types.

    A negotiation that passes starts `connects` connects; a connect that passes counts one
    of them; a failure makes the next probe a negotiation.  ERROR says nothing.
    """
    if verdict is Verdict.ERROR:
        return count
    if verdict is Verdict.FAIL:
        return connects
    return count + 1 if count < connects else 0
