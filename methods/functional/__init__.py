"""Mathematics of the methods: small pure functions, each tested against an independent version."""
