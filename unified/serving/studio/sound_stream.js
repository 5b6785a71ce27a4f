// Sound that plays while it arrives: pieces of PCM laid one behind another on WebAudio's clock.

const LEAD = 0.12; // seconds between the first piece and its sounding, so that the next is there

let context = null;

/** The page's audio context. Called from a click or a key, since browsers let no page sound before. */
export function wakeAudio() {
  context ??= new AudioContext();
  if (context.state === 'suspended') context.resume().catch(() => {});
  return context;
}

/** Samples out of 16-bit little-endian PCM. */
export function samplesOf(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const samples = new Float32Array(bytes.byteLength >> 1);
  for (let at = 0; at < samples.length; at += 1) samples[at] = view.getInt16(2 * at, true) / 32768;
  return samples;
}

export class SoundStream {
  /** muted: arrives in silence; told(seconds played, seconds there) is called while it plays. */
  constructor({ muted = false, told = () => {} } = {}) {
    this.audio = wakeAudio();
    this.gain = this.audio.createGain();
    this.gain.gain.value = muted ? 0 : 1;
    this.gain.connect(this.audio.destination);
    this.sources = new Set();
    this.seconds = 0; // that have arrived
    this.gap = 0; // seconds of silence while waiting for pieces
    this.until = 0; // on the context's clock
    this.began = null;
    this.ended = false;
    this.stopped = false;
    this.told = told;
    this.finished = new Promise((resolve) => { this.resolve = resolve; });
  }

  /** Whether the browser lets the page sound. */
  get isHeard() {
    return this.audio.state === 'running';
  }

  add(bytes, rate) {
    const samples = samplesOf(bytes);
    if (!samples.length || this.stopped) {
      this.seconds += samples.length / rate;
      return;
    }
    const buffer = this.audio.createBuffer(1, samples.length, rate);
    buffer.copyToChannel(samples, 0);
    const source = this.audio.createBufferSource();
    source.buffer = buffer;
    source.connect(this.gain);
    const now = this.audio.currentTime;
    const start = Math.max(this.until, now + (this.began === null ? LEAD : 0.02));
    if (this.began === null) {
      this.began = start;
      this.tick();
    } else {
      this.gap += Math.max(0, start - this.until);
    }
    source.start(start);
    this.until = start + buffer.duration;
    this.seconds += buffer.duration;
    this.sources.add(source);
    source.onended = () => {
      this.sources.delete(source);
      if (this.ended && !this.sources.size) this.resolve();
    };
  }

  tick() {
    if (this.stopped) return;
    const played = Math.max(0, Math.min(this.seconds, this.audio.currentTime - this.began - this.gap));
    this.told(played, this.seconds);
    if (this.ended && !this.sources.size) return;
    requestAnimationFrame(() => this.tick());
  }

  mute(muted) {
    this.gain.gain.value = muted ? 0 : 1;
  }

  /** No more pieces come. */
  end() {
    this.ended = true;
    if (!this.sources.size) this.resolve();
  }

  stop() {
    this.stopped = true;
    for (const source of this.sources) source.stop();
    this.sources.clear();
    this.gain.disconnect();
    this.resolve();
  }
}
