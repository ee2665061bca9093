"""What the programs of experiments share; nothing here knows one of them.

In the order in which a program needs it: `arguments` reads and checks its flags,
`processes` starts others of its kind, `timing` calls functions in turn, `progress` says
how far it is, `codes` counts what codes could be sent in, `tables` prints rows and
writes them as CSV, `figures` draws them.
"""
