"""Options: from the command line and YAML files to a checked spec, and back to a command."""
