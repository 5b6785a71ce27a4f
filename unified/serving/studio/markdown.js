// Markdown as the models write it, in blocks of lines: the counterpart of unified/articles/markdown.py
// and of the captions and quotes of unified/articles/blocks.py, for texts that are still growing.

const HEADING = /^(#{1,6}) +(.*?)(?: +#+)?$/;
const BOLD_LINE = /^(?:\*\*([^*]+)\*\*|__([^_]+)__):?$/;
const RULE = /^(?:[-*_] *){3,}$/;
const ITEM = /^(?:[-*+•]|(\d{1,3})[.)]) +(\S.*)$/;
const FENCE = /^(?:`{3,}\w*|~{3,}\w*)$/;
const CAPTION = /^!\[(.*?)(?:\](?:\(.*\))?)?$/;
const VOICED = /^\((\w+)\) ([^]*)$/;
const PHONEMES = /^(?:([^]*)\n)?\/([^/\n]+)\/$/;
const BOLD = /\*\*(?=\S)([^*\n]+?)(?<=\S)\*\*|(?<!\w)__(?=\S)([^_\n]+?)(?<=\S)__(?!\w)/g;
const EMPHASIS = /(?<![\w*])\*(?=[^\s*])([^*\n]+?)(?<=[^\s*])\*(?![\w*])/g;

/** A text without the marks of emphasis. */
export function plainText(text) {
  return text.replace(BOLD, (whole, one, other) => one ?? other).replace(EMPHASIS, '$1');
}

/** The blocks of a text: {kind, lines, level?, start, stop}; kind is "heading", "paragraph",
 * "quote", "list", "numbered" or "caption"; start and stop are characters of the text. */
export function textBlocks(text) {
  const blocks = [];
  let isOpen = false;
  let at = 0;
  for (const raw of text.split(/\r\n|\r|\n/)) {
    const start = at;
    at += raw.length + (text[at + raw.length] === '\r' && text[at + raw.length + 1] === '\n' ? 2 : 1);
    const line = raw.trim();
    if (!line || FENCE.test(line) || RULE.test(line)) {
      isOpen = false;
      continue;
    }
    const read = readLine(line);
    const last = blocks.at(-1);
    if (isOpen && last?.kind === read.kind && !['heading', 'caption'].includes(read.kind)) {
      last.lines.push(read.content);
      last.stop = start + raw.length;
    } else {
      blocks.push({ kind: read.kind, level: read.level, lines: [read.content], start, stop: start + raw.length });
    }
    isOpen = true;
  }
  return blocks;
}

function readLine(line) {
  let match = HEADING.exec(line);
  if (match) return { kind: 'heading', level: match[1].length, content: match[2] };
  match = BOLD_LINE.exec(line);
  if (match) return { kind: 'heading', level: 2, content: (match[1] ?? match[2]).trim() };
  if (line.startsWith('>')) return { kind: 'quote', content: line.replace(/^[> ]+/, '') };
  match = CAPTION.exec(line);
  if (match) return { kind: 'caption', content: match[1] };
  match = ITEM.exec(line);
  if (match) return { kind: match[1] ? 'numbered' : 'list', content: match[2] };
  return { kind: 'paragraph', content: line };
}

/** What stands before a picture or a sound and belongs to it: {blocks, caption?, transcript?, voice?},
 * `blocks` without it. */
export function splitForMedia(blocks, kind) {
  const rest = [...blocks];
  if (kind === 'image') {
    const last = rest.at(-1);
    if (last?.kind === 'caption') return { blocks: rest.slice(0, -1), caption: last.lines[0] };
    return { blocks: rest, caption: '' };
  }
  let last = rest.at(-1);
  const phonemes = last && PHONEMES.exec(last.lines.join('\n'));
  if (phonemes) {
    rest.pop();
    if (phonemes[1]) rest.push({ ...last, lines: phonemes[1].split('\n') });
    last = rest.at(-1);
  }
  if (last?.kind !== 'quote') return { blocks: rest, transcript: '', voice: '' };
  rest.pop();
  const quoted = last.lines.join('\n');
  const voiced = VOICED.exec(quoted);
  return { blocks: rest, transcript: voiced ? voiced[2] : quoted, voice: voiced ? voiced[1] : '' };
}
