"""What runs cost: reports, prices, and what would make runs cheaper."""
