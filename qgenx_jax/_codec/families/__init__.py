"""One file for each family of quantizers: how it rounds, its row, its factory."""
