#include "codes.h"
#include "cpython_frames.h"

#include "recorder.h"
#include "fastalloc.h"
#include "stack.h"

#include <string.h>

static inline void mix(uint64_t *hash, uint64_t value)
{
    *hash = (*hash ^ value) * 0x9FB21C651E98DF25ull;
    *hash ^= *hash >> 29;
}

static PyThreadState *walkable_state(void)
{
    if (!__atomic_load_n(&fa.walk, __ATOMIC_RELAXED)) return NULL;
    return own_thread_state();
}

int stack_has_python_nopy(void)
{
    return walkable_state() != NULL;
}

static const void *host_caller, *host_callee;

void fa_end_stacks_at(const void *caller, const void *callee)
{
    host_caller = caller;
    host_callee = callee;
}

/* Is this the frame below which the program's own do not lie? */
static inline int is_host(struct _PyInterpreterFrame *frame, const PyCodeObject *code)
{
    int lasti;
    return UNLIKELY((const void *)code == host_callee) && frame->previous &&
           (const void *)frame_code(frame->previous, &lasti) == host_caller;
}

int stack_walk_nopy(struct raw_frame *frames, int capacity, uint64_t *hash, int *cut)
{
    PyThreadState *state = walkable_state();
    uint64_t mixed = 0x51ED270B;
    int count = 0, watched = codes_watched();
    *cut = 0;
    if (!state) return -1;
    for (struct _PyInterpreterFrame *frame = newest_frame(state); frame; frame = frame->previous) {
        int lasti;
        PyCodeObject *code = frame_code(frame, &lasti);
        if (!code) continue;
        if (is_host(frame, code)) break;
        if (count == capacity) {
            *cut = 1;
            break;
        }
        frames[count] = (struct raw_frame){code, code_identity(code, watched), lasti, FRAME_PYTHON};
        mix(&mixed, frame_hash(&frames[count++]));
    }
    mix(&mixed, (uint64_t)*cut);
    *hash = mixed ? mixed : 1;
    return count;
}

uintptr_t stack_native_limit_nopy(void)
{
    PyThreadState *state = walkable_state();
    return state ? eval_loop_address(state) : 0;
}

int32_t stack_line_nopy(const struct raw_frame *frame)
{
    return code_line((PyCodeObject *)frame->code, frame->lasti);
}

static size_t utf8_nopy(PyObject *text, char *to, size_t capacity)
{
    if (!text || !PyUnicode_Check(text) || !text_is_ready(text)) return 0;
    Py_ssize_t length = PyUnicode_GET_LENGTH(text);
    int kind = (int)PyUnicode_KIND(text);
    const void *data = PyUnicode_DATA(text);
    size_t used = 0;
    if (PyUnicode_IS_ASCII(text) && (size_t)length + 4 <= capacity && !memchr(data, 0, (size_t)length)) {
        memcpy(to, data, (size_t)length);
        return (size_t)length;
    }
    for (Py_ssize_t i = 0; i < length && used + 4 <= capacity; i++) {
        uint32_t c = PyUnicode_READ(kind, data, i);
        if (c >= 0xD800 && c < 0xE000) c = 0xFFFD; /* surrogates have no UTF-8 */
        if (c == 0) c = 0xFFFD;
        if (c < 0x80) {
            to[used++] = (char)c;
        } else if (c < 0x800) {
            to[used++] = (char)(0xC0 | c >> 6);
            to[used++] = (char)(0x80 | (c & 63));
        } else if (c < 0x10000) {
            to[used++] = (char)(0xE0 | c >> 12);
            to[used++] = (char)(0x80 | ((c >> 6) & 63));
            to[used++] = (char)(0x80 | (c & 63));
        } else {
            to[used++] = (char)(0xF0 | c >> 18);
            to[used++] = (char)(0x80 | ((c >> 12) & 63));
            to[used++] = (char)(0x80 | ((c >> 6) & 63));
            to[used++] = (char)(0x80 | (c & 63));
        }
    }
    return used;
}

/* Eight bytes at a time: line tables have kilobytes. */
static uint32_t hash_of(const char *bytes, size_t count)
{
    uint64_t hash = count, word = 0;
    for (; count >= sizeof word; bytes += sizeof word, count -= sizeof word) {
        memcpy(&word, bytes, sizeof word);
        mix(&hash, word);
    }
    word = 0;
    memcpy(&word, bytes, count);
    mix(&hash, word);
    return (uint32_t)(hash ^ hash >> 32);
}

void stack_names_nopy(const struct raw_frame *frame, struct code_names *names)
{
    PyCodeObject *code = (PyCodeObject *)frame->code;
    names->function_bytes =
        utf8_nopy(code->co_qualname ? code->co_qualname : code->co_name, names->function, sizeof names->function);
    names->file_bytes = utf8_nopy(code->co_filename, names->file, sizeof names->file);
    names->first_line = code->co_firstlineno;
    names->line_table_hash = hash_of(PyBytes_AS_STRING(code->co_linetable), (size_t)PyBytes_GET_SIZE(code->co_linetable));
}

/* --- the scope that the running context names -------------------------------------------- */

static PyTypeObject *scope_type;
static size_t scope_offset;
static PyObject *scope_variable;
static int32_t scope_variable_hash;

void fa_watch_scopes(void *type, size_t offset, void *context_variable, int64_t hash)
{
    scope_type = type;
    scope_offset = offset;
    scope_variable_hash = hamt_hash((Py_hash_t)hash);
    scope_variable = context_variable;
}

/* A new thread is in no context until one is entered: that must be told apart from "none ignored". */
static const void *context_of(const PyThreadState *state)
{
    static const char no_context;
    return state->context ? (const void *)state->context : &no_context;
}

const void *stack_context_nopy(void)
{
    PyThreadState *state = walkable_state();
    return state ? context_of(state) : NULL;
}

const void *fa_context(void)
{
    return context_of(PyThreadState_Get());
}

static fa_scope scope_in(const PyObject *context)
{
    PyObject *value = context_value(context, scope_variable, scope_variable_hash);
    PyTypeObject *type = value ? Py_TYPE(value) : NULL;
    while (type && type != scope_type) type = type->tp_base;
    if (!type) return 0;
    fa_scope scope;
    memcpy(&scope, (const char *)value + scope_offset, sizeof scope);
    return scope;
}

fa_scope fa_context_scope(void)
{
    PyThreadState *state = walkable_state();
    if (!state || !scope_variable) return FA_SCOPE_UNKNOWN;
    if (context_of(state) == fa_tls.ignored_context) return FA_SCOPE_UNKNOWN;
    return scope_in(state->context);
}

fa_scope fa_scope_in(const void *context)
{
    if (!scope_variable || !PyContext_CheckExact((PyObject *)context)) return FA_SCOPE_UNKNOWN;
    return scope_in(context);
}
