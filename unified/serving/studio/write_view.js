// The view that writes: the form, and the sheet on which the article grows. It stays as it is while
// another view is open, so nothing that is written stops.
import { stream } from './api.js';
import { ArticleEditor } from './article_editor.js';
import { Composer } from './composer.js';
import { append, el, replace } from './dom.js';
import { announce, notice, tellError, toast } from './feedback.js';
import { icon } from './icons.js';
import { LiveArticle } from './live_article.js';
import { ProgressLine } from './progress_line.js';
import { wakeAudio } from './sound_stream.js';
import { duration, t } from './texts.js';

export class WriteView {
  /** changed(busy): called when writing begins and ends. */
  constructor({ changed = () => {} } = {}) {
    this.changed = changed;
    this.composer = new Composer({ write: (request) => this.write(request), stop: () => this.stop() });
    this.sheet = el('section', { class: 'sheet', 'aria-label': t('write.sheet') });
    this.element = el(
      'div', { class: 'write-view' }, el('h1', { class: 'sr-only' }, t('nav.write')),
      this.composer.element, this.sheet,
    );
    this.showEmpty();
  }

  get title() {
    return t('nav.write');
  }

  get busy() {
    return Boolean(this.request);
  }

  showEmpty() {
    replace(this.sheet, el(
      'div', { class: 'empty bare' }, icon('spark'), el('h2', {}, t('write.empty.title')), el('p', {}, t('write.empty.text')),
    ));
  }

  focusFirst() {
    this.composer.subject.focus();
  }

  async write(request) {
    if (this.busy) return;
    if (this.composer.isAloud && request.narration) wakeAudio();
    this.editor?.close();
    this.live?.silence();
    this.editor = null;
    this.request = new AbortController();
    this.live = new LiveArticle({ muted: !this.composer.isAloud });
    this.progress = new ProgressLine(() => this.stop());
    this.notes = el('div', { class: 'notes' });
    replace(this.sheet, this.progress.element, this.notes, this.live.element);
    this.sheet.setAttribute('aria-busy', 'true');
    this.composer.setBusy(true);
    this.changed(true);
    announce(t('write.began'));
    if (matchMedia('(max-width: 62rem)').matches) this.sheet.scrollIntoView({ behavior: 'smooth', block: 'start' });
    let id = null;
    let completed = null;
    let failed = null;
    try {
      for await (const event of stream('POST', '/v1/articles', request, this.request.signal)) {
        if (event.type === 'article.created') {
          id = event.id;
          this.tell(event.notes);
        } else if (event.type === 'progress') {
          this.progress.take(event);
        } else if (event.type === 'article.completed') {
          completed = event;
        } else {
          this.live.take(event);
        }
      }
    } catch (error) {
      failed = error;
    }
    this.request = null;
    this.live.close();
    this.sheet.removeAttribute('aria-busy');
    this.composer.setBusy(false);
    this.changed(false);
    this.finish(id, completed, failed);
  }

  tell(notes) {
    if (notes?.length) append(this.notes, [notice(notes)]);
  }

  async finish(id, completed, failed) {
    this.progress.element.remove();
    if (failed && failed.name !== 'AbortError') {
      append(this.notes, [notice(t('error.plain', { message: failed.message }), true)]);
    }
    if (!completed && !failed) append(this.notes, [notice(t('error.cut'), true)]);
    if (failed?.name === 'AbortError') {
      toast(t('write.stopped'));
    } else if (completed) {
      this.tell(completed.warnings);
      announce(t('write.done', { time: duration(completed.seconds ?? 0) }));
    }
    if (!id || !(completed || failed?.name === 'AbortError')) return;
    const { live } = this;
    try {
      // The narration may still sound from what arrived: it goes on, the tools come around it.
      const editor = await ArticleEditor.open(id, { heading: 'p', live: completed ? live : null, patient: !completed });
      if (this.busy || this.live !== live) return;
      this.editor = editor;
      replace(this.sheet, this.notes, editor.element);
      if (!completed) live.silence();
    } catch (error) {
      if (completed) tellError(error);
    }
  }

  stop() {
    this.request?.abort();
    this.live?.silence();
  }

  undo() {
    this.editor?.undo();
  }

  redo() {
    this.editor?.redo();
  }
}
