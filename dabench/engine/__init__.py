"""What makes a run happen: run, loops, scoring, metrics, source models, networks, seeding."""
