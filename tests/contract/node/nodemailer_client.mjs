// nodemailer, one message. The job comes as JSON; a line of JSON tells how it went.
import { createRequire } from "node:module";

const job = JSON.parse(process.argv[2]);
const nodemailer = createRequire(import.meta.url)("nodemailer"); // NODE_PATH is for require() only
const transport = nodemailer.createTransport({ host: job.host, port: job.port, name: job.name });
const outcome = { error: null };
try {
  await transport.sendMail({ envelope: { from: job.sender, to: job.recipients }, raw: job.content });
} catch (error) {
  outcome.error = [error.code ?? error.name, error.responseCode].filter(Boolean).join(" ");
  outcome.trace = error.stack;
}
console.log(JSON.stringify(outcome));
