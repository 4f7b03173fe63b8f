// Lines of {secret, publicKey, headers, body} in; for each, whether a receiver takes the call: one that knows the secret asks
// the published library, one that knows a public key only asks OpenSSL, as that library has no asymmetric signatures.
import crypto from "node:crypto";
import readline from "node:readline";
import { Webhook } from "standardwebhooks";

const SPKI = Buffer.from("302a300506032b6570032100", "hex");

function signedBy(publicKey, headers, body) {
  const raw = Buffer.from(publicKey.replace(/^whpk_/, ""), "base64");
  const key = crypto.createPublicKey({ key: Buffer.concat([SPKI, raw]), format: "der", type: "spki" });
  const signed = Buffer.from(`${headers["webhook-id"]}.${headers["webhook-timestamp"]}.${body}`);
  return headers["webhook-signature"].split(" ").some((one) => {
    const [version, signature] = one.split(",");
    return version === "v1a" && crypto.verify(null, signed, key, Buffer.from(signature, "base64"));
  });
}

function taken({ secret, publicKey, headers, body }) {
  if (publicKey) return signedBy(publicKey, headers, body);
  try {
    new Webhook(secret).verify(body, headers);
    return true;
  } catch {
    return false;
  }
}

for await (const line of readline.createInterface({ input: process.stdin })) {
  console.log(JSON.stringify(taken(JSON.parse(line))));
}
