"""The one error that is meant for the person at the keyboard."""


class UserError(Exception):
    """One sentence that says what is wrong and what to do; programs print it and exit with 1."""
