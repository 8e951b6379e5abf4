// One function for each kind of figure. A drawn point can be asked for its text: figure.points.

function drawSeries(figure, plot, series, label) {
  const all = (key) => series.flatMap((one) => one[key]);
  if (!all("x").length) return false;
  const frame = picture(plot, 320, label);
  const { svg, width, height } = frame;
  const right = width - MARGIN.right;
  const bottom = height - MARGIN.bottom;
  const both = figure.diagonal ? [...all("x"), ...all("y")] : null;
  const x = figure.x.log ? logScale(all("x"), MARGIN.left, right) : linearScale(both || all("x"), MARGIN.left, right, 0.03, figure.x.whole ? 1 : 0);
  const y = linearScale(both || all("y"), bottom, MARGIN.top);
  drawAxes(frame, x, y, figure.x.label, figure.yLabel);
  if (figure.diagonal) {
    const [low, high] = extent(both, 0);
    svg.append(element("line", { class: "even", x1: x.place(low), y1: y.place(low), x2: x.place(high), y2: y.place(high) }));
  }
  svg.classList.toggle("many", !figure.joined && all("x").length > 100);
  for (const one of series) {
    if (figure.joined) svg.append(joined(figure, one, x, y));
    drawMarks(figure, svg, one, x, y);
  }
  return true;
}

function joined(figure, one, x, y) {
  const style = styleOf(one.method);
  let path = "";
  one.x.forEach((value, i) => {
    const px = x.place(value).toFixed(1);
    if (i && figure.steps) path += `H${px}`;
    path += `${i ? "L" : "M"}${px} ${y.place(one.y[i]).toFixed(1)}`;
  });
  return element("path", { class: `line s${style}`, d: path, "stroke-dasharray": DASHES[style] });
}

function drawMarks(figure, svg, one, x, y) {
  const apart = figure.kind === "curves" ? svg.viewBox.baseVal.width / 14 : 0;
  let free = -Infinity;
  one.x.forEach((value, i) => {
    const at = [x.place(value), y.place(one.y[i])];
    figure.points.push([...at, `${one.method}: ${shown(one.y[i])} at ${shown(value)}`]);
    if (at[0] < free) return;
    svg.append(mark(one.method, ...at));
    free = at[0] + apart;
  });
}

function drawShares(figure, plot, rows, label) {
  const drawn = rows.filter((row) => Object.keys(row.shares).some(isOn));
  if (!drawn.length) return false;
  const names = Math.min(150, 20 + 7 * Math.max(...drawn.map((row) => row.parameter.length)));
  const frame = picture(plot, 60 + 46 * drawn.length, label);
  const { svg, width, height } = frame;
  const x = linearScale([0, 1], names, width - MARGIN.right, 0);
  const bottom = height - MARGIN.bottom;
  for (const tick of [0, 0.25, 0.5, 0.75, 1]) {
    svg.append(element("line", { class: "rule", x1: x.place(tick), x2: x.place(tick), y1: MARGIN.top, y2: bottom }));
    svg.append(element("text", { x: x.place(tick), y: bottom + 16, "text-anchor": "middle" }, String(tick)));
  }
  svg.append(element("text", { class: "label", x: (names + width) / 2, y: height - 6, "text-anchor": "middle" }, figure.x.label));
  drawn.forEach((row, i) => {
    const middle = MARGIN.top + 23 + i * 46;
    const text = element("text", { class: "label", x: 0, y: middle + 4 }, row.parameter.length > 20 ? `${row.parameter.slice(0, 19)}…` : row.parameter);
    svg.append(text, element("line", { class: "rule", x1: names, x2: width - MARGIN.right, y1: middle + 23, y2: middle + 23 }));
    const methods = Object.keys(row.shares).filter(isOn);
    methods.forEach((method, place) => {
      const at = [x.place(row.shares[method]), middle + (methods.length > 1 ? (place / (methods.length - 1) - 0.5) * 30 : 0)];
      figure.points.push([...at, `${method}: ${row.parameter} ${shown(row.shares[method])}`]);
      svg.append(mark(method, ...at));
    });
  });
  return true;
}

function axisScale(axis, values, from, to) {
  const named = axis.options || (values.every((value) => typeof value === "number") ? null : [...new Set(values)]);
  if (named) {
    const place = (value) => from + ((named.indexOf(value) + 0.5) / named.length) * (to - from);
    return { place, ticks: () => named };
  }
  const ends = axis.low === undefined ? values : [axis.low, axis.high];
  return axis.log ? logScale(ends, from, to) : linearScale(ends, from, to, 0.02);
}

function drawParallel(figure, plot, view, label) {
  if (!view || !view.rows.length) return false;
  const frame = picture(plot, 330, label);
  const { svg, width, height } = frame;
  const axes = [...view.axes, { name: view.score }];
  const gap = (width - 110) / Math.max(1, axes.length - 1);
  const columns = axes.map((axis, i) => {
    const values = view.rows.map((row) => row[i + 1]);
    return { axis, at: 55 + i * gap, scale: axisScale(axis, values, height - 40, 18) };
  });
  const scores = view.rows.map((row) => row[row.length - 1]);
  const [low, high] = extent(scores, 0);
  const share = (score) => (view.less ? high - score : score - low) / (high - low || 1);
  const ordered = [...view.rows].sort((a, b) => (a[0] === view.chosen) - (b[0] === view.chosen));
  for (const row of ordered) drawThread(figure, svg, view, row, columns, share(row[row.length - 1]));
  columns.forEach(({ axis, at, scale }, i) => {
    svg.append(element("line", { class: "axis", x1: at, x2: at, y1: 12, y2: height - 34 }));
    for (const tick of scale.ticks(5)) {
      const last = i === columns.length - 1;
      svg.append(element("text", { x: last ? at - 5 : at + 5, y: scale.place(tick) + 4, "text-anchor": last ? "end" : "start" }, shown(tick)));
    }
    const anchor = { "text-anchor": i === 0 ? "start" : i === columns.length - 1 ? "end" : "middle" };
    const x = i === 0 ? 4 : i === columns.length - 1 ? width - 4 : at;
    svg.append(element("text", { class: "label", x, y: height - (i % 2 && gap < 90 ? 4 : 18), ...anchor }, axis.name));
  });
  return true;
}

function drawThread(figure, svg, view, row, columns, share) {
  const places = columns.map(({ at, scale }, i) => [at, scale.place(row[i + 1])]);
  const chosen = row[0] === view.chosen;
  const d = places.map(([x, y], i) => `${i ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`).join("");
  const kind = `thread s${styleOf(view.method)}${chosen ? " chosen" : ""}`;
  svg.append(element("path", { class: kind, d, opacity: chosen ? 1 : (0.12 + 0.68 * share ** 2).toFixed(2) }));
  const values = columns.map(({ axis }, i) => `${axis.name} ${shown(row[i + 1])}`);
  places.forEach((place) => figure.points.push([...place, `trial ${row[0]}: ${values.join(", ")}`]));
}

function drawRelations(plot, rows) {
  if (!rows || !rows.length) return false;
  const most = Math.max(...rows.map((row) => row.length - 1));
  const header = ["target class", ...Array.from({ length: most }, (_, i) => (i ? `${i + 1}.` : "likeliest source class"))];
  const body = rows.map(([target, ...source]) => [target, ...source.map(([name, p]) => `${name} (${(100 * p).toFixed(1)} %)`)]);
  plot.replaceChildren(tableOf(header, body, "What co-tuning relates to what"));
  return true;
}
