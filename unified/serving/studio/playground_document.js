// A document put together by hand: texts, pictures, sounds, the microphone, and slots to be filled.
import { append, el, replace } from './dom.js';
import { announce, menuButton, tellError } from './feedback.js';
import { button, field, select } from './fields.js';
import { icon } from './icons.js';
import { recordSound } from './microphone.js';
import { base64Of, checkFile, chooseFile } from './own_media.js';
import { blobUrl } from './picture_box.js';
import { SoundBox } from './sound_box.js';
import { t } from './texts.js';

const prompt = (text) => ({ type: 'text', text, role: 'prompt' });
const answer = (modality) => ({ type: 'slot', modality, role: 'response' });
const TEMPLATES = {
  draw: () => [prompt('![a giant panda]'), answer('image')],
  describe: () => [{ type: 'image', data: '', role: 'prompt' }, answer('text')],
  speak: () => [prompt('> (ben) The panda eats bamboo.'), answer('audio')],
  listen: () => [{ type: 'audio', data: '', role: 'prompt' }, answer('text')],
};

export class DocumentForm {
  constructor() {
    this.rows = [];
    this.list = el('ol', { class: 'segments' });
    this.element = el(
      'div', { class: 'document-form' }, this.list,
      el(
        'div', { class: 'buttons' },
        menuButton(t('play.add'), 'slot', [
          { label: t('play.text'), icon: 'text', run: () => this.add(prompt('')) },
          { label: t('play.picture'), icon: 'picture', run: () => this.addFile('image') },
          { label: t('play.sound'), icon: 'sound', run: () => this.addFile('audio') },
          { label: t('play.microphone'), icon: 'microphone', run: () => this.addRecording() },
          { label: t('play.slot'), icon: 'slot', run: () => this.add(answer('any')) },
        ], { showLabel: true }),
      ),
    );
    this.fill('draw');
  }

  /** Buttons that begin with a document of some task. */
  templates() {
    return el(
      'div', { class: 'buttons', role: 'group', 'aria-label': t('play.templates') },
      Object.keys(TEMPLATES).map((name) => el(
        'button', { class: 'chip', type: 'button', on: { click: () => this.fill(name) } }, t(`play.template.${name}`),
      )),
    );
  }

  fill(name) {
    this.rows = [];
    replace(this.list);
    TEMPLATES[name]().forEach((segment) => this.add(segment, false));
  }

  focusFirst() {
    this.list.querySelector('textarea, select, button')?.focus();
  }

  /** The document as JSON, with its media in it. Media that are still missing are left out. */
  value() {
    const segments = this.rows.map(({ segment }) => segment).filter((segment) => !('data' in segment) || segment.data);
    return { segments: segments.map((segment) => Object.fromEntries(Object.entries(segment).filter(([, value]) => value !== '' && value !== null))) };
  }

  add(segment, focus = true) {
    const row = { segment };
    row.element = el('li', { class: `segment ${segment.type === 'slot' ? 'slot' : segment.type}` });
    this.rows.push(row);
    this.list.append(row.element);
    this.draw(row);
    if (focus) row.element.querySelector('textarea, select, button')?.focus();
  }

  draw(row) {
    const { segment } = row;
    const kind = { text: 'text', image: 'picture', audio: 'sound', slot: 'slot' }[segment.type];
    const roles = [['', t('role.none')], ['prompt', t('role.prompt')], ['response', t('role.response')]];
    replace(
      row.element,
      el(
        'div', { class: 'segment-head' }, icon(kind), el('strong', {}, t(`play.${kind}`)),
        labelled(t('play.role'), select(roles, segment.role ?? '', (role) => { segment.role = role; })),
        el(
          'span', { class: 'segment-buttons' },
          button(t('play.up'), 'up', () => this.move(row, -1), { kind: 'quiet tiny', labelled: false }),
          button(t('play.down'), 'down', () => this.move(row, 1), { kind: 'quiet tiny', labelled: false }),
          button(t('play.remove'), 'close', () => this.remove(row), { kind: 'quiet tiny', labelled: false }),
        ),
      ),
      this.content(row),
    );
  }

  content(row) {
    const { segment } = row;
    if (segment.type === 'text') {
      const area = el('textarea', { rows: '2', value: segment.text, 'aria-label': t('play.text'), on: { input: () => { segment.text = area.value; } } });
      return area;
    }
    if (segment.type === 'slot') {
      const kinds = ['any', 'text', 'image', 'audio'].map((each) => [each, t(`modality.${each}`)]);
      return field(t('play.modality'), select(kinds, segment.modality, (modality) => { segment.modality = modality; }));
    }
    const isPicture = segment.type === 'image';
    const media = el('div', { class: 'segment-media' });
    if (segment.data && isPicture) {
      append(media, [el('img', { src: blobUrl(segment.data, 'image/png'), alt: t('play.picture') })]);
    } else if (segment.data) {
      const box = new SoundBox({});
      box.load(blobUrl(segment.data, 'audio/wav'));
      append(media, [box.element]);
    }
    append(media, [el(
      'div', { class: 'buttons' },
      button(t(isPicture ? 'play.choose.picture' : 'play.choose.sound'), 'upload', async () => this.put(row, await chooseFile(segment.type)), { kind: 'tiny' }),
      isPicture ? null : button(t('play.microphone'), 'microphone', async () => this.put(row, await recordSound()), { kind: 'tiny' }),
    )]);
    return media;
  }

  async put(row, file) {
    if (!file || !checkFile(file, row.segment.type)) return;
    row.segment.data = await base64Of(file);
    this.draw(row);
  }

  async addFile(type) {
    const file = await chooseFile(type);
    if (file && checkFile(file, type)) this.add({ type, data: await base64Of(file), role: 'prompt' });
  }

  async addRecording() {
    try {
      const file = await recordSound();
      if (file) this.add({ type: 'audio', data: await base64Of(file), role: 'prompt' });
    } catch (error) {
      tellError(error);
    }
  }

  move(row, step) {
    const at = this.rows.indexOf(row);
    const to = at + step;
    if (to < 0 || to >= this.rows.length) return;
    this.rows.splice(at, 1);
    this.rows.splice(to, 0, row);
    const focused = document.activeElement;
    this.list.insertBefore(row.element, this.rows[to + 1]?.element ?? null);
    focused?.focus();
    announce(t('play.moved', { number: to + 1 }));
  }

  remove(row) {
    const at = this.rows.indexOf(row);
    this.rows.splice(at, 1);
    row.element.remove();
    (this.rows[at] ?? this.rows[at - 1])?.element.querySelector('button')?.focus();
  }
}

function labelled(label, control) {
  control.setAttribute('aria-label', label);
  return control;
}
