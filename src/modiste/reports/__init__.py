"""A run or a study as one self-contained page and as Markdown."""
