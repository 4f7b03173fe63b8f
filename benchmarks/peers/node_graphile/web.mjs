// Takes events: an event and the job that delivers it are one transaction.
import { createHash } from "node:crypto";
import Fastify from "fastify";
import pg from "pg";

const pool = new pg.Pool({ connectionString: process.env.DATABASE_URL, max: 16 });
const app = Fastify();

const INSERT = `
  INSERT INTO event_records
    (event_id, name, payload, context, source, organization_id, environment_id, project_id)
  VALUES ($1, $2, $3, $4, $5, '00000000-0000-0000-0000-000000000001', $6, '00000000-0000-0000-0000-000000000002')
  ON CONFLICT (event_id, environment_id) DO UPDATE SET event_id = EXCLUDED.event_id
  RETURNING id, timestamp, deliver_at, delivered_at`;

const SCHEMA = {
  body: {
    type: "object",
    required: ["event"],
    properties: {
      event: {
        type: "object",
        required: ["id", "name", "payload"],
        properties: {
          id: { type: "string" },
          name: { type: "string" },
          payload: { type: "object" },
          context: { type: "object" },
          source: { type: "string" },
        },
      },
    },
  },
};

app.get("/healthz", async () => ({ status: "ok" }));

app.post("/api/v1/events", { schema: SCHEMA }, async (request, reply) => {
  const { event } = request.body;
  const client = await pool.connect();
  try {
    const environment = await environmentOf(client, request.headers.authorization ?? "");
    if (!environment) return reply.code(401).send({ error: "Invalid API key" });
    const record = await store(client, environment, event);
    return {
      id: event.id,
      name: event.name,
      payload: event.payload,
      context: event.context,
      timestamp: record.timestamp,
      deliverAt: record.deliver_at,
      deliveredAt: record.delivered_at,
    };
  } finally {
    client.release();
  }
});

async function environmentOf(client, authorization) {
  const sha256 = createHash("sha256").update(authorization.replace(/^Bearer /, "")).digest();
  const found = await client.query({
    name: "key",
    text: "SELECT environment_id FROM api_keys WHERE sha256 = $1",
    values: [sha256],
  });
  return found.rows[0]?.environment_id;
}

async function store(client, environment, { id, name, payload, context, source = "trigger.dev" }) {
  await client.query("BEGIN");
  try {
    const values = [id, name, payload, context, source, environment];
    const { rows } = await client.query({ name: "insert", text: INSERT, values });
    if (!rows[0].delivered_at) {
      const job = ["deliver", { id: rows[0].id }];
      await client.query({ name: "add", text: "SELECT graphile_worker.add_job($1, $2::json)", values: job });
    }
    await client.query("COMMIT");
    return rows[0];
  } catch (error) {
    await client.query("ROLLBACK");
    throw error;
  }
}

await app.listen({ host: "127.0.0.1", port: Number(process.env.PORT) });
