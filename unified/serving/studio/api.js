// Requests to the server: JSON, files, events. An API key, where there is one, stays in this tab.
import { isOwnAddress } from './dom.js';
import { readEvents } from './events.js';

export class ApiError extends Error {
  constructor(message, status, code) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

let askForKey = async () => null;

/** How the reader is asked for the key, where the server has one. */
export function onKeyNeeded(ask) {
  askForKey = ask;
}

async function send(method, path, body, signal) {
  for (;;) {
    const headers = { accept: 'application/json, text/event-stream, */*' };
    const key = sessionStorage.getItem('studio.key');
    if (key) headers.authorization = `Bearer ${key}`;
    if (body !== undefined) headers['content-type'] = 'application/json';
    const response = await fetch(path, {
      method, headers, signal, body: body === undefined ? undefined : JSON.stringify(body),
    });
    if (response.ok) return response;
    const error = await errorOf(response);
    if (response.status !== 401) throw error;
    const entered = await askForKey(key !== null);
    if (!entered) throw error;
    sessionStorage.setItem('studio.key', entered);
  }
}

async function errorOf(response) {
  let message = `${response.status} ${response.statusText}`;
  let code = null;
  try {
    const body = await response.json();
    const error = body.error ?? body;
    message = error.message ?? message;
    code = error.code ?? null;
  } catch {
    // no JSON: the status says it
  }
  return new ApiError(message, response.status, code);
}

/** The JSON that a path answers. */
export async function getJson(path, signal) {
  return (await send('GET', path, undefined, signal)).json();
}

/** The JSON that comes of POST, PATCH or DELETE. */
export async function sendJson(method, path, body, signal) {
  return (await send(method, path, body, signal)).json();
}

/** The events of a request, one after another: {type, ...data}. Aborting `signal` ends the
 * request, and with it what the server computes for it. A JSON answer is one `article.json`. */
export async function* stream(method, path, body, signal) {
  const response = await send(method, path, body, signal);
  const type = response.headers.get('content-type') ?? '';
  if (!type.startsWith('text/event-stream')) {
    yield { type: 'article.json', article: await response.json() };
    return;
  }
  for await (const event of readEvents(response.body)) {
    if (event.type === 'error') {
      const error = event.error ?? event;
      throw new ApiError(error.message ?? 'error', 0, error.code ?? null);
    }
    yield event;
  }
}

/** A file that the server makes: {blob, name}. */
export async function getFile(method, path, body) {
  const response = await send(method, path, body);
  const disposition = response.headers.get('content-disposition') ?? '';
  const plain = /filename="([^"]+)"/.exec(disposition)?.[1];
  const coded = /filename\*=UTF-8''([^;]+)/i.exec(disposition)?.[1];
  return { blob: await response.blob(), name: coded ? decodeURIComponent(coded) : plain };
}

/** An address that an <img> or a sound can load; null for one that leads to another host. With a
 * key the file is fetched, since no element sends one. */
export async function mediaUrl(address) {
  if (typeof address !== 'string' || !isOwnAddress(address)) return null;
  if (!address.startsWith('/') || !sessionStorage.getItem('studio.key')) return address;
  return URL.createObjectURL((await getFile('GET', address)).blob);
}

/** An address of an article, or of something in it. */
export function articlePath(id, ...parts) {
  return ['/v1/articles', id, ...parts].map((part, at) => (at ? encodeURIComponent(part) : part)).join('/');
}
