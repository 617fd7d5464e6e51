"""Printed and hand-written digits (embedded)."""
