// The view of one article out of the library.
import { ArticleEditor } from './article_editor.js';
import { el, replace } from './dom.js';
import { notice } from './feedback.js';
import { t } from './texts.js';

export class ArticleView {
  constructor(id) {
    this.id = id;
    this.sheet = el('section', { class: 'sheet', 'aria-label': t('article.sheet') }, el('p', { class: 'soft' }, t('loading')));
    this.element = el(
      'div', { class: 'article-view' },
      el('p', { class: 'back' }, el('a', { href: '#/library' }, t('article.back'))), this.sheet,
    );
  }

  get title() {
    return this.editor?.article.title || t('article.untitled');
  }

  async show() {
    try {
      this.editor = await ArticleEditor.open(this.id, { gone: () => { location.hash = '#/library'; } });
      replace(this.sheet, this.editor.element);
    } catch (error) {
      replace(this.sheet, el('h1', { class: 'sr-only' }, t('article.untitled')), notice(t('error.plain', { message: error.message }), true));
    }
  }

  undo() { this.editor?.undo(); }

  redo() { this.editor?.redo(); }

  stop() { this.editor?.stop(); }

  get busy() { return Boolean(this.editor?.busy); }

  close() { this.editor?.close(); }
}
