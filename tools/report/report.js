'use strict';
// Draws runs and their timelines, and finishes the page.
(() => {
const KINDS = {  // colour and what it is
  Embed: ['#8793a8', 'embedding'], Attention: ['#4c7bd0', 'attention'], Mlp: ['#2a9d8f', 'dense FFN'],
  SharedExpert: ['#6fb35a', 'shared expert'], Gate: ['#b8619e', 'gate'], Encode: ['#9a67d8', 'encode'],
  Expert: ['#5a48c2', 'routed experts'], Decode: ['#d56f97', 'decode'], Head: ['#66758c', 'head and loss'],
  Counts: ['#b98a2f', 'token counts'], Dispatch: ['#e8743b', 'dispatch'], Combine: ['#eda92c', 'combine'],
  GradientReduce: ['#c8504b', 'gradient all-reduce'], GradientNorm: ['#a1795c', 'gradient norm'],
  Optimizer: ['#7d8796', 'optimizer'],
};
const colour = (kind) => (KINDS[kind] ? KINDS[kind][0] : '#888');
const label = (kind) => (KINDS[kind] ? KINDS[kind][1] : kind);
const shown = (run) => run !== null && run !== undefined;

// ---------------------------------------------------------------------------------------------- head

function runs() {
  return data.variants.flatMap((variant) => [variant.measured, variant.predicted].filter(shown));
}

function headline() {
  if (data.sweep) return data.sweep.headline;
  const verdict = data.verdict;
  const count = data.variants.length;
  if (!verdict) {
    const kind = data.variants.some((variant) => shown(variant.measured)) ? 'measured' : 'predicted';
    return count === 1 ? `${data.variants[0].name}: one ${kind} run` : `${count} ${kind} runs`;
  }
  const error = percent(verdict.median_error);
  if (verdict.pair_count === 1) return `The predicted step time is ${error} off the measured one.`;
  const missed = verdict.tolerance !== null && verdict.median_error > verdict.tolerance;
  const what = `the step time of ${verdict.pair_count} variants`;
  const order = verdict.order_right ? 'puts them in the right order' : 'puts them in the wrong order';
  if (missed) return `The simulator misses ${what} by ${error} (median) and ${order}.`;
  return `The simulator predicts ${what} to within ${error} (median) and ${order}.`;
}

function leadText() {
  if (data.sweep) return data.sweep.lead;
  const pairs = data.variants.filter((variant) => shown(variant.measured) && shown(variant.predicted));
  if (pairs.length === 0) return '';
  const worst = pairs.reduce((a, b) => (Math.abs(b.step_time_error) > Math.abs(a.step_time_error) ? b : a));
  const fastest = pairs.reduce((a, b) => (b.measured.metrics.step_time_ns < a.measured.metrics.step_time_ns ? b : a));
  const text = [`Fastest: ${fastest.name}, ${time(fastest.measured.metrics.step_time_ns)} a step, ` +
                `${percent(fastest.measured.metrics.overlap)} of its communication hidden.`];
  if (pairs.length > 1) text.push(`Largest error: ${worst.name}, ${percent(worst.step_time_error, true)}.`);
  const profiles = new Set(pairs.map((variant) => variant.predicted.device).filter(Boolean));
  if (profiles.size > 0) text.push(`Predicted from the hardware profile ${[...profiles].join(', ')}.`);
  return text.join(' ');
}

function facts() {
  const out = [];
  const add = (text, tone) => out.push(element('li', {class: tone}, text));
  if (data.verdict && data.verdict.tolerance !== null) {
    add(data.verdict.pass ? `passes: tolerance ${percent(data.verdict.tolerance)}`
                          : `fails: tolerance ${percent(data.verdict.tolerance)}`, data.verdict.pass ? 'good' : 'bad');
  }
  const measured = data.variants.map((variant) => variant.measured).filter(shown);
  for (const device of new Set(measured.map((run) => run.device).filter(Boolean))) add(device);
  for (const run of measured.slice(0, 1)) add(`${run.timeline.rank_count} ranks`);
  if (measured.some((run) => run.paced)) add('paced link: communication is deliberately slow', 'warn');
  const seeded = measured.length > 0 ? measured : runs();
  for (const seed of new Set(seeded.map((run) => run.seed))) add(`seed ${seed}`);
  if (data.sweep) data.sweep.facts.forEach((fact) => add(fact));
  for (const revision of new Set(runs().map((run) => run.revision).filter(Boolean))) add(`revision ${revision}`);
  return out;
}

function drawHead() {
  document.title = `moecast: ${data.title}`;
  byId('subtitle').textContent = data.title;
  byId('headline').textContent = headline();
  byId('lead').textContent = leadText();
  byId('facts').append(...facts());
  byId('made-by').textContent = `Made by moecast ${data.version} (${data.revision}). This page needs no network.`;
}

// ---------------------------------------------------------------------------------------------- step table and bars

const metric = (run, name) => (shown(run) ? run.metrics[name] : null);

function drawStepBars() {
  const all = runs().map((run) => run.metrics.step_time_ns);
  const longest = Math.max(...all);
  const target = byId('step-bars');
  const both = data.variants.some((variant) => shown(variant.measured)) &&
               data.variants.some((variant) => shown(variant.predicted));
  if (both) {
    const entry = (name) => element('span', {}, element('span', {class: `swatch ${name}`}), name);
    target.append(element('div', {class: 'key'}, entry('measured'), entry('predicted')));
  }
  for (const variant of data.variants) {
    const pair = element('div', {class: 'pair'});
    for (const which of ['measured', 'predicted']) {
      if (!shown(variant[which])) continue;
      const ns = variant[which].metrics.step_time_ns;
      const bar = element('i', {class: which});
      bar.style.width = `${86 * ns / longest}%`;
      pair.append(element('div', {class: 'bar'}, bar, time(ns)));
    }
    target.append(element('div', {class: 'name'}, variant.name), pair);
  }
}

function drawStepTable() {
  const headings = [
    element('tr', {}, element('th', {rowspan: 2}, 'variant'), element('th', {colspan: 3, class: 'group'}, 'step time'),
            element('th', {colspan: 2, class: 'group'}, 'communication share'),
            element('th', {colspan: 2, class: 'group'}, 'exposed communication'),
            element('th', {colspan: 2, class: 'group'}, 'overlap')),
    element('tr', {}, element('th', {}, 'measured'), element('th', {}, 'predicted'), element('th', {}, 'error'),
            ...[1, 2, 3].flatMap(() => [element('th', {class: 'gap'}, 'measured'), element('th', {}, 'predicted')])),
  ];
  const tolerance = data.verdict && data.verdict.tolerance !== null ? data.verdict.tolerance : 0.1;
  const rows = data.variants.map((variant) => {
    const both = (name, format) => [cell(format(metric(variant.measured, name)), {class: 'gap'}),
                                    cell(format(metric(variant.predicted, name)))];
    const error = variant.step_time_error;
    const tone = error === null ? 'soft' : Math.abs(error) <= tolerance ? 'good' : 'bad';
    return element('tr', {}, element('th', {scope: 'row'}, variant.name),
                   cell(time(metric(variant.measured, 'step_time_ns'))),
                   cell(time(metric(variant.predicted, 'step_time_ns'))), cell(percent(error, true), {class: tone}),
                   ...both('communication_share', percent), ...both('exposed_ns', time), ...both('overlap', percent));
  });
  table(byId('step-table'), headings, rows);
}

// ---------------------------------------------------------------------------------------------- timelines

const LANES = ['compute', 'comm', 'copy_out', 'copy_in', 'storage'];
const GUTTER = 112, RIGHT = 14, ROW = 20, GAP = 3, RANK_GAP = 7, TITLE = 26, AXIS = 26;
const state = {variant: 0, from: 0, to: 1, focus: null};

const selected = () => data.variants[state.variant];
const selectedRuns = () => ['measured', 'predicted'].filter((which) => shown(selected()[which]));
const longestStep = () => Math.max(1, ...selectedRuns().map((which) => selected()[which].timeline.duration_ns));

/// Sorted, disjoint intervals that cover the same points.
function union(intervals) {
  const out = [];
  for (const [start, end] of [...intervals].sort((a, b) => a[0] - b[0])) {
    const last = out[out.length - 1];
    if (last && start <= last[1]) last[1] = Math.max(last[1], end);
    else out.push([start, end]);
  }
  return out;
}

/// The points of `a` that are not in `b`; both are unions.
function without(a, b) {
  const out = [];
  for (let [start, end] of a) {
    for (const [from, to] of b) {
      if (to <= start || from >= end) continue;
      if (from > start) out.push([start, from]);
      start = Math.max(start, to);
    }
    if (start < end) out.push([start, end]);
  }
  return out;
}

function laneIntervals(timeline, rank, lane) {
  const out = [];
  timeline.op.forEach((_, i) => {
    if (timeline.rank[i] === rank && timeline.lane[i] === lane) out.push([timeline.start_ns[i], timeline.end_ns[i]]);
  });
  return union(out);
}

/// Rows from top to bottom: every lane of every rank that has spans.
function rowsOf(timeline) {
  const rows = [];
  for (let rank = 0; rank < timeline.shown_rank_count; ++rank) {
    LANES.forEach((lane) => {
      if (timeline.op.some((_, i) => timeline.rank[i] === rank && timeline.lane[i] === lane)) rows.push({rank, lane});
    });
  }
  return rows;
}

function ticks(from, to, count) {
  const raw = (to - from) / count;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((candidate) => candidate >= raw);
  const out = [];
  for (let at = Math.ceil(from / step) * step; at <= to; at += step) out.push(at);
  return out;
}

function tickText(ns, step) {
  const [scale, unit] = step >= 1e9 ? [1e9, 's'] : step >= 1e5 ? [1e6, 'ms'] : step >= 100 ? [1e3, 'µs'] : [1, 'ns'];
  const places = Math.max(0, -Math.floor(Math.log10(step / scale) + 1e-9));
  return `${(ns / scale).toFixed(places)} ${unit}`;
}

function medianDuration(which, name) {
  const run = selected()[which];
  if (!shown(run)) return null;
  const durations = run.timeline.op
    .map((op, i) => (run.timeline.operators[op].name === name ? run.timeline.end_ns[i] - run.timeline.start_ns[i] : null))
    .filter((value) => value !== null).sort((a, b) => a - b);
  return durations.length === 0 ? null : durations[durations.length >> 1];
}

function showTooltip(event, which, index) {
  const timeline = selected()[which].timeline;
  const operator = timeline.operators[timeline.op[index]];
  const other = which === 'measured' ? 'predicted' : 'measured';
  const own = timeline.end_ns[index] - timeline.start_ns[index];
  const rows = [['rank, lane', `${timeline.rank[index]}, ${timeline.lane[index]}`],
                ['start', time(timeline.start_ns[index])], [which, time(own)]];
  const counterpart = medianDuration(other, operator.name);
  if (counterpart !== null) rows.push([`${other} (median rank)`, time(counterpart)]);
  placeTooltip(event, operator.name, `${label(operator.kind)}, ${operator.phase.replace('_', ' ')}`, rows);
}

/// One run's lanes; returns the y below them. `x` maps nanoseconds to pixels, clamped to the plot.
function drawRun(root, which, top, width, x, view) {
  const run = selected()[which];
  const timeline = run.timeline;
  root.append(svg('text', {x: 0, y: top + 16, class: 'title'}, which === 'measured' ? 'Measured' : 'Predicted'));
  root.append(svg('text', {x: GUTTER, y: top + 16},
                  `${time(timeline.duration_ns)} (step ${timeline.step}) · ${run.source}`));
  let y = top + TITLE;
  let lastRank = 0;
  for (const row of rowsOf(timeline)) {
    if (row.rank !== lastRank) y += RANK_GAP;
    lastRank = row.rank;
    root.append(svg('text', {x: 0, y: y + 14}, `rank ${row.rank} ${row.lane}`));
    root.append(svg('rect', {x: GUTTER, y, width: width - GUTTER - RIGHT, height: ROW, class: 'lane', rx: 2}));
    drawSpans(root, which, row, y, x, view);
    if (row.lane === 'comm') drawExposed(root, timeline, row.rank, y, x, view);
    y += ROW + GAP;
  }
  if (timeline.duration_ns <= view[1]) {
    const end = x(timeline.duration_ns);
    root.append(svg('line', {x1: end, x2: end, y1: top + TITLE - 4, y2: y, class: 'end'}));
  }
  return y;
}

function drawSpans(root, which, row, y, x, view) {
  const timeline = selected()[which].timeline;
  timeline.op.forEach((op, i) => {
    if (timeline.rank[i] !== row.rank || timeline.lane[i] !== row.lane) return;
    if (timeline.end_ns[i] < view[0] || timeline.start_ns[i] > view[1]) return;
    const operator = timeline.operators[op];
    const left = x(timeline.start_ns[i]);
    const size = Math.max(0.6, x(timeline.end_ns[i]) - left);
    const on = state.focus === operator.kind ? ' on' : '';
    const back = operator.phase === 'forward' ? '' : ' backward';
    const rect = svg('rect', {x: left, y: y + 1, width: size, height: ROW - 2, rx: Math.min(2, size / 3),
                              fill: colour(operator.kind), class: `span${back}${on}`});
    rect.addEventListener('mousemove', (event) => showTooltip(event, which, i));
    rect.addEventListener('mouseleave', hideTooltip);
    root.append(rect);
    const text = operator.name;
    if (size > 6.2 * text.length + 8) root.append(svg('text', {x: left + 5, y: y + 14, class: 'inside'}, text));
  });
}

function drawExposed(root, timeline, rank, y, x, view) {
  const exposed = without(laneIntervals(timeline, rank, 'comm'), laneIntervals(timeline, rank, 'compute'));
  for (const [start, end] of exposed) {
    if (end < view[0] || start > view[1]) continue;
    root.append(svg('rect', {x: x(start), y: y + ROW - 3, width: Math.max(0.5, x(end) - x(start)), height: 3,
                             class: 'exposed'}));
  }
}

function drawAxis(root, top, bottom, width, x, view) {
  const marks = ticks(view[0], view[1], Math.max(2, Math.floor((width - GUTTER) / 110)));
  const step = marks.length > 1 ? marks[1] - marks[0] : view[1] - view[0];
  for (const at of marks) {
    root.prepend(svg('line', {x1: x(at), x2: x(at), y1: top, y2: bottom, class: 'grid'}));
    const anchor = x(at) > width - 40 ? 'end' : 'middle';
    root.append(svg('text', {x: x(at), y: bottom + 17, 'text-anchor': anchor}, tickText(at, step)));
  }
}

function drawTimeline() {
  const target = byId('timeline');
  const width = Math.max(520, target.clientWidth || 1080);
  const whole = longestStep();
  const view = [state.from * whole, state.to * whole];
  const plot = width - GUTTER - RIGHT;
  const x = (ns) => GUTTER + plot * Math.min(1, Math.max(0, (ns - view[0]) / (view[1] - view[0])));
  const root = svg('svg', {role: 'img', 'aria-label': 'Spans of one step on every lane'});
  let y = 0;
  for (const which of selectedRuns()) y = drawRun(root, which, y, width, x, view) + 10;
  drawAxis(root, TITLE - 4, y, width, x, view);
  root.setAttribute('viewBox', `0 0 ${width} ${y + AXIS}`);
  target.replaceChildren(root);
  target.classList.toggle('focused', state.focus !== null);
  byId('zoom-reset').disabled = state.from === 0 && state.to === 1;
  listenForDrag(root, width, plot, y);
}

function zoomTo(from, to) {
  const size = Math.min(1, Math.max(1e-4, to - from));
  state.from = Math.min(1 - size, Math.max(0, from));
  state.to = state.from + size;
  hideTooltip();
  drawTimeline();
}

function listenForDrag(root, width, plot, bottom) {
  const place = (event) => {
    const box = root.getBoundingClientRect();
    return Math.min(1, Math.max(0, ((event.clientX - box.left) / box.width * width - GUTTER) / plot));
  };
  root.addEventListener('dblclick', () => zoomTo(0, 1));
  root.addEventListener('pointerdown', (event) => {
    if (event.button !== 0) return;
    const start = place(event);
    const mark = svg('rect', {y: TITLE - 4, height: bottom - TITLE + 4, class: 'selection'});
    root.append(mark);
    const move = (moved) => {
      const [a, b] = [start, place(moved)].sort((p, q) => p - q);
      mark.setAttribute('x', GUTTER + plot * a);
      mark.setAttribute('width', plot * (b - a));
    };
    const done = (moved) => {
      removeEventListener('pointermove', move);
      removeEventListener('pointerup', done);
      mark.remove();
      const [a, b] = [start, place(moved)].sort((p, q) => p - q);
      const size = state.to - state.from;
      if (b - a > 0.005) zoomTo(state.from + size * a, state.from + size * b);
    };
    addEventListener('pointermove', move);
    addEventListener('pointerup', done);
  });
}

function onTimelineKey(event) {
  const size = state.to - state.from;
  const middle = (state.from + state.to) / 2;
  const moves = {
    '+': () => zoomTo(middle - size / 4, middle + size / 4), '-': () => zoomTo(middle - size, middle + size),
    '0': () => zoomTo(0, 1), ArrowLeft: () => zoomTo(state.from - size / 5, state.to - size / 5),
    ArrowRight: () => zoomTo(state.from + size / 5, state.to + size / 5),
  };
  if (!moves[event.key]) return;
  event.preventDefault();
  moves[event.key]();
}

function drawLegend() {
  const present = new Set();
  for (const which of selectedRuns()) {
    const timeline = selected()[which].timeline;
    for (const op of timeline.op) present.add(timeline.operators[op].kind);
  }
  const entries = Object.keys(KINDS).filter((kind) => present.has(kind)).map((kind) => {
    const swatch = element('span', {class: 'swatch'});
    swatch.style.background = colour(kind);
    const button = element('button', {type: 'button', 'aria-pressed': String(state.focus === kind),
                                      title: 'Show only these'}, swatch, label(kind));
    button.addEventListener('click', () => {
      state.focus = state.focus === kind ? null : kind;
      drawLegend();
      drawTimeline();
    });
    return button;
  });
  const swatch = element('span', {class: 'swatch'});
  swatch.style.cssText = 'height: 4px; vertical-align: middle; background: var(--bad)';
  entries.push(element('span', {class: 'mark'}, swatch, 'exposed communication'));
  entries.push(element('span', {class: 'mark'}, 'darker: backward and update'));
  byId('legend').replaceChildren(...entries);
}

function drawChoice() {
  const buttons = data.variants.map((variant, index) => {
    const button = element('button', {type: 'button', role: 'radio', 'aria-checked': String(index === state.variant)},
                           variant.name);
    button.addEventListener('click', () => selectVariant(index));
    return button;
  });
  byId('variant-choice').replaceChildren(...buttons);
  byId('variant-choice').hidden = buttons.length < 2;
}

// ---------------------------------------------------------------------------------------------- operators

const errorOf = (operator) =>
  (operator.measured_ns > 0 && operator.predicted_ns !== null ? operator.predicted_ns / operator.measured_ns - 1 : null);

/// The widest error that the bars show, of a few round ones.
function errorScale(operators) {
  const largest = Math.max(0, ...operators.map((operator) => Math.abs(errorOf(operator) || 0)));
  return [0.05, 0.1, 0.25, 0.5].find((scale) => largest <= scale) || 1;
}

function deltaBar(error, scale) {
  const bar = element('i');
  const size = Math.min(0.5, Math.abs(error) / scale / 2);
  bar.style.left = `${100 * (error < 0 ? 0.5 - size : 0.5)}%`;
  bar.style.width = `${100 * size}%`;
  return element('span', {class: 'delta', 'aria-hidden': 'true'}, bar);
}

function operatorRow(operator, scale) {
  const swatch = element('span', {class: 'swatch'});
  swatch.style.background = colour(operator.kind);
  const error = errorOf(operator);
  return element('tr', {}, element('td', {class: 'text'}, swatch, label(operator.kind)),
                 cell(operator.phase.replace('_', ' '), {class: 'text soft'}), cell(operator.lane, {class: 'text soft'}),
                 cell(time(operator.measured_ns)), cell(time(operator.predicted_ns)), cell(percent(error, true)),
                 error === null ? cell('') : element('td', {}, deltaBar(error, scale)));
}

function drawOperators() {
  const scale = errorScale(selected().operators);
  const heading = element('tr', {}, element('th', {class: 'text'}, 'operator'), element('th', {class: 'text'}, 'phase'),
                          element('th', {class: 'text'}, 'lane'), element('th', {}, 'measured'),
                          element('th', {}, 'predicted'), element('th', {}, 'error'),
                          element('th', {}, `−${100 * scale} %  ·  +${100 * scale} %`));
  byId('operator-title').textContent = `Time per step by kind of operator, ${selected().name} (mean over ranks and steps)`;
  const size = (operator) => Math.max(operator.measured_ns || 0, operator.predicted_ns || 0);
  const sorted = [...selected().operators].sort((a, b) => size(b) - size(a));
  table(byId('operator-table'), [heading], sorted.map((operator) => operatorRow(operator, scale)));
}

function selectVariant(index) {
  Object.assign(state, {variant: index, from: 0, to: 1});
  drawChoice();
  drawLegend();
  drawTimeline();
  drawOperators();
}

// ---------------------------------------------------------------------------------------------- loss

const WHOLE_STEPS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 2e4, 5e4, 1e5, 2e5, 5e5, 1e6];
let lossPlot = null;
function lossVariants() {
  return data.variants.filter((variant) => Array.isArray(variant.loss) && variant.loss.length > 0);
}

function drawLossChart() {
  const variants = lossVariants();
  const steps = Math.max(...variants.map((variant) => variant.loss.length));
  const columns = [Array.from({length: steps}, (_, i) => i + 1)];
  const series = [{label: 'step'}];
  variants.forEach((variant, i) => {
    columns.push(Array.from({length: steps}, (_, k) => (k < variant.loss.length ? variant.loss[k] : null)));
    series.push({label: variant.name, stroke: SERIES[i % SERIES.length], width: 2, points: {show: steps < 40},
                 value: (_, v) => (v === null ? '–' : v.toFixed(3))});
  });
  const entropy = variants.map((variant) => variant.unigram_entropy).find((value) => typeof value === 'number');
  if (entropy !== undefined) {
    columns.push(columns[0].map(() => entropy));
    series.push({label: 'unigram entropy', stroke: () => css('--soft'), width: 1.5, dash: [6, 5], points: {show: false},
                 value: (_, v) => (v === null ? '–' : v.toFixed(3))});
  }
  const axis = plotAxis();
  const target = byId('loss-chart');
  target.replaceChildren();
  lossPlot = new uPlot({width: Math.max(320, target.clientWidth), height: 300, series,
                        scales: {x: {time: false}}, cursor: {points: {size: 6}},
                        axes: [{...axis, label: 'step', labelSize: 20, incrs: WHOLE_STEPS}, {...axis, label: 'loss (nats)', labelSize: 20}]},
                       columns, target);
}

function drawLossTable() {
  const heading = element('tr', {}, ...['variant', 'first step', 'last step', 'mean of last 10 %', 'below unigram entropy by']
    .map((text) => element('th', {}, text)));
  const rows = lossVariants().map((variant) => {
    const tail = variant.loss.slice(-Math.max(1, Math.ceil(variant.loss.length / 10)));
    const mean = tail.reduce((a, b) => a + b, 0) / tail.length;
    const below = typeof variant.unigram_entropy === 'number' ? variant.unigram_entropy - mean : null;
    return element('tr', {}, element('th', {scope: 'row'}, variant.name), cell(variant.loss[0].toFixed(3)),
                   cell(variant.loss[variant.loss.length - 1].toFixed(3)), cell(mean.toFixed(3)),
                   cell(below === null ? '–' : below.toFixed(3).replace('-', '−'), {class: below === null ? '' : below > 0 ? 'good' : 'bad'}));
  });
  table(byId('loss-table'), [heading], rows);
}

// ---------------------------------------------------------------------------------------------- profile

function drawProfile() {
  const rows = data.profile.rows.map(([name, value]) =>
    element('tr', {}, element('th', {scope: 'row'}, name), cell(value, {class: 'text'})));
  table(byId('profile-table'), [], rows);
}

// ---------------------------------------------------------------------------------------------- all of it

function show(id, draw) {
  byId(id).hidden = false;
  draw();
}

drawHead();
if (data.variants.length > 0) {
  show('steps', () => { drawStepBars(); drawStepTable(); });
  show('timelines', () => selectVariant(0));
}
if (lossVariants().length > 0) show('loss', () => { drawLossChart(); drawLossTable(); });
if (data.profile) show('profile', drawProfile);

byId('zoom-reset').addEventListener('click', () => zoomTo(0, 1));
byId('timeline').addEventListener('keydown', onTimelineKey);
let lastWidth = innerWidth;
addEventListener('resize', () => {
  if (innerWidth === lastWidth) return;
  lastWidth = innerWidth;
  if (data.variants.length > 0) drawTimeline();
  if (lossPlot) lossPlot.setSize({width: Math.max(320, byId('loss-chart').clientWidth), height: 300});
});
onRedraw(() => { if (lossPlot) lossPlot.redraw(false, true); });
document.documentElement.dataset.drawn = 'yes';
})();
