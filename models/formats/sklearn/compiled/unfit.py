"""The reason why a model has no compiled engine."""


class Unfit(Exception):
    """The compiled pass would not compute exactly what scikit-learn does; the message says why."""
