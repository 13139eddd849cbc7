"""One subcommand per file: a frozen dataclass of its options, `main(config)`, and what it prints.

To add one, write the file and list it in `cli.COMMANDS`. Work that another program could want belongs in the rooms below.
"""
