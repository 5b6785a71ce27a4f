// Curves as SVG: lines told apart by colour and dash, a readout under the pointer, a table of values.
import { el, freshId, replace, svg } from './dom.js';
import { number, t } from './texts.js';

const WIDTH = 460;
const HEIGHT = 230;
const LEFT = 52;
const RIGHT = 14;
const TOP = 14;
const BOTTOM = 34;
const DASHES = ['', '7 4', '2 4', '10 3 2 3', '1 3', '14 5'];
const ROWS = 12; // of the table

function toneOf(name, at) {
  if (/text/i.test(name)) return 'text';
  if (/image|picture/i.test(name)) return 'image';
  if (/audio|sound|speech/i.test(name)) return 'audio';
  return ['ink', 'accent', 'text', 'image', 'audio'][at % 5];
}

/** Round numbers between two, about so many. */
export function ticks(low, high, about = 5) {
  const rough = (high - low) / about || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 2.5, 5, 10].find((each) => each * power >= rough);
  const values = [];
  for (let value = Math.ceil(low / step) * step; value <= high + step * 1e-9; value += step) values.push(Math.abs(value) < step * 1e-9 ? 0 : value);
  return values;
}

function tidy(value) {
  const size = Math.abs(value);
  if (size && (size < 1e-3 || size >= 1e6)) return value.toExponential(1);
  return number(value, size < 1 ? 4 : size < 100 ? 2 : 0);
}

/** A chart of lines: [{name, points: [[step, value], ...]}]. */
export function chart(title, lines, { log = false } = {}) {
  const usable = lines.map(({ name, points }, at) => ({
    name, tone: toneOf(name, at), dash: DASHES[at % DASHES.length],
    points: points.filter(([, value]) => Number.isFinite(value) && (!log || value > 0)),
  })).filter((line) => line.points.length);
  const id = freshId('chart');
  if (!usable.length) return el('figure', { class: 'chart' }, el('figcaption', {}, title), el('p', { class: 'soft' }, t('training.no_curves')));
  const scale = scales(usable, log);
  const plot = svg('svg', { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: 'img', 'aria-labelledby': id, class: 'plot' });
  plot.append(axes(scale, log), ...usable.map((line) => svg('path', {
    class: `curve ${line.tone}`, 'stroke-dasharray': line.dash || null, fill: 'none',
    d: line.points.map(([step, value], at) => `${at ? 'L' : 'M'}${scale.x(step).toFixed(1)} ${scale.y(value).toFixed(1)}`).join(''),
  })));
  const cursor = svg('line', { class: 'cursor', y1: TOP, y2: HEIGHT - BOTTOM, visibility: 'hidden' });
  plot.append(cursor);
  const readout = el('p', { class: 'readout small numbers soft' }, latest(usable));
  plot.addEventListener('pointermove', (event) => {
    const box = plot.getBoundingClientRect();
    const step = scale.step(((event.clientX - box.left) / box.width) * WIDTH);
    cursor.setAttribute('x1', scale.x(step));
    cursor.setAttribute('x2', scale.x(step));
    cursor.setAttribute('visibility', 'visible');
    readout.textContent = [`${t('training.step')} ${number(step)}`, ...usable.map((line) => `${line.name} ${tidy(nearest(line.points, step)[1])}`)].join(' · ');
  });
  plot.addEventListener('pointerleave', () => {
    cursor.setAttribute('visibility', 'hidden');
    replace(readout, latest(usable));
  });
  return el(
    'figure', { class: 'chart' }, el('figcaption', { id }, title),
    usable.length > 1 ? el('ul', { class: 'legend' }, usable.map((line) => el('li', {}, swatch(line), line.name))) : null,
    plot, readout, table(usable),
  );
}

function swatch(line) {
  return svg('svg', { viewBox: '0 0 28 8', class: 'line-swatch', 'aria-hidden': 'true' },
    svg('path', { class: `curve ${line.tone}`, d: 'M0 4H28', 'stroke-dasharray': line.dash || null }));
}

function latest(lines) {
  return lines.map((line) => `${line.name} ${tidy(line.points.at(-1)[1])}`).join(' · ');
}

function nearest(points, step) {
  return points.reduce((best, point) => (Math.abs(point[0] - step) < Math.abs(best[0] - step) ? point : best));
}

function scales(lines, log) {
  const all = lines.flatMap((line) => line.points);
  const steps = all.map(([step]) => step);
  const values = all.map(([, value]) => (log ? Math.log10(value) : value));
  const left = Math.min(...steps);
  const right = Math.max(...steps, left + 1);
  let low = Math.min(...values);
  let high = Math.max(...values);
  const margin = (high - low) * 0.06 || Math.abs(high) * 0.1 || 1;
  low = !log && low >= 0 && low - margin < 0 ? 0 : low - margin;
  high += margin;
  return {
    left, right, low, high,
    x: (step) => LEFT + ((step - left) / (right - left)) * (WIDTH - LEFT - RIGHT),
    y: (value) => TOP + (1 - ((log ? Math.log10(value) : value) - low) / (high - low)) * (HEIGHT - TOP - BOTTOM),
    step: (x) => Math.round(Math.max(left, Math.min(right, left + ((x - LEFT) / (WIDTH - LEFT - RIGHT)) * (right - left)))),
  };
}

function axes(scale, log) {
  const group = svg('g', { class: 'axes' });
  for (const value of ticks(scale.low, scale.high, 5)) {
    const shown = log ? 10 ** value : value;
    const y = scale.y(shown);
    group.append(svg('line', { x1: LEFT, x2: WIDTH - RIGHT, y1: y, y2: y }), svg('text', { x: LEFT - 8, y: y + 4, 'text-anchor': 'end' }, tidy(shown)));
  }
  for (const step of ticks(scale.left, scale.right, 6)) {
    group.append(svg('text', { x: scale.x(step), y: HEIGHT - 12, 'text-anchor': 'middle' }, number(step)));
  }
  return group;
}

function table(lines) {
  const steps = [...new Set(lines.flatMap((line) => line.points.map(([step]) => step)))].sort((one, other) => one - other);
  const every = Math.max(1, Math.ceil(steps.length / ROWS));
  const chosen = steps.filter((_, at) => (steps.length - 1 - at) % every === 0);
  return el(
    'details', {}, el('summary', { class: 'small' }, t('training.table')),
    el('div', { class: 'scrolled', tabIndex: 0, role: 'region', 'aria-label': t('training.table') }, el(
      'table', {},
      el('thead', {}, el('tr', {}, el('th', { scope: 'col' }, t('training.step')), lines.map((line) => el('th', { scope: 'col' }, line.name)))),
      el('tbody', {}, chosen.map((step) => el('tr', {}, el('th', { scope: 'row' }, number(step)), lines.map((line) => el('td', {}, tidy(nearest(line.points, step)[1])))))),
    )),
  );
}
