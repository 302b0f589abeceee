// The layer on which VS Code's language client is built: completes a file, cancels, edits.
// Environment: PORT of the server on this machine; FILE; TYPED. Prints one JSON object.
import { readFileSync } from "node:fs";
import { connect } from "node:net";
import { pathToFileURL } from "node:url";
import protocol from "vscode-languageserver-protocol/node";
import { TextDocument } from "vscode-languageserver-textdocument";

const { FILE, TYPED, PORT } = process.env;
const socket = connect(Number(PORT), "127.0.0.1");
const connection = protocol.createProtocolConnection(
  new protocol.StreamMessageReader(socket),
  new protocol.StreamMessageWriter(socket),
);
connection.listen();

const { capabilities } = await connection.sendRequest(protocol.InitializeRequest.type, {
  processId: process.pid,
  rootUri: null,
  capabilities: { textDocument: { completion: {}, inlineCompletion: {} } },
  initializationOptions: { limit: 200, deadline_ms: 60_000 },
});
await connection.sendNotification(protocol.InitializedNotification.type, {});

async function open(uri, text) {
  const document = TextDocument.create(uri, "python", 1, text);
  await connection.sendNotification(protocol.DidOpenTextDocumentNotification.type, {
    textDocument: { uri, languageId: "python", version: 1, text },
  });
  return document;
}

async function edit(document, contentChanges) {
  const version = document.version + 1;
  await connection.sendNotification(protocol.DidChangeTextDocumentNotification.type, {
    textDocument: { uri: document.uri, version },
    contentChanges,
  });
  TextDocument.update(document, contentChanges, version);
}

const placeAtEnd = (document) => ({
  textDocument: { uri: document.uri },
  position: document.positionAt(document.getText().length),
});

async function completeAtEnd(document) {
  const list = await connection.sendRequest(
    protocol.CompletionRequest.type,
    placeAtEnd(document),
  );
  return list.items;
}

// A user types at the end of a real file and takes the first entry.
const file = await open(pathToFileURL(FILE).href, readFileSync(FILE, "utf8"));
const { position } = placeAtEnd(file);
await edit(file, [{ range: { start: position, end: position }, text: TYPED }]);
const items = await completeAtEnd(file);
const resolved = await connection.sendRequest(protocol.CompletionResolveRequest.type, items[0]);
const completed = TextDocument.applyEdits(file, [items[0].textEdit]).split("\n").at(-1);
const inline = await connection.sendRequest(protocol.InlineCompletionRequest.type, {
  ...placeAtEnd(file),
  context: { triggerKind: 1 },
});

// Requests that are cancelled at once: each is answered, and with nothing else than that.
const outcomes = await Promise.all(
  Array.from({ length: 200 }, async () => {
    const source = new protocol.CancellationTokenSource();
    const answer = connection.sendRequest(
      protocol.CompletionRequest.type,
      placeAtEnd(file),
      source.token,
    );
    source.cancel();
    return answer.then(
      () => "answered",
      (error) => error.code,
    );
  }),
);

// Random edits, against VS Code's own text document.
let state = 12345;
const random = (limit) => (state = (state * 48271) % 2147483647) % limit;
const pieces = ["zq_a", "zq_bc ", "\u{1F600}", " ", "\n", "\r\n", "é = ", "\n\nzq_d"];
const edited = await open("untitled:edited", "");
for (let number = 0; number < 500; number += 1) {
  const start = { line: random(edited.lineCount + 1), character: random(12) };
  const end = { line: start.line + random(2) * random(2), character: random(12) };
  const offsets = [edited.offsetAt(start), edited.offsetAt(end)].sort((a, b) => a - b);
  // Not within a surrogate pair: there the two sides may differ, and no editor goes there.
  const [from, to] = offsets.map((offset) =>
    /[\uDC00-\uDFFF]/.test(edited.getText()[offset] ?? "") ? offset - 1 : offset,
  );
  const range = { start: edited.positionAt(from), end: edited.positionAt(to) };
  await edit(edited, [{ range, text: pieces[random(pieces.length)] }]);
}
const words = new Set(edited.getText().match(/[\p{L}\p{N}_]+/gu));
const last = placeAtEnd(edited).position;
await edit(edited, [{ range: { start: last, end: last }, text: "\nzq" }]);

const statistics = await connection.sendRequest(protocol.ExecuteCommandRequest.type, {
  command: "seqmlm.statistics",
});
console.log(
  JSON.stringify({
    incremental: capabilities.textDocumentSync.change === protocol.TextDocumentSyncKind.Incremental,
    offersInline: Boolean(capabilities.inlineCompletionProvider),
    labels: items.map((item) => item.label),
    detail: resolved.detail,
    completed,
    inline: inline.items.length,
    outcomes: [...new Set(outcomes)],
    cancelled: outcomes.filter((outcome) => outcome === protocol.LSPErrorCodes.RequestCancelled)
      .length,
    cancelledByServer: statistics.ended.cancelled,
    expected: [...words].filter((word) => word.startsWith("zq")).sort(),
    found: (await completeAtEnd(edited)).map((item) => item.label).sort(),
  }),
);
await connection.sendRequest(protocol.ShutdownRequest.type);
await connection.sendNotification(protocol.ExitNotification.type);
connection.dispose();
socket.destroy();
