// A picture that fills row by row: a box of its shape, the rows so far painted on a canvas.
import { mediaUrl } from './api.js';
import { el, replace } from './dom.js';
import { t } from './texts.js';

const DRAWN_SIDE = 288; // pixels that a small picture is enlarged to, in whole multiples

/** The width at which a picture is drawn. */
export function drawnWidth(width, height) {
  return Math.max(1, Math.floor(DRAWN_SIDE / Math.max(width, height))) * width;
}

/** Bytes out of base64. */
export function bytesOf(base64) {
  return Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
}

/** An address of bytes in base64. */
export function blobUrl(base64, type) {
  return URL.createObjectURL(new Blob([bytesOf(base64)], { type }));
}

export class PictureBox {
  /** width, height: of the picture in pixels; caption: may come later. */
  constructor({ width = 96, height = 96, caption = '' } = {}) {
    this.width = width || 96;
    this.height = height || 96;
    this.canvas = el('canvas', { width: this.width, height: this.height, role: 'img' });
    this.scan = el('div', { class: 'scan', 'aria-hidden': 'true' });
    this.box = el('div', { class: 'picture pending' }, this.canvas, this.scan);
    this.box.style.maxWidth = `${drawnWidth(this.width, this.height)}px`;
    this.caption = el('figcaption');
    this.element = el('figure', { class: 'figure' }, this.box, this.caption);
    this.order = Promise.resolve();
    this.describe(caption);
    this.setScan(0);
  }

  describe(caption) {
    this.text = caption;
    this.caption.textContent = caption;
    this.caption.hidden = !caption;
    this.canvas.setAttribute('aria-label', caption ? t('picture.drawing', { caption }) : t('picture.pending'));
  }

  /** The rows so far, as a PNG in base64. They are painted in order. */
  rows({ png, rows }) {
    this.order = this.order.then(async () => {
      const bitmap = await createImageBitmap(new Blob([bytesOf(png)], { type: 'image/png' }));
      const context = this.canvas.getContext('2d');
      context.drawImage(bitmap, 0, 0);
      this.setScan(Math.min(rows, bitmap.height, this.height));
      bitmap.close();
    }).catch(() => {});
  }

  setScan(rows) {
    this.canvas.style.clipPath = `inset(0 0 ${(1 - rows / this.height) * 100}% 0)`;
    this.scan.style.top = `${(rows / this.height) * 100}%`;
  }

  /** The finished picture: {url or data, alt}. */
  async done({ url, data, alt, width, height }) {
    if (alt) this.describe(alt);
    await this.order;
    const source = data ? blobUrl(data, 'image/png') : await mediaUrl(url);
    this.box.classList.remove('pending');
    if (!source) return;
    const image = pictureImage(source, this.text, width || this.width, height || this.height);
    await image.decode().catch(() => {});
    replace(this.box, image);
  }
}

/** An <img> of a picture in its drawn size. */
export function pictureImage(source, caption, width, height) {
  const image = el('img', { src: source, alt: caption || t('picture.untold'), draggable: 'false' });
  if (width && height) {
    const drawn = drawnWidth(width, height);
    image.width = drawn;
    image.height = Math.round((drawn * height) / width);
  }
  return image;
}
