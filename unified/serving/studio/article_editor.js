// A finished article with what can be changed in it. Every change is one version on the server; the
// page shows what the server answers.
import { articlePath, getJson, mediaUrl, sendJson, stream } from './api.js';
import { openAlternatives } from './alternatives.js';
import { ArticleBlocks } from './article_blocks.js';
import { articleActions } from './article_actions.js';
import { el, replace } from './dom.js';
import { announce, notice, tellError, toast } from './feedback.js';
import { button, chanceSeed } from './fields.js';
import { LiveArticle } from './live_article.js';
import { PictureBox, blobUrl } from './picture_box.js';
import { ProgressLine } from './progress_line.js';
import { SoundBox } from './sound_box.js';
import { moment, t } from './texts.js';

const BOLD = 1; // temperature at which other pictures come out than the likeliest
const TRIES = 20; // for an article that is just being stopped

export class ArticleEditor {
  /** The editor of an article. live: what was just written, whose narration may still sound. */
  static async open(id, { heading = 'h1', live = null, patient = false, gone = () => {} } = {}) {
    for (let tried = 0; ; tried += 1) {
      try {
        const article = await getJson(articlePath(id));
        if (!patient || article.status !== 'writing' || tried >= TRIES) return new ArticleEditor(article, { heading, live, gone });
      } catch (error) {
        if (!patient || tried >= TRIES) throw error;
      }
      await new Promise((resolve) => { setTimeout(resolve, 250); });
    }
  }

  constructor(article, { heading, live, gone }) {
    this.article = article;
    this.live = live;
    this.gone = gone;
    this.head = el('div', { class: 'article-head' });
    this.notes = el('div', { class: 'notes' });
    this.body = el('div');
    this.heading = heading;
    this.element = el('div', { class: 'article-editor' }, this.head, this.notes, this.body);
    this.render();
  }

  get busy() {
    return Boolean(this.request);
  }

  get path() {
    return articlePath(this.article.id);
  }

  render() {
    const { article } = this;
    this.blocks?.close();
    this.undoButton = button(t('article.undo'), 'undo', () => this.undo(), { kind: 'quiet', labelled: false, disabled: !article.versions?.undo });
    this.redoButton = button(t('article.redo'), 'redo', () => this.redo(), { kind: 'quiet', labelled: false, disabled: !article.versions?.redo });
    replace(
      this.head,
      el(
        'div', { class: 'about' },
        el(this.heading, { class: 'sr-only' }, article.title || t('article.untitled')),
        el('p', { class: 'small soft' }, t('article.about', { prompt: article.prompt, seed: String(article.seed ?? ''), date: moment(article.updated ?? article.created) })),
      ),
      el('div', { class: 'buttons' }, this.undoButton, this.redoButton, articleActions(this)),
    );
    replace(this.notes, article.status === 'stopped' ? notice(t('article.unfinished')) : null,
      this.live === null && article.warnings?.length ? notice(article.warnings) : null);
    this.blocks = new ArticleBlocks(article, this, this.live);
    this.live = null;
    replace(this.body, this.blocks.element);
  }

  async reload() {
    this.article = await getJson(this.path);
    this.render();
  }

  /** Do one change; another one waits for nothing, it is refused while this one runs. */
  async change(run, spoken) {
    if (this.busy) {
      toast(t('article.busy'));
      return;
    }
    const focus = document.activeElement?.closest?.('[data-focus]')?.dataset.focus;
    this.request = new AbortController();
    this.element.setAttribute('aria-busy', 'true');
    this.failed = false;
    this.told = [];
    try {
      const article = await run(this.request.signal);
      if (article) {
        this.article = article;
        this.render();
      } else {
        await this.reload();
      }
      if (spoken) announce(spoken);
    } catch (error) {
      this.failed = true;
      if (error.name === 'AbortError') toast(t('article.stopped'));
      else tellError(error);
      await this.reload().catch(() => this.render());
    } finally {
      this.request = null;
      this.element.removeAttribute('aria-busy');
      this.progress?.element.remove();
      this.progress = null;
      if (focus) this.element.querySelector(`[data-focus="${CSS.escape(focus)}"]`)?.focus({ preventScroll: true });
    }
  }

  stop() {
    this.request?.abort();
  }

  /** PATCH a segment; its events go to `take`. Returns the article where the answer is one. */
  async patch(index, body, take, signal) {
    this.progress = new ProgressLine(() => this.stop());
    this.notes.append(this.progress.element);
    let article = null;
    for await (const event of stream('PATCH', articlePath(this.article.id, 'segments', String(index)), body, signal)) {
      if (event.type === 'article.json') article = event.article;
      else if (event.type === 'progress') this.progress?.take(event);
      else if (event.type === 'article.changing') this.told.push(...(event.notes ?? []));
      else if (event.type === 'article.completed') this.told.push(...(event.warnings ?? []));
      else take(event);
    }
    return article;
  }

  /** A segment, or one block of a text, written anew with another seed. */
  regenerate(index, { block = null, seed = null, bold = false } = {}) {
    const segment = this.article.segments[index];
    const body = { action: 'regenerate', seed: seed ?? chanceSeed(), stream: true };
    if (block !== null) body.block = block;
    if (bold) body.temperature = BOLD;
    const { number } = this.article.versions ?? {};
    return this.change((signal) => {
      const spot = this.blocks.spotOf(index, block);
      const take = segment.kind === 'text' ? this.growText(spot) : this.growMedia(spot, segment);
      return this.patch(index, body, take, signal);
    }, t('article.changed')).then(() => {
      const stayed = number !== undefined && this.article.versions.number === number;
      if (stayed && !bold && !this.failed) {
        toast(t('article.same'), { action: { label: t('article.bolder'), run: () => this.regenerate(index, { block, bold: true }) } });
      } else {
        this.tell();
      }
    });
  }

  growText(spot) {
    const live = new LiveArticle();
    spot?.replaceWith(live.element);
    // Only what is written anew grows here: the text around it stays where it is.
    return (event) => live.take({ ...event, role: 'response', text: undefined });
  }

  growMedia(spot, segment) {
    const known = segment.image ?? segment.audio ?? {};
    const box = segment.kind === 'image'
      ? new PictureBox({ width: known.width, height: known.height, caption: known.alt ?? '' })
      : new SoundBox({ transcript: known.transcript ?? '', voice: known.voice ?? '', muted: localStorage.getItem('studio.aloud') === 'no' });
    spot?.replaceWith(box.element);
    return (event) => {
      if (event.type === 'segment.rows') box.rows(event);
      else if (event.type === 'segment.sound') box.piece(event);
    };
  }

  /** Change a text. rewrite: what follows is written anew, and grows on the sheet. */
  edit(index, text, rewrite) {
    const body = { action: 'edit', text, then: rewrite ? 'rewrite' : 'keep' };
    if (rewrite) body.seed = chanceSeed();
    return this.change(
      (signal) => this.patch(index, body, rewrite ? this.growRest(index, text) : () => {}, signal),
      t(rewrite ? 'article.rewritten' : 'article.changed'),
    ).then(() => this.tell());
  }

  /** What the server remarked about the change. */
  tell() {
    const told = [...new Set(this.told)];
    if (told.length) toast(told.join(' '), { seconds: 12 });
  }

  /** An own picture or sound in a segment's stead. */
  replaceMedia(index, media, goOn) {
    const body = { action: 'replace', media, then: goOn ? 'continue' : 'keep' };
    if (goOn) body.seed = chanceSeed();
    return this.change(
      (signal) => this.patch(index, body, goOn ? this.growRest(index + 1, '', media) : () => {}, signal),
      t(goOn ? 'article.rewritten' : 'article.changed'),
    ).then(() => this.tell());
  }

  /** The sheet ends before a segment, and grows from there. text: the segment's own, so far; media:
   * that has come in the stead of the one before it. */
  growRest(index, text = '', media = null) {
    const before = { ...this.article, segments: this.article.segments.slice(0, index) };
    if (media) {
      const last = before.segments.pop();
      before.segments.push({ ...last, [last.kind]: { ...last[last.kind], url: blobUrl(media, '') } });
    }
    const live = new LiveArticle({ muted: localStorage.getItem('studio.aloud') === 'no' });
    if (text) {
      live.begin({ segment: index, kind: 'text', text });
    }
    this.blocks.close();
    this.blocks = new ArticleBlocks(before, this, null);
    replace(this.body, this.blocks.element, live.element);
    return (event) => {
      if (event.type === 'segment.started' && event.kind === 'text' && event.text !== undefined && live.parts.has(event.segment)) return;
      live.take(event);
    };
  }

  choose(index, alternative) {
    return this.change(
      (signal) => sendJson('PATCH', articlePath(this.article.id, 'segments', String(index)), { action: 'choose', alternative }, signal),
      t('article.changed'),
    );
  }

  undo() {
    if (!this.article.versions?.undo) return null;
    return this.change((signal) => sendJson('POST', `${this.path}/undo`, {}, signal), t('article.undone'));
  }

  redo() {
    if (!this.article.versions?.redo) return null;
    return this.change((signal) => sendJson('POST', `${this.path}/redo`, {}, signal), t('article.redone'));
  }

  /** What a segment was before, side by side. */
  async compare(index) {
    const segment = this.article.segments[index];
    const sources = await Promise.all(this.alternativeUrls(segment).map(mediaUrl));
    const own = segment.image ?? segment.audio ?? {};
    openAlternatives({
      kind: segment.kind,
      current: await mediaUrl(own.url),
      sources,
      caption: own.alt ?? own.transcript ?? '',
      use: (number) => this.choose(index, number),
      another: (wishes) => this.regenerate(index, wishes),
    });
  }

  alternativeUrls(segment) {
    if (segment.alternative_urls) return segment.alternative_urls;
    const ending = segment.kind === 'image' ? 'png' : 'wav';
    return Array.from(
      { length: segment.alternatives ?? 0 },
      (_, number) => `${articlePath(this.article.id, 'media', `${segment.index}.${ending}`)}?alternative=${number}`,
    );
  }

  close() {
    this.stop();
    this.blocks?.close();
  }
}
