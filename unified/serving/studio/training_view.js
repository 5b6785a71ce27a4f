// Training runs: curves by modality, and what the model answered at steps on the way.
import { getJson } from './api.js';
import { chart } from './chart.js';
import { el, replace } from './dom.js';
import { notice } from './feedback.js';
import { button, field, select, toggle } from './fields.js';
import { icon } from './icons.js';
import { textBlocks } from './markdown.js';
import { blobUrl } from './picture_box.js';
import { drawProse } from './prose.js';
import { SoundBox } from './sound_box.js';
import { moment, number, t } from './texts.js';

export class TrainingView {
  /** name: of the run that is open; undefined for the first. */
  constructor(name) {
    this.name = name;
    this.isLog = false;
    this.body = el('div', { class: 'run-body' });
    this.list = el('nav', { class: 'runs', 'aria-label': t('training.runs') });
    this.element = el(
      'div', { class: 'training-view' },
      el('div', { class: 'view-head' }, el('h1', {}, t('nav.training')), button(t('training.refresh'), 'again', () => this.show(), { kind: 'tiny' })),
      el('div', { class: 'training-grid' }, this.list, this.body),
    );
    this.sounds = [];
  }

  get title() {
    return this.name ? `${this.name} · ${t('nav.training')}` : t('nav.training');
  }

  async show() {
    try {
      const answer = await getJson('/v1/runs');
      const runs = answer.runs ?? answer;
      if (!runs.length) {
        this.list.hidden = true;
        replace(this.body, el('div', { class: 'empty' }, icon('training'), el('h2', {}, t('training.none')), el('p', {}, t('training.none.text'))));
        return;
      }
      this.name ??= runs[0].name;
      replace(this.list, el('ul', {}, runs.map((run) => el('li', {}, el(
        'a', { href: `#/training/${encodeURIComponent(run.name)}`, 'aria-current': run.name === this.name ? 'page' : null },
        el('strong', {}, run.name),
        el('span', { class: 'small soft' }, [run.steps ? t('training.steps', { count: run.steps }) : null, moment(run.updated)].filter(Boolean).join(' · ')),
      )))));
      await this.open();
    } catch (error) {
      replace(this.body, notice(t('error.plain', { message: error.message }), true));
    }
  }

  async open() {
    const path = `/v1/runs/${this.name.split('/').map(encodeURIComponent).join('/')}`;
    const [curves, samples] = await Promise.all([getJson(`${path}/curves`), getJson(`${path}/samples`)]);
    this.curves = curves;
    this.samples = samples.samples ?? samples;
    this.charts = el('div', { class: 'charts' });
    const log = toggle(t('training.log'), this.isLog, (on) => { this.isLog = on; this.drawCharts(); });
    replace(
      this.body, el('div', { class: 'run-head' }, el('h2', {}, this.name), log.element), this.charts, this.sampleSection(),
    );
    this.drawCharts();
  }

  drawCharts() {
    const groups = groupedCurves(this.curves);
    replace(this.charts, groups.length ? groups.map(({ title, lines }) => chart(title, lines, { log: this.isLog })) : el('p', { class: 'soft' }, t('training.no_curves')));
  }

  sampleSection() {
    const steps = [...new Set(this.samples.map((sample) => sample.step))].sort((one, other) => one - other);
    if (!steps.length) return el('p', { class: 'soft' }, t('training.no_samples'));
    const grid = el('div', { class: 'run-samples' });
    const draw = (step) => {
      this.silence();
      replace(grid, this.samples.filter((sample) => sample.step === step).map((sample) => this.sample(sample)));
    };
    const picker = select(steps.map((step) => [step, number(step)]), steps.at(-1), (step) => draw(Number(step)));
    draw(steps.at(-1));
    return el('section', { 'aria-label': t('training.samples') }, el('div', { class: 'run-head' }, el('h2', {}, t('training.samples')), field(t('training.step'), picker)), grid);
  }

  sample({ tag, kind, data, text }) {
    const content = el('div');
    if (kind === 'image') {
      replace(content, el('img', { src: blobUrl(data, 'image/png'), alt: tag }));
    } else if (kind === 'audio') {
      const box = new SoundBox({});
      box.load(blobUrl(data, 'audio/wav'));
      this.sounds.push(box);
      replace(content, box.element);
    } else {
      content.className = 'article';
      drawProse(content, textBlocks(text ?? ''));
    }
    return el('figure', { class: 'run-sample' }, content, el('figcaption', { class: 'small soft' }, tag));
  }

  silence() {
    this.sounds.forEach((box) => box.close());
    this.sounds = [];
  }

  close() {
    this.silence();
  }
}

/** What can share an axis shares a chart: losses, figures by modality, and those by level. Every
 * other figure has its own. Losses come first. */
export function groupedCurves(curves) {
  const groups = new Map();
  for (const [tag, points] of Object.entries(curves)) {
    const cut = tag.lastIndexOf('/');
    const [folder, name] = [tag.slice(0, Math.max(cut, 0)), tag.slice(cut + 1)];
    const isLoss = /loss$/i.test(name) || /loss$/i.test(folder);
    const isShared = isLoss || /^(\d+$|(text|image|audio|speech|picture|sound)([._]|$))/i.test(name);
    const title = !isShared ? tag : isLoss && !/loss$/i.test(folder) ? `${folder} loss`.trim() : folder;
    if (!groups.has(title)) groups.set(title, { title, isLoss, lines: [] });
    groups.get(title).lines.push({ name: isShared ? name.replace(/_loss$/i, '') : name, points });
  }
  return [...groups.values()].sort((one, other) => Number(other.isLoss) - Number(one.isLoss));
}
