"""How a metric says that it cannot be computed here: null in the results, with the reason beside it."""


class Unavailable(Exception):
    """A metric lacks its weights, its package or its ground truth; the message is the reason."""
