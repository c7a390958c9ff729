'use strict';
// A sweep, in one function with sweep_charts.js and sweep_table.js (report.html): its rows, and how values look.
const sweep = data.sweep;
if (!sweep) return;

const rows = sweep.rows;                       // columns: point[], axes[][], feasible[], values[][] by metric
const count = rows.point.length;
const objective = sweep.objective;             // {metric, maximize}
const show = (id) => { byId(id).hidden = false; };
const metricName = (metric) => sweep.metrics[metric].name.replaceAll('_', ' ');

// ---------------------------------------------------------------------------------------------- numbers for people

const significant = (value) => {
  const size = Math.abs(value);
  if (size === 0) return '0';
  if (size < 1e-3) return value.toExponential(2);
  if (size >= 1e6) return value.toLocaleString('en', {notation: 'compact', maximumSignificantDigits: 4});
  return value.toLocaleString('en', {maximumSignificantDigits: 4, useGrouping: size >= 1e4});
};

function scaled(value, units) {
  let [factor, unit] = units[0];
  for (const [f, u] of units) if (Math.abs(value) >= 0.9995 * f) [factor, unit] = [f, u];
  return `${significant(value / factor)} ${unit}`;
}

const TIMES = [[1, 'ns'], [1e3, 'µs'], [1e6, 'ms'], [1e9, 's'], [60e9, 'min'], [3600e9, 'h'], [86400e9, 'd']];
const BYTES = [[1, 'B'], [1e3, 'kB'], [1e6, 'MB'], [1e9, 'GB'], [1e12, 'TB'], [1e15, 'PB']];
const FORMATS = {
  share: (v) => `${significant(100 * v)} %`, ns: (v) => scaled(v, TIMES), seconds: (v) => scaled(1e9 * v, TIMES),
  hours: (v) => scaled(3600e9 * v, TIMES), bytes: (v) => scaled(v, BYTES),
  bytes_per_second: (v) => `${scaled(v, BYTES)}/s`, per_second: (v) => `${significant(v)}/s`,
  gpu_hours: (v) => `${significant(v)} GPU-h`, money: significant, count: significant,
};
const format = (metric, value) =>
  (value === null || value === undefined ? '–' : FORMATS[sweep.metrics[metric].unit](value));

// ---------------------------------------------------------------------------------------------- rows

const label = (axis, row) => {
  const choice = rows.axes[axis][row];
  return choice === null ? '–' : sweep.axes[axis].labels[choice];
};
const value = (metric, row) => rows.values[metric][row];

/// Is row `a` before row `b`? Feasible ones first, then by objective; invalid ones (no values) last.
function before(a, b) {
  if (b === undefined) return true;
  if (rows.feasible[a] !== rows.feasible[b]) return rows.feasible[a] > rows.feasible[b];
  const x = value(objective.metric, a), y = value(objective.metric, b);
  if (x === null || y === null) return y === null && x !== null;
  return objective.maximize ? x > y : x < y;
}

function tooltipOf(event, row) {
  const axes = sweep.axes.map((axis, i) => [axis.name, label(i, row)]).filter(([, text]) => text !== '–');
  const metrics = sweep.shown.map((metric) => [metricName(metric), format(metric, value(metric, row))]);
  placeTooltip(event, `point ${rows.point[row]}`, rows.feasible[row] ? '' : 'misses a constraint', [...axes, ...metrics]);
}

// ---------------------------------------------------------------------------------------------- choices

function select(target, title, options, chosen, onChange) {
  const field = element('select', {'aria-label': title});
  options.forEach(([text, key]) => field.append(element('option', {value: key, selected: key === chosen}, text)));
  field.addEventListener('change', () => onChange(Number(field.value)));
  target.append(element('label', {}, title, ' ', field));
  return field;
}

const axisOptions = () => sweep.axes.map((axis, i) => [axis.name, i]).filter(([, i]) => sweep.axes[i].labels.length > 1);
const metricOptions = () => sweep.metrics.map((metric, i) => [metricName(i), i]);
const best = sweep.best;  // position among the rows, or null

/// The row of every cell of an x-y grid; of several rows in a cell the one that comes first, or, with `slice`, the one
/// that is as the best point in the other axes.
function gridRows(x, y, slice) {
  const cells = new Map();
  for (let row = 0; row < count; ++row) {
    const i = rows.axes[x][row], j = y === null ? 0 : rows.axes[y][row];
    if (i === null || j === null) continue;
    if (slice && sweep.axes.some((_, axis) => axis !== x && axis !== y && rows.axes[axis][row] !== rows.axes[axis][best])) continue;
    const key = j * 65536 + i;
    if (before(row, cells.get(key))) cells.set(key, row);
  }
  return cells;
}

const state = {metric: objective.metric, x: 0, y: null, slice: 0};
