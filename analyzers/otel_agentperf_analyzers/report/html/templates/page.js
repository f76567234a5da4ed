(() => {
  const specs = JSON.parse(document.getElementById("data").textContent);
  const root = document.documentElement;
  const tip = document.getElementById("tip");
  const MOST_ROWS = 500;
  document.getElementById("unscripted").remove();

  // Colours: as the system has them, light, dark.
  const themes = ["auto", "light", "dark"];
  const button = document.getElementById("theme");
  const kept = {
    get() { try { return localStorage.getItem("otel-agentperf-theme"); } catch { return null; } },
    set(value) { try { localStorage.setItem("otel-agentperf-theme", value); } catch { /* a file may have no storage */ } },
  };
  const paint = (theme) => {
    if (theme === "auto") delete root.dataset.theme; else root.dataset.theme = theme;
    button.textContent = theme[0].toUpperCase() + theme.slice(1);
    button.setAttribute("aria-label", `Colours: ${theme === "auto" ? "as the system has them" : theme}`);
  };
  let theme = themes.includes(kept.get()) ? kept.get() : "auto";
  paint(theme);
  button.addEventListener("click", () => {
    theme = themes[(themes.indexOf(theme) + 1) % themes.length];
    kept.set(theme);
    paint(theme);
  });

  // Tables: a heading sorts, again turns round; what has no value stays last.
  const sortBy = (head) => {
    const place = [...head.parentElement.children].indexOf(head);
    const numeric = head.classList.contains("number");
    const before = head.getAttribute("aria-sort");
    const descending = before ? before === "ascending" : numeric;
    for (const each of head.parentElement.children) each.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", descending ? "descending" : "ascending");
    const body = head.closest("table").tBodies[0];
    const value = (row) => {
      const cell = row.cells[place];
      if (!numeric) return cell.textContent;
      return cell.dataset.sort === "" ? null : Number(cell.dataset.sort);
    };
    const order = new Intl.Collator("en", { numeric: true });
    const rows = [...body.rows].map((row) => [value(row), row]);
    rows.sort(([a], [b]) => {
      if (a === null || a === "" || b === null || b === "") return (a === null || a === "") - (b === null || b === "");
      const compared = numeric ? a - b : order.compare(a, b);
      return descending ? -compared : compared;
    });
    body.append(...rows.map(([, row]) => row));
  };
  document.addEventListener("click", (event) => {
    const head = event.target.closest?.("table.sortable th");
    if (head && event.target.closest("button")) sortBy(head);
  });

  // Plots.
  const views = new Map();
  const place = (event) => {
    const { width, height } = tip.getBoundingClientRect();
    tip.style.left = `${Math.min(event.clientX + 14, innerWidth - width - 8)}px`;
    tip.style.top = `${event.clientY + 16 + height > innerHeight ? event.clientY - height - 10 : event.clientY + 16}px`;
  };
  const tell = (_handler, event, _item, value) => {
    tip.hidden = value === null || value === undefined || value === "";
    if (tip.hidden) return;
    const list = document.createElement("dl");
    for (const [name, text] of Object.entries(value)) {
      if (text === "null" || text === "undefined" || text === "") continue;
      list.append(Object.assign(document.createElement("dt"), { textContent: name }));
      list.append(Object.assign(document.createElement("dd"), { textContent: text }));
    }
    tip.replaceChildren(list);
    place(event);
  };
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") tip.hidden = true; });

  const draw = async (element) => {
    const spec = structuredClone(specs[element.dataset.plot]);
    const options = { mode: "vega-lite", renderer: "svg", actions: false, defaultStyle: false, tooltip: tell };
    const { view } = await vegaEmbed(element, spec, options);
    views.set(element.dataset.plot, view);
    element.style.minHeight = "";
    // The description stands for the whole; the numbers are in a table beside it.
    element.setAttribute("role", "img");
    element.setAttribute("aria-label", spec.description);
    element.querySelector("svg").setAttribute("aria-hidden", "true");
  };
  const drawAll = async () => {
    for (const element of document.querySelectorAll("[data-plot]")) {
      await draw(element);
      await new Promise((done) => setTimeout(done));
    }
    root.dataset.drawn = "true";
  };

  // Data behind a plot.
  const columnsOf = (rows) => [...new Set(rows.flatMap((row) => Object.keys(row)))];
  const fill = (details) => {
    const place = details.querySelector(".table");
    if (place.firstChild) return;
    const rows = specs[details.closest("figure").id].datasets.rows;
    const columns = columnsOf(rows);
    const numeric = columns.map((name) => rows.every((row) => row[name] == null || typeof row[name] === "number"));
    const table = Object.assign(document.createElement("table"), { className: "sortable" });
    const more = rows.length > MOST_ROWS ? `, the first ${MOST_ROWS} of ${rows.length} rows; the CSV has all` : "";
    table.createCaption().textContent = `What is drawn${more}`;
    const heads = table.createTHead().insertRow();
    columns.forEach((name, at) => {
      const head = Object.assign(document.createElement("th"), { scope: "col", className: numeric[at] ? "number" : "" });
      head.append(Object.assign(document.createElement("button"), { type: "button", textContent: name }));
      heads.append(head);
    });
    const body = table.createTBody();
    for (const row of rows.slice(0, MOST_ROWS)) {
      const line = body.insertRow();
      columns.forEach((name, at) => {
        const cell = line.insertCell();
        const value = row[name];
        cell.textContent = value == null ? "–" : numeric[at] ? Number(value.toPrecision(5)).toLocaleString("en") : value;
        if (numeric[at]) { cell.className = "number"; cell.dataset.sort = value ?? ""; }
      });
    }
    place.append(table);
  };
  document.addEventListener("toggle", (event) => {
    if (event.target.matches?.("details.data") && event.target.open) fill(event.target);
  }, true);

  const quoted = (value) => {
    const text = value == null ? "" : String(value);
    return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  const csv = (rows) => {
    const columns = columnsOf(rows);
    return [columns, ...rows.map((row) => columns.map((name) => row[name]))]
      .map((row) => `${row.map(quoted).join(",")}\r\n`).join("");
  };
  const probe = Object.assign(document.createElement("span"), { hidden: true });
  document.body.append(probe);
  const svgOf = async (view) => {
    const text = await view.toSVG();
    return text.replace(/var\(--[a-z0-9-]+\)/g, (name) => {
      probe.style.color = name;
      return getComputedStyle(probe).color;
    });
  };
  const pngOf = async (view) => {
    const image = new Image();
    const url = URL.createObjectURL(new Blob([await svgOf(view)], { type: "image/svg+xml" }));
    try {
      await new Promise((done, failed) => { image.onload = done; image.onerror = failed; image.src = url; });
      const canvas = document.createElement("canvas");
      [canvas.width, canvas.height] = [image.width * 2, image.height * 2];
      const pen = canvas.getContext("2d");
      probe.style.color = "var(--paper)";
      pen.fillStyle = getComputedStyle(probe).color;
      pen.fillRect(0, 0, canvas.width, canvas.height);
      pen.drawImage(image, 0, 0, canvas.width, canvas.height);
      return await new Promise((done) => canvas.toBlob(done, "image/png"));
    } finally {
      URL.revokeObjectURL(url);
    }
  };
  const save = (blob, name) => {
    const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(blob), download: name });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  };
  document.addEventListener("click", async (event) => {
    const kind = event.target.dataset?.save;
    if (!kind) return;
    const id = event.target.closest("figure").id;
    const text = {
      csv: () => csv(specs[id].datasets.rows),
      json: () => JSON.stringify(specs[id], null, 1),
      svg: () => svgOf(views.get(id)),
    }[kind];
    const types = { csv: "text/csv", json: "application/json", svg: "image/svg+xml" };
    save(kind === "png" ? await pngOf(views.get(id)) : new Blob([await text()], { type: types[kind] }), `${id}.${kind}`);
  });

  drawAll();
})();
