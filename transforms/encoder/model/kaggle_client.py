"""Downloads a model with Kaggle's client: `python -m transforms.encoder.model.kaggle_client NAME`.

In a process of its own, since the client writes to standard output, draws bars, and waits for ever for an
answer. The last line of standard output is JSON: `path` and `version`, or `reason` and perhaps `status`.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from transforms.encoder.child import end_with_parent
from transforms.encoder.model.hub_errors import patiently

_SECONDS = (10, 60)  # to connect; without a byte


def _download(name: str) -> dict[str, Any]:
    import kagglehub
    import requests
    from kagglehub.handle import parse_model_handle
    from kagglehub.tracker import get_accessed_datasources

    send = requests.Session.send

    def patient(session: Any, request: Any, **settings: Any) -> Any:
        return send(session, request, **settings | {"timeout": settings.get("timeout") or _SECONDS})

    requests.Session.send = patient  # type: ignore[method-assign]
    broken = (requests.exceptions.ChunkedEncodingError, requests.ReadTimeout)
    path = patiently(lambda: kagglehub.model_download(name), broken=broken)
    return {"path": path, "version": get_accessed_datasources()[parse_model_handle(name)]}


def main() -> None:
    end_with_parent()
    try:
        told = _download(sys.argv[1])
    except Exception as e:  # of the client, of its HTTP library, of the disk
        told = {
            "reason": str(e) or type(e).__name__,
            "status": getattr(getattr(e, "response", None), "status_code", None),
        }
        told["unreachable"] = "ConnectionError" in {cls.__name__ for cls in type(e).__mro__}
    print(f"\n{json.dumps(told)}", flush=True)


if __name__ == "__main__":
    main()
