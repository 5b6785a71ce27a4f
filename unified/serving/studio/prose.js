// Blocks of text as elements.
import { el, replace } from './dom.js';
import { plainText } from './markdown.js';

/** The element of a block of `textBlocks`. */
export function blockElement(block) {
  const text = plainText(block.lines.join('\n'));
  switch (block.kind) {
    case 'heading':
      // The page's own title is its h1.
      return el(block.level === 1 ? 'h2' : block.level === 2 ? 'h3' : 'h4', { class: block.level === 1 ? 'title' : '' }, text);
    case 'list':
    case 'numbered':
      return el(block.kind === 'list' ? 'ul' : 'ol', {}, block.lines.map((line) => el('li', {}, plainText(line))));
    case 'quote':
      return el('blockquote', {}, plainText(text.replace(/^\((\w+)\) /, '')));
    case 'caption':
      return el('p', { class: 'caption-ahead' }, text);
    default:
      return el('p', {}, text);
  }
}

/** Draw a growing text into `parent`; elements whose text stayed are left alone. */
export function drawProse(parent, blocks, { growing = false } = {}) {
  const elements = [...parent.children];
  blocks.forEach((block, at) => {
    const mark = `${block.kind}${block.level ?? ''}${block.lines.join('\n')}`;
    const known = elements[at];
    if (known?.dataset.mark === mark) return;
    const fresh = blockElement(block);
    fresh.dataset.mark = mark;
    if (known) known.replaceWith(fresh);
    else parent.append(fresh);
  });
  while (parent.children.length > blocks.length) parent.lastElementChild.remove();
  for (const child of parent.children) child.classList.toggle('growing', growing && child === parent.lastElementChild);
  if (!blocks.length) replace(parent);
}
