/* Where CPython keeps frames, code and contexts: the only home of version differences.
 *
 * Every function here only follows pointers that the calling thread's own interpreter state
 * keeps alive: its frames, their code objects, the context it runs in. No call is made that could
 * allocate, lock, raise or run Python. Sources: Include/internal/pycore_frame.h, pycore_context.h,
 * pycore_hamt.h, Objects/locations.md of each version.
 *
 *   3.11        tstate->cframe->current_frame, f_code, prev_instr
 *   3.12        the same; frames owned by the C stack stand between (skipped)
 *   3.13        tstate->current_frame, f_executable, instr_ptr
 *   3.14        f_executable is a tagged reference; frames of the interpreter's own stand between
 *   3.15        the same; no frames owned by the C stack any more
 */
#ifndef FA_CPYTHON_FRAMES_H
#define FA_CPYTHON_FRAMES_H

#define Py_BUILD_CORE 1
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#if PY_VERSION_HEX >= 0x030e0000
#include <internal/pycore_interpframe_structs.h> /* without the functions, which do not compile cleanly */
#else
#include <internal/pycore_frame.h>
#endif
#include <internal/pycore_context.h>
#include <internal/pycore_hamt.h>
#if PY_VERSION_HEX < 0x030d0000
#include <internal/pycore_interp.h>
#endif
#include <stdint.h>

#if PY_VERSION_HEX < 0x030b0000 || PY_VERSION_HEX >= 0x03100000
#error "fastalloc supports CPython 3.11 to 3.15"
#endif

/* The state of the calling thread, whether or not it holds the GIL; NULL if it has none.
 * PyGILState_GetThisThreadState only reads a thread-specific value. From 3.12 on the current state
 * is per thread and comes first, since a thread may run several interpreters; on 3.11 "current"
 * means the holder of the GIL, which need not be us. */
static inline PyThreadState *own_thread_state(void)
{
#if PY_VERSION_HEX >= 0x030d0000
    PyThreadState *state = PyThreadState_GetUnchecked();
    if (state) return state;
#elif PY_VERSION_HEX >= 0x030c0000
    PyThreadState *state = _PyThreadState_UncheckedGet();
    if (state) return state;
#endif
    return PyGILState_GetThisThreadState();
}

/* Does this thread hold the GIL? */
static inline int thread_is_attached(void)
{
#if PY_VERSION_HEX >= 0x030d0000
    return PyThreadState_GetUnchecked() != NULL;
#elif PY_VERSION_HEX >= 0x030c0000
    return _PyThreadState_UncheckedGet() != NULL;
#else
    return PyGILState_Check();
#endif
}

/* In a forked child, whose only thread this is. A thread that waits for the GIL asks the holder to give it up, and the
 * holder then waits for it to come. CPython's own functions forget that in a child; a C library that forks calls none. */
static inline void forget_who_waits_for_gil(void)
{
    PyThreadState *state = thread_is_attached() ? own_thread_state() : NULL;
    if (!state) return;
#if PY_VERSION_HEX >= 0x030d0000
    __atomic_fetch_and(&state->eval_breaker, ~(uintptr_t)1, __ATOMIC_RELAXED); /* _PY_GIL_DROP_REQUEST_BIT */
#else
    _Py_atomic_store_relaxed(&state->interp->ceval.gil_drop_request, 0);
#endif
}

/* From 3.13 on a thread that waits for the lock of pending calls gives up the GIL meanwhile, which
 * must not happen inside an allocation. */
static inline int pending_call_may_detach(void)
{
#if PY_VERSION_HEX >= 0x030d0000
    return PyThreadState_GetUnchecked() != NULL;
#else
    return 0;
#endif
}

static inline struct _PyInterpreterFrame *newest_frame(PyThreadState *state)
{
#if PY_VERSION_HEX >= 0x030d0000
    return state->current_frame;
#else
    return state->cframe ? state->cframe->current_frame : NULL;
#endif
}

/* An address in the C frame of the innermost eval loop, which keeps a structure of the interpreter's there; 0: none
 * runs. 1: not found in reasonable time. */
static inline uintptr_t eval_loop_address(PyThreadState *state)
{
#if PY_VERSION_HEX >= 0x030d0000
    struct _PyInterpreterFrame *frame = newest_frame(state);
    for (int i = 0; frame; frame = frame->previous) {
#if PY_VERSION_HEX >= 0x030e0000
        if (frame->owner >= FRAME_OWNED_BY_INTERPRETER) return (uintptr_t)frame;
#else
        if (frame->owner == FRAME_OWNED_BY_CSTACK) return (uintptr_t)frame;
#endif
        if (++i == 1024) return 1;
    }
    return 0;
#else
    return state->cframe != &state->root_cframe ? (uintptr_t)state->cframe : 0;
#endif
}

#define CODE_UNITS(code) ((const _Py_CODEUNIT *)(const void *)(code)->co_code_adaptive)

/* Whatever the frame executes; in one of the interpreter's own that is no code. */
static inline const void *frame_executable(const struct _PyInterpreterFrame *frame)
{
#if PY_VERSION_HEX >= 0x030e0000
    return (const void *)(frame->f_executable.bits & ~(uintptr_t)7); /* less its tag */
#elif PY_VERSION_HEX >= 0x030d0000
    return frame->f_executable;
#else
    return frame->f_code;
#endif
}

/* Or one of the interpreter's own, which stands between where C calls Python? */
static inline int frame_is_pythons(const struct _PyInterpreterFrame *frame)
{
#if PY_VERSION_HEX >= 0x030e0000
    return frame->owner < FRAME_OWNED_BY_INTERPRETER;
#elif PY_VERSION_HEX >= 0x030c0000
    return frame->owner != FRAME_OWNED_BY_CSTACK;
#else
    (void)frame;
    return 1;
#endif
}

#define PROLOGUE 32

/* The frame's code and instruction (in code units); NULL for frames that are not Python's or not
 * complete yet. */
static inline PyCodeObject *frame_code(struct _PyInterpreterFrame *frame, int *lasti)
{
    if (!frame_is_pythons(frame)) return NULL;
    PyCodeObject *code = (PyCodeObject *)frame_executable(frame);
#if PY_VERSION_HEX >= 0x030d0000
    if (!code || !PyCode_Check((PyObject *)code)) return NULL;
    *lasti = (int)(frame->instr_ptr - CODE_UNITS(code));
#elif PY_VERSION_HEX >= 0x030c0000
    *lasti = (int)(frame->prev_instr - CODE_UNITS(code));
#else
    *lasti = (int)(frame->prev_instr - CODE_UNITS(code));
    /* Before its first instruction proper come those for cells and closures. Looked up for the first ones alone, since it
     * takes another cache line: a frame with more cells than that is seen a little early. */
    if (*lasti < PROLOGUE && frame->owner != FRAME_OWNED_BY_GENERATOR && *lasti < code->_co_firsttraceable) return NULL;
#endif
    return code;
}

/* Tells a code object from another that had the same address before. From 3.12 on each gets a
 * version number when it is made (0: the numbers have run out). Else what tells source apart: the
 * name's hash, the file name's end, the first line, and the sizes. */
static inline uint64_t code_fingerprint(const PyCodeObject *code)
{
#if PY_VERSION_HEX >= 0x030c0000
    if (code->co_version) return (uint64_t)code->co_version << 32;
#endif
    uint64_t tail = 0;
    const PyObject *file = code->co_filename;
    Py_ssize_t length = PyUnicode_GET_LENGTH(file);
    if (PyUnicode_IS_COMPACT_ASCII(file)) {
        size_t bytes = length < 8 ? (size_t)length : 8;
        memcpy(&tail, (const char *)((const PyASCIIObject *)file + 1) + length - bytes, bytes);
    }
    uint64_t identity = (uint64_t)((const PyASCIIObject *)code->co_name)->hash;
    identity = (identity ^ tail) * 0x9E3779B97F4A7C15ull;
    identity ^= (uint64_t)code->co_firstlineno << 32 ^ (uint64_t)length << 20 ^ (uint64_t)Py_SIZE(code);
    return identity ^ (uintptr_t)code->co_linetable;
}

/* Before 3.12 a text may still have its old form, which no name of a code object has. */
static inline int text_is_ready(PyObject *text)
{
#if PY_VERSION_HEX < 0x030c0000
    return PyUnicode_IS_READY(text);
#else
    (void)text;
    return 1;
#endif
}

/* --- line table (3.11 on) ---------------------------------------------------------------
 *   entry = first byte 1ccc cnnn: kind c, n+1 code units; then what the kind needs:
 *   c 0-9  column byte              line += 0
 *   c 10-12  two column bytes       line += c - 10
 *   c 13   svarint line delta
 *   c 14   svarint line delta, three varints
 *   c 15   no location */
static inline int table_varint(const unsigned char *table, Py_ssize_t bytes, Py_ssize_t *at)
{
    unsigned value = 0, shift = 0;
    unsigned char byte;
    do {
        if (++*at >= bytes) return 0;
        byte = table[*at];
        value |= (unsigned)(byte & 63) << shift;
        shift += 6;
    } while ((byte & 64) && shift < 30);
    return (int)value;
}

static inline int table_svarint(const unsigned char *table, Py_ssize_t bytes, Py_ssize_t *at)
{
    unsigned value = (unsigned)table_varint(table, bytes, at);
    return value & 1 ? -(int)(value >> 1) : (int)(value >> 1);
}

static inline int code_line(PyCodeObject *code, int lasti)
{
    const unsigned char *table = (const unsigned char *)PyBytes_AS_STRING(code->co_linetable);
    Py_ssize_t bytes = PyBytes_GET_SIZE(code->co_linetable);
    int line = code->co_firstlineno, known = line;
    Py_ssize_t end = 0;
    for (Py_ssize_t at = 0; at < bytes; at++) {
        int kind = (table[at] >> 3) & 15;
        end += (table[at] & 7) + 1;
        switch (kind) {
        case 15: break;
        case 14:
            line += table_svarint(table, bytes, &at);
            for (int i = 0; i < 3; i++) table_varint(table, bytes, &at);
            break;
        case 13: line += table_svarint(table, bytes, &at); break;
        case 12: case 11: case 10:
            line += kind - 10;
            at += 2;
            break;
        default: at += 1;
        }
        if (kind != 15) known = line; /* else: the line of the code before it is the nearest truth */
        if (end > lasti) break;
    }
    return known;
}

/* --- contexts ---------------------------------------------------------------------------
 * A context's variables are an immutable tree (HAMT): 5 bits of the key's hash a level. A bitmap
 * node holds pairs (key, value) or (NULL, subtree) for the bits set, an array node 32 subtrees, a
 * collision node pairs of equal hash. Keys are compared by identity, as ContextVar's equality is. */
struct hamt_bitmap {
    PyObject_VAR_HEAD
    uint32_t bits;
    PyObject *pairs[1];
};
struct hamt_array {
    PyObject_HEAD
    PyObject *children[32];
};
struct hamt_collision {
    PyObject_VAR_HEAD
    int32_t hash;
    PyObject *pairs[1];
};

static inline int32_t hamt_hash(Py_hash_t hash)
{
    int32_t folded = (int32_t)(hash & 0xffffffffl) ^ (int32_t)((int64_t)hash >> 32);
    return folded == -1 ? -2 : folded;
}

/* Is it the name of a node's type? Inline: asked at each level, at each switch of contexts. */
static inline int is_hamt(const char *name)
{
    return name[0] == 'h' && name[1] == 'a' && name[2] == 'm' && name[3] == 't' && name[4] == '_';
}

/* Borrowed value of `key`, NULL when the context (or NULL: there is none) does not have it. */
static inline PyObject *context_value(const PyObject *of, PyObject *key, int32_t hash)
{
    const struct _pycontextobject *context = (const void *)of;
    if (!context || !context->ctx_vars) return NULL;
    PyObject *node = (PyObject *)context->ctx_vars->h_root;
    for (unsigned shift = 0; node; shift += 5) {
        const char *kind = Py_TYPE(node)->tp_name; /* hamt_bitmap_node, hamt_array_node, hamt_collision_node */
        unsigned bit = ((uint32_t)hash >> (shift < 32 ? shift : 0)) & 31u;
        if (!is_hamt(kind)) return NULL;
        if (kind[5] == 'b') {
            const struct hamt_bitmap *bitmap = (const void *)node;
            if (!(bitmap->bits & (1u << bit))) return NULL;
            int pair = __builtin_popcount(bitmap->bits & ((1u << bit) - 1));
            PyObject *found = bitmap->pairs[2 * pair], *value = bitmap->pairs[2 * pair + 1];
            if (found) return found == key ? value : NULL;
            node = value;
        } else if (kind[5] == 'a') {
            node = ((const struct hamt_array *)(const void *)node)->children[bit];
        } else {
            const struct hamt_collision *collision = (const void *)node;
            for (Py_ssize_t i = 0; i + 1 < Py_SIZE(collision); i += 2)
                if (collision->pairs[i] == key) return collision->pairs[i + 1];
            return NULL;
        }
    }
    return NULL;
}

#endif
