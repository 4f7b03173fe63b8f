"""Deliver: match events against their environment's dispatchers, one invocation for each match (upstream's DeliverEvent).

The verbs here take ids of event records and return what to hint next, by kind of work; the rows are written whether or
not anybody hints them.
"""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any

import structlog

from kongflow_events import alone, errors, filters, patterns, words
from kongflow_events.store import db, deliveries

log = structlog.get_logger(__name__)

Hints = dict[words.Kind, list[uuid.UUID]]

# Invocations that one transaction may write; one event's fan-out stays whole even when it alone is more.
MOST_INVOCATIONS = 5_000
# Dispatchers whose compiled filters a process remembers.
_REMEMBERED = 50_000


_rules: dict[uuid.UUID, tuple[datetime, filters.Rule]] = {}


def deliver(ids: Collection[uuid.UUID], *, one_by_one: bool = False) -> Hints:
    """Deliver the events `ids` that are due and neither delivered nor cancelled; returns what to hint next.

    They go in one transaction; when that fails, or when `one_by_one` says that one of them may be harmful, each goes
    alone with its attempt counted first.
    """
    with db.unit():
        return _deliver_one_by_one(ids) if one_by_one else _deliver_together(ids)


def deliver_event(record_id: uuid.UUID) -> None:
    """Deliver one event now, if it is due; returns quietly when it is delivered, cancelled, or in other hands."""
    deliver([record_id])


def _deliver_together(ids: Collection[uuid.UUID]) -> Hints:
    try:
        with db.atomic():
            return _deliver(ids, None)
    except db.AWAY:
        raise
    except Exception:
        log.exception("a batch of deliveries failed and is redone one by one", events=len(ids))
        return _deliver_one_by_one(ids)


def _deliver_one_by_one(ids: Collection[uuid.UUID]) -> Hints:
    hints: Hints = defaultdict(list)

    def work(record_id: uuid.UUID, token: uuid.UUID) -> None:
        for kind, subjects in _deliver([record_id], token).items():
            hints[kind] += subjects

    for record_id in ids:
        alone.carry_out("deliver", record_id, partial(work, record_id))
    return hints


def _deliver(ids: Collection[uuid.UUID], token: uuid.UUID | None) -> Hints:
    locked = deliveries.lock(ids)
    matches = _match([event for event in locked if event.wanted])
    chosen = _as_many_as_fit(locked, matches)
    taken = deliveries.take(chosen, token) if chosen else set()
    wanted = [match for record_id in chosen if record_id in taken for match in matches.get(record_id, ())]
    made = deliveries.invoke(wanted) if wanted else deliveries.Made([], [])
    return {"invoke": made.invoke, "post": made.post, "deliver": [event.id for event in locked[len(chosen) :]]}


def _as_many_as_fit(
    locked: Sequence[deliveries.Locked], matches: dict[uuid.UUID, list[deliveries.Match]]
) -> list[uuid.UUID]:
    """The first events whose invocations fit into one transaction; at least one."""
    chosen: list[uuid.UUID] = []
    total = 0
    for event in locked:
        total += len(matches.get(event.id, ()))
        if chosen and total > MOST_INVOCATIONS:
            break
        chosen.append(event.id)
    return chosen


def _match(events: Sequence[deliveries.Locked]) -> dict[uuid.UUID, list[deliveries.Match]]:
    if not events:
        return {}
    addresses = {event.id: _addresses(event) for event in events}
    candidates = deliveries.candidates({address for heard in addresses.values() for address in heard})
    listeners = defaultdict(list)
    for candidate in candidates:
        listeners[candidate.address].append(candidate)
    rules = _rules_of(candidates)
    return {event.id: list(_matches(event, _heard(addresses[event.id], listeners), rules)) for event in events}


def _addresses(event: deliveries.Locked) -> list[deliveries.Address]:
    """Where dispatchers listen for this event: its name, and the patterns that it matches."""
    return [(event.environment_id, event.source, name) for name in patterns.heard_by(event.name)]


def _heard(
    addresses: Sequence[deliveries.Address], listeners: Mapping[deliveries.Address, list[deliveries.Candidate]]
) -> list[deliveries.Candidate]:
    """Who listens at any of the addresses, once each, oldest first."""
    found = [listeners[address] for address in addresses if address in listeners]
    if len(found) == 1:
        return found[0]
    once = {candidate.id: candidate for candidates in found for candidate in candidates}
    return sorted(once.values(), key=lambda candidate: (candidate.created_at, candidate.id))


def _matches(
    event: deliveries.Locked, candidates: Iterable[deliveries.Candidate], rules: dict[uuid.UUID, filters.Rule]
) -> Iterable[deliveries.Match]:
    subject = filters.Subject(event.payload_raw, event.payload_type, event.context)
    for candidate in candidates:
        # The account comes first: upstream let a dispatcher without filters see other accounts' events.
        if candidate.external_account_id not in (None, event.external_account_id):
            continue
        if subject.passes(rules[candidate.id]):
            yield deliveries.Match(event.id, candidate.id, candidate.one_shot)


def _rules_of(candidates: Sequence[deliveries.Candidate]) -> dict[uuid.UUID, filters.Rule]:
    """Compiled filters of these dispatchers; only those that are new or changed are read."""
    known = {candidate.id: _rules.get(candidate.id) for candidate in candidates}
    stale = [
        candidate.id
        for candidate in candidates
        if (rule := known[candidate.id]) is None or rule[0] != candidate.updated_at
    ]
    rules = {dispatcher_id: rule[1] for dispatcher_id, rule in known.items() if rule}
    if stale:
        fresh = {stored.id: (stored.updated_at, _compile(stored)) for stored in deliveries.filters_of(set(stale))}
        _remember(fresh)
        gone = {dispatcher_id: filters.Rule(None, None, broken=True) for dispatcher_id in stale}
        rules |= gone | {dispatcher_id: rule for dispatcher_id, (_, rule) in fresh.items()}
    return rules


def _remember(fresh: dict[uuid.UUID, tuple[datetime, filters.Rule]]) -> None:
    if len(_rules) + len(fresh) > _REMEMBERED:
        _rules.clear()
    _rules.update(fresh)


def _compile(stored: deliveries.Filters) -> filters.Rule:
    try:
        return filters.Rule(_parsed(stored.payload_filter), _parsed(stored.context_filter))
    except errors.Invalid as error:
        # Only a row that was written past the service can be here.
        log.warning("a stored filter is invalid and matches nothing", dispatcher=str(stored.id), reason=error.message)
        return filters.Rule(None, None, broken=True)


def _parsed(raw: Any) -> filters.EventFilter | None:
    return None if raw is None else filters.parse(raw)
