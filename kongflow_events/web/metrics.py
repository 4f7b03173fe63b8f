"""`/metrics` for Prometheus: the numbers of this machine, for whoever has the token, or sits on it.

They name no tenant, but they tell how busy the service is, and each answer costs a look into the database. So without a
token only a caller on this machine is answered, and none that came through a proxy: behind one everybody is local.
"""

from __future__ import annotations

import hmac
import ipaddress
from typing import Final

import falcon

from kongflow_events import errors, exposition, schemas, settings
from kongflow_events.web.operations import operation

TEXT: Final = "text/plain"
# What proxies say of the caller, each in its own way.
_OF_PROXIES: Final = ("Forwarded", "X-Forwarded-For", "X-Real-IP", "Via")


class Metrics:
    """The page."""

    def __init__(self, current: settings.Settings) -> None:
        self._token = current.metrics_token

    @operation("getMetrics", answer=schemas.Exposition, media=TEXT, refusals=(401, 404))
    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """Read what Prometheus reads.

        With the setting `KONGFLOW_METRICS_TOKEN` it takes that token, `Authorization: Bearer TOKEN`. Without it only a
        caller on the same machine is answered, and none behind a proxy.
        """
        if self._token:
            given = (request.auth or "").removeprefix("Bearer ")
            if not hmac.compare_digest(given.encode(), self._token.encode()):
                raise errors.Unauthorized("Invalid or missing token")
        elif not _is_here(request):
            raise errors.NotFound("Not Found")
        response.data, response.content_type = exposition.page(request.accept)

    on_head = on_get


def _is_here(request: falcon.Request) -> bool:
    if any(request.get_header(name) is not None for name in _OF_PROXIES):
        return False
    try:
        return ipaddress.ip_address(request.remote_addr).is_loopback
    except ValueError:
        return False
