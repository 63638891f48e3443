"""An HTTP server of a test's own."""

import contextlib
import http.server
import threading


@contextlib.contextmanager
def serve(handler):
    """Serves on this machine with a handler, on a thread; gives the port."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()
