"""The model of served.py behind LitServe, at the port that PORT says."""

# pyright: reportMissingImports=false

import os
from typing import Any

import litserve
from served import WORKERS, Digits, answer


class Api(litserve.LitAPI):
    """What LitServe asks for."""

    def setup(self, device: str) -> None:
        self.digits = Digits()

    def decode_request(self, request):  # an annotation would have it checked by pydantic
        return request["instances"]

    def predict(self, x: Any) -> Any:
        return self.digits.logits(x)

    def encode_response(self, output: Any) -> Any:
        return answer(output)


if __name__ == "__main__":
    server = litserve.LitServer(Api(), accelerator="cpu", workers_per_device=WORKERS)
    port = int(os.environ["PORT"])
    server.run(host="127.0.0.1", port=port, log_level="warning", generate_client_file=False)
