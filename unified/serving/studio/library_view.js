// The library: articles on disk, found by words, opened, duplicated, deleted and brought back.
import { getJson, mediaUrl } from './api.js';
import { deleteArticle, duplicateArticle, exportArticle, exportFormats } from './article_actions.js';
import { afterPause, append, el, replace } from './dom.js';
import { announce, menuButton, notice } from './feedback.js';
import { button } from './fields.js';
import { icon } from './icons.js';
import { moment, t } from './texts.js';

const PAGE = 24;

export class LibraryView {
  constructor() {
    this.search = el('input', {
      type: 'search', placeholder: t('library.search'), 'aria-label': t('library.search'),
      on: { input: afterPause(200, () => this.show()) },
    });
    this.grid = el('ul', { class: 'cards' });
    this.notes = el('div');
    this.more = button(t('library.more'), null, () => this.load(), { hidden: true });
    this.element = el(
      'div', { class: 'library-view' },
      el('div', { class: 'view-head' }, el('h1', {}, t('nav.library')), el('div', { class: 'search' }, icon('search'), this.search)),
      this.notes, this.grid, el('div', { class: 'buttons centre' }, this.more),
    );
  }

  get title() {
    return t('nav.library');
  }

  focusFirst() {
    this.search.focus();
  }

  async show() {
    this.articles = [];
    this.round = (this.round ?? 0) + 1;
    await this.load(true);
  }

  async load(anew = false) {
    const { round } = this;
    const query = this.search.value.trim();
    const parameters = new URLSearchParams({ limit: String(PAGE) });
    if (query) parameters.set('q', query);
    if (!anew && this.cursor) parameters.set('before', this.cursor);
    try {
      const answer = await getJson(`/v1/articles?${parameters}`);
      if (round !== this.round) return;
      this.articles.push(...answer.articles);
      this.cursor = answer.articles.at(-1)?.id;
      if (anew) replace(this.grid);
      append(this.grid, answer.articles.map((article) => this.card(article)));
      this.more.hidden = !answer.more;
      replace(this.notes, this.articles.length ? null : this.nothing(query));
      if (query) announce(t('library.number', { count: this.articles.length }));
    } catch (error) {
      replace(this.notes, notice(t('error.plain', { message: error.message }), true));
    }
  }

  nothing(query) {
    return el(
      'div', { class: 'empty' }, icon('library'),
      el('h2', {}, query ? t('library.none', { query }) : t('library.empty')),
      query ? null : el('p', {}, t('library.empty.text')),
      query ? null : el('a', { class: 'button primary', href: '#/write' }, t('library.begin')),
    );
  }

  card(article) {
    const { id } = article;
    const title = article.title || t('article.untitled');
    const thumbnail = el('div', { class: 'thumbnail' }, icon('text'));
    mediaUrl(article.thumbnail_url).then((source) => {
      if (source) replace(thumbnail, el('img', { src: source, alt: '', loading: 'lazy' }));
    }).catch(() => {});
    const facts = [
      moment(article.updated ?? article.created),
      article.pictures ? t('library.pictures', { count: article.pictures }) : null,
      article.characters ? t('library.characters', { count: article.characters }) : null,
    ].filter(Boolean).join(' · ');
    const card = el(
      'li', { class: 'card' },
      el(
        'a', { class: 'card-link', href: `#/article/${encodeURIComponent(id)}` }, thumbnail,
        el(
          'div', { class: 'card-text' },
          el('h2', {}, title), el('p', { class: 'small soft clamp' }, article.prompt),
          el('p', { class: 'small soft' }, facts),
          article.status && article.status !== 'completed' ? el('p', { class: 'badge' }, t(`status.${article.status === 'writing' ? 'writing' : 'stopped'}`)) : null,
        ),
      ),
      menuButton(t('library.actions', { title }), 'more', [
        ...exportFormats().map((format) => ({ label: t(`export.${format}`), icon: 'download', run: () => exportArticle(id, title, format) })),
        { label: t('article.duplicate'), icon: 'copy', run: async () => { if (await duplicateArticle(id)) this.show(); } },
        { label: t('article.delete'), icon: 'bin', kind: 'danger', run: () => this.remove(id, title, card) },
      ], { kind: 'quiet' }),
    );
    return card;
  }

  async remove(id, title, card) {
    const next = (card.nextElementSibling ?? card.previousElementSibling)?.querySelector('a');
    if (!(await deleteArticle(id, title, () => this.show()))) return;
    card.remove();
    this.articles = this.articles.filter((article) => article.id !== id);
    (next ?? this.search).focus();
    if (!this.articles.length) replace(this.notes, this.nothing(this.search.value.trim()));
  }
}
