"""scikit-learn models in .skops, pickle and joblib files."""
