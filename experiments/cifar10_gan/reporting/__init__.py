"""What is to be seen of a run, while it goes and afterwards.

While it goes `observer` gets the numbers of an iteration, has samples scored (`score`),
and hands rows and sample grids to `logs`: CSV, TensorBoard, Weights & Biases. `levels`
and `codes` have files of their own: levels that an exchange fits, and what the codes of
recorded vectors could be sent in. `figures` draws sample grids and a run's curves,
`album` pictures to show, and `screens` has what is printed at the start and the end.
`legible` tells whether generated digits can be read. Afterwards `finished_runs` reads
what runs have left and groups those that repeat each other, and `compare` draws them
over each other, with a table.
"""
