-- Functions of the test's own database, by which the machine of test_model reads what the service has made of it.
-- Functions, because their plans are kept: that is half the time of the test.

-- What lies ahead, put to a whole number of hours ahead, so that a slow machine decides nothing.
CREATE FUNCTION whole(at timestamptz) RETURNS timestamptz LANGUAGE sql STABLE AS $$
    SELECT CASE WHEN at > now() + interval '1 hour' * (hours - 0.02) OR at <= now() OR at = 'infinity'
                THEN at ELSE now() + hours * interval '1 hour' END
      FROM ceil(extract(epoch FROM CASE WHEN at < 'infinity' THEN at - now() END) / 3600) AS hours
$$;

-- How many hours ahead that is; 0 for what is past.
CREATE FUNCTION hours(at timestamptz) RETURNS integer LANGUAGE sql STABLE AS $$
    SELECT greatest(0, ceil(extract(epoch FROM at - now()) / 3600))::integer
$$;

-- All that the model speaks of, as JSON; rows are named as it names them.
CREATE FUNCTION everything() RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    UPDATE outbox SET due_at = whole(due_at), hint_at = whole(hint_at), lease_until = whole(lease_until)
     WHERE due_at <> whole(due_at) OR hint_at <> whole(hint_at) OR lease_until <> whole(lease_until);
    UPDATE targets SET rests_until = whole(rests_until) WHERE rests_until <> whole(rests_until);
    UPDATE event_records SET deliver_at = whole(deliver_at) WHERE deliver_at <> whole(deliver_at);
    UPDATE event_dispatchers SET expires_at = whole(expires_at) WHERE expires_at <> whole(expires_at);
    RETURN (
        WITH named AS (
            SELECT id, event_record_id || '/' || dispatcher_id AS name FROM invocations
        )
        SELECT json_build_object(
            'events', (SELECT json_object_agg(id, json_build_object('n', payload->'n', 'due', hours(deliver_at),
                          'delivered', delivered_at IS NOT NULL, 'cancelled', cancelled_at IS NOT NULL))
                         FROM event_records),
            'owed', (SELECT json_object_agg(COALESCE(name, subject_id::text), json_build_object(
                        'kind', kind, 'due', hours(due_at), 'hint', CASE WHEN died_at IS NULL THEN hours(hint_at) END,
                        'hints', hints, 'attempts', attempts, 'dead', died_at IS NOT NULL,
                        'leased', COALESCE(lease_until > now(), FALSE)))
                       FROM outbox LEFT JOIN named ON id = subject_id),
            'invocations', (SELECT json_object_agg(name, json_build_object('status', status, 'attempts', attempts,
                               'reason', reason, 'holds', pending_one_shot IS NOT NULL))
                              FROM invocations JOIN named USING (id)),
            'runs', (SELECT json_object_agg(name, count) FROM (
                        SELECT name, count(*) FROM job_runs LEFT JOIN named ON named.id = invocation_id
                         GROUP BY name) AS runs),
            'ledger', (SELECT json_object_agg(name || '/' || round || '/' || number, outcome)
                         FROM invocation_attempts LEFT JOIN named ON id = invocation_id),
            'dispatchers', (SELECT json_object_agg(id, enabled) FROM event_dispatchers),
            'names', (SELECT json_object_agg(name, id) FROM named)));
END
$$;
