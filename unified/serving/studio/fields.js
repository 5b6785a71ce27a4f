// Fields of forms with their labels.
import { el, freshId } from './dom.js';
import { icon } from './icons.js';
import { t } from './texts.js';

/** A labelled field around a control; a hint is tied to it for screen readers. */
export function field(label, control, hint = null) {
  control.id ||= freshId('field');
  const note = hint ? el('p', { class: 'hint', id: `${control.id}-hint` }, hint) : null;
  if (note) control.setAttribute('aria-describedby', note.id);
  return el('div', { class: 'field' }, el('label', { htmlFor: control.id }, label), control, note);
}

/** Enter in a field of one line within an element submits, as Ctrl Enter does anywhere in it. Enter that
 *  ends the composing of a word, as in Chinese, does not. */
export function submitByEnter(element, submit) {
  element.addEventListener('keydown', (event) => {
    if (event.key !== 'Enter' || event.isComposing) return;
    const oneLine = event.target.matches('input:not([type="checkbox"])');
    if (!oneLine && !event.ctrlKey && !event.metaKey) return;
    event.preventDefault();
    submit();
  });
}

/** A list to choose from: entries are [value, label]. */
export function select(entries, value, onChange = () => {}) {
  const element = el(
    'select', { on: { change: () => onChange(element.value) } },
    entries.map(([each, label]) => el('option', { value: each, selected: String(each) === String(value) }, label)),
  );
  return element;
}

/** A switch. */
export function toggle(label, checked, onChange = () => {}) {
  const input = el('input', { type: 'checkbox', role: 'switch', checked, on: { change: () => onChange(input.checked) } });
  const element = el('label', { class: 'switch' }, input, el('span', {}, label));
  return { element, input };
}

/** A button with an icon; without a visible label it has one for screen readers. */
export function button(label, iconName, run, { kind = '', labelled = true, ...rest } = {}) {
  return el(
    'button',
    {
      class: `button ${kind}${labelled ? '' : ' icon'}`, type: 'button', 'aria-label': labelled ? null : label,
      title: labelled ? null : label, on: { click: run }, ...rest,
    },
    iconName ? icon(iconName) : null, labelled ? label : null,
  );
}

/** A seed by chance, short enough to be read out. */
export function chanceSeed() {
  return crypto.getRandomValues(new Uint32Array(1))[0] % 1_000_000;
}

/** A seed: a number, or nothing for one of chance, with a die. value() is null for nothing. */
export function seedField(label, hint = null) {
  const input = el('input', { type: 'number', min: '0', max: '4294967295', step: '1', inputmode: 'numeric', placeholder: t('write.seed.chance') });
  const element = field(label, input, hint);
  const die = button(t('write.seed.roll'), 'dice', () => { input.value = String(chanceSeed()); }, { labelled: false });
  const joined = el('div', { class: 'joined' });
  input.replaceWith(joined);
  joined.append(input, die);
  /** Whether it is a seed, or nothing; else the reader is told what it must be. */
  const check = () => {
    if (!input.checkValidity() && input.closest('details')) input.closest('details').open = true;
    return input.reportValidity();
  };
  return { element, input, check, value: () => (input.value === '' ? null : Number(input.value)) };
}
