// The segments of an article as elements, each with its tools.
import { mediaUrl } from './api.js';
import { append, el, replace } from './dom.js';
import { button, field } from './fields.js';
import { placeMedia } from './live_article.js';
import { splitForMedia, textBlocks } from './markdown.js';
import { acceptDrop, pickFile } from './own_media.js';
import { drawnWidth, pictureImage } from './picture_box.js';
import { blockElement } from './prose.js';
import { SoundBox } from './sound_box.js';
import { t } from './texts.js';

export class ArticleBlocks {
  /** editor: does what the tools ask for; live: whose sounds go on sounding. */
  constructor(article, editor, live) {
    this.article = article;
    this.editor = editor;
    this.live = live;
    this.element = el('article', { class: 'article', 'aria-label': article.title || t('article.untitled') });
    this.row = null;
    this.spots = new Map();
    this.sounds = [];
    article.segments.forEach((segment, index) => {
      if (segment.role === 'prompt') return;
      if (segment.kind === 'text') this.addText(segment, index);
      else if (segment.kind === 'image') this.addPicture(segment, index);
      else if (segment.kind === 'audio') this.addSound(segment, index);
    });
    if (!this.element.children.length) append(this.element, [el('p', { class: 'soft' }, t('article.nothing'))]);
  }

  /** The element of a segment, or of one block of it. */
  spotOf(index, block = null) {
    return this.spots.get(block === null ? `${index}` : `${index}.${block}`) ?? this.spots.get(`${index}`);
  }

  next(index) {
    const kind = this.article.segments[index + 1]?.kind;
    return kind === 'image' || kind === 'audio' ? kind : null;
  }

  addText(segment, index) {
    const all = numbered(segment);
    const blocks = this.next(index) ? splitForMedia(all, this.next(index)).blocks : all;
    // What belongs to the picture or the sound behind it is changed there.
    this.words = blocks.length < all.length ? { segment, index, block: all.at(-1) } : null;
    if (!blocks.length) return;
    const prose = el('div', { class: 'prose' });
    this.spots.set(`${index}`, prose);
    for (const block of blocks) {
      const spot = el('div', { class: 'editable text-block' });
      const focus = `${index}.${block.number}`;
      replace(spot, blockElement(block), el(
        'div', { class: 'tools', role: 'group', 'aria-label': t('tools.of.text', { text: block.lines.join(' ').slice(0, 40) }) },
        button(t('tools.edit'), 'edit', () => this.openEditor(spot, segment, index, block), { kind: 'tiny quiet', 'data-focus': `edit.${focus}` }),
        ['heading'].includes(block.kind) ? null
          : button(t('tools.anew'), 'again', () => this.editor.regenerate(index, { block: block.number }), { kind: 'tiny quiet', 'data-focus': `anew.${focus}` }),
      ));
      this.spots.set(focus, spot);
      prose.append(spot);
    }
    this.row = append(el('div', { class: 'row' }), [prose]);
    this.element.append(this.row);
  }

  /** A block's text to be changed in its place. */
  openEditor(spot, segment, index, block) {
    const before = [...spot.childNodes];
    const source = segment.text.slice(block.start, block.stop);
    const area = el('textarea', { value: source, rows: String(Math.min(12, 2 + source.split('\n').length + Math.floor(source.length / 60))) });
    const cancel = () => {
      replace(spot, before);
      this.element.querySelector(`[data-focus="edit.${index}.${block.number}"]`)?.focus();
    };
    const save = (rewrite) => {
      // A text that is written on from ends at the block that was changed.
      const text = segment.text.slice(0, block.start) + area.value + (rewrite ? '' : segment.text.slice(block.stop));
      this.editor.edit(index, text, rewrite);
    };
    const keys = (event) => {
      if (event.key === 'Escape') cancel();
      else if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) save(false);
      else return;
      event.preventDefault();
      event.stopPropagation();
    };
    area.addEventListener('keydown', keys);
    replace(spot, el(
      'div', { class: 'editor' },
      field(t('edit.label'), area),
      el(
        'div', { class: 'buttons' },
        button(t('edit.keep'), 'check', () => save(false), { kind: 'primary tiny' }),
        button(t('edit.rewrite'), 'spark', () => save(true), { kind: 'tiny' }),
        button(t('action.cancel'), null, cancel, { kind: 'quiet tiny' }),
      ),
    ));
    area.focus();
  }

  /** Tools of a picture or a sound; `spot` holds the words that belong to it. */
  mediaTools(segment, index, label, spot) {
    const count = segment.alternatives ?? 0;
    const { words } = this;
    this.words = null;
    return el(
      'div', { class: 'tools', role: 'group', 'aria-label': label },
      words ? button(t('tools.edit'), 'edit', () => this.openEditor(spot, words.segment, words.index, words.block), { kind: 'tiny', labelled: false, 'data-focus': `edit.${words.index}.${words.block.number}` }) : null,
      button(t(segment.kind === 'image' ? 'tools.picture.anew' : 'tools.sound.anew'), 'again', () => this.editor.regenerate(index), { kind: 'tiny', 'data-focus': `anew.${index}` }),
      count ? button(t('tools.alternatives', { count }), 'compare', () => this.editor.compare(index), { kind: 'tiny', 'data-focus': `compare.${index}` }) : null,
      button(t('tools.replace'), 'upload', () => pickFile(segment.kind, (media, goOn) => this.editor.replaceMedia(index, media, goOn)), { kind: 'tiny', labelled: false, 'data-focus': `replace.${index}` }),
    );
  }

  addPicture(segment, index) {
    const { url, width = 96, height = 96, alt = '' } = segment.image ?? {};
    const box = el('div', { class: 'picture' });
    box.style.maxWidth = `${drawnWidth(width, height)}px`;
    mediaUrl(url).then((source) => { if (source) replace(box, pictureImage(source, alt, width, height)); }).catch(() => {});
    const caption = el('figcaption', { hidden: !alt }, alt);
    const figure = el(
      'figure', { class: 'figure editable' }, box, caption,
      this.mediaTools(segment, index, t('tools.of.picture', { caption: alt }), caption),
    );
    acceptDrop(figure, 'image', (media, goOn) => this.editor.replaceMedia(index, media, goOn));
    this.spots.set(`${index}`, figure);
    placeMedia(this, 'image', figure);
  }

  addSound(segment, index) {
    const { url, seconds, transcript = '', voice = '' } = segment.audio ?? {};
    const before = this.live?.parts.get(index)?.box;
    const sounding = before instanceof SoundBox;
    const box = sounding ? before : new SoundBox({ transcript, voice });
    if (!sounding) mediaUrl(url).then((source) => { if (source) box.load(source, seconds); }).catch(() => {});
    box.element.classList.add('editable');
    append(box.element, [this.mediaTools(segment, index, t('tools.of.sound', { transcript }), box.quote)]);
    acceptDrop(box.element, 'audio', (media, goOn) => this.editor.replaceMedia(index, media, goOn));
    this.sounds.push(box);
    this.spots.set(`${index}`, box.element);
    placeMedia(this, 'audio', box.element);
  }

  close() {
    for (const box of this.sounds) box.close();
  }
}

/** A text's blocks with the numbers that the server has for them: those apart by empty lines. */
function numbered(segment) {
  const blocks = textBlocks(segment.text);
  const known = segment.blocks ?? [];
  return blocks.map((block, at) => {
    const number = known.findIndex((each) => block.start >= each.start - 1 && block.start < each.stop);
    return { ...block, number: number < 0 ? at : number };
  });
}
