// Light, dark, or as the system has it.

export const THEMES = ['auto', 'light', 'dark'];

export function theme() {
  const chosen = localStorage.getItem('studio.theme');
  return THEMES.includes(chosen) ? chosen : 'auto';
}

export function applyTheme(name) {
  localStorage.setItem('studio.theme', name);
  document.documentElement.dataset.theme = name;
}
