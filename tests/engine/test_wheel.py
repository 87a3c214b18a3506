"""When each check runs."""

from itertools import pairwise
from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbhealth.engine.wheel import SLOT, Wheel, period_of

FIRST_PASS = 20

periods = st.integers(1, 120)
additions = st.lists(st.tuples(periods, st.integers(0, 5)), min_size=1, max_size=40)


class Item:
    def __init__(self, name=""):
        self.name = name
        self.bucket = None

    def __repr__(self):
        return str(self.name)


def filled(count, period, slot=0):
    """A wheel with `count` items, all added in `slot`."""
    wheel = Wheel()
    items = [Item(n) for n in range(count)]
    for item in items:
        wheel.add(item, period, slot)
    return wheel, items


def runs(wheel, slots):
    """The slots in which each item was due."""
    found = {}
    for slot in slots:
        for item in wheel.due(slot):
            found.setdefault(item, []).append(slot)
    return found


def gaps(slots):
    return [after - before for before, after in pairwise(slots)]


@pytest.mark.parametrize(("interval", "slots"), [(5.0, 100), (0.1, 2), (0.01, 1), (0.0, 1)])
def test_an_interval_is_whole_slots_and_at_least_one(interval, slots):
    assert period_of(interval) == slots
    assert period_of(SLOT * slots) == slots


@given(additions)
def test_every_item_is_due_exactly_once_in_each_period(additions):
    wheel, slot, periods = Wheel(), 0, {}
    for period, pause in additions:
        slot += pause
        item = Item()
        wheel.add(item, period, slot)
        periods[item] = period
    # Two rounds of the longest period, from where the last first pass is over.
    begin = slot + 1 + max(120, FIRST_PASS)
    runs(wheel, range(slot + 1, begin))
    found = runs(wheel, range(begin, begin + 240))
    for item, period in periods.items():
        assert set(gaps(found[item])) <= {period}
        assert found[item][0] < begin + period


@given(additions)
def test_the_first_run_comes_within_a_second_and_none_soon_after_it(additions):
    wheel = Wheel()
    items = [Item(n) for n, _ in enumerate(additions)]
    for item, (period, _) in zip(items, additions, strict=True):
        wheel.add(item, period, 7)
    found = runs(wheel, range(8, 8 + 400))
    for item, (period, _) in zip(items, additions, strict=True):
        assert found[item][0] <= 7 + min(period, FIRST_PASS)
        assert min(gaps(found[item])) >= min(period, FIRST_PASS)


@given(st.integers(1, 500), periods)
def test_items_are_spread_evenly_over_the_period(count, period):
    wheel, _ = filled(count, period)
    runs(wheel, range(1, FIRST_PASS + 1))
    busiest = max(len(tuple(wheel.due(FIRST_PASS + slot))) for slot in range(1, period + 1))
    assert busiest <= ceil(count / period) + 2


@given(st.integers(1, 300), st.integers(21, 120))
def test_the_first_pass_is_spread_too(count, period):
    wheel, _ = filled(count, period)
    busiest = max(len(tuple(wheel.due(slot))) for slot in range(1, FIRST_PASS + 1))
    places = ceil(period / FIRST_PASS)  # of the period that share one slot of the first pass
    assert busiest <= ceil(count * places / period) + places + 2


@given(periods, periods, st.integers(0, 200))
def test_a_moved_item_is_due_within_one_new_period_and_then_in_each(period, new, slots):
    wheel, (item,) = filled(1, period)
    runs(wheel, range(1, slots + FIRST_PASS))
    now = slots + FIRST_PASS - 1
    wheel.move(item, new, now)
    if new < period:
        assert runs(wheel, range(now + 1, now + 2 * new + 1))[item] == [now + new, now + 2 * new]
    elif new > period:
        first, second = runs(wheel, range(now + 1, now + 2 * new + 1))[item]
        assert second == first + new


@given(st.integers(1, 300), st.integers(2, 20), st.integers(21, 120))
def test_items_that_move_together_to_a_longer_period_are_spread_over_it(count, period, new):
    wheel, items = filled(count, period)
    runs(wheel, range(1, FIRST_PASS + 1))
    for item in items:
        wheel.move(item, new, FIRST_PASS)
    busiest = max(len(tuple(wheel.due(FIRST_PASS + slot))) for slot in range(1, new + 1))
    assert busiest <= ceil(count / new) + 2


@given(st.integers(2, 60), st.integers(1, 60), st.booleans())
def test_an_item_that_moves_while_it_starts_does_not_start_twice(period, new, ring_exists):
    wheel = Wheel()
    item = Item()
    if ring_exists:
        wheel.add(Item(), new, 0)
    wheel.add(item, period, 0)
    wheel.add(Item(), new, 0)
    for slot in range(1, 2 * period):
        started = []
        for due in wheel.due(slot):
            started.append(due)
            if due is item:
                wheel.move(item, new, slot)
        assert started.count(item) <= 1


def test_an_item_discarded_while_another_starts_does_not_start():
    wheel, (first, second) = filled(2, 1)
    started = []
    for item in wheel.due(1):
        started.append(item)
        wheel.discard(second if item is first else first)
    assert len(started) == 1


def test_a_discarded_item_is_never_due_again():
    wheel, items = filled(30, 60)
    for item in items[::2]:
        wheel.discard(item)
    assert runs(wheel, range(1, 200)).keys() == set(items[1::2])


def test_a_skipped_slot_counts_its_items_and_leaves_them_out():
    wheel, items = filled(10, 5)
    skipped = sum(wheel.skip(slot) for slot in range(1, 6))
    assert skipped == len(items)
    assert all(slots == [*slots[:1], slots[0] + 5] for slots in runs(wheel, range(6, 16)).values())


def test_a_skipped_first_pass_is_put_off():
    wheel, items = filled(300, 200)
    for slot in range(1, FIRST_PASS + 1):
        wheel.skip(slot)
    found = runs(wheel, range(FIRST_PASS + 1, 2 * FIRST_PASS + 1))
    assert set(found) == set(items)


@given(st.integers(1, 300), st.integers(21, 300), st.sets(st.integers(1, 20)))
def test_an_item_whose_first_slot_is_skipped_does_not_wait_a_whole_period(count, period, late):
    wheel, items = filled(count, period)
    ran = set()
    for slot in range(1, 2 * FIRST_PASS + 1):
        if slot in late:
            wheel.skip(slot)
        else:
            ran.update(wheel.due(slot))
    assert ran == set(items)
