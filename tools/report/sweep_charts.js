// Charts of a sweep: maps and lines over its axes, Pareto fronts, time by cause.

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
  const step = 7 * devicePixelRatio;  // through the whole map, so that the lines of neighbours meet
  for (let at = Math.ceil((left + top) / step) * step - top - height; at < left + width; at += step) {
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
