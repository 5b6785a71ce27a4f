// The form that asks for an article: subject and wishes in plain words, and what programs say by options.
import { el, replace } from './dom.js';
import { notice } from './feedback.js';
import { button, field, seedField, select, submitByEnter, toggle } from './fields.js';
import { decoderNames, mostPictures, studioFacts, subjectNames } from './studio_facts.js';
import { LANGUAGES, language, t } from './texts.js';

const SUGGESTED = 7;

/** What a subject and wishes say together. */
export function promptOf(subject, wishes) {
  const first = subject.trim();
  const second = wishes.trim();
  if (!second || !first) return first || second;
  const closed = /[.:!?。：！？,，;；]$/.test(first);
  const chinese = /[\u3400-\u9fff]/.test(first);
  return first + (closed ? (chinese ? '' : ' ') : (chinese ? '。' : '. ')) + second;
}

export class Composer {
  /** write(request): called with what POST /v1/articles takes. */
  constructor({ write, stop }) {
    this.write = write;
    this.stop = stop;
    this.build();
  }

  build() {
    this.subject = el('input', { type: 'text', autocomplete: 'off', maxlength: '2000', placeholder: t('write.subject.example'), required: true });
    this.wishes = el('textarea', { rows: '2', maxlength: '8000', placeholder: t('write.wishes.example') });
    this.chips = el('ul', { class: 'chips' });
    this.pictures = select(
      [['', t('write.pictures.free')], ...Array.from({ length: mostPictures() + 1 }, (_, n) => [n, String(n)])], '',
    );
    this.narration = toggle(t('write.narration'), true);
    this.aloud = toggle(t('write.aloud'), localStorage.getItem('studio.aloud') !== 'no', (on) => localStorage.setItem('studio.aloud', on ? 'yes' : 'no'));
    const { languages, write: { able, reason } = {} } = studioFacts();
    this.language = select(
      languages.map((code) => [code, LANGUAGES[code] ?? code]), languages.includes(language()) ? language() : languages[0],
    );
    this.decoder = select(decoderNames().map((name) => [name, decoderLabel(name)]), decoderNames()[0]);
    this.seed = seedField(t('write.seed'));
    this.go = button(t('write.go'), 'spark', () => this.submit(), { kind: 'primary' });
    this.halt = button(t('write.stop'), 'stop', () => this.stop(), { kind: 'danger', hidden: true });
    this.suggest();
    const others = el(
      'details', { class: 'options', open: matchMedia('(min-width: 48rem)').matches },
      el('summary', {}, t('write.options')),
      el(
        'div', { class: 'option-grid' },
        field(t('write.pictures'), this.pictures),
        languages.length > 1 ? field(t('write.language'), this.language) : null,
        decoderNames().length > 1 ? field(t('write.decoder'), this.decoder) : null,
        this.seed.element,
        el('div', { class: 'switches' }, this.narration.element, this.aloud.element),
      ),
    );
    this.element = el(
      'form', { class: 'panel composer', 'aria-label': t('write.form'), on: { submit: (event) => { event.preventDefault(); this.submit(); } } },
      able === false ? notice(t('write.unable', { reason: reason ?? '' }), true) : null,
      field(t('write.subject'), this.subject),
      el(
        'div', { class: 'suggestions' },
        el('div', { class: 'line' }, el('span', { class: 'small soft' }, t('write.suggestions')),
          button(t('write.suggestions.more'), 'again', () => this.suggest(), { kind: 'quiet tiny', labelled: false })),
        this.chips,
      ),
      field(t('write.wishes'), this.wishes, t('write.wishes.hint')),
      others,
      el('div', { class: 'buttons go' }, this.go, this.halt, el('span', { class: 'soft small shortcut' }, el('kbd', {}, 'Ctrl'), ' ', el('kbd', {}, 'Enter'))),
    );
    submitByEnter(this.element, () => this.submit());
  }

  /** Other subjects of those that the model knows. */
  suggest() {
    const names = [...subjectNames()];
    const picked = [];
    while (names.length && picked.length < SUGGESTED) {
      picked.push(...names.splice(Math.floor(Math.random() * names.length), 1));
    }
    replace(this.chips, picked.map((name) => el(
      'li', {},
      el('button', { class: 'chip', type: 'button', on: { click: () => { this.subject.value = name; this.subject.focus(); } } }, name),
    )));
    const box = this.chips.parentElement;
    if (box) box.hidden = !picked.length;
  }

  request() {
    const request = {
      prompt: promptOf(this.subject.value, this.wishes.value),
      narration: this.narration.input.checked,
      stream: true,
    };
    if (this.pictures.value !== '') request.pictures = Number(this.pictures.value);
    if (this.seed.value() !== null) request.seed = this.seed.value();
    if (studioFacts().languages.length > 1) request.language = this.language.value;
    if (decoderNames().length > 1) request.decoder = this.decoder.value;
    return request;
  }

  submit() {
    if (this.busy) return;
    if (!this.subject.value.trim()) {
      this.subject.focus();
      this.subject.reportValidity();
      return;
    }
    if (this.seed.check()) this.write(this.request());
  }

  get isAloud() {
    return this.aloud.input.checked;
  }

  /** While an article is written there is Stop in place of Write. */
  setBusy(busy) {
    this.busy = busy;
    const focused = [this.go, this.halt].includes(document.activeElement);
    this.go.hidden = busy;
    this.halt.hidden = !busy;
    if (focused) (busy ? this.halt : this.go).focus();
  }
}

function decoderLabel(name) {
  const known = { vq: 'decoder.vq', diffusion: 'decoder.diffusion', 'diffusion-2x': 'decoder.diffusion2' }[name];
  return known ? t(known) : name;
}
