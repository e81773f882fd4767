"""What a service of AWS says when it refuses a request."""


class AwsError(Exception):
    """A refusal: its code is what clients look at.

    Args:
        code: such as ValidationException.
        message: what is said to the caller.
        status: of HTTP.
    """

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(f"{code}: {message}")
        self.code, self.message, self.status = code, message, status
