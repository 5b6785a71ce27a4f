// What the page tells: toasts, a voice for screen readers, dialogs, notices.
import { append, el, freshId, replace } from './dom.js';
import { icon } from './icons.js';
import { t } from './texts.js';

const toasts = el('div', { class: 'toasts', role: 'region' });
const polite = el('div', { class: 'sr-only', 'aria-live': 'polite', 'aria-atomic': 'true' });
const urgent = el('div', { class: 'sr-only', role: 'alert' });

export function mountFeedback(parent) {
  toasts.setAttribute('aria-label', t('feedback.region'));
  append(parent, [toasts, polite, urgent]);
}

/** Say something to screen readers alone. */
export function announce(text, isUrgent = false) {
  const region = isUrgent ? urgent : polite;
  region.textContent = '';
  setTimeout(() => { region.textContent = text; }, 30);
}

/** A message that goes by itself. action: {label, run}. */
export function toast(text, { action, bad = false, seconds = action ? 12 : 5 } = {}) {
  const element = el('div', { class: `toast${bad ? ' bad' : ''}` }, el('p', {}, text));
  const close = () => {
    clearTimeout(timer);
    element.remove();
  };
  if (action) {
    const run = () => { close(); action.run(); };
    append(element, [el('button', { class: 'button', type: 'button', on: { click: run } }, action.label)]);
  }
  append(element, [
    el('button', { class: 'button icon', type: 'button', 'aria-label': t('action.close'), on: { click: close } }, icon('close')),
  ]);
  let timer = setTimeout(close, seconds * 1000);
  element.addEventListener('mouseenter', () => clearTimeout(timer));
  element.addEventListener('focusin', () => clearTimeout(timer));
  element.addEventListener('mouseleave', () => { timer = setTimeout(close, 3000); });
  toasts.append(element);
  announce(text, bad);
  return close;
}

/** Tell of an error; one that the reader asked for (Stop) is none. */
export function tellError(error) {
  if (error?.name === 'AbortError') return;
  console.warn(error);
  toast(t('error.plain', { message: error?.message ?? String(error) }), { bad: true, seconds: 12 });
}

/** A line with an icon; lists of texts become a list. */
export function notice(texts, bad = false) {
  const list = [texts].flat();
  const body = list.length === 1 ? el('p', {}, list[0]) : el('ul', {}, list.map((text) => el('li', {}, text)));
  return el('div', { class: `notice${bad ? ' bad' : ''}`, role: bad ? 'alert' : 'status' }, icon(bad ? 'warning' : 'spark'), body);
}

/** A dialog that is open: its element. Escape and a click beside it close it. */
export function openDialog(title, body, { narrow = false, onClose } = {}) {
  const id = freshId('dialog');
  const dialog = el('dialog', { class: narrow ? 'narrow' : '', 'aria-labelledby': id });
  const close = el(
    'button', { class: 'button quiet icon', type: 'button', 'aria-label': t('action.close'), on: { click: () => dialog.close() } },
    icon('close'),
  );
  append(dialog, [
    el('div', { class: 'dialog-head' }, el('h2', { id }, title), close),
    el('div', { class: 'dialog-body' }, body),
  ]);
  dialog.addEventListener('click', (event) => { if (event.target === dialog) dialog.close(); });
  dialog.addEventListener('close', () => {
    dialog.remove();
    onClose?.(dialog.returnValue);
  });
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}

/** A question with answers to choose from: [{value, label, kind, hint}]. Resolves to a value, or
 * null where it is closed. */
export function choose(title, text, answers) {
  return new Promise((resolve) => {
    let chosen = null;
    const buttons = answers.map(({ value, label, kind = '' }) => el(
      'button',
      { class: `button ${kind}`, type: 'button', on: { click: () => { chosen = value; dialog.close(); } } },
      label,
    ));
    const body = [text ? el('p', {}, text) : null, el('div', { class: 'buttons' }, buttons)];
    const dialog = openDialog(title, body, { narrow: true, onClose: () => resolve(chosen) });
  });
}

/** Ask for the server's key. */
export function askKey(wrong) {
  return new Promise((resolve) => {
    let answer = null;
    const id = freshId('key');
    const input = el('input', { id, type: 'password', autocomplete: 'off', required: true });
    const submit = (event) => {
      event.preventDefault();
      answer = input.value.trim();
      dialog.close();
    };
    const form = el(
      'form', { class: 'dialog-body', on: { submit } },
      wrong ? notice(t('key.wrong'), true) : null,
      el('div', { class: 'field' }, el('label', { htmlFor: id }, t('key.label')), input, el('p', { class: 'hint' }, t('key.hint'))),
      el('button', { class: 'button primary' }, t('key.go')),
    );
    const dialog = openDialog(t('key.title'), [], { narrow: true, onClose: () => resolve(answer) });
    replace(dialog.querySelector('.dialog-body'), form);
    input.focus();
  });
}

/** A button that opens a list of actions: [{label, icon, run, kind}]. */
export function menuButton(label, iconName, entries, { showLabel = false, kind = '', up = false } = {}) {
  const id = freshId('menu');
  const button = el(
    'button',
    { class: `button ${kind} ${showLabel ? '' : 'icon'}`, type: 'button', 'aria-haspopup': 'menu', 'aria-expanded': 'false', 'aria-controls': id, 'aria-label': showLabel ? null : label, title: showLabel ? null : label },
    icon(iconName), showLabel ? label : null,
  );
  const list = el('div', { class: `menu-list${up ? ' up' : ''}`, id, role: 'menu', hidden: true, 'aria-label': label });
  const items = entries.map((entry) => el(
    'button',
    { type: 'button', role: 'menuitem', tabIndex: -1, class: entry.kind ?? '', on: { click: () => { open(false); entry.run(); } } },
    entry.icon ? icon(entry.icon) : null, entry.label,
  ));
  append(list, items);
  const outside = (event) => { if (!box.contains(event.target)) open(false, false); };
  const open = (wanted, refocus = true) => {
    list.hidden = !wanted;
    button.setAttribute('aria-expanded', String(wanted));
    if (wanted) {
      document.addEventListener('pointerdown', outside);
      items[0]?.focus();
    } else {
      document.removeEventListener('pointerdown', outside);
      if (refocus) button.focus();
    }
  };
  button.addEventListener('click', () => open(list.hidden));
  list.addEventListener('keydown', (event) => {
    const at = items.indexOf(document.activeElement);
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: items.length - 1 }[event.key];
    if (to !== undefined) items[(to + items.length) % items.length].focus();
    else if (event.key === 'Escape' || event.key === 'Tab') open(false);
    else return;
    event.preventDefault();
    event.stopPropagation();
  });
  const box = el('div', { class: 'menu' }, button, list);
  return box;
}
