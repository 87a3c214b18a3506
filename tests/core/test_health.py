"""Rise and fall, adoption of a found table, and the counting of the hybrid types."""

import itertools

import pytest

from lbhealth.health import (
    ADOPTED_DOWN,
    ADOPTED_UP,
    UNKNOWN,
    Health,
    Step,
    hybrid_after,
    hybrid_step,
    observe,
)
from lbhealth.model import CheckResult, HealthState, Schedule, Status, Verdict

SCHEDULE = Schedule(rise=2, fall=3)
LETTERS = {"P": Verdict.PASS, "F": Verdict.FAIL, "E": Verdict.ERROR}


def result(letter, started=0.0):
    return CheckResult(LETTERS[letter], Status.L4OK, "", started, 0.5)


def fold(health, letters, schedule=SCHEDULE):
    """Health after one result per letter, and the transitions on the way."""
    transitions = []
    for number, letter in enumerate(letters):
        health, transition = observe(health, result(letter, float(number)), schedule)
        if transition is not None:
            transitions.append((number, transition.old, transition.new))
    return health, transitions


@pytest.mark.parametrize(("letter", "state"), [("P", HealthState.UP), ("F", HealthState.DOWN)])
def test_the_first_verdict_of_an_unknown_server_decides(letter, state):
    health, transitions = fold(UNKNOWN, letter)
    assert health.state is state
    assert health.confirmed
    assert transitions == [(0, HealthState.UNKNOWN, state)]


@pytest.mark.parametrize(
    ("start", "letters", "state", "when"),
    [
        (ADOPTED_UP, "FFF", HealthState.DOWN, 2),
        (ADOPTED_UP, "FFPFFF", HealthState.DOWN, 5),
        (ADOPTED_DOWN, "PP", HealthState.UP, 1),
        (ADOPTED_DOWN, "PFPP", HealthState.UP, 3),
        (UNKNOWN, "PFFF", HealthState.DOWN, 3),
        (UNKNOWN, "FPP", HealthState.UP, 2),
    ],
)
def test_rise_and_fall_count_results_in_a_row(start, letters, state, when):
    health, transitions = fold(start, letters)
    assert health.state is state
    assert transitions[-1][0] == when
    assert transitions[-1][2] is state


def test_adoption_is_a_guess_until_a_verdict_supports_it():
    assert not ADOPTED_UP.confirmed
    assert not fold(ADOPTED_UP, "FF")[0].confirmed
    assert fold(ADOPTED_UP, "P")[0].confirmed
    assert fold(ADOPTED_UP, "FFF")[0].confirmed


def test_a_server_found_up_counts_as_having_been_up():
    assert fold(ADOPTED_UP, "FFF")[0].was_up
    assert not fold(ADOPTED_DOWN, "F")[0].was_up
    assert fold(ADOPTED_DOWN, "PPFFF")[0].was_up


@pytest.mark.parametrize("start", [UNKNOWN, ADOPTED_UP, ADOPTED_DOWN])
def test_error_changes_nothing_but_the_last_result(start):
    health, transitions = fold(start, "EEEEEE")
    assert transitions == []
    assert health.last.verdict is Verdict.ERROR
    assert (health.state, health.streak, health.confirmed) == (start.state, 0, start.confirmed)


def test_error_neither_counts_in_a_streak_nor_breaks_it():
    health, transitions = fold(ADOPTED_UP, "FEFEF")
    assert [number for number, *_ in transitions] == [4]
    assert health.state is HealthState.DOWN


def test_since_is_the_end_of_the_result_that_caused_the_change():
    health, _ = fold(ADOPTED_UP, "FFF")
    assert health.since == 2.5
    assert fold(health, "FF")[0].since == 2.5


def test_the_fast_interval_applies_while_a_change_is_possible():
    assert UNKNOWN.pending
    assert ADOPTED_UP.pending
    up, _ = fold(ADOPTED_UP, "P")
    assert not up.pending
    assert fold(up, "F")[0].pending
    assert not fold(up, "FP")[0].pending


def test_one_of_each_changes_at_once():
    at_once = Schedule(rise=1, fall=1)
    up = Health(HealthState.UP, confirmed=True, was_up=True)
    assert [t[0] for t in fold(up, "FPF", at_once)[1]] == [0, 1, 2]


def steps(connects, letters):
    """The steps of a hybrid check that receives these results, ldirectord's way."""
    count = connects
    for letter in letters:
        yield hybrid_step(count, connects)
        count = hybrid_after(count, connects, LETTERS[letter])


def spell(connects, letters):
    return "".join(step.name[0] for step in steps(connects, letters))


@pytest.mark.parametrize("connects", [1, 2, 5, 10])
def test_hybrid_negotiates_once_and_then_connects_n_times(connects):
    period = "N" + "C" * connects
    found = spell(connects, "P" * 40)
    assert found == "".join(itertools.islice(itertools.cycle(period), 40))


def test_a_failed_connect_makes_the_next_check_a_negotiation():
    assert spell(5, "PPFPP") == "NCCNC"


def test_a_failed_negotiation_is_repeated_until_it_passes():
    assert spell(3, "FFFPP") == "NNNNC"


def test_hybrid_of_zero_connects_always_negotiates():
    assert spell(0, "PFPP") == "NNNN"


def test_error_does_not_move_the_hybrid_count():
    assert spell(2, "EPEPEPEP") == "NNCCCCNN"
    assert hybrid_after(1, 2, Verdict.ERROR) == 1
    assert hybrid_step(2, 2) is Step.NEGOTIATE
