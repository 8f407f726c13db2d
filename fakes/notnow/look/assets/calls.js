// Calls of the API.

export const group = document.body.dataset.group;

/** Call the API; the message of an error is the sentence of its problem. */
export async function call(path, { method = "GET", body, text = false } = {}) {
  const options =
    method === "GET"
      ? {}
      : { method, headers: { "content-type": "application/json" }, body: JSON.stringify(body ?? {}) };
  const answer = await fetch(path, options);
  if (!answer.ok) {
    const problem = await answer.json().catch(() => ({ detail: answer.statusText }));
    throw Object.assign(new Error(problem.detail), { status: answer.status });
  }
  return answer.status === 204 ? null : text ? answer.text() : answer.json();
}

export const of = (name, rest = "") => `/v1/servers/${encodeURIComponent(name)}${rest}`;
