// What a picture or a narration was before, side by side with what it is.
import { el } from './dom.js';
import { openDialog } from './feedback.js';
import { button, seedField, toggle } from './fields.js';
import { SoundBox } from './sound_box.js';
import { t } from './texts.js';

/** A dialog of a segment's alternatives. use(number), another({seed or null, bold}) do what is asked. */
export function openAlternatives({ kind, current, sources, caption, use, another }) {
  const sounds = [];
  const content = (source, label) => {
    if (!source) return el('p', { class: 'soft' }, t('alternatives.lost'));
    if (kind === 'image') return el('img', { src: source, alt: label });
    const box = new SoundBox({});
    box.load(source);
    sounds.push(box);
    return box.element;
  };
  const close = (run) => () => {
    dialog.close();
    run();
  };
  const items = [
    el('li', { class: 'alternative current' }, content(current, t('alternatives.current')), el('p', { class: 'small' }, t('alternatives.current'))),
    ...sources.map((source, number) => {
      const label = t('alternatives.number', { number: number + 1 });
      return el(
        'li', { class: 'alternative' }, content(source, label), el('p', { class: 'small soft' }, label),
        button(t('alternatives.use'), 'check', close(() => use(number)), { kind: 'tiny', 'aria-label': t('alternatives.use.number', { number: number + 1 }) }),
      );
    }),
  ];
  const seed = seedField(t('write.seed'));
  const bold = toggle(t('alternatives.bolder'), false);
  const dialog = openDialog(t(kind === 'image' ? 'alternatives.pictures' : 'alternatives.sounds'), [
    caption ? el('p', { class: 'soft' }, caption) : null,
    el('ul', { class: 'alternatives' }, items),
    el(
      'div', { class: 'another' }, seed.element, bold.element,
      button(t('alternatives.another'), 'again', close(() => another({ seed: seed.value(), bold: bold.input.checked })), { kind: 'primary' }),
    ),
  ], { onClose: () => sounds.forEach((box) => box.close()) });
  return dialog;
}
