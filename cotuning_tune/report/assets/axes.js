// Scales, ticks and the parts of an SVG picture.

const MARGIN = { top: 10, right: 14, bottom: 42, left: 48 };

function element(name, attributes = {}, text = "") {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== "") made.textContent = text;
  return made;
}

function shown(value) {
  if (typeof value !== "number") return String(value);
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size < 1e-3 || size >= 1e6) return value.toExponential().replace(/(\.\d\d)\d+/, "$1").replace("e+", "e");
  return String(Number(value.toPrecision(4)));
}

function linearTicks(low, high, count, least = 0) {
  const rough = (high - low) / Math.max(1, count);
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((n) => n * power).find((s) => s >= rough && s >= least) || least;
  const ticks = [];
  for (let n = Math.ceil(low / step - 1e-9); n * step <= high + step * 1e-9; n++) ticks.push(Number((n * step).toPrecision(12)));
  return ticks;
}

function logTicks(low, high, count) {
  const first = Math.ceil(Math.log10(low) - 1e-9);
  const last = Math.floor(Math.log10(high) + 1e-9);
  if (last - first < 1) return linearTicks(low, high, count).filter((tick) => tick > 0);
  const every = Math.ceil((last - first + 1) / Math.max(2, count));
  const ticks = [];
  for (let n = first; n <= last; n += every) ticks.push(10 ** n);
  return ticks;
}

function extent(values, share) {
  let low = Infinity;
  let high = -Infinity;
  for (const value of values) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  if (low > high) return [0, 1];
  const room = high > low ? (high - low) * share : Math.abs(high) * 0.05 || 1;
  return [low - room, high + room];
}

function linearScale(values, from, to, room = 0.05, leastStep = 0) {
  const [low, high] = extent(values, room);
  const place = (value) => from + ((value - low) / (high - low)) * (to - from);
  return { place, ticks: (count) => linearTicks(low, high, count, leastStep) };
}

// A logarithmic axis; zeros get a place of their own at its start.
function logScale(values, from, to) {
  const positive = values.filter((value) => value > 0);
  const zero = positive.length < values.length;
  const [low, high] = extent(positive.map(Math.log10), 0.04);
  const start = zero ? from + (to - from) * 0.08 : from;
  const place = (value) => (value > 0 ? start + ((Math.log10(value) - low) / (high - low)) * (to - start) : from + (to - from) * 0.02);
  const ticks = (count) => [...(zero ? [0] : []), ...(positive.length ? logTicks(10 ** low, 10 ** high, count) : [])];
  return { place, ticks };
}

function picture(plot, height, label) {
  const width = Math.max(260, plot.clientWidth);
  const svg = element("svg", { viewBox: `0 0 ${width} ${height}`, height, role: "img", "aria-label": label });
  plot.replaceChildren(svg);
  return { svg, width, height };
}

function drawAxes({ svg, width, height }, x, y, xLabel, yLabel) {
  const bottom = height - MARGIN.bottom;
  for (const tick of y.ticks(6)) {
    svg.append(element("line", { class: "rule", x1: MARGIN.left, x2: width - MARGIN.right, y1: y.place(tick), y2: y.place(tick) }));
    svg.append(element("text", { x: MARGIN.left - 6, y: y.place(tick) + 4, "text-anchor": "end" }, shown(tick)));
  }
  for (const tick of x.ticks(Math.max(3, Math.round(width / 90)))) {
    svg.append(element("line", { class: "rule", x1: x.place(tick), x2: x.place(tick), y1: MARGIN.top, y2: bottom }));
    svg.append(element("text", { x: x.place(tick), y: bottom + 16, "text-anchor": "middle" }, shown(tick)));
  }
  svg.append(element("line", { class: "axis", x1: MARGIN.left, x2: width - MARGIN.right, y1: bottom, y2: bottom }));
  svg.append(element("text", { class: "label", x: (MARGIN.left + width - MARGIN.right) / 2, y: height - 6, "text-anchor": "middle" }, xLabel));
  const middle = (MARGIN.top + bottom) / 2;
  svg.append(element("text", { class: "label", x: 12, y: middle, transform: `rotate(-90 12 ${middle})`, "text-anchor": "middle" }, yLabel));
}

const DASHES = ["", "7 3", "2 3", "9 3 2 3", "5 2", "1 2", "9 3 2 3 2 3", "12 4", "4 4 1 4"];
const SHAPES = [
  (r) => `M${-r} 0a${r} ${r} 0 1 0 ${2 * r} 0a${r} ${r} 0 1 0 ${-2 * r} 0Z`,
  (r) => `M${-r} ${-r}H${r}V${r}H${-r}Z`,
  (r) => `M0 ${-1.2 * r}L${1.1 * r} ${r}H${-1.1 * r}Z`,
  (r) => `M0 ${-1.35 * r}L${1.35 * r} 0L0 ${1.35 * r}L${-1.35 * r} 0Z`,
  (r) => `M0 ${1.2 * r}L${1.1 * r} ${-r}H${-1.1 * r}Z`,
  (r) => `M${-r / 2} ${-r * 1.2}H${r / 2}V${-r / 2}H${r * 1.2}V${r / 2}H${r / 2}V${r * 1.2}H${-r / 2}V${r / 2}H${-r * 1.2}V${-r / 2}H${-r / 2}Z`,
  (r) => `M${-r} ${-1.3 * r}L0 ${-0.4 * r}L${r} ${-1.3 * r}L${1.3 * r} ${-r}L${0.4 * r} 0L${1.3 * r} ${r}L${r} ${1.3 * r}L0 ${0.4 * r}L${-r} ${1.3 * r}L${-1.3 * r} ${r}L${-0.4 * r} 0L${-1.3 * r} ${-r}Z`,
  (r) => `M0 ${-1.25 * r}L${1.2 * r} ${-0.35 * r}L${0.75 * r} ${1.05 * r}H${-0.75 * r}L${-1.2 * r} ${-0.35 * r}Z`,
  (r) => `M${-1.3 * r} ${-0.45 * r}H${1.3 * r}V${0.45 * r}H${-1.3 * r}Z`,
];

const styleOf = (method) => DATA.methods.indexOf(method) % SHAPES.length;

function mark(method, x, y, radius = 3.6) {
  const style = styleOf(method);
  return element("path", { class: `mark s${style}`, d: SHAPES[style](radius), transform: `translate(${x.toFixed(1)} ${y.toFixed(1)})` });
}
