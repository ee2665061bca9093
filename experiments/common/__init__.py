"""What the programs of experiments share; nothing here knows one of them.

In the order in which a program needs it: `arguments` reads and checks its flags,
`processes` starts others of its kind, `timing` calls functions in turn, `tables` prints
what was measured and writes it as CSV.
"""
