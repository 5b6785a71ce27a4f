// An article that grows: the events of writing as elements on a sheet.
import { append, el, perFrame } from './dom.js';
import { splitForMedia, textBlocks } from './markdown.js';
import { PictureBox } from './picture_box.js';
import { drawProse } from './prose.js';
import { SoundBox } from './sound_box.js';

export class LiveArticle {
  /** muted: narrations arrive in silence. */
  constructor({ muted = false } = {}) {
    this.muted = muted;
    this.element = el('div', { class: 'article live' });
    this.parts = new Map();
    this.row = null;
    this.last = null;
  }

  /** Take an event of a stream; those that are about no segment are ignored. */
  take(event) {
    const part = this.parts.get(event.segment);
    switch (event.type) {
      case 'segment.started':
        if (event.role !== 'prompt') this.begin(event);
        break;
      case 'segment.text':
        part?.add(event.delta ?? '');
        break;
      case 'segment.rows':
        part?.box.rows(event);
        break;
      case 'segment.sound':
        part?.box.piece(event);
        break;
      case 'segment.done':
        this.finish(part, event);
        break;
      default:
    }
  }

  begin(event) {
    if (this.parts.has(event.segment)) return;
    const part = event.kind === 'text' ? this.beginText(event) : this.beginMedia(event);
    this.parts.set(event.segment, part);
    this.last = part;
  }

  beginText(event) {
    const element = el('div', { class: 'prose' });
    this.row = append(el('div', { class: 'row' }), [element]);
    this.element.append(this.row);
    const part = { kind: 'text', element, text: event.text ?? '', following: null, open: true };
    part.draw = () => {
      let blocks = textBlocks(part.text);
      if (part.following) blocks = splitForMedia(blocks, part.following).blocks;
      drawProse(element, blocks, { growing: part.open });
      element.hidden = !blocks.length;
    };
    const soon = perFrame(part.draw);
    part.add = (delta) => {
      part.text += delta;
      soon();
    };
    part.draw();
    return part;
  }

  beginMedia(event) {
    let words = { caption: event.caption ?? '', transcript: event.transcript ?? '', voice: event.voice ?? '' };
    if (this.last?.kind === 'text') {
      const split = splitForMedia(textBlocks(this.last.text), event.kind);
      this.last.following = event.kind;
      this.last.open = false;
      this.last.draw();
      words = { ...words, ...Object.fromEntries(Object.entries(split).filter(([key, value]) => key !== 'blocks' && value)) };
    }
    const box = event.kind === 'image' ? new PictureBox({ ...event, ...words }) : new SoundBox({ ...words, muted: this.muted });
    this.placeMedia(event.kind, box.element);
    return { kind: event.kind, box, element: box.element };
  }

  /** Pictures beside the text before them, sounds below it. */
  placeMedia(kind, element) {
    placeMedia(this, kind, element);
  }

  finish(part, event) {
    if (!part) return;
    if (part.kind === 'text') {
      part.open = false;
      if (typeof event.text === 'string') part.text = event.text;
      part.draw();
    } else {
      part.box.done(event[part.kind] ?? {});
    }
  }

  /** Nothing more comes: no block is open any more. */
  close() {
    for (const part of this.parts.values()) {
      if (part.kind === 'text') {
        part.open = false;
        part.draw();
      } else if (part.kind === 'image') {
        part.box.box.classList.remove('pending');
      }
    }
  }

  /** Silence all of it. */
  silence() {
    for (const part of this.parts.values()) part.box?.close?.();
  }
}

/** Put a figure into the layout of rows: `sheet` has {element, row}. */
export function placeMedia(sheet, kind, element) {
  if (kind !== 'image') {
    sheet.element.append(element);
    sheet.row = null;
    return;
  }
  if (!sheet.row) {
    sheet.row = el('div', { class: 'row' });
    sheet.element.append(sheet.row);
  }
  let figures = sheet.row.querySelector(':scope > .figures');
  if (!figures) {
    figures = el('div', { class: 'figures' });
    sheet.row.append(figures);
  }
  figures.append(element);
}
