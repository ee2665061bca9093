"""One file for each strategy, with its `mean`, `own` and `phases`.

`choice` has the table of them. A strategy may be made of others, but not in a circle.
"""
