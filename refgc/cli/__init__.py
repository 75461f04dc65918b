"""The `refgc` command; each file has one subcommand, which imports what it needs when it runs."""
