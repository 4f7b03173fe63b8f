// Lines of {filter, payload} in; for each, whether the published schema takes the filter, and whether it matches.
import readline from "node:readline";
import { EventFilterSchema, eventFilterMatches } from "@trigger.dev/core";

for await (const line of readline.createInterface({ input: process.stdin })) {
  const { filter, payload } = JSON.parse(line);
  const parsed = EventFilterSchema.safeParse(filter);
  console.log(JSON.stringify(parsed.success ? eventFilterMatches({ payload }, { payload: parsed.data }) : null));
}
