"""Operations: which, in what order, and on whose services."""

from dataclasses import replace

import pytest

from lbhealth.model import (
    Destination,
    Forwarding,
    InetKey,
    KernelService,
    ServiceEntry,
    TransportProtocol,
)
from lbhealth.plan import OpKind, apply, diff, diff_service
from lbhealth.policy import Action, Decision, DesiredService

KEY = InetKey(TransportProtocol.TCP, "192.0.2.1", 80)
OTHER = InetKey(TransportProtocol.TCP, "192.0.2.2", 80)
SERVICE = KernelService(KEY, "wrr")


def destination(number, weight=1, **settings):
    return Destination(f"10.0.0.{number}", 80, Forwarding.MASQ, weight, **settings)


def table(*rows, service=SERVICE):
    return {service.key: ServiceEntry(service, {row.key: row for row in rows})}


def desired(*wanted, service=SERVICE):
    """A desired service of (action, row) pairs; the decided weight is the row's."""
    return {
        service.key: DesiredService(
            service,
            {row.key: row for _, row in wanted},
            {row.key: Decision(action, row.weight, "") for action, row in wanted},
        )
    }


def kinds(ops):
    return [op.kind.name for op in ops]


def test_an_empty_kernel_gets_the_service_before_its_rows():
    ops = diff({}, desired((Action.SET, destination(1)), (Action.SET, destination(2))))
    assert kinds(ops) == ["ADD_SERVICE", "ADD_DESTINATION", "ADD_DESTINATION"]


def test_equal_tables_need_nothing():
    assert diff(table(destination(1)), desired((Action.SET, destination(1)))) == []


@pytest.mark.parametrize("action", [Action.REMOVE, Action.KEEP, Action.SET_IF_PRESENT])
def test_an_absent_row_is_added_by_set_only(action):
    assert diff(table(), desired((action, destination(1)))) == []


@pytest.mark.parametrize(
    ("action", "kind"),
    [
        (Action.SET, ["LOWER_DESTINATION"]),
        (Action.SET_IF_PRESENT, ["LOWER_DESTINATION"]),
        (Action.REMOVE, ["DELETE_DESTINATION"]),
        (Action.KEEP, []),
    ],
)
def test_a_present_row(action, kind):
    ops = diff(table(destination(1, weight=5)), desired((action, destination(1, weight=0))))
    assert kinds(ops) == kind


def test_an_edit_carries_the_whole_row():
    row = destination(1, weight=5, upper=100, lower=10)
    (op,) = diff(table(row), desired((Action.SET, replace(row, weight=3))))
    assert op.destination == replace(row, weight=3)


def test_a_changed_setting_is_an_edit_even_when_the_weight_is_right():
    ops = diff(table(destination(1)), desired((Action.SET, destination(1, upper=9))))
    assert kinds(ops) == ["RAISE_DESTINATION"]


def test_a_changed_service_is_edited_in_place():
    changed = replace(SERVICE, scheduler="lc")
    ops = diff(table(destination(1)), desired((Action.SET, destination(1)), service=changed))
    assert kinds(ops) == ["EDIT_SERVICE"]
    assert apply(table(destination(1)), ops) == table(destination(1), service=changed)


def test_what_adds_capacity_comes_before_what_takes_it_away():
    before = table(destination(1, 5), destination(2, 5), destination(3, 1))
    after = desired(
        (Action.REMOVE, destination(1)),
        (Action.SET, destination(2, 0)),
        (Action.SET, destination(3, 5)),
        (Action.SET, destination(4, 5)),
    )
    assert kinds(diff(before, after)) == [
        "ADD_DESTINATION",
        "RAISE_DESTINATION",
        "LOWER_DESTINATION",
        "DELETE_DESTINATION",
    ]


class TestOwnership:
    stranger = destination(9)

    def test_strangers_stay_unless_pruning_is_on(self):
        wanted = desired((Action.SET, destination(1)))
        before = table(destination(1), self.stranger)
        assert diff(before, wanted) == []
        (op,) = diff(before, wanted, prune=True)
        assert (op.kind, op.destination) == (OpKind.DELETE_DESTINATION, self.stranger)

    def test_a_foreign_service_is_never_touched(self):
        foreign = table(self.stranger, service=KernelService(OTHER, "rr"))
        assert diff(foreign, {}, prune=True) == []
        assert diff(foreign | table(), desired(), prune=True) == []

    def test_an_owned_service_that_is_desired_no_more_is_deleted(self):
        (op,) = diff(table(destination(1)), {}, owned=[KEY, OTHER])
        assert (op.kind, op.service) == (OpKind.DELETE_SERVICE, SERVICE)

    def test_an_owned_service_that_is_still_desired_stays(self):
        assert diff(table(), desired(), owned=[KEY]) == []


def test_diff_service_yields_one_item_per_row_so_that_a_caller_can_stop_in_between():
    wanted = desired(*((Action.SET, destination(n)) for n in range(5)))[KEY]
    actual = table(*(destination(n) for n in range(4)))[KEY]
    found = list(diff_service(actual, wanted, prune=True))
    assert len(found) == 5
    assert [op is None for op in found] == [True] * 4 + [False]


def test_apply_leaves_the_table_it_was_given_alone():
    before = table(destination(1))
    apply(before, diff(before, desired((Action.REMOVE, destination(1)))))
    assert before == table(destination(1))
