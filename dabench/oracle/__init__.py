"""A source model that only answers: transports, client, stored answers, server."""
