"""Contracts between stages: configuration, catalog, tables, ledger, receipt, handles, errors. Imports no task and no flow."""
