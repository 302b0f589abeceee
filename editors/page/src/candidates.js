// The panel beside the editor: each candidate, its probability, and what each part says of it.

const element = (name, className, text) => {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
};

// The same part has the same colour everywhere, whatever parts a model has.
const known = ["model", "ngram", "file", "syntax"];
export function hue(part) {
  if (!known.includes(part)) known.push(part);
  return `var(--part-${known.indexOf(part) % 6})`;
}

export const percent = (score) => {
  const probability = 100 * Math.exp(score);
  if (probability > 0 && probability < 0.1) return "<0.1 %";
  return `${probability.toFixed(probability < 9.95 ? 1 : 0)} %`;
};

function bar(className, score, colour) {
  const track = element("span", className);
  const fill = element("span", "fill");
  fill.style.width = `${Math.max(100 * Math.exp(score ?? -Infinity), 0.5)}%`;
  fill.style.background = colour;
  track.append(fill);
  return track;
}

function row(candidate, parts) {
  const item = element("li", "candidate");
  item.dataset.text = candidate.text;
  item.dataset.source = candidate.source;
  const head = element("div", "head");
  const dot = element("span", "dot");
  dot.style.background = hue(candidate.source);
  dot.title = `favoured most by ${candidate.source}`;
  head.append(dot, element("code", "name", candidate.text));
  head.append(element("span", "percent", percent(candidate.score)));
  item.append(head, bar("bar", candidate.score, hue(candidate.source)));
  const details = element("div", "parts");
  for (const part of parts) {
    const cell = element("span", "part");
    const score = candidate.parts[part];
    cell.title = score === undefined ? `${part}: no chance` : `${part}: ${percent(score)}`;
    cell.append(bar("small bar", score, hue(part)));
    details.append(cell);
  }
  item.append(details);
  return item;
}

export function showCandidates({ list, legend, empty }, candidates) {
  const parts = [...new Set(candidates.flatMap(({ parts }) => Object.keys(parts)))];
  legend.replaceChildren(
    ...parts.map((part) => {
      const entry = element("span", "entry");
      const dot = element("span", "dot");
      dot.style.background = hue(part);
      entry.append(dot, part);
      return entry;
    }),
  );
  list.replaceChildren(...candidates.map((candidate) => row(candidate, parts)));
  empty.hidden = candidates.length > 0;
}
