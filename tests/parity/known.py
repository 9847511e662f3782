"""Cases that fail at present, each with what comes out and what is right.

They must fail: the test of a case that passes fails, and its line here goes with the fix.
"""

KNOWN: dict[str, str] = {}
