'use strict';
// Draws a sweep: maps and lines over its axes, Pareto fronts, time by cause, and the table of its points.
(() => {
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

// ---------------------------------------------------------------------------------------------- plots

const plots = [];

function makePlot(id, options, columns, height) {
  const target = byId(id);
  const old = plots.findIndex((entry) => entry.id === id);
  if (old >= 0) plots.splice(old, 1)[0].plot.destroy();
  const width = Math.max(300, target.clientWidth);
  const plot = new uPlot({legend: {show: false}, ...options, width, height}, columns, target);
  plots.push({id, plot, height});
  return plot;
}

const ordinal = (axis, size = 34) => ({
  ...plotAxis(), label: axis.name, labelSize: 20, size,
  splits: (u, index, low, high) => {
    const room = Math.max(1, Math.floor((index === 0 ? u.width : u.height) / (index === 0 ? 46 : 24)));
    const step = Math.max(1, Math.ceil(axis.labels.length / room));
    return axis.labels.map((_, i) => i).filter((i) => i % step === 0 && i >= low && i <= high);
  },
  values: (_, splits) => splits.map((i) => short(axis.labels[i])),
});
const short = (text) => (text.length > 16 ? text.slice(0, 15) + '…' : text);
const ordinalRange = (axis) => () => [-0.5, axis.labels.length - 0.5];

// Viridis in eight steps (Smith and van der Walt, matplotlib, CC0): even to the eye, readable without colour vision.
const VIRIDIS = [[68, 1, 84], [70, 50, 127], [54, 92, 141], [39, 127, 142], [31, 161, 135], [74, 194, 109], [159, 218, 58], [253, 231, 37]];
function ramp(part) {
  const at = Math.min(0.9999, Math.max(0, part)) * (VIRIDIS.length - 1);
  const i = Math.floor(at), f = at - i;
  return `rgb(${VIRIDIS[i].map((c, k) => Math.round(c + f * (VIRIDIS[i + 1][k] - c))).join(',')})`;
}

function rangeOf(values) {
  let low = Infinity, high = -Infinity;
  for (const v of values) {
    if (v === null || v === undefined) continue;
    low = Math.min(low, v);
    high = Math.max(high, v);
  }
  return [low, high];
}

// ---------------------------------------------------------------------------------------------- heat map

function drawMap() {
  const axisX = sweep.axes[state.x], axisY = sweep.axes[state.y];
  const cells = gridRows(state.x, state.y, state.slice === 1);
  const [low, high] = rangeOf([...cells.values()].map((row) => value(state.metric, row)));
  const part = (v) => (high > low ? (v - low) / (high - low) : 1);
  const paint = (u) => {
    const ctx = u.ctx;
    ctx.save();
    for (const [key, row] of cells) {
      const i = key % 65536, j = Math.floor(key / 65536), v = value(state.metric, row);
      const left = u.valToPos(i - 0.5, 'x', true), right = u.valToPos(i + 0.5, 'x', true);
      const top = u.valToPos(j + 0.5, 'y', true), bottom = u.valToPos(j - 0.5, 'y', true);
      const gap = Math.min(devicePixelRatio, (right - left) / 8);
      ctx.fillStyle = v === null ? css('--grid') : ramp(part(v));
      ctx.fillRect(left, top, right - left - gap, bottom - top - gap);
      if (v !== null && !rows.feasible[row]) hatch(ctx, left, top, right - left - gap, bottom - top - gap);
      if (row === best) {
        ctx.lineWidth = 3 * devicePixelRatio;
        ctx.strokeStyle = '#fff';
        ctx.strokeRect(left + ctx.lineWidth / 2, top + ctx.lineWidth / 2, right - left - gap - ctx.lineWidth, bottom - top - gap - ctx.lineWidth);
        ctx.lineWidth = devicePixelRatio;
        ctx.strokeStyle = '#000';
        ctx.strokeRect(left, top, right - left - gap, bottom - top - gap);
      }
    }
    ctx.restore();
  };
  const longest = Math.max(...axisY.labels.map((text) => short(text).length));
  const grid = {grid: {show: false}};
  const plot = makePlot('sweep-map', {
    scales: {x: {time: false, range: ordinalRange(axisX)}, y: {range: ordinalRange(axisY)}},
    series: [{}, {scale: 'y', paths: () => null, points: {show: false}}],
    axes: [{...ordinal(axisX), ...grid}, {...ordinal(axisY, 16 + 7 * longest), ...grid}],
    cursor: {drag: {x: false, y: false}, points: {show: false}}, hooks: {draw: [paint]},
  }, [axisX.labels.map((_, i) => i), axisX.labels.map(() => 0)], Math.min(560, Math.max(220, 70 + 26 * axisY.labels.length)));
  plot.over.addEventListener('mousemove', (event) => {
    const i = Math.round(plot.posToVal(event.offsetX, 'x')), j = Math.round(plot.posToVal(event.offsetY, 'y'));
    const row = cells.get(j * 65536 + i);
    if (row === undefined) hideTooltip();
    else tooltipOf(event, row);
  });
  plot.over.addEventListener('mouseleave', hideTooltip);
  drawRamp(low, high);
}

function hatch(ctx, left, top, width, height) {
  ctx.save();
  ctx.beginPath();
  ctx.rect(left, top, width, height);
  ctx.clip();
  ctx.strokeStyle = 'rgba(255,255,255,.55)';
  ctx.lineWidth = devicePixelRatio;
  ctx.beginPath();
  for (let at = left - height; at < left + width; at += 7 * devicePixelRatio) {
    ctx.moveTo(at, top + height);
    ctx.lineTo(at + height, top);
  }
  ctx.stroke();
  ctx.restore();
}

function drawRamp(low, high) {
  const bar = element('i');
  bar.style.background = `linear-gradient(90deg, ${VIRIDIS.map((c) => `rgb(${c.join(',')})`).join(', ')})`;
  const hatched = sweep.constraints.length === 0 ? [] : [element('span', {class: 'hatched'}), `misses ${sweep.constraints.map((c) => c.text).join(' or ')}`];
  byId('sweep-ramp').replaceChildren(format(state.metric, low), bar, format(state.metric, high), element('span', {class: 'ring'}), 'best point', ...hatched);
}

// ---------------------------------------------------------------------------------------------- lines

const MOST_LINES = 8;

function drawLines() {
  const axisX = sweep.axes[state.x], axisY = state.y === null ? null : sweep.axes[state.y];
  const cells = gridRows(state.x, state.y, state.slice === 1);
  const all = axisY === null ? [0] : axisY.labels.map((_, j) => j);
  const step = Math.max(1, Math.ceil(all.length / MOST_LINES));
  const chosen = all.filter((j) => j % step === 0);
  const columns = [axisX.labels.map((_, i) => i)];
  const series = [{}];
  chosen.forEach((j, k) => {
    columns.push(axisX.labels.map((_, i) => {
      const row = cells.get(j * 65536 + i);
      return row === undefined ? null : value(state.metric, row);
    }));
    series.push({stroke: SERIES[k % SERIES.length], width: 2, spanGaps: true, points: {show: axisX.labels.length <= 40, size: 5}});
  });
  const plot = makePlot('sweep-lines', {
    scales: {x: {time: false, range: ordinalRange(axisX)}}, series,
    axes: [ordinal(axisX), {...plotAxis(), size: 72, values: (_, splits) => splits.map((v) => format(state.metric, v))}],
    cursor: {drag: {x: false, y: false}, points: {size: 7}},
  }, columns, 300);
  plot.over.addEventListener('mousemove', (event) => {
    const i = Math.round(plot.posToVal(event.offsetX, 'x'));
    let near = undefined, distance = Infinity;
    for (const j of chosen) {
      const row = cells.get(j * 65536 + i);
      if (row === undefined || value(state.metric, row) === null) continue;
      const d = Math.abs(plot.valToPos(value(state.metric, row), 'y') - event.offsetY);
      if (d < distance) [near, distance] = [row, d];
    }
    if (near === undefined) hideTooltip();
    else tooltipOf(event, near);
  });
  plot.over.addEventListener('mouseleave', hideTooltip);
  const entry = (text, colour) => {
    const swatch = element('span', {class: 'swatch'});
    swatch.style.background = colour;
    return element('span', {}, swatch, text);
  };
  byId('sweep-lines-key').replaceChildren(...(axisY === null ? [] : [
    `${axisY.name}: `, ...chosen.map((j, k) => entry(axisY.labels[j], SERIES[k % SERIES.length])),
    ...(step > 1 ? [`every ${step === 2 ? 'other' : `${step}th`} value shown`] : [])]));
}

// ---------------------------------------------------------------------------------------------- Pareto fronts

/// Rows that no other row beats in both the objective and `cost` (less is better); ascending in `cost`.
function front(cost) {
  const sorted = [];
  for (let row = 0; row < count; ++row) {
    if (value(cost, row) !== null && value(objective.metric, row) !== null) sorted.push(row);
  }
  const gain = objective.maximize ? 1 : -1;
  sorted.sort((a, b) => value(cost, a) - value(cost, b) || gain * (value(objective.metric, b) - value(objective.metric, a)));
  const out = [];
  for (const row of sorted) {
    const last = out[out.length - 1];
    if (last === undefined || gain * value(objective.metric, row) > gain * value(objective.metric, last)) out.push(row);
  }
  return {sorted, front: out};
}

function drawFront(id, cost) {
  const {sorted, front: members} = front(cost);
  const isMember = new Set(members);
  const pick = (test) => sorted.map((row) => (test(row) ? value(objective.metric, row) : null));
  const columns = [sorted.map((row) => value(cost, row)), pick((row) => !rows.feasible[row]), pick((row) => rows.feasible[row]),
                   pick((row) => isMember.has(row)), pick((row) => row === best)];
  const dots = (colour, size) => ({paths: () => null, stroke: colour, points: {show: true, size, fill: colour, stroke: colour, width: 1}});
  const padded = (_, low, high) => { const room = 0.04 * (high - low || Math.abs(high) || 1); return [low - room, high + room]; };
  const limits = (u) => {
    const ctx = u.ctx;
    ctx.save();
    ctx.strokeStyle = css('--bad');
    ctx.setLineDash([6 * devicePixelRatio, 5 * devicePixelRatio]);
    ctx.lineWidth = devicePixelRatio;
    for (const constraint of sweep.constraints) {
      if (constraint.metric !== cost || constraint.limit < u.scales.x.min || constraint.limit > u.scales.x.max) continue;
      const x = u.valToPos(constraint.limit, 'x', true);
      ctx.beginPath();
      ctx.moveTo(x, u.bbox.top);
      ctx.lineTo(x, u.bbox.top + u.bbox.height);
      ctx.stroke();
    }
    ctx.restore();
  };
  const plot = makePlot(id, {
    scales: {x: {time: false, range: padded}, y: {range: padded}},
    series: [{}, dots(() => css('--line'), 4), dots(() => css('--soft'), 4),
             {stroke: () => css('--accent'), width: 2, spanGaps: true, points: {show: true, size: 6, fill: () => css('--accent')}},
             dots(() => css('--good'), 11)],
    axes: [{...plotAxis(), label: metricName(cost), labelSize: 20, size: 34, values: (_, splits) => splits.map((v) => format(cost, v))},
           {...plotAxis(), label: metricName(objective.metric), labelSize: 20, size: 76, values: (_, splits) => splits.map((v) => format(objective.metric, v))}],
    cursor: {drag: {x: false, y: false}, points: {show: false}}, hooks: {draw: [limits]},
  }, columns, 300);
  plot.over.addEventListener('mousemove', (event) => {
    let near = undefined, distance = 400;  // within 20 pixels
    for (const row of sorted) {
      const dx = plot.valToPos(value(cost, row), 'x') - event.offsetX;
      const dy = plot.valToPos(value(objective.metric, row), 'y') - event.offsetY;
      const d = dx * dx + dy * dy - (isMember.has(row) ? 4 : 0);
      if (d < distance) [near, distance] = [row, d];
    }
    if (near === undefined) hideTooltip();
    else tooltipOf(event, near);
  });
  plot.over.addEventListener('mouseleave', hideTooltip);
  byId(id).dataset.members = members.length;
}

// ---------------------------------------------------------------------------------------------- time by cause

const CAUSES = ['#2a9d8f', '#e8743b', '#b58900', '#8793a8', '#4c7bd0', '#9a67d8', '#c8504b', '#7d8796'];

function drawCauses() {
  const first = sweep.causes.first, names = sweep.causes.names;
  const chosen = [...Array(count).keys()].filter((row) => value(first, row) !== null)
    .sort((a, b) => (before(a, b) ? -1 : before(b, a) ? 1 : 0)).slice(0, 12);
  const worst = Math.max(1e-9, ...chosen.map((row) => 1 - value(first, row)));
  const key = element('div', {class: 'key'}, ...names.slice(1).map((name, i) => {
    const swatch = element('span', {class: 'swatch'});
    swatch.style.background = CAUSES[i + 1];
    return element('span', {}, swatch, name);
  }));
  const bars = chosen.map((row) => {
    const bar = element('div', {class: 'stack'});
    names.slice(1).forEach((name, i) => {
      const part = element('i', {title: `${name}: ${format(first + i + 1, value(first + i + 1, row))}`});
      part.style.width = `${82 * value(first + i + 1, row) / worst}%`;
      part.style.background = CAUSES[i + 1];
      bar.append(part);
    });
    bar.append(element('span', {}, format(first, 1 - value(first, row))));
    const where = sweep.axes.map((_, axis) => label(axis, row)).filter((text) => text !== '–').map(short).join(' · ');
    return [element('div', {class: 'name', title: where}, element('b', {}, String(rows.point[row])), ' ', where), bar];
  });
  byId('sweep-causes').replaceChildren(key, ...bars.flat());
}

// ---------------------------------------------------------------------------------------------- table

const PAGE = 50;
const sorting = {column: null, up: false, shown: PAGE};
const columns = [
  {name: 'point', text: (row) => String(rows.point[row]), key: (row) => rows.point[row]},
  ...sweep.axes.map((axis, i) => ({name: axis.name, text: (row) => label(i, row), key: (row) => rows.axes[i][row]})),
  ...sweep.metrics.map((_, i) => ({name: metricName(i), text: (row) => format(i, value(i, row)), key: (row) => value(i, row), help: sweep.metrics[i].help})),
];
const objectiveColumn = 1 + sweep.axes.length + objective.metric;

function sortedRows() {
  const key = columns[sorting.column].key, way = sorting.up ? 1 : -1;
  return [...Array(count).keys()].sort((a, b) => {
    const x = key(a), y = key(b);
    if (x === null || y === null) return (x === null) - (y === null) || a - b;
    return way * (x - y) || a - b;
  });
}

function sortBy(column) {
  sorting.up = sorting.column === column ? !sorting.up : column < 1 + sweep.axes.length;
  Object.assign(sorting, {column, shown: PAGE});
  drawTable();
}

function drawTable() {
  const order = sortedRows();
  const heading = element('tr', {}, ...columns.map((column, i) => {
    const button = element('button', {type: 'button', title: column.help}, column.name);
    button.addEventListener('click', () => sortBy(i));
    const direction = sorting.column === i ? (sorting.up ? 'ascending' : 'descending') : null;
    return element('th', {'aria-sort': direction}, button);
  }));
  const body = order.slice(0, sorting.shown).map((row) =>
    element('tr', {class: row === best ? 'best' : rows.feasible[row] ? null : 'soft'}, ...columns.map((column) => cell(column.text(row)))));
  table(byId('sweep-table'), [heading], body);
  byId('sweep-more').hidden = sorting.shown >= count;
  byId('sweep-shown').textContent = `${Math.min(count, sorting.shown)} of ${count} points`;
}

// ---------------------------------------------------------------------------------------------- all of it

function drawAxesPlots() {
  byId('sweep-map').hidden = byId('sweep-ramp').hidden = state.y === null;
  if (state.y !== null) drawMap();
  drawLines();
}

function drawControls() {
  const axes = axisOptions();
  // The two axes that matter most, the longer one across.
  const [first, second] = sweep.order.filter((axis) => axes.some(([, i]) => i === axis));
  const longer = second !== undefined && sweep.axes[second].labels.length > sweep.axes[first].labels.length;
  Object.assign(state, {x: longer ? second : first, y: second === undefined ? null : longer ? first : second});
  const target = byId('sweep-controls');
  select(target, 'show', metricOptions(), state.metric, (metric) => { state.metric = metric; drawAxesPlots(); });
  if (state.y === null) return;
  const x = select(target, 'across', axes, state.x, (axis) => pick('x', 'y', axis));
  const y = select(target, 'up', axes, state.y, (axis) => pick('y', 'x', axis));
  const pick = (own, other, axis) => {
    if (state[other] === axis) state[other] = state[own];
    state[own] = axis;
    x.value = state.x;
    y.value = state.y;
    drawAxesPlots();
  };
  if (axes.length < 3 || best === null) return;
  select(target, 'other axes', [['whatever is best there', 0], ['as at the best point', 1]], 0, (slice) => { state.slice = slice; drawAxesPlots(); });
}

byId('sweep-text').replaceChildren(...sweep.text.map((sentence) => element('li', {}, sentence)));
show('sweep');
if (axisOptions().length > 0) {
  show('sweep-axes');
  drawControls();
  drawAxesPlots();
}
show('sweep-fronts');
sweep.fronts.forEach((cost, i) => {
  byId(`sweep-front-${i}-title`).textContent = `${metricName(objective.metric)} against ${metricName(cost)}`;
  drawFront(`sweep-front-${i}`, cost);
});
if (sweep.causes) {
  show('sweep-time');
  drawCauses();
}
show('sweep-points');
byId('sweep-more').addEventListener('click', () => { sorting.shown *= 4; drawTable(); });
Object.assign(sorting, {column: objectiveColumn, up: !objective.maximize});
drawTable();

onRedraw(() => plots.forEach(({plot}) => plot.redraw(false, true)));
let lastWidth = innerWidth;
addEventListener('resize', () => {
  if (innerWidth === lastWidth) return;
  lastWidth = innerWidth;
  plots.forEach(({id, plot, height}) => plot.setSize({width: Math.max(300, byId(id).clientWidth), height}));
});
})();
