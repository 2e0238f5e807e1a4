"""`throughway protocols`: the catalogue and its switches, by the daemon where one runs, else by the files."""
