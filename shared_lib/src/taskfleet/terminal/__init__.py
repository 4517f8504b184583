"""What the commands share on the terminal: the registry of commands, the parser, prompts, error reporting, logging, tables of offers."""
