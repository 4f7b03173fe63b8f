"""What must hold whatever was broken: pure functions from the evidence to findings, none when all is well.

The numbers are those of docs/reliability.md. I6, I8 and I9 are about bounds that the scenario names; I10 to I12 look at
the processes themselves and live in `run`.
"""

from __future__ import annotations

import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable

from faults.evidence import Call, Evidence, Try
from kongflow_events.retries import LIMITS

# Findings of one kind that are spelt out; the rest is counted.
_SPELT = 3
# Seconds by which the journal may be ahead of what it notes, and a call's attempt begin before it or be written down after.
_AHEAD, _APART = 1.0, 2.0


def no_loss(seen: Evidence) -> Iterable[str]:
    """I1: every acknowledged event is stored, once."""
    stored = Counter(record.event_id for record in seen.records)
    for event_id in seen.acknowledged:
        if stored[event_id] != 1:
            yield f"event {event_id} was acknowledged and is stored {stored[event_id]} times"
    for attempt in seen.attempts:
        if attempt.status == 200 and attempt.stored != attempt.ids:
            yield f"a send of {attempt.ids} was answered with {attempt.stored}"


def no_phantom(seen: Evidence) -> Iterable[str]:
    """I2: nothing is stored that nobody sent."""
    for record in seen.records:
        if record.event_id not in seen.sent:
            yield f"event {record.event_id} is stored and was never sent"


def fan_out(seen: Evidence) -> Iterable[str]:
    """I3: each stored event has one invocation of each rule that wants it, and no other."""
    made = defaultdict(list)
    for one in seen.invocations:
        made[one.event_id].append(one.rule)
    for record in seen.records:
        wanted = sorted(rule.label for rule in seen.rules if rule.wants(record.event_id))
        if sorted(made[record.event_id]) != wanted:
            yield f"event {record.event_id} has invocations of {sorted(made[record.event_id])}, wanted {wanted}"


def once_inside(seen: Evidence) -> Iterable[str]:
    """I4: each succeeded invocation of jobs has exactly its runs, one for each job, and nothing else has any."""
    started = defaultdict(list)
    for invocation_id, job_id in seen.runs:
        started[invocation_id].append(job_id)
    rules = {rule.label: rule for rule in seen.rules}
    for one in seen.invocations:
        wanted = sorted(rules[one.rule].jobs) if one.status == "SUCCEEDED" and one.rule in rules else []
        if sorted(started.pop(one.id, [])) != wanted:
            yield f"invocation {one.id} ({one.rule}, {one.status}) does not have its {len(wanted)} runs exactly"
    for invocation_id in started:
        yield f"there are runs of {invocation_id}, which does not exist"


def same_outside(seen: Evidence) -> Iterable[str]:
    """I5: each succeeded call was made, always with the same bytes; each repeat has a cause that is allowed."""
    for one in seen.called:
        calls = seen.calls_of.get(str(one.id), [])
        if one.status == "SUCCEEDED" and not any(200 <= call.status < 300 or not call.status for call in calls):
            yield f"invocation {one.id} succeeded, and the sink knows of no call that it answered"
        if len({call.hash for call in calls}) > 1:
            yield f"invocation {one.id} was posted with different bytes"
    for earlier, later in seen.repeats:
        if not explained(earlier, later, seen):
            yield f"invocation {earlier.id} was called again {later.at - earlier.at:.1f} s later, and nothing had happened"


def terminal(seen: Evidence) -> Iterable[str]:
    """I6: nothing is owed, and every invocation has ended as its rule's have to: it succeeded, unless that was withdrawn."""
    if seen.owed:
        yield f"{seen.owed} rows are still owed"
    ends = {rule.label: rule.ends for rule in seen.rules}
    others = Counter((one.rule, one.status) for one in seen.invocations if one.status not in ends.get(one.rule, ()))
    for (rule, status), count in others.items():
        yield f"{count} invocations of {rule} are {status}"


def attempts(seen: Evidence) -> Iterable[str]:
    """I7: attempts are counted once each, up to the limit; the one that a call's invocation ended with is written down."""
    tried: dict[uuid.UUID, dict[int, str]] = defaultdict(dict)
    for attempt in seen.tries:
        tried[attempt.invocation_id][attempt.number] = attempt.outcome
    for one in seen.called:
        numbers = tried[one.id]
        # One whose last worker was lost has been claimed once more, to find that out.
        most = LIMITS["post"] + (one.status == "DEAD")
        if any(not 1 <= number <= one.attempts for number in numbers) or one.attempts > most:
            yield f"invocation {one.id} counts {one.attempts} attempts and has written down {sorted(numbers)}"
        last = numbers.get(one.attempts)
        if one.status == "SUCCEEDED" and last != "succeeded":
            yield f"invocation {one.id} succeeded at attempt {one.attempts}, which is written down as {last}"


def no_storm(deepest: int, most: int) -> Iterable[str]:
    """I8: no queue was ever deeper than `most`."""
    if deepest > most:
        yield f"a queue was {deepest} deep, {most} at most were promised"


def no_lease(seen: Evidence) -> Iterable[str]:
    """I9: no lease that has run out is left lying."""
    if seen.leases:
        yield f"{seen.leases} leases have run out and nobody took them up"


def signed(seen: Evidence) -> Iterable[str]:
    """I13: the receiver's library takes every call of a webhook."""
    webhooks = {rule.path for rule in seen.rules if rule.signed}
    for call in seen.calls:
        if call.path in webhooks and not call.verified:
            yield f"a call of {call.id} to {call.path} is not signed with the webhook's secret"


def explained(earlier: Call, later: Call, seen: Evidence) -> bool:
    """Whether a repeat has a cause that is allowed.

    Either the service has written down of the earlier one that its answer came too late or not at all; or, between the two, a
    poster died or stood still, or the database took no finish.
    """
    if any(str(one.invocation_id) == earlier.id and _failed(one, earlier, later) for one in seen.tries):
        return True
    if any(earlier.at - _AHEAD <= one.at <= later.at and _is_cause(one.what) for one in seen.journal):
        return True
    return _was_away(earlier.at, seen)


def _failed(one: Try, earlier: Call, later: Call) -> bool:
    """Whether this is the attempt of the earlier call, and did not succeed."""
    apart = abs(one.at - earlier.at)
    return one.outcome != "succeeded" and apart < min(_APART, abs(one.at - later.at))


def _was_away(at: float, seen: Evidence) -> bool:
    """Whether the database was in a bad way at this time, by the last that the journal said of it before."""
    said = [one.what for one in seen.journal if one.at <= at and one.what in _AWAY | _BACK]
    return bool(said) and said[-1] in _AWAY


_AWAY = {"database crashed", "database frozen", "database disk full", "database connections taken"}
_BACK = {"database started", "database flows", "database connections given back"}


def _is_cause(what: str) -> bool:
    """Being asked to stop is no cause: a poster finishes what it has begun."""
    return "database" in what or ("poster" in what and not what.startswith("SIGTERM") and not what.endswith("(0)"))


EVERY: dict[str, Callable[[Evidence], Iterable[str]]] = {
    "I1": no_loss,
    "I2": no_phantom,
    "I3": fan_out,
    "I4": once_inside,
    "I5": same_outside,
    "I6": terminal,
    "I7": attempts,
    "I9": no_lease,
    "I13": signed,
}


def findings(seen: Evidence, most: int) -> list[str]:
    """Every breach of I1 to I9 and of I13, named; of many of one kind the first few, and how many there are."""
    found = []
    for name, invariant in EVERY.items():
        found += _cut(name, list(invariant(seen)))
    return found + _cut("I8", list(no_storm(seen.deepest, most)))


def lost(seen: Evidence) -> int:
    """Acknowledged events that are not stored, or that a rule that wants them has not been carried out for."""
    ends = {rule.label: rule.ends for rule in seen.rules}
    done = {(one.event_id, one.rule) for one in seen.invocations if one.status in ends.get(one.rule, ())}
    stored = {record.event_id for record in seen.records}
    return sum(
        event_id not in stored
        or any(rule.wants(event_id) and (event_id, rule.label) not in done for rule in seen.rules)
        for event_id in seen.acknowledged
    )


def duplicated(seen: Evidence) -> int:
    """Effects too many: runs beyond one for each job of an invocation, and invocations beyond one for each pair."""
    runs = Counter(seen.runs)
    pairs = Counter((one.event_id, one.rule) for one in seen.invocations)
    return sum(count - 1 for counts in (runs, pairs) for count in counts.values())


def _cut(name: str, breaches: list[str]) -> list[str]:
    more = [f"{name}: … and {len(breaches) - _SPELT} more"] if len(breaches) > _SPELT else []
    return [f"{name}: {breach}" for breach in breaches[:_SPELT]] + more
