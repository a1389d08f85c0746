"use strict";
// Shows the items of the cell that the address names. They lie in scripts beside the page: a page
// that was opened from a disk may load nothing else.
(() => {
  const WORST = 20;  // chunks shown
  const LONG = 160;  // letters of a prompt that are shown at once
  const SURPRISING = 4;  // nats of a token that is marked most
  const DASH = "\u2013";
  const place = document.getElementById("shown");
  const waiting = {}, loaded = {};

  window.benchsuiteItems = (name, value) => { loaded[name] = value; };

  function load(name) {
    waiting[name] ||= new Promise((resolve, reject) => {
      const script = document.createElement("script");
      script.src = name + ".js";
      script.onload = () => resolve(loaded[name]);
      script.onerror = () => reject(new Error(`${name}.js cannot be read: was it copied too?`));
      document.head.append(script);
    });
    return waiting[name];
  }

  function make(tag, className, ...content) {
    const made = document.createElement(tag);
    if (className) made.className = className;
    made.append(...content);
    return made;
  }

  function number(value) {
    return value === null || value === undefined ? DASH : Number(value.toPrecision(4)).toString();
  }

  function table(heads, rows) {
    const made = make("table", "data items");
    const head = make("tr", "", ...heads.map(text => make("th", "", text)));
    for (const row of rows) heads.forEach((text, i) => { row.cells[i].dataset.head = text; });
    made.append(make("thead", "", head), make("tbody", "", ...rows));
    return make("div", "scroll", made);
  }

  function unkept() {
    return make("span", "sub", "text not kept");
  }

  // A text as it was put to the model; of a long one the end first, where the question stands.
  function prompt(text) {
    if (!text) return unkept();
    const flat = text.trim();
    if (flat.length <= LONG) return make("pre", "", flat);
    const head = make("summary", "", "\u2026" + flat.slice(-LONG));
    return make("details", "", head, make("pre", "", flat));
  }

  // What became of a question: [words to filter by, word shown, class].
  function fate(right, before) {
    if (before === undefined) {
      return right ? ["right", "right", "held"] : ["wrong", "wrong", "no"];
    }
    if (right === before) return right ? ["right", "right", "held"] : ["wrong", "wrong in both", "no"];
    return right ? ["right flipped gained", "now right", "inconclusive"]
      : ["wrong flipped lost", "now wrong", "violated"];
  }

  // Each token marked the stronger the more nats it has.
  function marked(tokens) {
    return make("span", "tokens", ...tokens.map(([piece, nats]) => {
      const made = make("span", "", piece);
      made.title = number(nats) + " nats";
      made.style.setProperty("--unlikely", nats === null ? 1 : Math.min(nats / SURPRISING, 1));
      return made;
    }));
  }

  // An answer with each token marked the stronger the less likely it was.
  function answer(text, tokens) {
    const pieces = tokens && tokens.map(([piece]) => piece).join("");
    return tokens && tokens.length && pieces.trim() === text.trim() ? marked(tokens) : text;
  }

  const KINDS = [["all", "all"], ["flipped", "flipped"], ["lost", "right before, wrong now"],
    ["gained", "wrong before, right now"], ["wrong", "wrong"], ["right", "right"]];

  function questions(cell, asked, original, said) {
    const alike = original && original.right && original.right.length === cell.right.length;
    const base = alike ? original : null;
    const counts = {};
    const rows = asked.ids.map((id, i) => {
      const right = cell.right[i] === "1", before = base ? base.right[i] === "1" : undefined;
      const [words, shown, pill] = fate(right, before);
      for (const word of words.split(" ")) counts[word] = (counts[word] || 0) + 1;
      const row = make("tr", "",
        make("td", "", make("code", "", id), make("small", "", asked.sets[i])),
        make("td", "prompt", prompt(asked.prompts[i])),
        make("td", "", asked.gold[i] || DASH),
        ...(base ? [make("td", "", base.answers ? base.answers[i] : DASH)] : []),
        make("td", "", cell.answers ? answer(cell.answers[i], said && said.tokens[i]) : DASH),
        ...(cell.unsure ? [make("td", "num", number(cell.unsure[i]))] : []),
        make("td", "", make("span", "pill " + pill, shown)));
      row.dataset.fate = "all " + words;
      return row;
    });
    const heads = ["question", "asked", "right answer", ...(base ? ["original"] : []),
      "this cell", ...(cell.unsure ? ["uncertainty"] : []), "outcome"];
    const told = [rows.length + " questions", (counts.right || 0) + " right"];
    if (base) {
      told.push((counts.lost || 0) + " right before and wrong now");
      told.push((counts.gained || 0) + " wrong before and right now");
    }
    const shown = table(heads, rows);
    const examples = Object.entries(asked.examples || {}).map(([name, text]) => {
      const head = make("summary", "", "Worked examples before each question of " + name);
      return make("details", "records", head, make("pre", "", text));
    });
    const key = "The stronger a token is marked, the less likely it was; point at it for its nats.";
    const tokens = shown.querySelector(".tokens") ? [make("p", "key", key)] : [];
    return [make("p", "note", told.join(", ") + "."), ...tokens, chooser(rows, counts, shown), ...examples, shown];
  }

  // Which questions are shown, by what became of them and by words, together.
  function chooser(rows, counts, shown) {
    const box = make("div", "filter"), told = document.createElement("output");
    const select = document.createElement("select"), field = document.createElement("input");
    select.setAttribute("aria-label", "Questions by outcome");
    for (const [value, text] of KINDS) {
      const n = value === "all" ? rows.length : counts[value];
      if (!n) continue;
      const option = make("option", "", text + " (" + n + ")");
      option.value = value;
      select.append(option);
    }
    field.type = "search";
    field.placeholder = "words that a row must have";
    field.setAttribute("aria-label", "Filter questions");
    const apply = () => {
      const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
      for (const row of rows) {
        const text = row.textContent.toLowerCase();
        const wanted = row.dataset.fate.split(" ").includes(select.value);
        row.hidden = !wanted || !words.every(word => text.includes(word));
      }
      const left = rows.filter(row => !row.hidden).length;
      told.textContent = left === rows.length ? "" : left + " of " + rows.length;
    };
    select.addEventListener("change", apply);
    field.addEventListener("input", apply);
    box.append(select, field, told);
    return box;
  }

  // The chunks that compression changed most: by KL, else by what their loss rose.
  function chunks(cell, asked, original) {
    const alike = original && original.nll && original.nll.length === (cell.nll || []).length;
    const base = alike ? original.nll : null;
    const worse = cell.change || (base && cell.nll.map((value, i) => value - base[i]));
    if (!worse) return [];
    const by = value => value ?? Infinity;  // what is not finite is worst
    const order = [...worse.keys()].sort((i, j) =>
      (by(worse[j]) > by(worse[i])) - (by(worse[j]) < by(worse[i])));
    const passages = cell.passages || {};
    const text = i => passages[i] ? make("pre", "", "\u2026", marked(passages[i]), "\u2026")
      : asked.texts[i] ? make("pre", "", asked.texts[i] + " \u2026") : unkept();
    const rows = order.slice(0, WORST).map(i => make("tr", "",
      make("td", "", make("code", "", asked.chunks[i] || String(i))),
      make("td", "prompt", text(i)),
      ...(cell.change ? [make("td", "num", number(cell.change[i]))] : []),
      ...(base ? [make("td", "num", number(base[i]))] : []),
      ...(cell.nll ? [make("td", "num", number(cell.nll[i]))] : [])));
    const heads = ["chunk", cell.passages ? "text" : "begins", ...(cell.change ? ["KL (nats a token)"] : []),
      ...(base ? ["original's loss"] : []), ...(cell.nll ? ["loss (nats a token)"] : [])];
    const measure = cell.change ? "the highest KL to the original" : "the loss that rose most";
    const told = make("p", "note", rows.length + " of " + worse.length + ".");
    const key = "Of the first, the tokens in a row that moved most: the stronger one is marked, the further " +
      "its prediction is from the original's; point at it for its KL. Of the others, how they begin.";
    const marks = cell.passages ? [make("p", "key", key)] : [];
    return [make("h3", "", "Chunks with " + measure), told, ...marks, table(heads, rows)];
  }

  async function show() {
    const name = location.hash.slice(1);
    const link = [...document.querySelectorAll("[data-cell]")].find(a => a.hash === location.hash);
    place.hidden = !link;
    if (!link) return;
    const title = make("h2", "", link.dataset.cell);
    place.replaceChildren(title, make("p", "note", "Reading \u2026"));
    try {
      const cell = await load(name);
      const original = link.dataset.original ? await load(link.dataset.original) : null;
      const asked = await load(cell.asked);
      const said = cell.said ? await load(cell.said) : null;
      const same = original && original.asked === cell.asked ? original : null;
      if (location.hash.slice(1) !== name) return;
      const asks = cell.right ? questions(cell, asked, same, said) : [];
      place.replaceChildren(title, ...asks, ...chunks(cell, asked, same));
      for (const made of place.querySelectorAll("table.data")) window.benchsuiteTables.sorts(made);
      window.benchsuiteTables.reachable();
    } catch (error) {
      place.replaceChildren(title, make("p", "note warn", error.message));
    }
    place.focus({preventScroll: true});
    place.scrollIntoView();
  }

  window.addEventListener("hashchange", show);
  show();
})();
