"""Contracts between stages: configuration, catalog, tables, ledger, receipt, handles, errors. Knows no task or flow."""
