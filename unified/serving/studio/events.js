// Server-sent events out of a body that arrives in pieces.

/** The events of a body: each the JSON of its data, with `type` from its event line. */
export async function* readEvents(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  try {
    for (;;) {
      const { done, value } = await reader.read();
      rest += value ?? '';
      const parts = rest.split(/\r?\n\r?\n/);
      rest = parts.pop();
      for (const part of parts) {
        const event = parseEvent(part);
        if (event) yield event;
      }
      if (done) return;
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

/** One event's lines; null for a comment, or the mark of the end. */
export function parseEvent(text) {
  let type = 'message';
  const data = [];
  for (const line of text.split(/\r?\n/)) {
    if (line.startsWith('event:')) type = line.slice(6).trim();
    else if (line.startsWith('data:')) data.push(line.slice(5).replace(/^ /, ''));
  }
  const joined = data.join('\n');
  if (!joined || joined === '[DONE]') return null;
  const object = JSON.parse(joined);
  return { ...object, type: type === 'message' ? (object.type ?? type) : type };
}
