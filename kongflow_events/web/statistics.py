"""`/api/v1/statistics`: what an environment received, and what became of it."""

from __future__ import annotations

import falcon

from kongflow_events import dates
from kongflow_events.schemas import statistics as shown
from kongflow_events.services import statistics
from kongflow_events.store import db
from kongflow_events.web.operations import operation
from kongflow_events.web.requests import Door, answer, query_of


class Statistics:
    """Count the environment's events and invocations."""

    def __init__(self, door: Door) -> None:
        self._door = door

    @operation("getStatistics", query=shown.StatisticsQuery, answer=shown.Statistics)
    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """Count events and invocations over time.

        Events are counted in the slot in which they were stored, invocations in that in which they were made: each slot
        says what came in then, and what has become of it by now. A window holds 31 days at the most.
        """
        environment = self._door.enter(request)
        query = shown.read_query(query_of(request))
        with db.unit():
            found = statistics.count_statistics(
                environment, dates.at_of(query.since), dates.at_of(query.until), query.slots
            )
            answer(response, shown.statistics(*found))

    on_head = on_get
