"use strict";
// Search and order. The page is whole without them.
for (const c of document.querySelectorAll(".controls")) c.hidden = false;

for (const input of document.querySelectorAll("[data-filter]")) {
  const output = input.closest(".controls").querySelector("output");
  const rows = [...document.querySelectorAll(input.dataset.filter)];
  const texts = rows.map((r) => r.textContent.toLowerCase());
  input.addEventListener("input", () => {
    const words = input.value.toLowerCase().split(/\s+/);
    let shown = 0;
    rows.forEach((r, i) => {
      r.hidden = !words.every((w) => texts[i].includes(w));
      if (!r.hidden) shown++;
    });
    output.textContent = input.value.trim() ? shown + " of " + rows.length : "";
  });
}

for (const select of document.querySelectorAll("[data-order]")) {
  const list = document.querySelector(select.dataset.order);
  select.addEventListener("change", () => {
    const key = select.value;
    list.append(...[...list.children].sort((a, b) => a.dataset[key] - b.dataset[key] || a.dataset.n - b.dataset.n));
  });
}

// A number as the page shows it; what has none comes last in either order.
const number = (text) => {
  const n = parseFloat(text.replace("\u2212", "-").replace(/[<>\s]/g, ""));
  return Number.isNaN(n) ? null : n;
};

for (const table of document.querySelectorAll("table.sortable")) {
  table.querySelectorAll("thead th").forEach((th, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = th.textContent;
    th.replaceChildren(button);
    button.addEventListener("click", () => {
      const up = th.getAttribute("aria-sort") !== "ascending";
      for (const other of table.querySelectorAll("thead th")) other.removeAttribute("aria-sort");
      th.setAttribute("aria-sort", up ? "ascending" : "descending");
      const numeric = th.classList.contains("num");
      const key = (row) => (numeric ? number : String)(row.cells[column].textContent);
      const compare = (a, b) => {
        const x = key(a), y = key(b);
        if (x === null || y === null) return (x === null) - (y === null);
        const order = numeric ? x - y : x.localeCompare(y);
        return up ? order : -order;
      };
      table.tBodies[0].append(...[...table.tBodies[0].rows].sort(compare));
    });
  });
}
