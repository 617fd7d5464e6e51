"""Records as tables: cells, exports, claims, differences, selection."""
