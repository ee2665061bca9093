"""What the site adds to Sphinx.

- `docstrings`: the library's docstrings as reStructuredText
- `signatures`: signatures with the names of types that the source has
- `rooms`: API pages, a room of README's table on each
- `mathml`: formulas as MathML, which browsers show without a script or a network
- `elsewhere`: pages whose text is a file outside of docs/, and links to such files
- `names`: links from public names in running text to their API entries
- `gallery`: examples that are run when the site is built
"""
