"""The command line: arguments in, one module a command, what is printed."""
