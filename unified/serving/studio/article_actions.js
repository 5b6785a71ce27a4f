// What can be done with an article as a whole: export, duplicate, delete.
import { articlePath, getFile, sendJson } from './api.js';
import { el } from './dom.js';
import { menuButton, tellError, toast } from './feedback.js';
import { studioFacts } from './studio_facts.js';
import { t } from './texts.js';

const FORMATS = ['html', 'epub', 'pdf', 'docx', 'md', 'json'];

/** The file formats that the server has, those that this page has a name for. */
export function exportFormats() {
  const known = studioFacts().export_formats ?? FORMATS;
  return FORMATS.filter((format) => known.includes(format));
}

/** Save a blob under a name. */
export function saveFile(blob, name) {
  const url = URL.createObjectURL(blob);
  el('a', { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

export async function exportArticle(id, title, format) {
  const told = toast(t('export.under_way'));
  try {
    const { blob, name } = await getFile('POST', articlePath(id, 'export'), { format });
    saveFile(blob, name ?? `${title || 'article'}.${format}`);
    told();
    toast(t('export.done'));
  } catch (error) {
    told();
    tellError(error);
  }
}

/** The menu of file formats. */
export function exportMenu(id, title, options = {}) {
  return menuButton(t('export.menu'), 'download', exportFormats().map((format) => ({
    label: t(`export.${format}`), run: () => exportArticle(id, title, format),
  })), options);
}

export async function duplicateArticle(id) {
  try {
    const copy = await sendJson('POST', articlePath(id, 'duplicate'), {});
    toast(t('article.duplicated'), {
      action: { label: t('action.open'), run: () => { location.hash = `#/article/${copy.id}`; } },
    });
    return copy;
  } catch (error) {
    tellError(error);
    return null;
  }
}

/** Delete an article; the toast has it back. restored: called when it is. */
export async function deleteArticle(id, title, restored = () => {}) {
  try {
    await sendJson('DELETE', articlePath(id));
  } catch (error) {
    tellError(error);
    return false;
  }
  const restore = async () => {
    try {
      await sendJson('POST', articlePath(id, 'restore'), {});
      toast(t('article.restored'));
      restored();
    } catch (error) {
      tellError(error);
    }
  };
  toast(t('article.deleted', { title: title || t('article.untitled') }), { action: { label: t('action.undo'), run: restore } });
  return true;
}

/** The menus at an article that is open. */
export function articleActions(editor) {
  const { id, title } = editor.article;
  return el(
    'div', { class: 'buttons' },
    exportMenu(id, title, { showLabel: matchMedia('(min-width: 30rem)').matches }),
    menuButton(t('article.more'), 'more', [
      { label: t('article.duplicate'), icon: 'copy', run: () => duplicateArticle(id) },
      { label: t('article.delete'), icon: 'bin', kind: 'danger', run: async () => { if (await deleteArticle(id, title)) editor.gone(); } },
    ], { kind: 'quiet' }),
  );
}
