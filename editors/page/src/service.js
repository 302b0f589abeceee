// Asking the service: one request per state of the text, an older one is given up.

export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

const withToken = (token) => (token ? { authorization: `Bearer ${token}` } : {});

// The languages that the run was fitted to; null if the service does not tell.
export async function fittedLanguages(token) {
  const response = await fetch("/v1/health", { headers: withToken(token) });
  return response.ok ? (await response.json()).languages : null;
}

// Calls `tell(answer, milliseconds)` for the lexical answer and again for the model's.
export async function ask({ prefix, suffix, language, token, signal, tell }) {
  const began = performance.now();
  const headers = { "content-type": "application/json", ...withToken(token) };
  const response = await fetch("/v1/completions", {
    method: "POST",
    headers,
    signal,
    body: JSON.stringify({ language, segments: { prefix, suffix }, limit: 10, stream: true }),
  });
  if (!response.ok) {
    const { error } = await response.json();
    throw new Refused(response.status, error.message);
  }
  let last = null;
  for await (const { event, data } of serverSentEvents(response.body)) {
    const answer = JSON.parse(data);
    if (event === "done") break;
    if (event === "error") throw new Refused(503, answer.error.message);
    last = answer;
    tell(answer, performance.now() - began);
  }
  return last;
}

async function* serverSentEvents(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let buffer = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    buffer += value;
    const blocks = buffer.split("\n\n");
    buffer = blocks.pop();
    for (const block of blocks) {
      const fields = Object.fromEntries(
        block.split("\n").map((line) => {
          const colon = line.indexOf(": ");
          return [line.slice(0, colon), line.slice(colon + 2)];
        }),
      );
      yield fields;
    }
  }
}
