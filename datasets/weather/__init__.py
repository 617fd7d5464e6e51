"""Pictures in weather, a pure function; kinds by name."""
