// What the server says about itself once: GET /v1/studio.
import { getJson } from './api.js';
import { language } from './texts.js';

const NOTHING = {
  model: '', languages: ['en'], voices: [], decoders: [], subjects: [], picture_sizes: [], limits: {},
};

let facts = NOTHING;

export async function loadFacts() {
  facts = { ...NOTHING, ...(await getJson('/v1/studio')) };
  return facts;
}

export function studioFacts() {
  return facts;
}

/** The names of the subjects that the model knows, in the language of the page. */
export function subjectNames() {
  return facts.subjects.map((each) => (typeof each === 'string' ? each : (language() === 'zh' && each.zh) || each.name));
}

/** The names of decoders, whatever form they come in. */
export function decoderNames() {
  return facts.decoders.map((each) => (typeof each === 'string' ? each : each.name));
}

/** Most pictures that a reader may ask for. */
export function mostPictures() {
  return facts.limits.pictures ?? facts.limits.max_pictures ?? 6;
}
