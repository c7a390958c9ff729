// The table of a sweep's points, and the whole of its part of the page.

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
