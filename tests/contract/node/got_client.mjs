// got as it is delivered: HTTP/1.1, two retries. The job comes as JSON, and a line of JSON tells how each request went.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const job = JSON.parse(process.argv[2]);
const place = createRequire(import.meta.url).resolve("got"); // NODE_PATH is for require() only
const { got } = await import(pathToFileURL(place));
const dnsLookup = (host, options, done) =>
  options.all ? done(null, [{ address: job.host, family: 4 }]) : done(null, job.host, 4);
const https = { certificateAuthority: readFileSync(job.ca) };
const body = job.body && readFileSync(job.body);

for (const origin of job.origins) {
  const outcome = { status: null, body: "", error: null };
  try {
    const options = { method: body ? "POST" : "GET", dnsLookup, https, ...(body ? { body } : {}) };
    const response = await got(origin + job.path, options);
    outcome.status = response.statusCode;
  } catch (error) {
    outcome.status = error.response?.statusCode ?? null;
    outcome.error = outcome.status ? null : (error.code ?? error.name);
    outcome.trace = error.stack;
  }
  console.log(JSON.stringify(outcome));
}
