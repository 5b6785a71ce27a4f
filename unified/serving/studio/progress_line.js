// How far the writing is: a bar, ids a second, time left.
import { el } from './dom.js';
import { button } from './fields.js';
import { duration, number, t } from './texts.js';

export class ProgressLine {
  /** stop: what the button does. */
  constructor(stop) {
    this.bar = el('progress', { 'aria-label': t('progress.label') });
    this.left = el('span', { class: 'numbers' }, t('progress.waiting'));
    this.right = el('span', { class: 'numbers' });
    this.element = el('div', { class: 'progress' }, this.bar, el(
      'div', { class: 'line' }, this.left, this.right, button(t('write.stop'), 'stop', stop, { kind: 'quiet tiny danger' }),
    ));
  }

  /** An event `progress`. */
  take({ ids = 0, ids_per_second: rate = 0, expected_ids: expected }) {
    this.left.textContent = t('progress.ids', { ids, rate: number(rate) });
    if (expected && expected > ids) {
      this.bar.max = expected;
      this.bar.value = ids;
      this.right.textContent = rate > 0 ? t('progress.left', { time: duration((expected - ids) / rate) }) : '';
    } else {
      this.bar.removeAttribute('value');
      this.right.textContent = '';
    }
  }

  say(text) {
    this.left.textContent = text;
  }
}
