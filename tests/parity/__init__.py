"""The parity suite: models as data teams build and save them, end to end, beside their own library's predictions.

A case (`case.Case`) trains a small model, saves it, and predicts a DataFrame by its library. `system.Parity`
puts the same rows into a table in PostgreSQL and goes the whole way: add, apply, enqueue, plan, score, read; `compare`
finds what differs. Cases are in `cases/`, by library. A new format, or a new version of a library, passes them all.
"""
