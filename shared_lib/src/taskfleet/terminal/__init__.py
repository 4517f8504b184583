"""Code shared by the commands: their registry, the parser, prompts, hints, error reporting, logging, tables of offers."""
