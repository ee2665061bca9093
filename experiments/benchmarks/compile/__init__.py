"""How long a step takes to compile: `steps` makes them, the command prints a table."""
