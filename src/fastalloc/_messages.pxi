"""The part of the door for what an ASGI request passes: its begin, each message of its response, its end.

    server --> ASGIMiddleware --> Opener.begin        a request begins; None where nothing is recorded
               application --> Sending(message) ----> the server's send
               ASGIMiddleware --> Sending.end

What few requests need (a name of the user's, a token, a route that was not seen before) is the middleware's own, in
integrations/asgi.py. No error of what is looked at here comes out, and but for the last message no frame of ours stands
between the application and the server.
"""


cdef inline object _from(object mapping, str key, object default):
    if type(mapping) is dict:
        return (<dict>mapping).get(key, default)
    return mapping.get(key, default)


@cython.final
@cython.no_gc_clear  # who still calls it finds all that it needs
cdef class Opener:
    """Opener(middleware, request, unnamed, send_last, names_ahead=..., is_final=..., reads_routes=...): begins the
    requests of one middleware.

    request: the class of requests. unnamed: what a request without a route is called, by its method. send_last: a
    coroutine function that is called with a Sending and the last message, to send it and then tell `sent`.
    names_ahead: the middleware's `_name_ahead` may tell a name. is_final: which then stays. reads_routes: the
    middleware reads the route that a router has left in the scope, as is done here for routes that were seen before.
    """
    cdef object middleware, request, send_last
    cdef dict unnamed
    cdef bint names_ahead, is_final, reads_routes
    cdef bint is_serving, is_prepared
    cdef dict named  # by method: a dict from a route's template to its name
    cdef dict known  # (type, method, root_path, path) of a scope: its name ahead, or None
    cdef list routes  # the application's own; `known` holds while there are so many
    cdef Py_ssize_t routes_count

    def __cinit__(self, middleware, type request, dict unnamed, send_last, *, bint names_ahead, bint is_final,
                  bint reads_routes):
        self.middleware, self.request, self.unnamed, self.send_last = middleware, request, unnamed, send_last
        self.names_ahead, self.is_final, self.reads_routes = names_ahead, is_final, reads_routes
        self.named = {}

    def know(self, dict known, list routes):
        """Look here before `_name_ahead` is asked, while `routes` is as long as it is now. known: name, or None, by
        (type, method, root_path, path) of a scope; as its owner writes it."""
        self.known, self.routes, self.routes_count = known, routes, len(routes)

    def begin(self, scope, send):
        """Begin a request: what stands in for its `send`; None for what is no request, or not recorded. Raises
        nothing but what stops the program."""
        try:
            return self._begin(scope, send)
        except Exception:
            return None

    cdef Sending _begin(self, scope, send):
        cdef Sending sending
        cdef RequestSpan request
        cdef str kind = "http"
        given = _from(scope, "type", None)
        if given != "http":
            if given != "websocket":
                return None
            kind = "websocket"
        if not self.is_serving:
            self.is_serving = True
            self.middleware._begin_serving()
        if not fa_is_active():
            return None
        if not self.is_prepared:
            self.is_prepared = True
            self.middleware._prepare()
        name = self._ahead(scope, kind) if self.names_ahead else None
        cdef bint named = name is not None
        if not named:
            name = self._unnamed(scope)
        token = self.middleware._token(scope) if _takes_tokens else None
        arguments = (name,)
        request = <RequestSpan>(<PyTypeObject *>self.request).tp_new(
            <type>self.request, <PyObject *>arguments, NULL)
        sending = Sending.__new__(Sending)
        sending.opener, sending.request, sending.scope, sending.send = self, request, scope, send
        sending.is_named = named
        sending.routing = not (named and self.is_final)
        sending.path, sending.root = _from(scope, "path", ""), _from(scope, "root_path", "")
        request._start(kind, named, None if named else sending, token)
        sending.context = <uintptr_t>fa_context()
        if request.chosen != "" or not named and (not self.reads_routes or "route" in scope):
            request._go_on("app")
        else:  # it holds nothing yet, and nobody knows its route: there is nothing to choose it for
            request._enter_phase("app")
        return sending

    cdef object _ahead(self, scope, str kind):
        if self.known is not None and len(self.routes) == self.routes_count:
            try:
                return self.known[kind, _from(scope, "method", ""), _from(scope, "root_path", ""), scope["path"]]
            except Exception:  # it is not there, or an odd scope
                pass
        try:
            return self.middleware._name_ahead(scope) or None
        except Exception:  # a name is not worth a request
            return None

    cdef object _unnamed(self, scope):
        method = _from(scope, "method", "WEBSOCKET")
        if type(method) is str:
            name = self.unnamed.get(method)
            if name is not None:
                return name
        return self.middleware._unnamed(scope)

    cdef object _taken(self, scope, path, root):
        """The request's name by the route that it has taken; None while, or where, that cannot be told."""
        cdef dict named
        template = None
        try:
            if self.reads_routes and ("app_root_path" not in scope or _from(scope, "root_path", "") == root):
                template = getattr(_from(scope, "route", None), "path", None)
                if type(template) is not str:
                    return None
                method = _from(scope, "method", "WEBSOCKET")
                named = self.named.get(method) if type(method) is str else None
                name = named.get(template) if named is not None else None
                if name is not None:
                    return name
            name = self.middleware.name_taken(scope, path, root)
            if type(template) is str and type(method) is str and name == f"{method} {template}":
                self.named.setdefault(method, {})[template] = name  # the middleware gives no end of names
            return name
        except Exception:  # whatever is in there, it is not worth a request
            return None


@cython.final
@cython.freelist(16)
@cython.no_gc_clear
cdef class Sending:
    """`send` of one request, which looks at each message on its way. Made by Opener.begin.

    A phase belongs to one context, and so to one task. Where another task than the application's sends the
    response (as Starlette's streams and Django do), "stream" is a phase inside "app", in that task.
    """
    cdef vectorcallfunc call
    cdef Opener opener
    cdef RequestSpan request
    cdef object scope, path, root
    cdef readonly object send  # the server's
    cdef bint is_named  # by what its path tells
    cdef bint routing  # its route is to be asked for, once
    cdef uintptr_t context, inner_context
    cdef Phase inner

    def __cinit__(self):
        self.call = _send_message

    def __call__(self, message):  # never: the slot, and its wrapper, are set below
        raise NotImplementedError

    def end(self, error=None):
        """The response is complete, or will never be; the application has returned, or raised `error`."""
        try:
            try:
                if self.routing:
                    self._routed()
                self._leave_inner()
            finally:  # be it an odd scope, or an interrupt
                if self.request is not None:
                    self.request._end(error)
        except Exception:
            pass

    def sent(self):
        """The server has sent the last message."""
        try:
            self._sent()
        except Exception:
            pass

    cdef object route(self):
        return self.opener._taken(self.scope, self.path, self.root)

    cdef bint _look(self, message) except -1:
        """Follow what the message tells. Whether it is the last."""
        kind = _from(message, "type", None)
        if kind == "http.response.body":
            return not _from(message, "more_body", None)
        if kind == "http.response.start":
            self.request.status = _from(message, "status", 0)
            if self.routing:
                self._routed()
            if self.context == <uintptr_t>fa_context():
                self.request._go_on("stream")
            elif self.inner is None:
                self.inner_context = <uintptr_t>fa_context()
                self.inner = Phase.__new__(Phase, "stream")
                self.inner._enter()
        elif kind == "websocket.accept":
            if self.routing:
                self._routed()
        elif kind == "websocket.close":
            self.request.status = _from(message, "code", 1000)
        return False

    cdef int _routed(self) except -1:
        """The application answers, so its router has left the route behind."""
        self.routing = False
        if not self.is_named or _from(self.scope, "path", "") != self.path:
            name = self.route()
            self.request._rename(name or self.request.name)
        return 0

    cdef int _sent(self) except -1:
        cdef uintptr_t here = <uintptr_t>fa_context()
        if self.inner is not None and self.inner_context == here:
            self._leave_inner()
        elif self.context == here and self.request._phase is not None and self.request._phase.name == "stream":
            self.request._go_on("background")
        return 0

    cdef int _leave_inner(self) except -1:
        cdef Phase inner = self.inner
        self.inner = None
        if inner is not None:
            inner._exit()
        return 0


cdef PyObject *_send_message(PyObject *sending, PyObject *const *args, size_t count, PyObject *names) noexcept:
    """With one argument, whatever it is called; with others the server's send says what it takes. But for the last
    message nothing of ours is on the stack while the server sends."""
    cdef Sending self = <Sending>sending
    cdef PyObject *handed[2]
    cdef bint is_last = False
    if self.request is None:  # made by hand
        PyErr_SetObject(TypeError, "a Sending is made by Opener.begin")
        return NULL
    if PyVectorcall_NARGS(count) + (tuple_size(names) if names != NULL else 0) == 1:
        try:
            is_last = self._look(<object>args[0])
        except Exception:  # an odd message: the server says so
            pass
        except BaseException as error:  # an interrupt, while a route was asked for
            _hide_frames(error)
            PyErr_SetObject(type(error), error)
            return NULL
        if is_last and (names == NULL or (<tuple>names)[0] == "message"):
            handed[0], handed[1] = sending, args[0]
            return PyObject_Vectorcall(<PyObject *>self.opener.send_last, handed, 2, NULL)
    return PyObject_Vectorcall(<PyObject *>self.send, args, count, names)


cdef void _prepare_messages():
    cdef Sending example = Sending.__new__(Sending)
    _call_directly(Sending, <char *>&example.call - <char *><void *>example, 0)


_prepare_messages()
