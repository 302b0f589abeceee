// Loads the extension with stand-ins for VS Code and its client; prints what it did with them.
// Environment: EXTENSION, its folder; SETTINGS, as JSON.
const Module = require("node:module");

const settings = JSON.parse(process.env.SETTINGS);
const told = { warnings: [], notifications: [], stopped: false };
let configurationChanged;

const standIns = {
  vscode: {
    workspace: {
      getConfiguration: (section) => ({ get: (name) => settings[`${section}.${name}`] }),
      onDidChangeConfiguration: (listener) => {
        configurationChanged = listener;
      },
    },
    window: { showWarningMessage: (message) => told.warnings.push(message) },
  },
  "vscode-languageclient/node": {
    LanguageClient: class {
      constructor(id, name, serverOptions, clientOptions) {
        Object.assign(told, { id, serverOptions, clientOptions });
      }
      async start() {
        told.started = true;
      }
      async stop() {
        told.stopped = true;
      }
      sendNotification(method, params) {
        told.notifications.push([method, params]);
      }
    },
  },
};
const load = Module._load;
Module._load = (name, ...rest) => standIns[name] ?? load(name, ...rest);

(async () => {
  const extension = require(process.env.EXTENSION);
  await extension.activate({ subscriptions: [] });
  settings["seqmlm.limit"] = 3;
  configurationChanged?.({ affectsConfiguration: (section) => section === "seqmlm" });
  await extension.deactivate();
  console.log(JSON.stringify(told));
})();
