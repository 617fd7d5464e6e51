"""The command line: words in, one module a command, what is printed."""
