"""What must always hold, whatever the table, the configuration and the results."""

from dataclasses import replace

from hypothesis import assume, given
from hypothesis import strategies as st

from lbhealth.health import hybrid_after, hybrid_step, observe
from lbhealth.model import AdminState, HealthState, Verdict
from lbhealth.plan import OpKind, apply, diff
from lbhealth.policy import Action, decide, refuses_at_zero
from tests.core import strategies

NOW = 1000.0
any_table = given(strategies.tables, strategies.configurations(), st.booleans())
any_pool = given(strategies.pools())
any_course = given(
    strategies.healths, st.lists(strategies.results(), max_size=20), strategies.schedules
)

ON_ROWS = {OpKind.ADD_DESTINATION, OpKind.RAISE_DESTINATION, OpKind.LOWER_DESTINATION}


def decide_all(configuration):
    services, states = configuration
    return {service.key: decide(service, states, NOW) for service in services}


class TestPlan:
    @any_table
    def test_applying_the_difference_leaves_none(self, table, configuration, prune):
        desired = decide_all(configuration)
        after = apply(table, diff(table, desired, table, prune=prune))
        assert diff(after, desired, table, prune=prune) == []

    @any_table
    def test_a_foreign_service_is_never_touched(self, table, configuration, prune):
        desired = decide_all(configuration)
        owned = list(table)[:1]
        ops = diff(table, desired, owned, prune=prune)
        assert {op.service.key for op in ops} <= desired.keys() | set(owned)
        after = apply(table, ops)
        for key in table.keys() - desired.keys() - set(owned):
            assert after[key] == table[key]

    @any_table
    def test_strangers_go_only_where_pruning_is_on(self, table, configuration, prune):
        desired = decide_all(configuration)
        after = apply(table, diff(table, desired, prune=prune))
        for key in table.keys() & desired.keys():
            strangers = table[key].destinations.keys() - desired[key].decisions.keys()
            left = after[key].destinations.keys() & strangers
            assert left == (set() if prune else strangers)

    @any_table
    def test_a_weight_never_travels_without_the_other_settings(self, table, configuration, prune):
        desired = decide_all(configuration)
        for op in diff(table, desired, prune=prune):
            if op.kind in ON_ROWS:
                row = desired[op.service.key].rows[op.destination.key]
                assert (op.destination.forwarding, op.destination.tunnel) == (
                    row.forwarding,
                    row.tunnel,
                )
                assert (op.destination.upper, op.destination.lower) == (row.upper, row.lower)

    @any_table
    def test_capacity_never_dips(self, table, configuration, prune):
        desired = decide_all(configuration)
        ops = diff(table, desired, prune=prune)
        course = [capacity(table, desired)]
        for op in ops:
            table = apply(table, [op])
            course.append(capacity(table, desired))
        for key in desired:
            for measure in (0, 1):
                values = [each[key][measure] for each in course]
                assert min(values) == min(values[0], values[-1])


def capacity(table, desired):
    """Per desired service: rows that take new connections, and the sum of their weights."""
    rows = {key: table[key].destinations.values() if key in table else () for key in desired}
    return {
        key: (sum(row.weight > 0 for row in found), sum(row.weight for row in found))
        for key, found in rows.items()
    }


class TestPolicy:
    @any_pool
    def test_every_decision_has_a_row_and_a_reason(self, pool):
        service, own = pool
        desired = decide(service, {service.key: own}, NOW)
        assert desired.rows.keys() == desired.decisions.keys()
        assert all(decision.why for decision in desired.decisions.values())
        assert all(0 <= decision.weight <= 65535 for decision in desired.decisions.values())

    @any_pool
    def test_feedback_alone_never_changes_who_serves(self, pool):
        service, own = pool
        states = {service.key: own}
        silent = {service.key: {key: replace(s, feedback=None) for key, s in own.items()}}
        said, unsaid = decide(service, states, NOW), decide(service, silent, NOW)
        assert said.fallback_active == unsaid.fallback_active
        for key, decision in said.decisions.items():
            assert decision.action is unsaid.decisions[key].action
            assert (decision.weight > 0) == (unsaid.decisions[key].weight > 0)

    @any_pool
    def test_a_confirmed_healthy_online_server_serves_and_a_parked_one_never(self, pool):
        service, own = pool
        desired = decide(service, {service.key: own}, NOW)
        for server, state, decision in judged(service, own, desired):
            if server.weight == 0 or state.admin is not AdminState.ONLINE:
                assert decision.weight == 0
                assert decision.action is not Action.KEEP or state.health is HealthState.DOWN
            elif state.confirmed and state.health is HealthState.UP:
                assert decision.action is Action.SET
                assert decision.weight >= 1

    @any_pool
    def test_nothing_goes_live_unchecked(self, pool):
        service, own = pool
        desired = decide(service, {service.key: own}, NOW)
        for _, state, decision in judged(service, own, desired):
            if decision.weight > 0:
                assert state.confirmed
                assert state.was_up

    @any_pool
    def test_the_fallback_is_off_only_while_somebody_else_can_serve(self, pool):
        """Off with a failed server means: some server has a live row, or holds it off parked."""
        service, own = pool
        desired = decide(service, {service.key: own}, NOW)
        facts = list(judged(service, own, desired))
        assume(len(facts) == len(service.real))
        failed = any(
            server.weight and state.health is HealthState.DOWN and state.admin is AdminState.ONLINE
            for server, state, _ in facts
        )
        if desired.fallback_active is False and failed:
            assert any(
                decision.weight or (service.parked_holds_fallback and server.weight == 0)
                for server, _, decision in facts
            )

    @any_pool
    def test_the_fallback_goes_in_only_when_every_server_has_a_verdict(self, pool):
        service, own = pool
        desired = decide(service, {service.key: own}, NOW)
        if desired.fallback_active:
            assert all(state.confirmed for state in own.values())

    @any_pool
    def test_min_up_keeps_its_share_of_servers_that_ever_passed(self, pool):
        service, own = pool
        desired = decide(service, {service.key: own}, NOW)
        online = [
            (state, decision)
            for server, state, decision in judged(service, own, desired)
            if server.weight and state.admin is AdminState.ONLINE
        ]
        if all(state.confirmed and state.was_up for state, _ in online):
            serving = sum(decision.weight > 0 for _, decision in online)
            assert serving >= service.min_up * len(online) - 1e-6

    @any_pool
    def test_no_row_of_weight_0_where_the_scheduler_refuses_clients(self, pool):
        service, own = pool
        desired = decide(service, {service.key: own}, NOW)
        if refuses_at_zero(service.scheduler, service.flags):
            for decision in desired.decisions.values():
                assert decision.weight > 0 or decision.action in (Action.REMOVE, Action.KEEP)


def judged(service, own, desired):
    """Server, state and decision of each server that is not its own fallback."""
    spare = service.destination_key(service.fallback) if service.fallback else None
    for server in service.real:
        key = service.destination_key(server)
        if key != spare:
            yield server, own[key], desired.decisions[key]


class TestHealth:
    @any_course
    def test_errors_change_nothing(self, health, results, schedule):
        with_errors = without = health
        for result in results:
            with_errors, _ = observe(with_errors, result, schedule)
            if result.verdict is not Verdict.ERROR:
                without, _ = observe(without, result, schedule)
        assert facts(with_errors) == facts(without)

    @any_course
    def test_a_transition_is_exactly_a_change_of_state(self, health, results, schedule):
        for result in results:
            after, transition = observe(health, result, schedule)
            assert (transition is None) == (after.state is health.state)
            if transition is not None:
                assert (transition.old, transition.new) == (health.state, after.state)
                assert after.confirmed
            assert after.was_up >= health.was_up
            assert after.confirmed >= health.confirmed
            health = after

    @any_course
    def test_a_state_changes_after_rise_or_fall_results_in_a_row(self, health, results, schedule):
        """An independent count of the trailing run must agree."""
        run: list[Verdict] = []
        for result in results:
            before = health.state
            health, transition = observe(health, result, schedule)
            if result.verdict is Verdict.ERROR:
                continue
            run = [*run, result.verdict] if run[-1:] == [result.verdict] else [result.verdict]
            needed = schedule.rise if result.verdict is Verdict.PASS else schedule.fall
            says = HealthState.UP if result.verdict is Verdict.PASS else HealthState.DOWN
            due = says is not before and (before is HealthState.UNKNOWN or len(run) >= needed)
            assert (transition is not None) == due

    @any_course
    def test_more_patience_never_brings_a_change_earlier(self, health, results, schedule):
        """Rise and fall are monotone: a higher threshold changes no state any sooner."""
        patient = replace(schedule, rise=schedule.rise + 1, fall=schedule.fall + 1)
        assert first_change(health, results, schedule) <= first_change(health, results, patient)


def facts(health):
    return (health.state, health.streak, health.since, health.confirmed, health.was_up)


def first_change(health, results, schedule):
    for number, result in enumerate(results):
        health, transition = observe(health, result, schedule)
        if transition is not None:
            return number
    return len(results)


@given(st.integers(0, 12), st.lists(strategies.verdicts, max_size=60))
def test_a_hybrid_check_counts_as_ldirectord_does(connects, verdicts):
    """The model is ldirectord's own: a counter that is full, or counts connects since."""
    count = connects
    since_negotiation: int | None = None  # None: negotiate next
    for verdict in verdicts:
        negotiate = since_negotiation is None or since_negotiation >= connects
        assert (hybrid_step(count, connects).name == "NEGOTIATE") == negotiate
        count = hybrid_after(count, connects, verdict)
        if verdict is Verdict.FAIL:
            since_negotiation = None
        elif verdict is Verdict.PASS:
            since_negotiation = 0 if negotiate else since_negotiation + 1
