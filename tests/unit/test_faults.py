"""The fault harness's own judgement: each invariant is green for what is right, and red for the one thing that is wrong."""

from __future__ import annotations

import uuid
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest

from faults import front, invariants, record
from faults.evidence import Attempt, Call, Evidence, Invocation, Record, Rule, Try
from faults.processes import Happened
from tests.receiver import Receiver
from tests.servers import free_port

JOB, SHIP, HOOK = (uuid.UUID(int=number) for number in (1, 2, 3))
RULES = [
    Rule("ship", SHIP, frozenset(range(4)), frozenset({JOB})),
    Rule("hook", HOOK, frozenset({3}), url="http://127.0.0.1/ok", signed=True),
]
RECORD, SHIPPED, HOOKED = (uuid.UUID(int=number) for number in (10, 11, 12))
CALL = Call(str(HOOKED), "a", 100.0, "/ok", "ok", 200, verified=True)
FINE = Evidence(
    rules=RULES,
    attempts=[Attempt(["e-3"], 1, 99.0, 5.0, 200, stored=["e-3"])],
    calls=[CALL],
    records=[Record(RECORD, "e-3")],
    invocations=[
        Invocation(SHIPPED, "e-3", "ship", "SUCCEEDED", 1, None),
        Invocation(HOOKED, "e-3", "hook", "SUCCEEDED", 1, None),
    ],
    runs=[(SHIPPED, JOB)],
    tries=[Try(HOOKED, 1, "succeeded", 99.9)],
    owed=0,
    leases=0,
    deepest=10,
    drained=1.0,
    journal=[],
)

REFUSED = [(1, "refused", 89.9), (2, "succeeded", 99.9), (3, "succeeded", 111.9)]


def seen(**changes: Any) -> Evidence:
    return msgspec.structs.replace(FINE, **changes)


def called_again(**changes: Any) -> list[Call]:
    return [CALL, msgspec.structs.replace(CALL, at=112.0, **changes)]


def dead(number: int) -> Invocation:
    return msgspec.structs.replace(FINE.invocations[number], status="DEAD", reason="worker lost")


def red(evidence: Evidence) -> set[str]:
    return {finding.partition(":")[0] for finding in invariants.findings(evidence, most=10)}


def test_what_is_right_is_green() -> None:
    assert red(FINE) == set()
    assert (invariants.lost(FINE), invariants.duplicated(FINE)) == (0, 0)


@pytest.mark.parametrize(
    ("wrong", "names"),
    [
        ({"records": [], "invocations": [], "runs": [], "tries": []}, {"I1"}),
        ({"records": [Record(RECORD, "e-3"), Record(JOB, "e-3")]}, {"I1"}),
        ({"attempts": [Attempt(["e-3"], 1, 99.0, 5.0, 200, stored=["e-4"])]}, {"I1"}),
        ({"attempts": []}, {"I2"}),
        ({"invocations": FINE.invocations[:1]}, {"I3"}),
        ({"invocations": [*FINE.invocations, Invocation(JOB, "e-3", "hook", "DEAD", 1, None)]}, {"I3", "I6"}),
        ({"runs": []}, {"I4"}),
        ({"runs": [(SHIPPED, JOB)] * 2}, {"I4"}),
        ({"runs": [(SHIPPED, JOB), (RECORD, JOB)]}, {"I4"}),
        ({"calls": []}, {"I5"}),
        ({"calls": called_again(hash="b"), "journal": [Happened(101.0, "SIGKILL poster")]}, {"I5"}),
        ({"calls": called_again()}, {"I5"}),
        ({"owed": 1}, {"I6"}),
        ({"invocations": [dead(0), FINE.invocations[1]], "runs": []}, {"I6"}),
        ({"invocations": [FINE.invocations[0], dead(1)]}, {"I6"}),
        ({"tries": [Try(HOOKED, 1, "timeout", 99.9)]}, {"I7"}),
        ({"tries": [Try(HOOKED, 1, "succeeded", 99.9), Try(HOOKED, 2, "succeeded", 99.9)]}, {"I7"}),
        ({"deepest": 11}, {"I8"}),
        ({"leases": 1}, {"I9"}),
        ({"calls": [msgspec.structs.replace(CALL, verified=False)]}, {"I13"}),
    ],
)
def test_what_is_wrong_is_red_in_its_invariant(wrong: dict[str, Any], names: set[str]) -> None:
    assert red(seen(**wrong)) == names


@pytest.mark.parametrize(
    ("happened", "explains"),
    [
        ("SIGKILL poster", True),
        ("SIGSTOP group poster", True),
        ("ended poster (-9)", True),
        ("database session ended", True),
        ("SIGTERM poster", False),
        ("ended poster (0)", False),
        ("SIGKILL worker-1", False),
        ("broker killed", False),
    ],
)
def test_a_repeat_is_explained_by_what_can_cause_one(happened: str, explains: bool) -> None:
    between = seen(calls=called_again(), journal=[Happened(105.0, happened)])
    before = seen(calls=called_again(), journal=[Happened(90.0, happened)])

    assert (red(between) == set()) is explains
    assert red(before) == {"I5"}


def test_a_repeat_is_explained_by_a_database_that_was_away_when_the_call_ended() -> None:
    taken, given_back = Happened(90.0, "database connections taken"), Happened(95.0, "database connections given back")

    assert red(seen(calls=called_again(), journal=[taken])) == set()
    assert red(seen(calls=called_again(), journal=[taken, given_back])) == {"I5"}


def test_a_call_whose_answer_came_too_late_may_be_repeated() -> None:
    tries = [Try(HOOKED, 1, "timeout", 99.9), Try(HOOKED, 2, "succeeded", 111.9)]
    twice = [FINE.invocations[0], msgspec.structs.replace(FINE.invocations[1], attempts=2)]

    assert red(seen(calls=called_again(), tries=tries, invocations=twice)) == set()


def test_that_another_call_was_refused_before_is_no_cause() -> None:
    refused = msgspec.structs.replace(CALL, at=90.0, status=500)
    tries = [Try(HOOKED, number, outcome, at) for number, outcome, at in REFUSED]
    thrice = [FINE.invocations[0], msgspec.structs.replace(FINE.invocations[1], attempts=3)]

    assert red(seen(calls=[refused, *called_again()], tries=tries, invocations=thrice)) == {"I5"}


def test_what_was_withdrawn_may_be_skipped() -> None:
    withdrawn = [RULES[0], msgspec.structs.replace(RULES[1], ends=frozenset({"SUCCEEDED", "SKIPPED"}))]
    skipped = msgspec.structs.replace(FINE.invocations[1], status="SKIPPED")

    assert red(seen(invocations=[FINE.invocations[0], skipped], calls=[], rules=withdrawn)) == set()
    assert red(seen(invocations=[FINE.invocations[0], skipped], calls=[])) == {"I6"}


def test_an_event_is_lost_that_is_not_stored_or_not_carried_out() -> None:
    pending = msgspec.structs.replace(FINE.invocations[0], status="PENDING")

    assert invariants.lost(seen(records=[])) == 1
    assert invariants.lost(seen(invocations=[pending, FINE.invocations[1]])) == 1
    assert invariants.lost(seen(invocations=[dead(0), FINE.invocations[1]])) == 1
    assert invariants.duplicated(seen(runs=[(SHIPPED, JOB)] * 3)) == 2


def test_many_breaches_of_one_kind_are_counted_not_listed() -> None:
    many = [Record(uuid.uuid4(), f"x-{number}") for number in range(10)]

    assert [finding for finding in invariants.findings(seen(records=many), 10) if finding.startswith("I2")][-1] == (
        "I2: … and 7 more"
    )


def test_a_record_is_green_only_without_findings_and_losses() -> None:
    def of(evidence: Evidence, *findings: str) -> record.Record:
        return record.Record.of("F0", 1, evidence, list(findings), {}, 1.0)

    assert of(FINE).green
    assert not of(FINE, "late").green
    assert not of(seen(records=[])).green
    assert not record.Record.broken("F0", 1, "cannot be started", 1.0).green
    assert "RED" in record.line(of(FINE, "late"))
    assert record.totals([of(FINE), of(FINE, "late")]).startswith("1 of 2 green; 2 events acknowledged, 0 lost")


@pytest.mark.parametrize(
    ("findings", "lost", "only_late"),
    [
        ([], 0, False),
        (["poster back: not within 10 s"], 0, True),
        (["I6: drained after 25.1 s, 22 s were promised", "I10: p99 612 ms against 91 ms before"], 0, True),
        (["I6: 3 rows are owed 72 s after the faults", "I6: drained after 72.0 s, 12 s were promised"], 0, False),
        (
            ["poster back: not within 10 s", "I5: invocation 1 was called again 4 s later, and nothing had happened"],
            0,
            False,
        ),
        (["poster back: not within 10 s"], 1, False),
        (["OperationalError: the database is away"], 0, False),
    ],
)
def test_what_was_only_late_is_told_from_what_is_wrong(findings: list[str], lost: int, only_late: bool) -> None:
    assert record.Record("F2", 1, findings=findings, lost=lost).only_late is only_late


def test_the_proxy_sends_on_what_was_refused_or_closed_before_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    def hang_up(handler: BaseHTTPRequestHandler) -> None:
        handler.close_connection = True

    monkeypatch.setattr(front, "_LOOK", 3600)
    with Receiver(hang_up) as closing, Receiver() as well:
        ports = [urlsplit(receiver.url).port or 0 for receiver in (closing, well)]
        with front.Buffering(free_port(), *ports) as proxy:
            # Each of the three comes first once.
            assert [proxy.request("/", b"{}", {}).status for _ in range(3)] == [200] * 3
    assert [call.body for call in well.calls] == [b"{}"] * 3
    assert proxy.sent_on == {"NewConnectionError": 1, "ProtocolError": 2}
