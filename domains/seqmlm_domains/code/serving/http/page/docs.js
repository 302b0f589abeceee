// Shows /openapi.json: FastAPI's own pages load their scripts from another machine.
"use strict";

const element = (name, ...children) => {
  const made = document.createElement(name);
  made.append(...children);
  return made;
};

const resolve = (api, schema) =>
  schema?.$ref ? schema.$ref.split("/").slice(1).reduce((node, key) => node[key], api) : schema;

function typeOf(schema) {
  if (schema.$ref) return schema.$ref.split("/").pop();
  if (schema.anyOf) return schema.anyOf.map(typeOf).join(" or ");
  if (schema.type === "array") return `list of ${typeOf(schema.items)}`;
  if (schema.additionalProperties) return `map to ${typeOf(schema.additionalProperties)}`;
  return schema.type ?? "any";
}

function rows(api, schema, path = "") {
  return Object.entries(schema.properties ?? {}).flatMap(([name, property]) => {
    const below = resolve(api, property.items ?? property);
    const here = path + name;
    const text = property.description ?? (property.$ref ? below.description : "") ?? "";
    const row = element(
      "tr",
      element("td", element("code", here)),
      element("td", typeOf(property)),
      element("td", text),
    );
    const inner = below !== property && below.properties ? rows(api, below, `${here}.`) : [];
    return [row, ...inner];
  });
}

function table(api, title, schema) {
  const found = schema ? rows(api, resolve(api, schema)) : [];
  return found.length ? [element("h3", title), element("table", element("tbody", ...found))] : [];
}

function route(api, path, method, operation) {
  const body = operation.requestBody?.content["application/json"].schema;
  const answer = operation.responses["200"]?.content?.["application/json"]?.schema;
  return element(
    "section",
    element("h2", element("b", method.toUpperCase()), path),
    element("p", operation.description ?? ""),
    ...table(api, "Request", body),
    ...table(api, "Answer", answer),
  );
}

async function show() {
  const api = await (await fetch("/openapi.json")).json();
  const sections = Object.entries(api.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => route(api, path, method, operation)),
  );
  document.getElementById("routes").append(...sections);
}

document.documentElement.dataset.theme = localStorage.getItem("theme") ?? "auto";
show();
