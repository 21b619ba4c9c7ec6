"""Every step of the schema, in order, frozen once released; run by `schema.upgrade` when a server opens a ledger."""
