'use strict';
// What the scripts of the report share. Text only ever goes into the page through textContent.

const data = JSON.parse(document.getElementById('data').textContent);
const byId = (id) => document.getElementById(id);

function element(tag, attributes = {}, ...children) {
  const out = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false) out.setAttribute(name, value === true ? '' : value);
  }
  for (const child of children) out.append(child);
  return out;
}

function svg(tag, attributes = {}, text = '') {
  const out = document.createElementNS('http://www.w3.org/2000/svg', tag);
  for (const [name, value] of Object.entries(attributes)) out.setAttribute(name, value);
  if (text) out.textContent = text;
  return out;
}

const digits = (value) => (value >= 99.95 ? value.toFixed(0) : value >= 9.995 ? value.toFixed(1) : value.toFixed(2));

function time(ns) {  // three digits, for people
  if (ns === null || ns === undefined) return '–';
  if (ns >= 999.5e6) return digits(ns / 1e9) + ' s';
  if (ns >= 999.5e3) return digits(ns / 1e6) + ' ms';
  if (ns >= 999.5) return digits(ns / 1e3) + ' µs';
  return ns + ' ns';
}

function percent(fraction, signed = false) {
  if (fraction === null || fraction === undefined) return '–';
  const value = 100 * fraction;
  const text = Math.abs(value) < 9.95 ? Math.abs(value).toFixed(1) : Math.abs(value).toFixed(0);
  return (value < 0 ? '−' : signed ? '+' : '') + text + ' %';
}

// ---------------------------------------------------------------------------------------------- tables and tooltip

function table(target, headings, rows) {
  target.replaceChildren(element('thead', {}, ...headings), element('tbody', {}, ...rows));
}

const cell = (text, attributes = {}) => element('td', attributes, text);

function placeTooltip(event, title, subtitle, rows) {
  const tip = byId('tooltip');
  tip.replaceChildren(element('strong', {}, title), element('span', {class: 'soft'}, subtitle),
                      element('dl', {}, ...rows.flatMap(([name, value]) => [element('dt', {}, name), element('dd', {}, value)])));
  tip.hidden = false;
  const box = tip.getBoundingClientRect();
  const x = event.clientX + 14 + box.width > innerWidth ? event.clientX - 14 - box.width : event.clientX + 14;
  const y = event.clientY + 14 + box.height > innerHeight ? event.clientY - 14 - box.height : event.clientY + 14;
  tip.style.left = `${Math.max(0, x)}px`;
  tip.style.top = `${Math.max(0, y)}px`;
}

const hideTooltip = () => { byId('tooltip').hidden = true; };

// ---------------------------------------------------------------------------------------------- plots

const SERIES = ['#3f6fd8', '#e0802b', '#2a9d6f', '#b0489b', '#8a6bd1', '#b58900', '#c8504b', '#5b7083'];
let printing = false;  // paper is white whatever the screen's theme; the canvas cannot follow a style sheet by itself
const PAPER = {'--soft': '#444', '--grid': '#e4e4e4', '--ink': '#111', '--card': '#fff', '--accent': '#2443b0'};
const css = (name) =>
  (printing ? PAPER[name] : getComputedStyle(document.documentElement).getPropertyValue(name).trim());

/// An axis of a plot in the page's colours, whatever they are when it is drawn.
const plotAxis = () => ({stroke: () => css('--soft'), grid: {stroke: () => css('--grid'), width: 1}, ticks: {show: false},
                         font: '12px system-ui, sans-serif', labelFont: '12px system-ui, sans-serif'});

const redraws = [];
/// Calls `redraw` when the colours change: another theme, or paper.
const onRedraw = (redraw) => redraws.push(redraw);
const redrawAll = () => redraws.forEach((redraw) => redraw());
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', redrawAll);
addEventListener('beforeprint', () => { printing = true; redrawAll(); });
addEventListener('afterprint', () => { printing = false; redrawAll(); });
