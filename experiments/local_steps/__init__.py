"""Local steps on slow links: seconds to a loss, beside an exchange at every step.

- `worker`: one process, which trains a small transformer with two others
- `summary`: the table of them
- `__main__`: three of them on links of a given rate, by each method, and a table
"""
