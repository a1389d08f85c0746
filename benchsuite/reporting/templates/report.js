"use strict";
// Sorting and filtering of what the page shows already: without this script nothing is missing.
(() => {
  const NUMBER = /^[+\u2212-]?(\d+\.?\d*|\.\d+)(e[+\u2212-]?\d+)?/;
  const UNITS = {GiB: 1024, MiB: 1, KiB: 1 / 1024};
  const FILTERED = 8;  // rows from which on a table can be filtered

  // What a cell is sorted by: its key, or its text; nothing for a dash, also with its reason beneath.
  function textOf(cell) {
    if (!cell) return "";
    if ("key" in cell.dataset) return cell.dataset.key;
    const text = cell.textContent.trim();
    return text.startsWith("\u2013") ? "" : text;
  }

  function asNumber(text) {
    const found = NUMBER.exec(text);
    return found && Number(found[0].replace(/\u2212/g, "-")) * (UNITS[text.split(" ").pop()] || 1);
  }

  // A column is one of numbers if each of its texts begins with one: "2:4" among "INT4" is none.
  function keysOf(cells) {
    const texts = cells.map(textOf);
    const numbers = texts.map(text => text === "" ? "" : asNumber(text));
    return numbers.includes(null) ? texts : numbers;
  }

  // What is empty comes last, either way.
  function compare(a, b, way) {
    if (a === "" || b === "") return (a === "") - (b === "");
    return way * (typeof a === "number" ? a - b : a.localeCompare(b, undefined, {numeric: true}));
  }

  function sortBy(heads, column, rows, after) {
    const now = heads[column].getAttribute("aria-sort");
    const way = now === "ascending" ? -1 : 1;
    heads.forEach(head => head.removeAttribute("aria-sort"));
    heads[column].setAttribute("aria-sort", way > 0 ? "ascending" : "descending");
    const all = rows(), keys = keysOf(all.map(row => row.children[column]));
    const order = [...all.keys()].sort((i, j) => compare(keys[i], keys[j], way));
    after(order.map(i => all[i]));
  }

  function sortable(heads, wanted, rows, after) {
    heads.forEach((head, column) => {
      if (!wanted(head)) return;
      const button = document.createElement("button");
      button.type = "button";
      button.className = "sorts";
      button.append(...head.childNodes);
      button.addEventListener("click", () => sortBy(heads, column, rows, after));
      head.append(button);
    });
  }

  function filterable(before, rows, name) {
    if (rows().length < FILTERED) return;
    const box = document.createElement("label"), field = document.createElement("input");
    const told = document.createElement("output");
    box.className = "filter";
    field.type = "search";
    field.placeholder = "words that a row must have";
    field.setAttribute("aria-label", "Filter " + name);
    field.addEventListener("input", () => {
      const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
      const all = rows();
      for (const row of all) {
        const text = row.textContent.toLowerCase();
        row.hidden = !words.every(word => text.includes(word));
      }
      const left = all.filter(row => !row.hidden).length;
      told.textContent = words.length ? left + " of " + all.length : "";
    });
    box.append(field, told);
    before.before(box);
  }

  for (const grid of document.querySelectorAll(".grid")) {
    const rows = () => [...grid.querySelectorAll("[data-row]")];
    const heads = [...grid.querySelector(".head").children];
    const last = grid.querySelector(".axis");
    sortable(heads, head => "sorts" in head.dataset, rows, sorted => last.before(...sorted));
    filterable(grid, rows, grid.getAttribute("aria-label"));
  }
  // Sorts a table by its heads, for those too that another script has made.
  function sorts(table) {
    const body = table.tBodies[0], rows = () => [...body.rows];
    if (rows().length < 2) return;
    const heads = [...table.tHead.rows[0].cells];
    sortable(heads, head => !("still" in head.dataset), rows, sorted => body.append(...sorted));
  }

  // What is wider than the screen can be moved by keys: a thing without a button or a link in it
  // becomes a stop of its own, as long as it is too wide.
  function reachable() {
    for (const box of document.querySelectorAll(".scroll")) {
      const stop = box.scrollWidth > box.clientWidth && !box.querySelector("a[href], button, summary");
      if (!stop) {
        for (const name of ["tabindex", "role", "aria-label"]) box.removeAttribute(name);
        continue;
      }
      box.tabIndex = 0;
      box.setAttribute("role", "group");
      box.setAttribute("aria-label", "wider than the screen");
    }
  }

  window.benchsuiteTables = {sorts, reachable};
  for (const table of document.querySelectorAll("table.data")) {
    sorts(table);
    filterable(table.parentElement, () => [...table.tBodies[0].rows], "this table");
  }
  reachable();
  addEventListener("resize", reachable);
  addEventListener("toggle", reachable, true);
})();
