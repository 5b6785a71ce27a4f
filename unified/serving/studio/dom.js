// Elements from names, properties and children. Text becomes text nodes, never markup: nothing here
// or in any other module reads a string as HTML, and addresses of media come through `mediaUrl`.

const SVG = 'http://www.w3.org/2000/svg';
const PROPERTIES = new Set([
  'value', 'checked', 'disabled', 'hidden', 'className', 'htmlFor', 'tabIndex', 'width', 'height',
  'selected', 'multiple', 'open', 'readOnly', 'indeterminate',
]);

/** An element. Keys of `options`: `on` (event listeners), `data` (data attributes), properties,
 * and attributes; null, undefined and false leave an entry out. */
export function el(name, options = {}, ...children) {
  return fill(document.createElement(name), options, children);
}

/** The same for SVG. */
export function svg(name, options = {}, ...children) {
  return fill(document.createElementNS(SVG, name), options, children);
}

function fill(element, options, children) {
  for (const [key, value] of Object.entries(options)) {
    if (value === null || value === undefined) continue;
    if (key === 'on') {
      for (const [type, listener] of Object.entries(value)) element.addEventListener(type, listener);
    } else if (key === 'data') {
      for (const [entry, text] of Object.entries(value)) element.dataset[entry] = text;
    } else if (PROPERTIES.has(key) && element.namespaceURI !== SVG) {
      element[key] = value;
    } else if (value !== false) {
      setAttribute(element, key, value);
    }
  }
  append(element, children);
  return element;
}

function setAttribute(element, key, value) {
  // Handlers and inline style would be code and style from strings.
  if (/^on|^style$|^srcdoc$/i.test(key)) throw new TypeError(`attribute ${key} is not set here`);
  if (/^(src|href|action|formaction)$/i.test(key) && !isOwnAddress(String(value))) {
    throw new TypeError(`${key} leads elsewhere`);
  }
  element.setAttribute(key, value === true ? '' : String(value));
}

/** Whether an address stays with this page: a path, a fragment, a blob, a picture as data. */
export function isOwnAddress(address) {
  return /^(#|\/(?![/\\])|blob:|data:image\/(png|webp|jpeg);base64,)/.test(address)
    && !/[\u0000-\u001f\s]/.test(address);
}

/** Append children: elements, texts, lists of them; null and false are left out. */
export function append(element, children) {
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
  return element;
}

/** Give an element other children. */
export function replace(element, ...children) {
  element.replaceChildren();
  return append(element, children);
}

let numbers = 0;

/** An id that no other element has. */
export function freshId(stem) {
  numbers += 1;
  return `${stem}-${numbers}`;
}

/** `run` at most once a frame, however often it is called. */
export function perFrame(run) {
  let due = false;
  return () => {
    if (due) return;
    due = true;
    requestAnimationFrame(() => {
      due = false;
      run();
    });
  };
}

/** `run` once the calls have paused for so many milliseconds. */
export function afterPause(milliseconds, run) {
  let timer = 0;
  return (...values) => {
    clearTimeout(timer);
    timer = setTimeout(() => run(...values), milliseconds);
  };
}
