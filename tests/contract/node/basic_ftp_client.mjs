// basic-ftp: a file to get or to put. The job comes as JSON; a line of JSON tells how it went.
import { createRequire } from "node:module";

const job = JSON.parse(process.argv[2]);
const { Client } = createRequire(import.meta.url)("basic-ftp"); // NODE_PATH is for require() only
const client = new Client();
const outcome = { error: null };
try {
  await client.access({ host: job.host, port: job.port, user: job.user, password: job.password });
  if (job.task === "put") await client.uploadFrom(job.file, job.name);
  else await client.downloadTo(job.file, job.name);
} catch (error) {
  outcome.error = [error.name, error.code].filter(Boolean).join(" ");
  outcome.trace = error.stack;
}
client.close();
console.log(JSON.stringify(outcome));
