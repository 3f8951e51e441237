/* Does what the headers said of frames and contexts hold in the running interpreter?
 *
 * They are CPython's own business, and a patch release may change them: one wheel serves all patch releases
 * of a version, so it must not take its own's for granted. What is read here as hooks will read it is compared
 * with what CPython's functions tell. A pointer is followed only when it is known, or when there is
 * memory where it points. */
#include "cpython_frames.h"

#include "fastalloc.h"

#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#define MOST_FRAMES 8   /* to compare */
#define MOST_BETWEEN 16 /* frames of the interpreter's own, between two of Python's */
#define VARIABLES 24    /* a context of more than 16 needs the tree's second kind of node */

static int is_mapped(const void *from, size_t bytes)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), first = (uintptr_t)from & ~(page - 1);
    uintptr_t end = (uintptr_t)from + bytes;
    if (!from || (uintptr_t)from % sizeof(void *) || end < bytes) return 0;
    unsigned char resident[4];
    size_t pages = (end - first + page - 1) / page;
    return pages <= sizeof resident && mincore((void *)first, pages * page, resident) == 0;
}

static int is_attribute(PyObject *object, const char *name, const void *value)
{
    PyObject *attribute = PyObject_GetAttrString(object, name);
    int same = attribute && (const void *)attribute == value;
    Py_XDECREF(attribute);
    return same;
}

/* `frame`, which has the code of `truth`, tells all else as that does. */
static int frame_fits(struct _PyInterpreterFrame *frame, PyFrameObject *truth, PyCodeObject *code)
{
    PyObject *object = (PyObject *)code;
    if (!is_attribute(object, "co_name", code->co_name) || !is_attribute(object, "co_qualname", code->co_qualname) ||
        !is_attribute(object, "co_filename", code->co_filename) ||
        !is_attribute(object, "co_linetable", code->co_linetable))
        return 0;
    PyObject *line = PyObject_GetAttrString(object, "co_firstlineno");
    int same_line = line && PyLong_AsLong(line) == code->co_firstlineno;
    Py_XDECREF(line);
    int lasti;
    return same_line && frame_code(frame, &lasti) == code && lasti * (int)sizeof(_Py_CODEUNIT) == PyFrame_GetLasti(truth);
}

/* Walks from `*frame` to the next one of Python's, which must be the one of `truth`; and on to the one before it. */
static int next_fits(struct _PyInterpreterFrame **frame, PyFrameObject *truth)
{
    PyCodeObject *code = PyFrame_GetCode(truth);
    int fits = 0;
    for (int i = 0; i < MOST_BETWEEN && is_mapped(*frame, sizeof **frame); i++, *frame = (*frame)->previous) {
        if (frame_executable(*frame) != (const void *)code) {
            if (frame_is_pythons(*frame)) break;
            continue;
        }
        fits = frame_fits(*frame, truth, code);
        *frame = (*frame)->previous;
        break;
    }
    Py_DECREF(code);
    return fits;
}

static int frames_fit(PyThreadState *state)
{
    struct _PyInterpreterFrame *frame = newest_frame(state);
    PyFrameObject *truth = PyThreadState_GetFrame(state);
    int fits = 1;
    for (int i = 0; fits && truth && i < MOST_FRAMES; i++) {
        fits = next_fits(&frame, truth);
        PyFrameObject *caller = PyFrame_GetBack(truth);
        Py_DECREF(truth);
        truth = caller;
    }
    if (fits && !truth) fits = !frame || is_mapped(frame, sizeof *frame);
    Py_XDECREF(truth);
    return fits;
}

static int is_it(PyObject *object, void *wanted)
{
    return object == wanted;
}

/* Does an object hold this one, as it tells the garbage collector? */
static int holds(PyObject *object, const void *wanted)
{
    traverseproc traverse = Py_TYPE(object)->tp_traverse;
    return wanted && traverse && traverse(object, is_it, (void *)wanted);
}

/* The tree of `context`, the running one: is what it refers to where context_value looks for it? */
static int tree_fits(PyThreadState *state, PyObject *context)
{
    if ((PyObject *)state->context != context) return 0;
    PyObject *tree = (PyObject *)((const struct _pycontextobject *)(const void *)context)->ctx_vars;
    if (!holds(context, tree)) return 0;
    PyObject *root = (PyObject *)((const PyHamtObject *)(const void *)tree)->h_root;
    if (!holds(tree, root)) return 0;
    if (strcmp(Py_TYPE(root)->tp_name, "hamt_array_node") != 0) return 1;
    for (int i = 0; i < 32; i++) {
        PyObject *child = ((const struct hamt_array *)(const void *)root)->children[i];
        if (child && !holds(root, child)) return 0;
    }
    return 1;
}

/* In a new context with a growing number of variables, which is the running one. -1: no memory. */
static int variables_fit(PyThreadState *state, PyObject *context, PyObject **variables, PyObject **values)
{
    for (int i = 0; i < VARIABLES; i++) {
        if (!(variables[i] = PyContextVar_New("fastalloc.fit", NULL)) || !(values[i] = PyLong_FromLong(1000 + i))) return -1;
        PyObject *token = PyContextVar_Set(variables[i], values[i]);
        Py_XDECREF(token);
        if (!token) return -1;
        if (!tree_fits(state, context)) return 0;
        for (int j = 0; j <= i; j++)
            if (context_value(context, variables[j], hamt_hash(PyObject_Hash(variables[j]))) != values[j]) return 0;
    }
    return 1;
}

static int contexts_fit(PyThreadState *state)
{
    PyObject *variables[VARIABLES] = {0}, *values[VARIABLES] = {0}, *context = PyContext_New();
    int fits = -1;
    if (context && PyContext_Enter(context) == 0) {
        fits = variables_fit(state, context, variables, values);
        if (PyContext_Exit(context) != 0) fits = -1;
    }
    for (int i = 0; i < VARIABLES; i++) {
        Py_XDECREF(variables[i]);
        Py_XDECREF(values[i]);
    }
    Py_XDECREF(context);
    return fits;
}

const char *fa_misfit(void)
{
    static char reason[160];
    static int known; /* 1: it fits, -1: it does not */
    if (known) return known > 0 ? NULL : reason;
    PyThreadState *state = PyThreadState_Get();
    const char *what = NULL;
    int contexts = 1;
    if (!frames_fit(state)) what = "frames";
    else contexts = contexts_fit(state);
    int had_no_memory = contexts < 0 || (PyErr_Occurred() && PyErr_ExceptionMatches(PyExc_MemoryError));
    PyErr_Clear();
    if (had_no_memory) return "there was no memory to try this CPython out"; /* asked again the next time */
    if (!contexts) what = "contexts";
    known = what ? -1 : 1;
    if (!what) return NULL;
    snprintf(reason, sizeof reason, "this CPython %lu.%lu.%lu keeps its %s otherwise than %s, which fastalloc was built with",
             Py_Version >> 24, Py_Version >> 16 & 255, Py_Version >> 8 & 255, what, PY_VERSION);
    return reason;
}
