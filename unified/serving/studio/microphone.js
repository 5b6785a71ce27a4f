// Recording from the microphone as a WAV file, since servers read no browser's own format.
import { el, replace } from './dom.js';
import { openDialog } from './feedback.js';
import { button } from './fields.js';
import { clock, t } from './texts.js';

const MOST_SECONDS = 60;

/** A recording as a file; null where the reader thinks otherwise. Raises where there is none. */
export async function recordSound() {
  if (!navigator.mediaDevices?.getUserMedia) throw new Error(t('microphone.none'));
  const stream = await navigator.mediaDevices.getUserMedia({ audio: { channelCount: 1 } });
  const context = new AudioContext();
  const pieces = [];
  let length = 0;
  try {
    await context.audioWorklet.addModule('/studio/recorder_worklet.js');
    const source = context.createMediaStreamSource(stream);
    const recorder = new AudioWorkletNode(context, 'recorder');
    source.connect(recorder);
    const time = el('p', { class: 'recording numbers', role: 'timer' }, clock(0));
    const isWanted = await new Promise((resolve) => {
      let wanted = false;
      const finish = () => { wanted = true; dialog.close(); };
      recorder.port.onmessage = ({ data }) => {
        pieces.push(data);
        length += data.length;
        replace(time, clock(length / context.sampleRate));
        if (length >= MOST_SECONDS * context.sampleRate) finish();
      };
      const dialog = openDialog(t('microphone.title'), [time, button(t('microphone.finish'), 'stop', finish, { kind: 'primary' })], {
        narrow: true, onClose: () => resolve(wanted),
      });
    });
    return isWanted && length ? new File([wavOf(pieces, length, context.sampleRate)], 'microphone.wav', { type: 'audio/wav' }) : null;
  } finally {
    for (const track of stream.getTracks()) track.stop();
    context.close();
  }
}

/** Samples in [-1, 1] as a 16-bit WAV file of one channel. */
export function wavOf(pieces, length, rate) {
  const bytes = new ArrayBuffer(44 + 2 * length);
  const view = new DataView(bytes);
  const word = (at, text) => [...text].forEach((letter, step) => view.setUint8(at + step, letter.charCodeAt(0)));
  word(0, 'RIFF');
  view.setUint32(4, 36 + 2 * length, true);
  word(8, 'WAVEfmt ');
  view.setUint32(16, 16, true);
  view.setUint16(20, 1, true);
  view.setUint16(22, 1, true);
  view.setUint32(24, rate, true);
  view.setUint32(28, 2 * rate, true);
  view.setUint16(32, 2, true);
  view.setUint16(34, 16, true);
  word(36, 'data');
  view.setUint32(40, 2 * length, true);
  let at = 44;
  for (const piece of pieces) {
    for (const sample of piece) {
      view.setInt16(at, Math.max(-1, Math.min(1, sample)) * 32767, true);
      at += 2;
    }
  }
  return bytes;
}
