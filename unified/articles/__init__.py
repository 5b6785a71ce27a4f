"""An article's document, and its forms: HTML, Markdown, JSON."""
