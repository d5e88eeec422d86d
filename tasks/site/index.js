// Sorting and filtering of the index. The page is whole without it: tables come sorted, the newest first.
"use strict";
(() => {
  const tables = [...document.querySelectorAll("table.sortable")];
  const shown = document.getElementById("shown");

  const valueIn = (row, column) => row.cells[column].dataset.sort ?? row.cells[column].textContent.trim();

  const compare = (a, b) => {
    const [x, y] = [Number(a), Number(b)];
    return Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b, undefined, { numeric: true }) : x - y;
  };

  const sort = (table, head) => {
    const before = head.getAttribute("aria-sort");
    const order = before ? (before === "ascending" ? "descending" : "ascending") : head.dataset.first ?? "ascending";
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", order);
    const column = head.cellIndex;
    const keyed = [...table.tBodies[0].rows].map((row) => [valueIn(row, column), row]);
    // What has no value comes last in either order.
    keyed.sort(([a], [b]) => (a === "") - (b === "") || (order === "ascending" ? 1 : -1) * compare(a, b));
    table.tBodies[0].append(...keyed.map(([, row]) => row));
  };

  for (const table of tables) {
    for (const head of table.tHead.rows[0].cells) {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      button.addEventListener("click", () => sort(table, head));
      head.append(button);
    }
  }

  const search = document.getElementById("search");
  const dataset = document.getElementById("dataset");
  const rows = [...document.querySelectorAll("#runs-table tbody tr")];
  const others = [...document.querySelectorAll("[data-run]")];

  const filter = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const hidden = new Set();
    for (const row of rows) {
      const fits = words.every((word) => row.dataset.find.includes(word));
      row.hidden = !fits || (dataset.value !== "" && row.dataset.dataset !== dataset.value);
      if (row.hidden) hidden.add(row.dataset.name);
    }
    for (const other of others) {
      const out = hidden.has(other.dataset.run);
      if (other.tagName === "TR") other.hidden = out;
      else other.classList.toggle("out", out); // a point of the chart keeps its place, and is but a mark
    }
    for (const figure of document.querySelectorAll("figure[data-dataset]")) {
      figure.hidden = dataset.value !== "" && figure.dataset.dataset !== dataset.value;
    }
    const left = rows.length - hidden.size;
    shown.textContent = left ? `${left} of ${rows.length} runs shown` : `No run fits; there are ${rows.length}`;
  };

  search.addEventListener("input", filter);
  dataset.addEventListener("change", filter);
  window.addEventListener("pageshow", filter); // whoever comes back finds the choice as it was, and the table by it
  document.getElementById("tools").hidden = false;
  document.documentElement.classList.add("scripted");
  for (const scroll of document.querySelectorAll(".newest-right")) scroll.scrollLeft = scroll.scrollWidth;
})();
