"""Who comes in, what they may do, and what they are told when something goes wrong: decided here, once, for every page."""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from typing import Any, Final
from urllib.parse import parse_qsl, quote, unquote, urlsplit

import falcon
import structlog

from kongflow_events import errors, words
from kongflow_events.console import rendering
from kongflow_events.console.visits import ROOT, Done, Flash, View, Visit, url
from kongflow_events.services import sign_in
from kongflow_events.store import audit, db, places, readers

log = structlog.get_logger(__name__)

SESSION_COOKIE: Final = "kongflow_session"
FLASH_COOKIE: Final = "kongflow_flash"
FORM_FIELD: Final = "form_token"
# Bytes and fields of a form: the longest holds the payload of a test event.
_MOST: Final = 262_144
_FIELDS: Final = 200
_FLASH_LENGTH: Final = 500

Show = Callable[..., View]
Change = Callable[..., Done]
Responder = Callable[..., None]


class _SignInNeeded(Exception):
    """Nobody is signed in here."""


def page(show: Show) -> Responder:
    """Makes a page of `show(self, visit, **parameters)`: for anybody who is signed in, and reading only.

    A path with `environment_id` in it is a page about that environment, which is then `visit.environment`.
    """

    @wraps(show)
    def respond(self: Any, request: falcon.Request, response: falcon.Response, **parameters: str) -> None:
        with telling(request, response), readers.reading():
            visit = enter(request, parameters)
            rendering.send(request, response, show(self, visit, **parameters), visit)
            _forget_flash(request, response)

    return respond


def change(action: str) -> Callable[[Change], Responder]:
    """Makes a change of `do(self, visit, **parameters)`: for operators, and for a form of one of our own pages.

    It runs in a transaction in which the audit log gets its entry: `action` (`event.cancel`) on the subject of what it
    returns.
    """

    def decorate(do: Change) -> Responder:
        @wraps(do)
        def respond(self: Any, request: falcon.Request, response: falcon.Response, **parameters: str) -> None:
            with telling(request, response):
                visit = enter_with_form(request, parameters)
                if not visit.may_change:
                    raise errors.Forbidden("Your role is viewer: you may look, but not change anything")
                with db.unit(), db.atomic():
                    done = do(self, visit, **parameters)
                    about = visit.place.environment.id if visit.place else None
                    audit.note(visit.actor, action, done.subject, environment_id=about, details=done.details)
                if done.view is not None:
                    rendering.send(request, response, done.view, visit)
                else:
                    flash(request, response, Flash("good", done.said, done.about))
                    rendering.redirect(response, done.to)

        return respond

    return decorate


def form_of(request: falcon.Request) -> dict[str, str]:
    """What a form brought. Raises Forbidden when it is not from a page of this host, Refused when it is no form."""
    check_origin(request)
    length = request.content_length or 0
    if length > _MOST:
        raise errors.TooLarge(f"The form is larger than {_MOST} bytes")
    try:
        text = request.bounded_stream.read(length).decode()
        found = dict(parse_qsl(text, keep_blank_values=True, max_num_fields=_FIELDS))
    except ValueError:
        raise errors.Refused("This is not a form") from None
    if any("\0" in part for pair in found.items() for part in pair):
        raise errors.Refused("No text may hold the NUL character")
    return found


def check_origin(request: falcon.Request) -> None:
    """Raises Forbidden unless the browser says that a page of this very host sends this."""
    # The scheme is the proxy's: what it forwards comes without TLS.
    _, _, origin = (request.get_header("Origin") or "").partition("://")
    if origin.lower() != (request.get_header("Host") or request.netloc).lower():
        raise errors.Forbidden("This did not come from a page of this console")


def address_of(request: falcon.Request) -> str:
    """Where a request comes from: as a proxy on our side says, which has an address that is not public."""
    peer = request.remote_addr or ""
    forwarded = request.get_header("X-Forwarded-For")
    told = forwarded.rpartition(",")[2].strip() if forwarded else ""
    return told if told and _is_ip(told) and not _is_public(peer) else peer


def shown_path(request: falcon.Request) -> str:
    """A request's path as the log may have it: without the token of a link, which may not have been used yet."""
    route = request.uri_template or ""
    return route if "{token}" in route else request.path


def token_of(request: falcon.Request) -> str | None:
    """The session's token in the request's cookie."""
    return _cookie(request, SESSION_COOKIE)


def set_cookie(
    request: falcon.Request, response: falcon.Response, name: str, value: str, seconds: int | None = None
) -> None:
    """Give the browser a cookie that no script sees and no other site's form brings; without TLS only where there is none."""
    response.set_cookie(
        name,
        value,
        max_age=seconds,
        path=ROOT,
        secure=request.forwarded_scheme == "https",
        http_only=True,
        same_site="Lax",
    )


def flash(request: falcon.Request, response: falcon.Response, what: Flash) -> None:
    """Have the next page tell this."""
    set_cookie(request, response, FLASH_COOKIE, quote(f"{what.kind} {what.about} {what.text[:_FLASH_LENGTH]}"))


@contextmanager
def telling(request: falcon.Request, response: falcon.Response) -> Iterator[None]:
    """What goes wrong inside becomes a page that says so."""
    try:
        yield
    except _SignInNeeded:
        _send_to_sign_in(request, response)
    except errors.Refused as error:
        retry = getattr(error, "retry_after", None)
        if retry:
            response.set_header("Retry-After", str(retry))
        _tell(request, response, error.status, error.message)
    except (*db.AWAY, errors.Retryable) as error:
        _tell_later(request, response, error)
    except falcon.HTTPError as error:
        _tell(request, response, error.status_code, error.title or "")
    except Exception:
        log.exception("unforeseen", path=shown_path(request), request_id=request.context.id)
        _tell(request, response, 500, f"Something is wrong with the service. The log knows it as {request.context.id}.")


def enter_with_form(request: falcon.Request, parameters: dict[str, str] | None = None) -> Visit:
    """Whoever sends a form of one of our own pages, with what it brought. Raises Forbidden when it is another's."""
    form = form_of(request)
    with readers.reading():
        visit = enter(request, {} if parameters is None else parameters)._replace(form=form)
    if not hmac.compare_digest(form.get(FORM_FIELD, "").encode(), visit.form_token.encode()):
        raise errors.Forbidden("The page was older than your sign-in; load it again, and do it once more")
    return visit


def _send_to_sign_in(request: falcon.Request, response: falcon.Response) -> None:
    to = url("sign-in", next=request.relative_uri if request.method == "GET" else None)
    rendering.redirect(response, to)
    if request.get_header("HX-Request"):
        # A part of a page cannot hold the sign-in; the page itself has to go there.
        response.status = 401
        response.set_header("HX-Redirect", url("sign-in"))


def enter(request: falcon.Request, parameters: dict[str, str]) -> Visit:
    """Who is here; sends whoever is not signed in to the form, and raises NotFound for an environment that is not there."""
    token = token_of(request)
    operator = sign_in.who(token)
    if token is None or operator is None:
        raise _SignInNeeded
    return Visit(
        operator,
        address_of(request),
        sign_in.form_token(token),
        request.path,
        _query(request),
        {},
        _place(parameters),
        _read_flash(request),
    )


def _place(parameters: dict[str, str]) -> places.Place | None:
    if "environment_id" not in parameters:
        return None
    found = places.get(words.as_id(parameters.pop("environment_id")))
    if found is None:
        raise errors.NotFound("There is no such environment")
    return found


def _query(request: falcon.Request) -> Mapping[str, str]:
    """What stands in the URL; a NUL is left out, for no text that is stored has one."""
    try:
        pairs = parse_qsl(request.query_string, keep_blank_values=False, max_num_fields=_FIELDS)
    except ValueError:
        raise errors.Refused(f"The URL asks more than {_FIELDS} things") from None
    return {name: value.replace("\0", "") for name, value in pairs}


def _cookie(request: falcon.Request, name: str) -> str | None:
    values = request.get_cookie_values(name)
    return values[0] if values else None


def _read_flash(request: falcon.Request) -> Flash | None:
    kind, _, rest = unquote(_cookie(request, FLASH_COOKIE) or "").partition(" ")
    about, _, text = rest.partition(" ")
    ours = about if about.startswith(f"{ROOT}/") else ""
    return Flash("good" if kind == "good" else "bad", text, ours) if text else None


def _forget_flash(request: falcon.Request, response: falcon.Response) -> None:
    if _cookie(request, FLASH_COOKIE) and not request.get_header("HX-Request"):
        response.unset_cookie(FLASH_COOKIE, path=ROOT)


def _tell_later(request: falcon.Request, response: falcon.Response, error: Exception) -> None:
    slow = db.is_too_slow(error)
    log.warning(
        "a page took too long" if slow else "cannot show a page now",
        path=shown_path(request),
        reason=str(error).strip(),
        request_id=request.context.id,
    )
    response.set_header("Retry-After", "5")
    _tell(
        request,
        response,
        503,
        "The database needed too long for this page, so it was given up. Ask for less at once, or try again."
        if slow
        else "The database cannot answer now. Nothing was changed; try again in a moment.",
    )


def _tell(request: falcon.Request, response: falcon.Response, status: int, text: str) -> None:
    values = {"status": status, "text": text, "back": _back(request)}
    rendering.send(request, response, View("trouble.html", values, status), None)


def _back(request: falcon.Request) -> str:
    """The page of ours that the request came from, else the first one."""
    try:
        came = urlsplit(request.get_header("Referer") or "")
    except ValueError:
        return ROOT
    asked = f"?{came.query}" if came.query else ""
    ours = came.netloc == request.netloc and came.path.startswith(f"{ROOT}/")
    return f"{came.path}{asked}" if ours and came.path != request.path else ROOT


def _is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _is_public(text: str) -> bool:
    return _is_ip(text) and ipaddress.ip_address(text).is_global
