// One line of JSON in, one out: calls a method of the published client, unmodified, and says what came of it.
import readline from "node:readline";
import { TriggerClient } from "@trigger.dev/sdk";

const clientOf = (apiUrl, apiKey) => new TriggerClient({ id: "sdk-tests", apiKey, apiUrl, logLevel: "error" });

// JSON has no dates: a Date that the client made is marked, so that the test sees that it is one.
const marked = (value) =>
  value instanceof Date
    ? { $date: value.toISOString() }
    : Array.isArray(value)
      ? value.map(marked)
      : value && typeof value === "object"
        ? Object.fromEntries(Object.entries(value).map(([key, below]) => [key, marked(below)]))
        : value;

const given = (value) => (value && value.$date ? new Date(value.$date) : value);
const revived = (value) => JSON.parse(JSON.stringify(value), (_, below) => given(below));

for await (const line of readline.createInterface({ input: process.stdin })) {
  const { url, key, method, args } = JSON.parse(line);
  let answer;
  try {
    answer = { value: marked(await clientOf(url, key)[method](...revived(args))) };
  } catch (error) {
    answer = { error: error.message, name: error.constructor.name };
  }
  console.log(JSON.stringify(answer));
}
