"""The words everybody shares: types, access, stream, method, protocol, data."""
