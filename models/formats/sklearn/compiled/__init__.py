"""Linear models of texts, scored in one compiled pass over the Arrow buffer of their texts."""
