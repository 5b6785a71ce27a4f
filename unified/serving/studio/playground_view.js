// The playground: a document with slots, filled several times side by side, and looked into id by id.
import { stream } from './api.js';
import { append, el, replace } from './dom.js';
import { announce, notice } from './feedback.js';
import { button, field, seedField, submitByEnter } from './fields.js';
import { icon } from './icons.js';
import { LiveArticle } from './live_article.js';
import { DocumentForm } from './playground_document.js';
import { SequenceView } from './playground_sequence.js';
import { ProgressLine } from './progress_line.js';
import { wakeAudio } from './sound_stream.js';
import { studioFacts } from './studio_facts.js';
import { t } from './texts.js';

export class PlaygroundView {
  constructor() {
    this.document = new DocumentForm();
    const most = studioFacts().limits.samples ?? 8;
    this.samples = el('input', { type: 'number', min: '1', max: String(most), value: '2', inputmode: 'numeric' });
    this.temperature = el('input', { type: 'number', min: '0', max: '5', step: '0.05', placeholder: t('play.own') });
    this.top = el('input', { type: 'number', min: '0', max: '1', step: '0.01', placeholder: t('play.own') });
    this.seed = seedField(t('write.seed'));
    this.go = button(t('play.go'), 'play', () => this.run(), { kind: 'primary' });
    this.halt = button(t('write.stop'), 'stop', () => this.stop(), { kind: 'danger', hidden: true });
    this.look = button(t('play.look'), 'search', () => this.inspect(this.document.value(), t('play.request')));
    this.results = el('section', { class: 'play-results', 'aria-label': t('play.results') });
    this.sequence = new SequenceView();
    const options = el(
      'div', { class: 'option-grid' }, field(t('play.samples'), this.samples), this.seed.element,
      field(t('play.temperature'), this.temperature), field(t('play.top_p'), this.top),
    );
    submitByEnter(options, () => this.run());
    this.element = el(
      'div', { class: 'playground-view' },
      el('div', { class: 'view-head' }, el('h1', {}, t('nav.playground')), this.document.templates()),
      el(
        'div', { class: 'play-grid' },
        el(
          'section', { class: 'panel', 'aria-label': t('play.document') }, el('h2', {}, t('play.document')), this.document.element,
          options,
          el('div', { class: 'buttons' }, this.go, this.halt, this.look),
        ),
        el('div', { class: 'play-side' }, this.results, this.sequence.element),
      ),
    );
    replace(this.results, el('div', { class: 'empty' }, icon('playground'), el('h2', {}, t('play.empty')), el('p', {}, t('play.empty.text'))));
  }

  get title() {
    return t('nav.playground');
  }

  get busy() {
    return Boolean(this.request);
  }

  focusFirst() {
    this.document.focusFirst();
  }

  body() {
    const body = { document: this.document.value(), samples: Number(this.samples.value) || 1 };
    if (this.seed.value() !== null) body.seed = this.seed.value();
    if (this.temperature.value !== '') body.temperature = Number(this.temperature.value);
    if (this.top.value !== '') body.top_p = Number(this.top.value);
    return body;
  }

  async run() {
    if (this.busy || !this.seed.check()) return;
    const body = this.body();
    if (!body.document.segments.some((segment) => segment.type === 'slot')) {
      replace(this.results, notice(t('play.no_slot'), true));
      return;
    }
    wakeAudio();
    this.columns?.forEach((column) => column.live.silence());
    this.request = new AbortController();
    this.progress = new ProgressLine(() => this.stop());
    this.columns = Array.from({ length: body.samples }, (_, number) => this.column(number, body.document));
    const notes = el('div', { class: 'notes' });
    replace(this.results, this.progress.element, notes, el('ol', { class: 'samples' }, this.columns.map((column) => column.element)));
    this.setBusy(true);
    announce(t('write.began'));
    try {
      for await (const event of stream('POST', '/v1/playground/complete', body, this.request.signal)) this.take(event, notes);
    } catch (error) {
      if (error.name !== 'AbortError') append(notes, [notice(t('error.plain', { message: error.message }), true)]);
    }
    this.columns.forEach((column) => column.live.close());
    this.progress.element.remove();
    this.request = null;
    this.setBusy(false);
  }

  take(event, notes) {
    const column = this.columns[event.sample ?? 0];
    if (event.type === 'playground.created') {
      event.seeds?.forEach((seed, number) => this.columns[number]?.name(seed));
      if (event.notes?.length) append(notes, [notice(event.notes)]);
    } else if (event.type === 'progress') {
      this.progress.take(event);
    } else if (event.type === 'sample.completed') {
      column?.complete(event);
    } else if (event.type === 'playground.completed') {
      announce(t('play.done'));
    } else {
      column?.live.take({ ...event, role: event.role === 'prompt' ? 'response' : event.role });
    }
  }

  /** A sample: what comes of the document with one seed. Samples but the first come in silence. */
  column(number) {
    const live = new LiveArticle({ muted: number > 0 || localStorage.getItem('studio.aloud') === 'no' });
    const head = el('h3', {}, t('play.sample', { number: number + 1 }));
    const foot = el('div', { class: 'sample-foot' });
    const element = el('li', { class: 'sample' }, head, live.element, foot);
    return {
      live, element,
      name: (seed) => { head.textContent = t('play.sample.seed', { number: number + 1, seed: String(seed) }); },
      complete: ({ document, warnings, ids }) => {
        live.close();
        append(foot, [
          warnings?.length ? notice(warnings) : null,
          ids ? el('span', { class: 'small soft numbers' }, t('play.ids', { count: ids })) : null,
          document ? button(t('play.look'), 'search', () => this.inspect(document, head.textContent), { kind: 'tiny' }) : null,
        ]);
      },
    };
  }

  async inspect(document, name) {
    await this.sequence.show(document, name);
    this.sequence.element.scrollIntoView({ behavior: 'smooth', block: 'nearest' });
  }

  stop() {
    this.request?.abort();
    this.columns?.forEach((column) => column.live.silence());
  }

  setBusy(busy) {
    const focused = [this.go, this.halt].includes(document.activeElement);
    this.go.hidden = busy;
    this.halt.hidden = !busy;
    if (focused) (busy ? this.halt : this.go).focus();
  }
}
