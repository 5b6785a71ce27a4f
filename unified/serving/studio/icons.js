// Icons as paths on a grid of 24, drawn in the colour of the text around them.
import { svg } from './dom.js';

const PATHS = {
  write: 'M4 20h4L19.5 8.5a2.1 2.1 0 0 0-3-3L5 17v3M14 7l3 3M13 20h7',
  library: 'M4 5h4v14H4zM10 5h4v14h-4zM16.2 5.6l3.6-.9 3 13.6-3.6.9z',
  playground: 'M4 4h7v7H4zM13 4h7v7h-7zM4 13h7v7H4zM16.5 13.5v6M13.5 16.5h6',
  training: 'M4 4v16h16M7 15l4-5 3 3 5-7',
  sun: 'M12 8a4 4 0 1 0 0 8 4 4 0 0 0 0-8M12 2v2M12 20v2M2 12h2M20 12h2M5 5l1.4 1.4M17.6 17.6 19 19M5 19l1.4-1.4M17.6 6.4 19 5',
  moon: 'M20 14.5A8.5 8.5 0 0 1 9.5 4 8.5 8.5 0 1 0 20 14.5',
  auto: 'M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18M12 3v18M12 7l5.5-1.5M12 12h9M12 17l5.5 1.5',
  language: 'M3 5h10M8 3v2M11 5c-1 4-4 7-7.5 8.5M5.500 8.500c1 2 3.500 4 6 5M12 21l4.500-10L21 21M13.500 17.500h6',
  help: 'M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18M9.500 9.500a2.500 2.500 0 1 1 3.500 2.300c-.7.4-1 .9-1 1.700M12 16.700v.1',
  stop: 'M6 6h12v12H6z',
  dice: 'M5 4h14a1 1 0 0 1 1 1v14a1 1 0 0 1-1 1H5a1 1 0 0 1-1-1V5a1 1 0 0 1 1-1M8.500 8.500v.1M15.500 8.500v.1M12 12v.1M8.500 15.500v.1M15.500 15.500v.1',
  again: 'M20 11a8 8 0 1 0-2.300 6.300M20 5v6h-6',
  edit: 'M4 20h4L19 9l-4-4L4 16v4M13 7l4 4',
  undo: 'M8 5 4 9l4 4M4 9h10a6 6 0 0 1 0 12h-3',
  redo: 'm16 5 4 4-4 4M20 9H10a6 6 0 0 0 0 12h3',
  more: 'M4 11.200h1.600v1.600H4zM11.200 11.200h1.600v1.600h-1.600zM18.400 11.200h1.600v1.600h-1.600z',
  download: 'M12 4v11M7 11l5 5 5-5M4 20h16',
  copy: 'M9 9h11v11H9zM5 15H4V4h11v1',
  bin: 'M4 7h16M10 4h4M6 7l1 13h10l1-13M10 11v5M14 11v5',
  compare: 'M4 5h7v14H4zM13 5h7v14h-7z',
  upload: 'M12 16V5M7 9l5-5 5 5M4 20h16',
  play: 'M7 4.500v15l12-7.500z',
  pause: 'M8 5v14M16 5v14',
  microphone: 'M12 3a3 3 0 0 1 3 3v5a3 3 0 0 1-6 0V6a3 3 0 0 1 3-3M5 11a7 7 0 0 0 14 0M12 18v3',
  picture: 'M4 5h16v14H4zM4 16l5-5 4 4 3-3 4 4M15 9v.1',
  sound: 'M4 10v4M8 7v10M12 4v16M16 8v8M20 10v4',
  text: 'M4 6h16M4 11h16M4 16h10',
  slot: 'M4 4h4M10.500 4h3M16 4h4v4M20 10.500v3M20 16v4h-4M13.500 20h-3M8 20H4v-4M4 13.500v-3M4 8V4M12 9v6M9 12h6',
  close: 'M6 6l12 12M18 6 6 18',
  up: 'M12 19V5M6 11l6-6 6 6',
  down: 'M12 5v14M6 13l6 6 6-6',
  check: 'm5 12.500 4.500 4.500L19 7',
  warning: 'M12 4 2.500 20h19zM12 10v4.500M12 17.300v.1',
  search: 'M10.500 4a6.500 6.500 0 1 0 0 13 6.500 6.500 0 0 0 0-13M15.500 15.500 20 20',
  spark: 'M12 3l2 6.500L20.500 12 14 14.500 12 21l-2-6.500L3.500 12 10 9.500z',
};

/** An icon; it says nothing to screen readers, so what bears it needs a label or a text. */
export function icon(name) {
  return svg(
    'svg',
    {
      viewBox: '0 0 24 24', fill: name === 'play' ? 'currentColor' : 'none',
      stroke: 'currentColor', 'stroke-width': '1.8', 'stroke-linecap': 'round',
      'stroke-linejoin': 'round', 'aria-hidden': 'true', focusable: 'false',
    },
    svg('path', { d: PATHS[name] }),
  );
}
