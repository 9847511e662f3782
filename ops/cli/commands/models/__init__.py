"""Commands for models, their versions, and single predictions."""
