// A document as the decoder sees it: its ids in order, coloured by modality, and what the grammar
// allows at any of them.
import { sendJson } from './api.js';
import { append, el, replace } from './dom.js';
import { announce, notice } from './feedback.js';
import { button } from './fields.js';
import { number, t } from './texts.js';

const SHOWN = 1200; // ids drawn at a time
const TONES = ['text', 'image', 'audio', 'marker', 'slot'];

export class SequenceView {
  constructor() {
    this.element = el('section', { class: 'panel sequence', hidden: true, 'aria-label': t('sequence.title') });
  }

  async show(document, name) {
    this.document = document;
    this.element.hidden = false;
    replace(this.element, el('p', { class: 'soft' }, t('loading')));
    try {
      this.draw(await sendJson('POST', '/v1/playground/inspect', { document }), name);
    } catch (error) {
      replace(this.element, el('h2', {}, t('sequence.title')), notice(t('error.plain', { message: error.message }), true));
    }
  }

  draw(inspection, name) {
    this.tokens = inspection.ids;
    const counts = {};
    for (const token of this.tokens) counts[toneOf(token)] = (counts[toneOf(token)] ?? 0) + 1;
    this.grid = el('div', {
      class: 'tokens', role: 'listbox', tabIndex: 0, 'aria-label': t('sequence.ids'),
      on: { click: (event) => this.pick(event.target.closest('[data-at]')), keydown: (event) => this.keys(event) },
    });
    this.drawn = 0;
    this.more = button(t('sequence.more'), 'down', () => this.drawMore(), { kind: 'tiny' });
    this.detail = el('div', { class: 'allowed', 'aria-live': 'polite' }, el('p', { class: 'soft small' }, t('sequence.hint')));
    replace(
      this.element,
      el('div', { class: 'sequence-head' }, el('h2', {}, t('sequence.of', { name })),
        el('span', { class: 'small soft numbers' }, t('sequence.length', { count: this.tokens.length }))),
      inspection.error ? notice(inspection.error) : null,
      el('ul', { class: 'legend' }, TONES.filter((tone) => counts[tone]).map((tone) => el(
        'li', {}, el('span', { class: `swatch ${tone}` }), `${t(`modality.${tone}`)} ${number(counts[tone])}`,
      ))),
      el('div', { class: 'sequence-body' }, el('div', {}, this.grid, this.more), this.detail),
    );
    this.drawMore();
  }

  drawMore() {
    const until = Math.min(this.tokens.length, this.drawn + SHOWN);
    append(this.grid, this.tokens.slice(this.drawn, until).map((token, at) => this.chip(token, this.drawn + at)));
    this.drawn = until;
    this.more.hidden = until === this.tokens.length;
  }

  chip(token, at) {
    const tone = toneOf(token);
    return el(
      'span',
      {
        class: `token ${tone}`, id: `token-${at}`, role: 'option', 'aria-selected': 'false', data: { at: String(at) },
        'aria-label': t('sequence.token', { position: at, label: labelOf(token), id: String(token.id), modality: t(`modality.${tone}`) }),
      },
      el('span', { class: 'label' }, labelOf(token)), el('span', { class: 'id' }, String(token.id)),
    );
  }

  keys(event) {
    const at = this.at ?? -1;
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, ArrowDown: at + 10, ArrowUp: at - 10, Home: 0, End: this.drawn - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    event.stopPropagation();
    this.pick(this.grid.children[Math.max(0, Math.min(this.drawn - 1, to))]);
  }

  async pick(chip) {
    if (!chip) return;
    this.grid.querySelector('[aria-selected="true"]')?.setAttribute('aria-selected', 'false');
    chip.setAttribute('aria-selected', 'true');
    chip.scrollIntoView({ block: 'nearest' });
    this.grid.setAttribute('aria-activedescendant', chip.id);
    this.at = Number(chip.dataset.at);
    const token = this.tokens[this.at];
    const round = this.at;
    try {
      const allowed = await sendJson('POST', '/v1/playground/allowed', { document: this.document, position: token.position ?? this.at });
      if (this.at === round) this.drawAllowed(allowed, token);
    } catch (error) {
      replace(this.detail, notice(t('error.plain', { message: error.message }), true));
    }
  }

  drawAllowed({ blocks, expects }, token) {
    const total = blocks.reduce((sum, block) => sum + count(block), 0);
    replace(
      this.detail,
      el('h3', {}, t('sequence.position', { position: token.position ?? this.at })),
      el('p', { class: 'small' }, t('sequence.stands', { label: labelOf(token), id: String(token.id), block: token.block ?? '' })),
      el('p', { class: 'small soft' }, t('sequence.allowed', { count: total }), expects ? ` (${expects})` : ''),
      el('ul', { class: 'allowed-list' }, blocks.map((block) => el(
        'li', {}, el('strong', {}, block.name), ' ', el('span', { class: 'soft numbers' }, number(count(block))),
        el('div', { class: 'examples' }, (block.examples ?? []).map((each) => el('code', {}, typeof each === 'object' ? labelOf(each) : String(each)))),
      ))),
    );
    announce(t('sequence.allowed', { count: total }));
  }
}

function count(block) {
  return block.ids ?? block.count ?? 0;
}

/** What an id stands for, its white space visible. */
function labelOf(token) {
  const text = token.text ?? (token.code === undefined ? token.block : String(token.code)) ?? '';
  return text === '' ? '∅' : text.replace(/\n/g, '↵').replace(/\t/g, '⇥').replace(/ /g, '·');
}

function toneOf(token) {
  const modality = token.modality ?? token.block ?? '';
  if (/marker|special|control/.test(`${modality} ${token.block ?? ''}`)) return 'marker';
  return TONES.includes(modality) ? modality : 'marker';
}
