"""The broker's URL with our patience in it."""

from __future__ import annotations

import pika
import pytest

from kongflow_events.broker.guarded import patient_url


@pytest.mark.parametrize(
    ("url", "host", "vhost", "heartbeat", "encrypted"),
    [
        ("amqp://localhost", "localhost", "/", 10, False),
        ("amqp://u:p%40@h:5671/%2F", "h", "/", 10, False),
        ("amqps://h/events", "h", "events", 10, True),
        ("amqp://h/?heartbeat=30", "h", "/", 30, False),
    ],
)
def test_every_wait_has_a_limit_and_what_the_url_says_itself_wins(
    url: str, host: str, vhost: str, heartbeat: int, encrypted: bool
) -> None:
    found = pika.URLParameters(patient_url(url))

    assert (found.host, found.virtual_host, found.heartbeat) == (host, vhost, heartbeat)
    assert (found.blocked_connection_timeout, found.socket_timeout, found.stack_timeout) == (2, 2, 3)
    assert found.connection_attempts == 1
    assert (found.ssl_options is not None) is encrypted
