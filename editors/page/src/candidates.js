// The panel beside the editor: each candidate, its probability, and what each part adds to it.

const element = (name, className, text) => {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
};

// What the service says instead of a part where there is nothing to choose from.
const ONLY = "only";
// The same part has the same colour everywhere, whatever parts a model has.
const known = ["model", "ngram", "file", "syntax"];
export function hue(part) {
  if (part === ONLY) return "var(--muted)";
  if (!known.includes(part)) known.push(part);
  return `var(--part-${known.indexOf(part) % 6})`;
}

export const percent = (score) => {
  const probability = 100 * Math.exp(score);
  if (probability > 0 && probability < 0.1) return "<0.1 %";
  return `${probability.toFixed(probability < 9.95 ? 1 : 0)} %`;
};

function bar(share, colour) {
  const track = element("span", "bar");
  const fill = element("span", "fill");
  fill.style.width = `${Math.max(100 * share, 0.5)}%`;
  fill.style.background = colour;
  track.append(fill);
  return track;
}

// From the middle to the right where a part favours the name, to the left where it is against it.
function smallBar(nats, most, colour) {
  const track = element("span", "small bar");
  const fill = element("span", "fill");
  const share = most > 0 ? Math.abs(nats) / most : 0;
  fill.style.width = `${50 * share}%`;
  fill.style.marginLeft = nats < 0 ? `${50 * (1 - share)}%` : "50%";
  fill.style.background = colour;
  track.append(fill);
  return track;
}

function row(candidate, parts, most) {
  const item = element("li", "candidate");
  item.dataset.text = candidate.text;
  item.dataset.source = candidate.source;
  const head = element("div", "head");
  const dot = element("span", "dot");
  dot.style.background = hue(candidate.source);
  dot.title = candidate.source === ONLY ? "the only candidate" : `favoured most by ${candidate.source}`;
  head.append(dot, element("code", "name", candidate.text));
  head.append(element("span", "percent", percent(candidate.score)));
  item.append(head, bar(Math.exp(candidate.score), hue(candidate.source)));
  const details = element("div", "parts");
  for (const part of parts) {
    const cell = element("span", "part");
    const nats = candidate.parts[part] ?? 0;
    const sign = nats < 0 ? "\u2212" : "+";
    cell.title = `${part}: ${sign}${Math.abs(nats).toFixed(2)} nats, against the average name`;
    cell.append(smallBar(nats, most, hue(part)));
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
  const all = candidates.flatMap(({ parts }) => Object.values(parts));
  const most = Math.max(0, ...all.map(Math.abs));
  list.replaceChildren(...candidates.map((candidate) => row(candidate, parts, most)));
  empty.hidden = candidates.length > 0;
}
