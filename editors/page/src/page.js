import {
  acceptCompletion,
  autocompletion,
  closeBrackets,
  closeBracketsKeymap,
  closeCompletion,
  completionKeymap,
} from "@codemirror/autocomplete";
import { defaultKeymap, history, historyKeymap, indentWithTab } from "@codemirror/commands";
import { javascript } from "@codemirror/lang-javascript";
import { bracketMatching, indentOnInput, indentUnit, StreamLanguage } from "@codemirror/language";
import { java } from "@codemirror/legacy-modes/mode/clike";
import { python } from "@codemirror/legacy-modes/mode/python";
import { Compartment, EditorState, Prec } from "@codemirror/state";
import { drawSelection, EditorView, highlightActiveLine, keymap, lineNumbers } from "@codemirror/view";
import { hue, percent, showCandidates } from "./candidates.js";
import { SAMPLES } from "./samples.js";
import { ask, fittedLanguages, Refused } from "./service.js";
import { appearance } from "./theme.js";

const byId = (id) => document.getElementById(id);
const panel = { list: byId("candidates"), legend: byId("legend"), empty: byId("empty") };
// The stream modes of Python and Java are a tenth of the size of their parsers.
const grammars = {
  python: () => StreamLanguage.define(python),
  java: () => StreamLanguage.define(java),
  typescript: () => javascript({ typescript: true }),
  tsx: () => javascript({ typescript: true, jsx: true }),
  javascript: () => javascript({ jsx: true }),
};
const grammar = new Compartment();
let language = "python";
let latest = null;

// One request for one state of text and cursor, shared by the panel and the popup.
function completionsAt(state, position) {
  if (latest && latest.doc === state.doc && latest.position === position) return latest.answer;
  latest?.controller.abort();
  const controller = new AbortController();
  const mine = { doc: state.doc, position, controller };
  latest = mine;
  mine.answer = ask({
    prefix: state.sliceDoc(0, position),
    suffix: state.sliceDoc(position),
    language,
    token: byId("token").value,
    signal: controller.signal,
    tell: (answer, milliseconds) => latest === mine && showAnswer(answer, milliseconds),
  }).catch((error) => {
    if (error.name === "AbortError") return null;
    if (latest === mine) showProblem(error);
    return null;
  });
  return mine.answer;
}

function showAnswer(answer, milliseconds) {
  showCandidates(panel, answer.candidates);
  const speaker = answer.used_model ? "model" : "lexical";
  byId("status").textContent = `${speaker} · ${milliseconds.toFixed(0)} ms`;
  byId("status").dataset.state = speaker;
  byId("notice").textContent = answer.notice ?? "";
  byId("notice").hidden = !answer.notice;
}

function showProblem(error) {
  const isRefusal = error instanceof Refused;
  if (isRefusal && error.status === 401) byId("credentials").hidden = false;
  byId("status").textContent = isRefusal ? error.message : "The service does not answer.";
  byId("status").dataset.state = "problem";
}

// Offsets of the service count code points; the editor counts UTF-16 units.
function typedUnits(state, position, { start, end }) {
  const characters = Array.from(state.sliceDoc(Math.max(0, position - 2 * (end - start)), position));
  return characters.slice(characters.length - (end - start)).join("").length;
}

function restUnits(state, position, { end, word_end }) {
  const characters = Array.from(state.sliceDoc(position, position + 2 * (word_end - end)));
  return characters.slice(0, word_end - end).join("").length;
}

async function completionSource(context) {
  const answer = await completionsAt(context.state, context.pos);
  if (context.aborted || !answer || !answer.candidates.length) return null;
  const [first] = answer.candidates;
  return {
    from: context.pos - typedUnits(context.state, context.pos, first),
    // A word that goes on behind the cursor is replaced whole.
    to: context.pos + restUnits(context.state, context.pos, first),
    filter: false,
    options: answer.candidates.map(({ text, score, source }) => ({
      label: text,
      detail: percent(score),
      source,
      score,
    })),
  };
}

const scoreBar = {
  position: 10,
  render: ({ source, score }) => {
    const dot = document.createElement("span");
    dot.className = "dot";
    dot.style.background = hue(source);
    dot.style.opacity = String(0.35 + 0.65 * Math.exp(score));
    return dot;
  },
};

let pause = 0;
const askForPanel = EditorView.updateListener.of((update) => {
  if (!update.docChanged && !update.selectionSet) return;
  clearTimeout(pause);
  pause = setTimeout(() => completionsAt(update.view.state, update.view.state.selection.main.head), 40);
});

const view = new EditorView({
  parent: byId("editor"),
  extensions: [
    lineNumbers(),
    history(),
    drawSelection(),
    indentOnInput(),
    bracketMatching(),
    closeBrackets(),
    highlightActiveLine(),
    EditorView.contentAttributes.of({ "aria-label": "Source code", spellcheck: "false" }),
    Prec.highest(keymap.of([{ key: "Tab", run: acceptCompletion }])),
    keymap.of([
      ...closeBracketsKeymap,
      ...completionKeymap,
      ...defaultKeymap,
      ...historyKeymap,
      indentWithTab,
    ]),
    autocompletion({
      override: [completionSource],
      activateOnTypingDelay: 40,
      icons: false,
      addToOptions: [scoreBar],
    }),
    grammar.of(grammars.python()),
    indentUnit.of("    "),
    askForPanel,
    appearance,
  ],
});

function showSample() {
  const [before, after] = SAMPLES[language].split("|");
  view.dispatch({
    changes: { from: 0, to: view.state.doc.length, insert: before + after },
    selection: { anchor: before.length },
  });
  view.focus();
}

function askAgain() {
  latest?.controller.abort();
  latest = null;
  completionsAt(view.state, view.state.selection.main.head);
}

// What the user has typed or pasted stays; a sample that was left as it is makes place for another.
function use(chosen) {
  const text = view.state.doc.toString();
  const isSample = text === SAMPLES[language].replace("|", "");
  language = chosen;
  view.dispatch({ effects: grammar.reconfigure(grammars[language]()) });
  closeCompletion(view);
  if (isSample || !text.trim()) showSample();
  else askAgain();
}

// Begins with a language that the run knows names of, and marks those that it does not.
async function open() {
  const fitted = await fittedLanguages(byId("token").value).catch(() => null);
  const options = [...byId("language").options];
  for (const option of fitted ? options : []) {
    const mark = fitted.includes(option.value) ? "" : " (not fitted)";
    option.textContent = option.textContent.replace(/ \(.*\)$/, "") + mark;
  }
  if (fitted?.length && !fitted.includes(language)) {
    byId("language").value = options.find(({ value }) => fitted.includes(value)).value;
  }
  use(byId("language").value);
}

byId("language").addEventListener("change", (event) => use(event.target.value));
byId("token").addEventListener("change", open);
const root = document.documentElement;
root.dataset.theme = localStorage.getItem("theme") ?? "auto";
byId("theme").addEventListener("click", () => {
  const themes = ["auto", "light", "dark"];
  root.dataset.theme = themes[(themes.indexOf(root.dataset.theme) + 1) % themes.length];
  localStorage.setItem("theme", root.dataset.theme);
  byId("theme").textContent = root.dataset.theme;
});
byId("theme").textContent = root.dataset.theme;
open();
