"""Matching: which dispatchers want which events, with every dispatcher's filters compiled once a process."""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

import structlog

from kongflow_events import errors, filters, patterns
from kongflow_events.store import deliveries

log = structlog.get_logger(__name__)

# Dispatchers whose compiled filters a process remembers.
_REMEMBERED: Final = 50_000

_rules: dict[uuid.UUID, tuple[datetime, filters.Rule]] = {}


def match(events: Sequence[deliveries.Event]) -> dict[uuid.UUID, list[deliveries.Match]]:
    """The dispatchers that want each of the events now, oldest first, by event record."""
    if not events:
        return {}
    addresses = {event.id: _addresses(event) for event in events}
    candidates = deliveries.candidates({address for heard in addresses.values() for address in heard})
    rules = _rules_of(candidates)
    listeners = defaultdict(list)
    for candidate in candidates:
        listeners[candidate.address].append(_Listener(candidate, rules[candidate.id]))
    return {event.id: list(_matches(event, _heard(addresses[event.id], listeners))) for event in events}


class _Listener(NamedTuple):
    """A dispatcher that listens, with its filters."""

    candidate: deliveries.Candidate
    rule: filters.Rule


def _addresses(event: deliveries.Event) -> list[deliveries.Address]:
    """Where dispatchers listen for this event: its name, and the patterns that it matches."""
    return [(event.environment_id, event.source, name) for name in patterns.heard_by(event.name)]


def _heard(
    addresses: Sequence[deliveries.Address], listeners: Mapping[deliveries.Address, list[_Listener]]
) -> list[_Listener]:
    """Who listens at any of the addresses, once each, oldest first."""
    found = [listeners[address] for address in addresses if address in listeners]
    if len(found) == 1:
        return found[0]
    once = {listener.candidate.id: listener for heard in found for listener in heard}
    return sorted(once.values(), key=lambda listener: (listener.candidate.created_at, listener.candidate.id))


def _matches(event: deliveries.Event, listeners: Iterable[_Listener]) -> Iterable[deliveries.Match]:
    subject = filters.Subject(event.payload_raw, event.payload_type, event.context)
    for candidate, rule in listeners:
        # A receiver that fails must not be sent the news of its failures.
        if candidate.id == event.about:
            continue
        # The account comes first: upstream let a dispatcher without filters see other accounts' events.
        if candidate.external_account_id not in (None, event.external_account_id):
            continue
        if subject.passes(rule):
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
