// The texts of the interface in its languages, and what is written in them: numbers, times, sizes.

export const LANGUAGES = { en: 'English', zh: '中文' };

let table = {};
let fallback = {};
let current = 'en';

/** The language that the reader chose, else the first of the browser's that there is. */
export function preferredLanguage() {
  const wishes = [localStorage.getItem('studio.language'), ...navigator.languages];
  for (const wish of wishes) {
    const short = (wish ?? '').toLowerCase().split('-')[0];
    if (short in LANGUAGES) return short;
  }
  return 'en';
}

/** Load a language's table; English stands in for what it does not have. */
export async function loadLanguage(name) {
  const load = async (each) => (await fetch(`/studio/texts/${each}.json`)).json();
  if (!Object.keys(fallback).length) fallback = await load('en');
  table = name === 'en' ? fallback : await load(name);
  current = name;
  document.documentElement.lang = name === 'zh' ? 'zh-CN' : name;
}

/** Use another language from now on; the views are drawn anew by whoever calls. */
export async function chooseLanguage(name) {
  localStorage.setItem('studio.language', name);
  await loadLanguage(name);
}

export function language() {
  return current;
}

/** A text by its key, `{name}` replaced. `count` chooses between KEY.one and KEY.other. */
export function t(key, values = {}) {
  let full = key;
  if (values.count !== undefined && !(key in fallback)) {
    full = `${key}.${new Intl.PluralRules('en').select(values.count) === 'one' ? 'one' : 'other'}`;
  }
  const text = table[full] ?? fallback[full];
  if (text === undefined) throw new Error(`no text ${full}`);
  return text.replace(/\{(\w+)\}/g, (whole, name) => {
    const value = values[name];
    return value === undefined ? whole : typeof value === 'number' ? number(value) : String(value);
  });
}

export function number(value, digits = 0) {
  return new Intl.NumberFormat(current, { maximumFractionDigits: digits }).format(value);
}

/** A duration in words: "8 s", "2 min 5 s". */
export function duration(seconds) {
  const whole = Math.max(1, Math.round(seconds));
  if (whole < 60) return t('time.seconds', { seconds: whole });
  return t('time.minutes', { minutes: Math.floor(whole / 60), seconds: whole % 60 });
}

/** A position in a sound: "0:07". */
export function clock(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, '0')}`;
}

/** A moment as ISO text or seconds since 1970, as a date in words. */
export function moment(value) {
  const date = new Date(typeof value === 'number' ? value * 1000 : value);
  if (Number.isNaN(date.getTime())) return '';
  return new Intl.DateTimeFormat(current, { dateStyle: 'medium', timeStyle: 'short' }).format(date);
}
