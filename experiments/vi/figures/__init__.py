"""The figures, a file for each, with `runs(lab)`, how many, and `make(lab)`."""
