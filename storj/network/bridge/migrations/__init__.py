"""The revisions of the bridge's schema, for Alembic: one module in ``versions`` for each.

Revisions are numbered: '1', '2', and so on. A change of :mod:`storj.network.bridge.database` comes
with the next one, and with its number in ``REVISION`` there. ``schema.upgrade`` runs them; no
revision imports the models, because they are those of the newest one only.
"""
