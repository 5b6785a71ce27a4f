// Pictures and sounds of one's own: chosen from a file or dropped.
import { el } from './dom.js';
import { choose, toast } from './feedback.js';
import { studioFacts } from './studio_facts.js';
import { number, t } from './texts.js';

const MOST_BYTES = 20 << 20;

/** A file as base64, without the head of a data address. */
export function base64Of(blob) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(String(reader.result).split(',', 2)[1] ?? '');
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(blob);
  });
}

/** Whether a file is one of a kind; tells the reader where it is not. */
export function checkFile(file, kind) {
  const { body } = studioFacts().limits;
  const most = body ? Math.floor(body * 0.7) : MOST_BYTES; // base64 makes a third more of it
  if (!file.type.startsWith(`${kind}/`)) toast(t(kind === 'image' ? 'own.no_picture' : 'own.no_sound', { name: file.name }), { bad: true });
  else if (file.size > most) toast(t('own.too_large', { name: file.name, most: number(most / (1 << 20)) }), { bad: true });
  else return true;
  return false;
}

/** Choose a file in the browser's own dialog. */
export function chooseFile(kind) {
  return new Promise((resolve) => {
    const input = el('input', { type: 'file', accept: `${kind}/*`, on: {
      change: () => resolve(input.files[0] ?? null), cancel: () => resolve(null),
    } });
    input.click();
  });
}

async function use(file, kind, run) {
  if (!file || !checkFile(file, kind)) return;
  const answer = await choose(t('own.title'), t('own.question', { name: file.name }), [
    { value: 'keep', label: t('own.keep'), kind: 'primary' },
    { value: 'continue', label: t('own.continue') },
  ]);
  if (answer) run(await base64Of(file), answer === 'continue');
}

/** run(base64, goOn) with a file that the reader chooses. */
export async function pickFile(kind, run) {
  await use(await chooseFile(kind), kind, run);
}

/** run(base64, goOn) with a file that is dropped on an element. */
export function acceptDrop(element, kind, run) {
  const has = (event) => [...(event.dataTransfer?.items ?? [])].some((item) => item.kind === 'file');
  element.addEventListener('dragover', (event) => {
    if (!has(event)) return;
    event.preventDefault();
    element.classList.add('dropping');
  });
  element.addEventListener('dragleave', () => element.classList.remove('dropping'));
  element.addEventListener('drop', (event) => {
    element.classList.remove('dropping');
    if (!has(event)) return;
    event.preventDefault();
    use(event.dataTransfer.files[0], kind, run);
  });
}

/** A file that misses its target must not take the page's place. */
export function guardDrops() {
  for (const type of ['dragover', 'drop']) window.addEventListener(type, (event) => event.preventDefault());
}
