// Starts `seqmlm code serve RUN --lsp` and hands it to VS Code's language client.
const vscode = require("vscode");
const { LanguageClient } = require("vscode-languageclient/node");

const LANGUAGES = [
  "python",
  "java",
  "typescript",
  "typescriptreact",
  "javascript",
  "javascriptreact",
];
const SERVER_SETTINGS = [
  "deadline_ms",
  "limit",
  "inline_probability",
  "max_document_characters",
  "roles",
  "types",
];

let client;

function serverSettings() {
  const settings = vscode.workspace.getConfiguration("seqmlm");
  return Object.fromEntries(SERVER_SETTINGS.map((name) => [name, settings.get(name)]));
}

async function activate(context) {
  const settings = vscode.workspace.getConfiguration("seqmlm");
  const run = settings.get("run");
  if (!run) {
    vscode.window.showWarningMessage(
      "seqmlm: set seqmlm.run to the folder of a run of seqmlm train --domain code.",
    );
    return;
  }
  client = new LanguageClient(
    "seqmlm",
    "seqmlm",
    { command: settings.get("command"), args: ["code", "serve", run, "--lsp"] },
    {
      documentSelector: LANGUAGES.map((language) => ({ language })),
      initializationOptions: serverSettings(),
    },
  );
  context.subscriptions.push(
    vscode.workspace.onDidChangeConfiguration((event) => {
      if (event.affectsConfiguration("seqmlm")) {
        client.sendNotification("workspace/didChangeConfiguration", {
          settings: { seqmlm: serverSettings() },
        });
      }
    }),
  );
  await client.start();
}

async function deactivate() {
  await client?.stop();
}

module.exports = { activate, deactivate };
