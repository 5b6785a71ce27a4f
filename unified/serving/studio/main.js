// The page: frame, views by the address behind '#', preferences, keys.
import { onKeyNeeded } from './api.js';
import { ArticleView } from './article_view.js';
import { el, replace } from './dom.js';
import { announce, askKey, mountFeedback, notice } from './feedback.js';
import { icon } from './icons.js';
import { LibraryView } from './library_view.js';
import { guardDrops } from './own_media.js';
import { PlaygroundView } from './playground_view.js';
import { mountKeys, openKeyHelp } from './shortcuts.js';
import { loadFacts, studioFacts } from './studio_facts.js';
import { LANGUAGES, chooseLanguage, language, loadLanguage, preferredLanguage, t } from './texts.js';
import { THEMES, applyTheme, theme } from './theme.js';
import { TrainingView } from './training_view.js';
import { WriteView } from './write_view.js';

const VIEWS = ['write', 'library', 'playground', 'training'];

let views = {};
let current = null;
const main = el('main', { id: 'main', tabIndex: -1 });
const links = {};

function buildFrame() {
  views = {};
  const nav = el('nav', { class: 'nav', 'aria-label': t('nav.label') }, VIEWS.map((name) => {
    links[name] = el('a', { href: `#/${name}` }, icon(name), el('span', {}, t(`nav.${name}`)));
    return links[name];
  }));
  const preferences = el(
    'div', { class: 'preferences' },
    preference('language', t('preference.language', { name: LANGUAGES[language()] }), nextLanguage),
    preference({ auto: 'auto', light: 'sun', dark: 'moon' }[theme()], t('preference.theme', { name: t(`theme.${theme()}`) }), nextTheme),
    preference('help', t('keys.title'), openKeyHelp),
  );
  const bar = el(
    'header', { class: 'bar' },
    el('a', { class: 'brand', href: '#/write', 'aria-label': t('brand') }, el('img', { src: '/studio/icon.svg', alt: '' }),
      el('span', {}, 'unified'), el('span', { class: 'model' }, studioFacts().model)),
    nav, preferences,
  );
  replace(document.body, el('a', { class: 'skip', href: '#main', on: { click: skip } }, t('skip')), bar, main);
  mountFeedback(document.body);
}

function preference(name, label, run) {
  return el('button', { class: 'button quiet icon', type: 'button', 'aria-label': label, title: label, on: { click: run } }, icon(name));
}

function skip(event) {
  event.preventDefault();
  main.focus();
}

function nextTheme(event) {
  applyTheme(THEMES[(THEMES.indexOf(theme()) + 1) % THEMES.length]);
  const label = t('preference.theme', { name: t(`theme.${theme()}`) });
  const { currentTarget: button } = event;
  replace(button, icon({ auto: 'auto', light: 'sun', dark: 'moon' }[theme()]));
  button.setAttribute('aria-label', label);
  button.title = label;
  announce(label);
}

async function nextLanguage() {
  if (views.write?.busy) { // drawing the page anew would drop what is being written
    announce(t('preference.busy'), true);
    return;
  }
  const names = Object.keys(LANGUAGES);
  await chooseLanguage(names[(names.indexOf(language()) + 1) % names.length]);
  current?.close?.();
  current = null;
  buildFrame();
  await openView();
  document.querySelector('.preferences button').focus();
}

/** The view that an address names. Writing and the playground stay as they were left. */
function viewOf(name, argument) {
  if (name === 'article') return new ArticleView(argument);
  if (name === 'library') return new LibraryView();
  if (name === 'training') return new TrainingView(argument);
  if (name === 'playground') views.playground ??= new PlaygroundView();
  else views.write ??= new WriteView({ changed: showBusy });
  return views[name === 'playground' ? name : 'write'];
}

function showBusy(busy) {
  links.write.querySelector('.live-dot')?.remove();
  if (busy) links.write.append(el('span', { class: 'live-dot', role: 'img', 'aria-label': t('write.running') }));
}

async function openView() {
  const [, name = 'write', argument] = location.hash.split('/');
  const view = viewOf(name, argument ? decodeURIComponent(argument) : undefined);
  if (view === current) return;
  if (current && current !== views.write && current !== views.playground) current.close?.();
  const isFirst = current === null;
  current = view;
  const section = name === 'article' ? 'library' : VIEWS.includes(name) ? name : 'write';
  for (const [each, link] of Object.entries(links)) {
    if (each === section) link.setAttribute('aria-current', 'page');
    else link.removeAttribute('aria-current');
  }
  replace(main, view.element);
  await view.show?.();
  if (current !== view) return;
  document.title = `${view.title} · unified studio`;
  if (!isFirst) {
    window.scrollTo(0, 0);
    main.focus({ preventScroll: true });
    announce(view.title);
  }
}

async function start() {
  applyTheme(theme());
  await loadLanguage(preferredLanguage());
  mountFeedback(document.body);
  onKeyNeeded(askKey);
  guardDrops();
  try {
    await loadFacts();
  } catch (error) {
    replace(document.body, el('main', {}, el('h1', {}, 'unified'), notice(t('error.start', { message: error.message }), true)));
    return;
  }
  buildFrame();
  mountKeys({ current: () => current, go: (name) => { location.hash = `#/${name}`; } });
  window.addEventListener('hashchange', openView);
  window.addEventListener('beforeunload', (event) => { if (views.write?.busy) event.preventDefault(); });
  await openView();
  document.documentElement.dataset.ready = 'yes';
}

start();
