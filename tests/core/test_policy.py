"""The settled questions: what a service should be, given config, health and the operator."""

from dataclasses import replace
from socket import AF_INET6

import pytest

from lbhealth.model import (
    AdminState,
    Fallback,
    Forwarding,
    FwmarkKey,
    HealthState,
    InetKey,
    OnDown,
    Persistence,
    RealServer,
    TransportProtocol,
    VirtualService,
)
from lbhealth.policy import Action, ServerState, decide, kernel_service, refuses_at_zero

KEY = InetKey(TransportProtocol.TCP, "192.0.2.1", 80)
FALLBACK = ("127.0.0.1", 8080)

UNKNOWN = ServerState()
FOUND_UP = ServerState(HealthState.UP, was_up=True)
FOUND_DOWN = ServerState(HealthState.DOWN)
UP = ServerState(HealthState.UP, confirmed=True, was_up=True, reason="http 200")
DOWN = ServerState(HealthState.DOWN, confirmed=True, was_up=True, reason="http 503 (3 of 3 failed)")
NEVER_UP = replace(DOWN, was_up=False)
DRAINED = replace(UP, admin=AdminState.DRAIN, admin_reason="disk swap")
HALTED = replace(UP, admin=AdminState.HALT, admin_reason="disk swap")


def row(number):
    return (f"10.0.0.{number}", 80)


def pool(*states, weights=(), **settings):
    """The desired service of servers 10.0.0.1, 10.0.0.2 ... in these states."""
    weights = list(weights) or [5] * len(states)
    service = VirtualService(
        key=KEY,
        real=tuple(
            RealServer(address=row(n)[0], port=80, forwarding=Forwarding.MASQ, weight=weight)
            for n, weight in enumerate(weights, 1)
        ),
        fallback=Fallback(address=FALLBACK[0], port=FALLBACK[1], forwarding=Forwarding.MASQ),
        **settings,
    )
    return decide(service, {KEY: {row(n): state for n, state in enumerate(states, 1)}}, now=0.0)


def actions(desired):
    """Action and weight per server, the fallback left out."""
    return [
        (decision.action, decision.weight)
        for key, decision in desired.decisions.items()
        if key != FALLBACK
    ]


def only(*states, **settings):
    (decision,) = [d for key, d in pool(*states, **settings).decisions.items() if key != FALLBACK]
    return decision


SET5 = (Action.SET, 5)
QUIESCED = (Action.SET_IF_PRESENT, 0)
KEEP = (Action.KEEP, 0)
REMOVE = (Action.REMOVE, 0)


class TestColdStart:
    @pytest.mark.parametrize("state", [UNKNOWN, FOUND_UP, FOUND_DOWN])
    def test_a_row_stays_as_found_until_there_is_a_verdict(self, state):
        assert actions(pool(state)) == [KEEP]

    def test_the_first_pass_sets_the_configured_weight(self):
        assert actions(pool(UP)) == [SET5]

    def test_the_first_failure_quiesces_and_does_not_add(self):
        assert actions(pool(NEVER_UP)) == [QUIESCED]

    @pytest.mark.parametrize("state", [UNKNOWN, FOUND_UP, FOUND_DOWN])
    def test_an_operators_word_needs_no_verdict(self, state):
        assert actions(pool(replace(state, admin=AdminState.DRAIN))) == [QUIESCED]
        assert actions(pool(replace(state, admin=AdminState.HALT))) == [REMOVE]

    @pytest.mark.parametrize("state", [UNKNOWN, FOUND_UP])
    def test_parking_needs_no_verdict_and_adds_no_row(self, state):
        assert actions(pool(state, weights=[0])) == [QUIESCED]


class TestDown:
    def test_quiesced_and_absent_is_not_added(self):
        assert actions(pool(DOWN, UP)) == [QUIESCED, SET5]

    def test_quiesced_and_absent_is_added_by_readdquiescent(self):
        assert actions(pool(DOWN, UP, readd_quiescent=True)) == [(Action.SET, 0), SET5]

    @pytest.mark.parametrize("readd", [False, True])
    def test_removed_where_the_operator_wants_removal(self, readd):
        service = pool(DOWN, UP, on_down=OnDown.REMOVE, readd_quiescent=readd)
        assert actions(service) == [REMOVE, SET5]

    def test_the_reason_is_the_latest_result(self):
        assert only(DOWN).why == "weight 0: http 503 (3 of 3 failed)"
        assert only(DOWN, on_down=OnDown.REMOVE).why == "removed: http 503 (3 of 3 failed)"

    def test_an_agent_does_not_lift_a_failed_server(self):
        assert actions(pool(replace(DOWN, feedback=100))) == [QUIESCED]


class TestOperator:
    def test_drain_gives_weight_0_and_says_why(self):
        decision = only(DRAINED)
        assert (decision.action, decision.weight) == QUIESCED
        assert decision.why == "weight 0: draining: disk swap"

    def test_halt_removes_and_says_why(self):
        decision = only(HALTED)
        assert decision.action is Action.REMOVE
        assert decision.why == "halted: disk swap"

    def test_online_again_a_server_that_failed_meanwhile_stays_out(self):
        back = replace(DRAINED, health=HealthState.DOWN, admin=AdminState.ONLINE)
        assert actions(pool(back)) == [QUIESCED]

    def test_a_draining_server_that_fails_goes_as_a_failed_one(self):
        draining = replace(DOWN, admin=AdminState.DRAIN)
        assert actions(pool(draining)) == [QUIESCED]
        assert actions(pool(draining, on_down=OnDown.REMOVE)) == [REMOVE]
        assert "draining; http 503" in only(draining, on_down=OnDown.REMOVE).why

    def test_a_drained_server_that_was_removed_is_not_added(self):
        assert actions(pool(DRAINED, on_down=OnDown.REMOVE)) == [QUIESCED]

    def test_feedback_does_not_lift_a_drained_server(self):
        assert actions(pool(replace(DRAINED, feedback=50))) == [QUIESCED]


class TestParked:
    def test_a_healthy_parked_server_has_a_row_of_weight_0(self):
        assert actions(pool(UP, weights=[0])) == [(Action.SET, 0)]
        assert only(UP, weights=[0]).why == "weight 0: parked by configuration"

    def test_feedback_does_not_lift_it(self):
        assert actions(pool(replace(UP, feedback=50), weights=[0])) == [(Action.SET, 0)]

    def test_a_failed_parked_server_goes_as_any_other(self):
        assert actions(pool(DOWN, weights=[0])) == [QUIESCED]
        assert actions(pool(DOWN, weights=[0], on_down=OnDown.REMOVE)) == [REMOVE]


class TestFeedback:
    @pytest.mark.parametrize(("said", "applied"), [(0, 1), (-3, 1), (7, 7), (10**9, 65535)])
    def test_a_healthy_server_keeps_a_weight_of_at_least_1(self, said, applied):
        assert actions(pool(replace(UP, feedback=said))) == [(Action.SET, applied)]


class TestFallback:
    @pytest.mark.parametrize(
        ("states", "active"),
        [
            ([UP, UP], False),
            ([UP, DOWN], False),
            ([DOWN, DOWN], True),
            ([DOWN, DRAINED], True),
            ([DOWN, HALTED], True),
            ([DRAINED, HALTED], False),
            ([replace(DOWN, admin=AdminState.DRAIN), HALTED], False),
            ([], False),
        ],
    )
    def test_on_when_an_online_server_failed_and_none_is_up(self, states, active):
        desired = pool(*states)
        assert desired.fallback_active is active
        assert desired.decisions[FALLBACK].action is (Action.SET if active else Action.REMOVE)

    @pytest.mark.parametrize(
        "state", [UNKNOWN, FOUND_UP, FOUND_DOWN, replace(UNKNOWN, admin="drain")]
    )
    def test_as_found_until_every_server_has_a_verdict(self, state):
        desired = pool(DOWN, state)
        assert desired.fallback_active is None
        assert desired.decisions[FALLBACK].action is Action.KEEP

    def test_one_confirmed_server_is_enough_to_stand_by(self):
        assert pool(UP, UNKNOWN).fallback_active is False

    def test_a_restart_does_not_take_out_a_serving_fallback_on_a_guess(self):
        assert pool(FOUND_UP).fallback_active is None

    def test_the_weight_is_always_1(self):
        assert pool(DOWN).decisions[FALLBACK].weight == 1
        assert pool(DOWN).rows[FALLBACK].weight == 1

    def test_a_parked_server_counts_for_nothing(self):
        assert pool(DOWN, UP, weights=[5, 0]).fallback_active is True
        assert pool(DOWN, weights=[0]).fallback_active is False

    def test_a_healthy_parked_server_holds_it_off_in_ldirectords_way(self):
        ldirectord = {"weights": [5, 0], "parked_holds_fallback": True}
        assert pool(DOWN, UP, **ldirectord).fallback_active is False
        assert pool(DOWN, DOWN, **ldirectord).fallback_active is True

    def test_a_drained_parked_server_does_not_hold_it_off(self):
        desired = pool(DOWN, DRAINED, weights=[5, 0], parked_holds_fallback=True)
        assert desired.fallback_active is True

    def test_no_fallback_configured(self):
        service = VirtualService(key=KEY)
        assert decide(service, {KEY: {}}, 0.0).fallback_active is None


class TestOwnFallback:
    """A server of the service that is its fallback, too."""

    def decide(self, state):
        server = RealServer(address="10.0.0.1", port=80, forwarding=Forwarding.MASQ, weight=5)
        own = Fallback(address="10.0.0.1", port=80, forwarding=Forwarding.MASQ)
        service = VirtualService(key=KEY, real=(server,), fallback=own)
        return decide(service, {KEY: {row(1): state}}, 0.0)

    def test_up_it_is_a_server(self):
        assert actions(self.decide(UP)) == [SET5]

    def test_failed_it_serves_as_fallback(self):
        assert actions(self.decide(DOWN)) == [(Action.SET, 1)]

    def test_halted_it_stays_out(self):
        desired = self.decide(replace(DOWN, admin=AdminState.HALT))
        assert actions(desired) == [REMOVE]
        assert desired.fallback_active is False


class TestMinUp:
    def test_the_latest_to_fail_are_kept_in(self):
        states = [replace(DOWN, since=float(n)) for n in (1, 3, 2)] + [UP]
        assert actions(pool(*states, min_up=0.5)) == [QUIESCED, SET5, QUIESCED, SET5]

    def test_the_share_is_of_the_online_servers_of_weight_1_or_more(self):
        states = [DOWN, UP, HALTED, DRAINED, UP]
        desired = pool(*states, weights=[5, 5, 5, 5, 0], min_up=0.5)
        assert actions(desired)[0] == QUIESCED

    def test_a_broken_share_is_rounded_up(self):
        assert actions(pool(DOWN, DOWN, UP, min_up=0.34)).count(SET5) == 2

    def test_thirds_are_not_rounded_beyond_themselves(self):
        states = [DOWN] * 7 + [UP] * 3
        assert actions(pool(*states, min_up=0.1 + 0.2)).count(SET5) == 3

    def test_a_server_that_never_passed_is_not_kept_in(self):
        assert actions(pool(NEVER_UP, NEVER_UP, min_up=1.0)) == [QUIESCED, QUIESCED]

    def test_kept_servers_hold_the_fallback_off(self):
        assert pool(DOWN, DOWN, min_up=0.5).fallback_active is False

    def test_the_reason_names_the_share_and_the_failure(self):
        why = "weight 5: kept by min_up 50% (0 of 1 up), though http 503 (3 of 3 failed)"
        assert only(DOWN, min_up=0.5).why == why

    def test_a_kept_server_gets_its_row_back(self):
        """It was removed, then the other server was halted: without a row nobody would serve."""
        desired = pool(DOWN, HALTED, min_up=0.5, on_down=OnDown.REMOVE)
        assert actions(desired) == [SET5, REMOVE]
        assert desired.fallback_active is False


class TestSchedulersThatRefuseAtZero:
    @pytest.mark.parametrize(
        ("scheduler", "flags", "refuses"),
        [
            ("dh", (), True),
            ("dh", ("flag-1",), True),
            ("sh", (), True),
            ("sh", ("sh-port",), True),
            ("sh", ("sh-fallback",), False),
            ("mh", (), True),
            ("mh", ("mh-port", "mh-fallback"), False),
            ("mh", ("flag-1",), False),
            ("wrr", (), False),
        ],
    )
    def test_known(self, scheduler, flags, refuses):
        assert refuses_at_zero(scheduler, flags) is refuses

    @pytest.mark.parametrize("state", [DOWN, DRAINED])
    def test_failed_and_drained_servers_are_removed(self, state):
        decision = only(state, scheduler="sh", readd_quiescent=True)
        assert decision.action is Action.REMOVE
        assert decision.why.endswith("(sh refuses clients at weight 0)")

    def test_parked_servers_are_removed(self):
        assert actions(pool(UP, scheduler="mh", weights=[0])) == [REMOVE]

    def test_with_the_fallback_flag_they_are_quiesced(self):
        assert actions(pool(DOWN, scheduler="sh", flags=("sh-fallback",))) == [QUIESCED]


class TestRows:
    def test_a_row_carries_every_setting(self):
        server = RealServer(
            address="10.0.0.1", port=8080, forwarding=Forwarding.MASQ, weight=3, upper=100, lower=10
        )
        service = VirtualService(key=KEY, real=(server,))
        row_ = decide(service, {KEY: {("10.0.0.1", 8080): UP}}, 0.0).rows["10.0.0.1", 8080]
        assert (row_.weight, row_.upper, row_.lower, row_.forwarding) == (
            3,
            100,
            10,
            Forwarding.MASQ,
        )

    def test_route_and_tunnel_carry_the_virtual_port(self):
        server = RealServer(address="10.0.0.1", port=8080, forwarding=Forwarding.ROUTE)
        assert VirtualService(key=KEY).destination_key(server) == ("10.0.0.1", 80)
        assert VirtualService(key=FwmarkKey(1)).destination_key(server) == ("10.0.0.1", 8080)

    @pytest.mark.parametrize(
        ("key", "persistence", "timeout", "netmask"),
        [
            (KEY, None, 0, 32),
            (KEY, Persistence(600), 600, 32),
            (KEY, Persistence(600, 24), 600, 24),
            (InetKey(TransportProtocol.TCP, "2001:db8::1", 80), None, 0, 128),
            (FwmarkKey(7), None, 0, 32),
            (FwmarkKey(7, AF_INET6), Persistence(60), 60, 128),
        ],
    )
    def test_the_netmask_tells_clients_apart_one_by_one(self, key, persistence, timeout, netmask):
        found = kernel_service(VirtualService(key=key, persistence=persistence))
        assert (found.timeout, found.netmask) == (timeout, netmask)
