// fetch() as undici has it, with HTTP/2 allowed. The job comes as JSON, and a line of JSON tells how each request went.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const job = JSON.parse(process.argv[2]);
const { Agent, fetch } = createRequire(import.meta.url)("undici"); // NODE_PATH is for require() only
const body = job.body && readFileSync(job.body);
const lookup = (host, options, done) =>
  options.all ? done(null, [{ address: job.host, family: 4 }]) : done(null, job.host, 4);
const dispatcher = new Agent({ allowH2: !job.h1, connect: { ca: readFileSync(job.ca), lookup } });

for (const origin of job.origins) {
  const outcome = { status: null, body: "", error: null };
  try {
    const response = await fetch(origin + job.path, { method: body ? "POST" : "GET", body, dispatcher });
    outcome.status = response.status;
    outcome.body = await response.text();
  } catch (error) {
    outcome.error = error.cause?.code ?? error.cause?.message ?? error.message;
    outcome.trace = `${error.stack}\n${error.cause?.stack}`;
  }
  console.log(JSON.stringify(outcome));
}
await dispatcher.destroy();
