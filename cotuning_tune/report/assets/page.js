// The page: sorting tables, choosing what is drawn, light and dark.

const DATA = JSON.parse(document.getElementById("data").textContent);
const off = new Set();
const isOn = (method) => !off.has(method);

// A number at the start of a text ("77.03 ± 0.74", "< 0.001"), NaN of a text, null of nothing ("-").
function numberIn(text) {
  const plain = text.replaceAll("*", "").trim();
  if (plain === "-" || plain === "–" || plain === "") return null;
  const found = /^[<>≤≥~]?\s*([+\-−]?\d+(?:\.\d+)?(?:e[+-]?\d+)?)/i.exec(plain);
  return found ? Number(found[1].replace("−", "-")) : NaN;
}

function sortTable(button) {
  const head = button.closest("th");
  const body = head.closest("table").tBodies[0];
  const direction = head.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending";
  for (const other of head.parentNode.children) other.setAttribute("aria-sort", "none");
  head.setAttribute("aria-sort", direction);
  const rows = [...body.rows].map((row) => {
    const text = row.cells[head.cellIndex].textContent;
    return { row, text, number: numberIn(text) };
  });
  const numeric = rows.every(({ number }) => number === null || !Number.isNaN(number));
  const sign = direction === "ascending" ? 1 : -1;
  rows.sort((a, b) => {
    if (a.number === null || b.number === null) return (a.number === null) - (b.number === null);
    return sign * (numeric ? a.number - b.number : a.text.localeCompare(b.text, "en", { numeric: true }));
  });
  body.append(...rows.map(({ row }) => row));
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("thead button");
  if (button) sortTable(button);
});

function tableOf(header, rows, title) {
  const box = document.createElement("div");
  Object.assign(box, { className: "scroll", tabIndex: 0 });
  box.setAttribute("role", "region");
  box.setAttribute("aria-label", title);
  const table = box.appendChild(document.createElement("table"));
  Object.assign(table.createCaption(), { className: "hidden", textContent: title });
  const head = table.createTHead().insertRow();
  header.forEach((name, i) => {
    const cell = head.appendChild(document.createElement("th"));
    Object.assign(cell, { scope: "col", className: rows.some((row) => Number.isNaN(numberIn(row[i] || "-"))) ? "text" : "" });
    cell.setAttribute("aria-sort", "none");
    Object.assign(cell.appendChild(document.createElement("button")), { type: "button", textContent: name });
  });
  const body = table.createTBody();
  for (const [first, ...others] of rows) {
    const row = body.insertRow();
    Object.assign(row.appendChild(document.createElement("th")), { scope: "row", textContent: first });
    for (const text of others) Object.assign(row.insertCell(), { textContent: text, className: Number.isNaN(numberIn(text)) ? "text" : "" });
  }
  return box;
}

function dataRows(figure, view) {
  if (figure.kind === "shares") {
    const rows = view.flatMap((row) => Object.entries(row.shares).map(([method, share]) => [method, row.parameter, shown(share)]));
    return [["method", "parameter", "share"], rows];
  }
  const rows = view.flatMap((one) => one.x.map((x, i) => [one.method, shown(x), shown(one.y[i])]));
  return [["method", figure.x.label, figure.yLabel], rows];
}

// The numbers of a figure as a table, made when it is opened.
function offerData(figure, place, view) {
  place.replaceChildren();
  if (!view || !dataRows(figure, view)[1].length) return;
  const details = place.appendChild(document.createElement("details"));
  details.appendChild(document.createElement("summary")).textContent = "Numbers";
  details.addEventListener("toggle", () => {
    if (details.children.length === 1) details.append(tableOf(...dataRows(figure, view), figure.title));
  });
}

const view = document.getElementById("view");

function viewOf(figure) {
  return figure.views[view.value];
}

function sentence(figure, series) {
  const where = view.value === "all" ? "all studies" : view.value;
  const ends = (series || []).filter((one) => one.x && one.x.length).map((one) => `${one.method} ${shown(one.y.at(-1))}`);
  const last = figure.kind === "curves" && ends.length ? `; at the end ${ends.join(", ")}` : "";
  return `${figure.title}, ${where}${last}`;
}

// Parallel coordinates show one method: the list above the figure chooses it.
function chosenMethod(figure, box, views) {
  const choice = box.querySelector(".choice");
  const names = views.map((one) => one.method);
  if (!names.length) {
    choice.replaceChildren();
    return undefined;
  }
  if (!names.includes(figure.method)) figure.method = names.find((name) => name === "co_tuning") || names.at(-1);
  const label = document.createElement("label");
  const select = document.createElement("select");
  select.append(...names.map((name) => new Option(name, name, false, name === figure.method)));
  select.addEventListener("change", () => {
    figure.method = select.value;
    draw(figure);
  });
  label.append("Method ", select);
  choice.replaceChildren(label);
  return views.find((one) => one.method === figure.method);
}

function drawKind(figure, box, plot) {
  const found = viewOf(figure);
  if (figure.kind === "relations") return drawRelations(plot, found);
  if (figure.kind === "parallel") {
    const one = chosenMethod(figure, box, found || []);
    return drawParallel(figure, plot, one, `${sentence(figure)}, ${one ? one.method : ""}`);
  }
  if (!found) return false;
  offerData(figure, box.querySelector(".data"), found);
  if (figure.kind === "shares") return drawShares(figure, plot, found, sentence(figure));
  const series = found.filter((one) => isOn(one.method));
  return drawSeries(figure, plot, series, sentence(figure, series));
}

function draw(figure) {
  const box = document.getElementById(`figure-${figure.name}`);
  const plot = box.querySelector(".plot");
  figure.points = [];
  figure.joined = figure.kind === "curves" || (view.value === "all" && figure.yOfAll !== "");
  figure.yLabel = view.value === "all" && figure.yOfAll ? figure.yOfAll : figure.y.label;
  if (drawKind(figure, box, plot)) return;
  const empty = document.createElement("p");
  empty.className = "empty";
  const elsewhere = view.value === "all" && Object.values(figure.views).some((one) => one.length);
  empty.textContent = elsewhere ? "Choose a task above: this figure shows one at a time." : "Nothing to show yet.";
  plot.replaceChildren(empty);
}

const drawAll = () => DATA.figures.forEach(draw);

function offerViews() {
  const many = DATA.views.length > 1;
  if (many) view.append(new Option("all studies", "all"));
  view.append(...DATA.views.map((name) => new Option(name, name)));
  document.getElementById("view-label").hidden = !many;
  view.addEventListener("change", drawAll);
}

function offerMethods() {
  const legend = document.getElementById("legend");
  for (const method of DATA.methods) {
    const button = legend.appendChild(document.createElement("button"));
    button.type = "button";
    button.setAttribute("aria-pressed", "true");
    const style = styleOf(method);
    const swatch = element("svg", { width: 28, height: 12, viewBox: "0 0 28 12", "aria-hidden": "true" });
    swatch.append(element("path", { class: `line s${style}`, d: "M0 6H28", "stroke-dasharray": DASHES[style] }), mark(method, 14, 6));
    button.append(swatch, method);
    button.addEventListener("click", () => {
      if (!off.delete(method)) off.add(method);
      button.setAttribute("aria-pressed", String(isOn(method)));
      drawAll();
    });
  }
}

function offerTheme() {
  const button = document.getElementById("theme");
  const set = (dark) => {
    document.documentElement.dataset.theme = dark ? "dark" : "light";
    button.setAttribute("aria-pressed", String(dark));
  };
  set(matchMedia("(prefers-color-scheme: dark)").matches);
  button.addEventListener("click", () => set(button.getAttribute("aria-pressed") !== "true"));
}

function nearest(figure, x, y) {
  let best = null;
  let distance = 22 ** 2;
  for (const point of figure.points) {
    const d = (point[0] - x) ** 2 + (point[1] - y) ** 2;
    if (d < distance) [best, distance] = [point, d];
  }
  return best;
}

const tip = document.getElementById("tip");

function tell(event) {
  const svg = event.target.closest?.(".plot > svg");
  const figure = svg && DATA.figures.find((one) => one.name === svg.closest("figure").dataset.name);
  const box = svg && svg.getBoundingClientRect();
  const found = figure && nearest(figure, event.clientX - box.left, event.clientY - box.top);
  tip.hidden = !found;
  if (!found) return;
  tip.textContent = found[2];
  tip.style.left = `${Math.max(4, Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 8))}px`;
  tip.style.top = `${Math.min(event.clientY + 14, innerHeight - tip.offsetHeight - 8)}px`;
}

function redrawWhenResized() {
  let width = innerWidth;
  addEventListener("resize", () => {
    if (innerWidth === width) return;
    width = innerWidth;
    requestAnimationFrame(drawAll);
  });
}

offerTheme();
if (view) {
  offerViews();
  offerMethods();
  drawAll();
  redrawWhenResized();
}
document.addEventListener("pointermove", tell);
