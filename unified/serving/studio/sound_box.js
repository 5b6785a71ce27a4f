// A narration: what is said, a button, and where in it one is; while it arrives and afterwards.
import { mediaUrl } from './api.js';
import { el, replace } from './dom.js';
import { icon } from './icons.js';
import { blobUrl, bytesOf } from './picture_box.js';
import { SoundStream } from './sound_stream.js';
import { clock, t } from './texts.js';

let current = null; // the one that sounds: two at once are understood by nobody

export class SoundBox {
  /** transcript, voice: what is said by whom; muted: whether it arrives in silence. */
  constructor({ transcript = '', voice = '', muted = false } = {}) {
    this.muted = muted;
    this.quote = el('blockquote');
    this.button = el('button', { class: 'button primary icon', type: 'button', on: { click: () => this.press() } });
    this.range = el('input', { type: 'range', min: '0', max: '1', step: '0.01', value: '0', disabled: true, 'aria-label': t('sound.position'), on: { input: () => this.seek() } });
    this.time = el('span', { class: 'soft small numbers nowrap' });
    this.about = el('figcaption');
    this.element = el(
      'figure', { class: 'narration' }, this.quote,
      el('div', { class: 'player' }, this.button, this.range, this.time), this.about,
    );
    this.describe(transcript, voice);
    this.draw(false, 0, 0);
  }

  describe(transcript, voice) {
    this.transcript = transcript;
    this.quote.textContent = transcript;
    this.quote.hidden = !transcript;
    this.about.textContent = voice ? t('sound.by', { voice: voice[0].toUpperCase() + voice.slice(1) }) : t('sound.narration');
  }

  draw(playing, played, seconds) {
    if (this.button.dataset.playing !== String(playing)) {
      this.button.dataset.playing = String(playing);
      replace(this.button, icon(playing ? 'pause' : 'play'));
      this.button.setAttribute('aria-label', t(playing ? 'sound.pause' : 'sound.play'));
    }
    this.range.max = String(Math.max(seconds, 0.01));
    this.range.value = String(played);
    this.range.setAttribute('aria-valuetext', `${clock(played)} / ${clock(seconds)}`);
    this.time.textContent = `${clock(played)} / ${clock(seconds)}`;
  }

  /** A piece while it arrives. */
  piece({ pcm16, sample_rate: rate }) {
    if (!this.stream) {
      this.stream = new SoundStream({
        muted: this.muted, told: (played, seconds) => this.draw(!this.muted, played, seconds),
      });
      if (!this.muted) this.takeOver();
      this.element.classList.add('arriving');
    }
    this.stream.add(bytesOf(pcm16), rate);
  }

  /** The finished sound: {url or data, seconds, transcript}. What still plays of the stream plays on. */
  async done({ url, data, seconds, transcript, voice }) {
    if (transcript || voice) this.describe(transcript || this.transcript, voice || '');
    this.element.classList.remove('arriving');
    const source = data ? blobUrl(data, 'audio/wav') : await mediaUrl(url);
    if (this.stream) {
      // What nobody hears need not come to its end.
      if (this.muted || !this.stream.isHeard) this.stream.stop();
      else this.stream.end();
      await this.stream.finished;
      this.stream = null;
    }
    if (source) this.load(source, seconds);
  }

  load(source, seconds = 0) {
    this.media = new Audio(source);
    this.media.preload = 'metadata';
    this.range.disabled = false;
    const length = () => (Number.isFinite(this.media.duration) ? this.media.duration : seconds || 0);
    const draw = () => this.draw(!this.media.paused, this.media.currentTime, length());
    for (const type of ['timeupdate', 'play', 'pause', 'loadedmetadata', 'ended']) this.media.addEventListener(type, draw);
    this.draw(false, 0, seconds || 0);
  }

  seek() {
    if (this.media) this.media.currentTime = Number(this.range.value);
  }

  takeOver() {
    if (current && current !== this) current.pause();
    current = this;
  }

  pause() {
    if (this.media) this.media.pause();
    if (this.stream && !this.muted) {
      this.muted = true;
      this.stream.mute(true);
    }
  }

  press() {
    if (this.stream) { // it arrives: be silent, or be heard again
      this.muted = !this.muted;
      this.stream.mute(this.muted);
      if (!this.muted) this.takeOver();
    } else if (this.media?.paused) {
      this.takeOver();
      this.media.play().catch(() => {});
    } else {
      this.media?.pause();
    }
  }

  /** Fall silent for good, as where the view goes away. */
  close() {
    this.media?.pause();
    this.stream?.stop();
  }
}
