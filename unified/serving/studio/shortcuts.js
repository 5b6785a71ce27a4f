// Keys. Single letters work where nothing is typed; the rest work everywhere.
import { el } from './dom.js';
import { openDialog } from './feedback.js';
import { t } from './texts.js';

const KEYS = [
  ['keys.write', ['G', 'W']], ['keys.library', ['G', 'L']], ['keys.playground', ['G', 'P']],
  ['keys.training', ['G', 'T']], ['keys.focus', ['/']], ['keys.go', ['Ctrl', 'Enter']],
  ['keys.stop', ['Esc']], ['keys.undo', ['Ctrl', 'Z']], ['keys.redo', ['Ctrl', 'Shift', 'Z']], ['keys.help', ['?']],
];
const VIEWS = { w: 'write', l: 'library', p: 'playground', t: 'training' };

function isTyping(target) {
  return target instanceof HTMLElement && target.matches('textarea, select, input:not([type="checkbox"]):not([type="range"]), [contenteditable]');
}

/** Listen to the keys. current(): the view that is open; go(name): open another. */
export function mountKeys({ current, go }) {
  let afterG = 0;
  document.addEventListener('keydown', (event) => {
    if (document.querySelector('dialog[open]') || event.isComposing) return;
    const view = current();
    const key = event.key.toLowerCase();
    const control = event.ctrlKey || event.metaKey;
    if (event.key === 'Escape' && view?.busy) view.stop?.();
    else if (isTyping(event.target)) return;
    else if (control && key === 'z') (event.shiftKey ? view?.redo : view?.undo)?.call(view);
    else if (control && key === 'y') view?.redo?.();
    else if (control || event.altKey) return;
    else if (event.key === '?') openKeyHelp();
    else if (event.key === '/') view?.focusFirst?.();
    else if (key === 'g') {
      afterG = Date.now();
      return;
    } else if (VIEWS[key] && Date.now() - afterG < 1500) go(VIEWS[key]);
    else return;
    afterG = 0;
    event.preventDefault();
  });
}

/** The list of keys. */
export function openKeyHelp() {
  openDialog(t('keys.title'), el(
    'table', {}, el('tbody', {}, KEYS.map(([text, keys]) => el(
      'tr', {}, el('th', { scope: 'row' }, t(text)),
      el('td', {}, keys.map((key, at) => [at ? ' ' : '', el('kbd', {}, key)])),
    ))),
  ), { narrow: true });
}
