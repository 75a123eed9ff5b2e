"""The public functions of Python: the command line's words, and results that show themselves in a notebook."""
