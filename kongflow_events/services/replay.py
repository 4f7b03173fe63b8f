"""Replay: deliver past events again, to every dispatcher that wants them now or to named ones, in the background.

Each (event, dispatcher, replay) happens once: the invocations carry the replay's id, and the cursor is committed with
them. A cancelled event is never replayed, nor one whose first delivery is still to come; one-shot dispatchers wait for
new events only.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec

from kongflow_events import errors, filters, matching, models, steps, words
from kongflow_events.store import bulk_operations, db, deliveries, dispatchers, replays

KIND: Final = "replay"
# Invocations that one step makes at the most (one event's fan-out stays whole), and events that it looks at for them.
_STEP: Final = 1000
_LOOK: Final = 500
# Events whose payloads a preview looks at: enough to see whether a filter means what its writer means.
_SAMPLE: Final = 2000


class Preview(NamedTuple):
    """How many events a replay would look at; of the first `sampled`, how many pass its filters, and what they would make."""

    events: int
    sampled: int
    passing: int
    invocations: int


def preview_replay(environment: words.Environment, wanted: replays.Wanted) -> Preview:
    """What a replay would be about, without beginning it. Raises Invalid for a filter or a dispatcher."""
    rule = _rule(environment, wanted)
    now = db.now()
    events = replays.count(environment.id, wanted, now)
    looked = [past for past in replays.next_past(environment.id, wanted, now, None, _SAMPLE) if past.wanted]
    passing = sum(_subject(past).passes(rule) for past in looked)
    return Preview(events, len(looked), passing, sum(map(len, _matches(wanted, looked).values())))


def start_replay(environment: words.Environment, wanted: replays.Wanted, rate: int) -> models.BulkOperation:
    """Begin to replay the past events that are wanted, making at most `rate` invocations a second.

    Raises Invalid for a filter or a dispatcher. Events that come after this moment are none of its business.
    """
    _rule(environment, wanted)
    total = replays.count(environment.id, wanted, db.now())
    return bulk_operations.start(environment.id, KIND, msgspec.to_builtins(wanted), rate, total)


def advance_replays() -> bool:
    """Take one step of one replay that is due; False when there is none. Safe to run anywhere at once."""
    return steps.take(KIND, _step)


def _step(operation: models.BulkOperation) -> bulk_operations.Step:
    wanted = msgspec.convert(operation.criteria, replays.Wanted)
    after = None if operation.passed is None else (operation.passed_at, operation.passed)
    looked = replays.next_past(operation.environment_id, wanted, operation.created_at, after, _LOOK)
    matches = _matches(wanted, looked)
    passed = _as_many_as_fit(looked, matches, steps.size(operation.rate, _STEP))
    made = _invoke(passed, matches, operation.id)
    return bulk_operations.Step(
        seen=sum(past.wanted for past in passed),
        done=made,
        last=passed[-1].id if passed else None,
        last_at=passed[-1].created_at if passed else None,
        ended=len(passed) == len(looked) < _LOOK,
    )


def _matches(wanted: replays.Wanted, looked: Sequence[replays.Past]) -> dict[uuid.UUID, list[deliveries.Match]]:
    """The dispatchers that each wanted event is to be delivered to."""
    rule = _compiled(wanted)
    chosen = [past for past in looked if past.wanted and _subject(past).passes(rule)]
    named = None if wanted.dispatchers is None else set(wanted.dispatchers)
    return {
        record_id: [one for one in found if not one.one_shot and (named is None or one.dispatcher_id in named)]
        for record_id, found in matching.match(chosen).items()
    }


def _as_many_as_fit(
    looked: Sequence[replays.Past], matches: dict[uuid.UUID, list[deliveries.Match]], most: int
) -> Sequence[replays.Past]:
    """The first events whose invocations fit into one step; at least one."""
    total = 0
    for index, past in enumerate(looked):
        total += len(matches.get(past.id, ()))
        if index and total > most:
            return looked[:index]
    return looked


def _invoke(passed: Sequence[replays.Past], matches: dict[uuid.UUID, list[deliveries.Match]], replay: int) -> int:
    wanted = [past.id for past in passed if matches.get(past.id)]
    held = replays.hold(wanted) if wanted else set()
    asked = [match for record_id in wanted if record_id in held for match in matches[record_id]]
    if not asked:
        return 0
    # What fails here would fail with each try of the step, and stop the replay; owed, it fails alone.
    return len(deliveries.invoke(asked, replay, at_once=False))


def _rule(environment: words.Environment, wanted: replays.Wanted) -> filters.Rule:
    """The filters, compiled; raises Invalid with every mistake in them, and every dispatcher that can get nothing."""
    named = wanted.dispatchers or []
    known = dispatchers.known(environment.id, named)
    missing = [
        errors.Issue("custom", f"dispatchers[{index}]", said)
        for index, one in enumerate(named)
        if (said := _why_not(known.get(one)))
    ]
    filters.check({"filter": wanted.payload_filter, "contextFilter": wanted.context_filter}, missing)
    return _compiled(wanted)


def _why_not(one_shot: bool | None) -> str | None:
    """Why a named dispatcher gets no replay: `one_shot` is None when it is not there."""
    if one_shot is None:
        return "No dispatcher of this id in the environment"
    return "This dispatcher waits for one new event, and gets no past ones" if one_shot else None


def _compiled(wanted: replays.Wanted) -> filters.Rule:
    payload, context = (
        None if raw is None else filters.parse(raw) for raw in (wanted.payload_filter, wanted.context_filter)
    )
    return filters.Rule(payload, context)


def _subject(past: replays.Past) -> filters.Subject:
    return filters.Subject(past.payload_raw, past.payload_type, past.context)
