// A table that a phone can show: there each row becomes a block of its own, its heading above its values (see screens.css). What is
// laid out as blocks is no table to a screen reader any more, so its parts say what they are.

import { element } from "./dom.js";

// columns: [{ label, tone }], the first one over the rows' headings; rows: [{ label, tone, values }]
export function table(columns, rows) {
  const [corner, ...rest] = columns;
  return element(
    "table",
    { role: "table" },
    element(
      "thead",
      { role: "rowgroup" },
      element("tr", { role: "row" }, heading(corner, "col"), rest.map((column) => heading(column, "col"))),
    ),
    element("tbody", { role: "rowgroup" }, rows.map((row) => line(row, rest))),
  );
}

function line({ values, ...head }, columns) {
  const cells = values.map((value, index) => element("td", { role: "cell", "data-label": columns[index].label }, value));
  return element("tr", { role: "row" }, heading(head, "row"), cells);
}

function heading({ label, tone }, scope) {
  const role = scope === "col" ? "columnheader" : "rowheader";
  if (!tone) return element("th", { scope, role }, label);
  return element(
    "th",
    { scope, role, class: `tone-${tone}` },
    element("i", { class: "key" }),
    element("span", { class: "hostile" }, label),
  );
}
