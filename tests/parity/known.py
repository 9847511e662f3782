"""Cases that fail at present, each with what comes out and what is right.

They must fail: the test of a case that passes says so, and its line here goes with the mend.
"""

KNOWN: dict[str, str] = {}
