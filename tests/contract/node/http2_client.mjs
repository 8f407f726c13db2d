// Node's own HTTP/2: a session for each origin, which the program keeps, as its documentation has it.
// The job comes as JSON, and a line of JSON tells how each request of it went.
import http2 from "node:http2";
import { readFileSync } from "node:fs";

const job = JSON.parse(process.argv[2]);
const body = job.body && readFileSync(job.body);
const lookup = (host, options, done) =>
  options.all ? done(null, [{ address: job.host, family: 4 }]) : done(null, job.host, 4);
const sessions = new Map();

function sessionFor(origin) {
  let session = sessions.get(origin);
  if (!session || session.closed || session.destroyed) {
    session = http2.connect(origin, { ca: readFileSync(job.ca), lookup });
    session.on("error", () => {}); // its streams tell
    sessions.set(origin, session);
  }
  return session;
}

function request(session, origin) {
  return new Promise((resolve) => {
    const outcome = { status: null, body: "", error: null };
    const stream = session.request({
      ":method": body ? "POST" : "GET", ":path": job.path, ":authority": new URL(origin).host,
    });
    stream.setEncoding("utf8");
    stream.on("response", (headers) => (outcome.status = headers[":status"]));
    stream.on("data", (piece) => (outcome.body += piece));
    stream.on("error", (error) => (outcome.error = error));
    stream.on("close", () => {
      const error = outcome.error?.cause ?? outcome.error;
      resolve({ ...outcome, error: error && (error.code ?? error.message), origins: session.originSet ?? null });
    });
    stream.end(body ?? undefined);
  });
}

for (const origin of job.origins) {
  const session = sessionFor(job.coalesce ? job.origins[0] : origin);
  console.log(JSON.stringify(await request(session, origin)));
}
for (const session of sessions.values()) session.destroy();
