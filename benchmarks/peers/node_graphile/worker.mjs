// Delivers events and starts runs; doing either twice does nothing.
import { run } from "graphile-worker";
import pg from "pg";
import { matches } from "./filters.mjs";

const CONCURRENCY = 16;
const pool = new pg.Pool({ connectionString: process.env.DATABASE_URL, max: CONCURRENCY + 4 });

const DISPATCHERS = `
  SELECT id, payload_filter FROM event_dispatchers
  WHERE environment_id = $1 AND event = $2 AND source = $3 AND enabled`;

const START = `
  INSERT INTO job_runs (job_id, event_record_id, dispatcher_id)
  SELECT job_id, $1, id FROM event_dispatchers WHERE id = $2 AND enabled
  ON CONFLICT DO NOTHING`;

async function deliver({ id }, { withPgClient }) {
  await withPgClient(async (client) => {
    await client.query("BEGIN");
    try {
      await queueInvocations(client, id);
      await client.query("COMMIT");
    } catch (error) {
      await client.query("ROLLBACK");
      throw error;
    }
  });
}

async function queueInvocations(client, id) {
  const event = (await client.query({
    name: "event",
    text: "SELECT environment_id, name, source, payload FROM event_records WHERE id = $1 FOR UPDATE",
    values: [id],
  })).rows[0];
  const values = [event.environment_id, event.name, event.source];
  const { rows } = await client.query({ name: "dispatchers", text: DISPATCHERS, values });
  for (const dispatcher of rows.filter(({ payload_filter: rule }) => matches(rule, event.payload))) {
    const job = ["invoke", { event: id, dispatcher: dispatcher.id }];
    await client.query({ name: "add", text: "SELECT graphile_worker.add_job($1, $2::json)", values: job });
  }
  await client.query({
    name: "delivered",
    text: "UPDATE event_records SET delivered_at = now() WHERE id = $1",
    values: [id],
  });
}

async function invoke({ event, dispatcher }, { withPgClient }) {
  await withPgClient((client) => client.query({ name: "start", text: START, values: [event, dispatcher] }));
}

const runner = await run({
  pgPool: pool,
  taskList: { deliver, invoke },
  preset: { worker: { concurrentJobs: CONCURRENCY, localQueue: { size: 100 }, pollInterval: 1000 } },
});
await runner.promise;
