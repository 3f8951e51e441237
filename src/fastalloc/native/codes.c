#include "codes.h"
#include "cpython_frames.h"

uint32_t codes_freed[CODE_PLACES];
uint64_t codes_epoch = 1ull << 63;

static destructor original; /* set once: CPython's */

void codes_free(PyObject *code)
{
    original(code);
    /* Atomic: interpreters with a GIL of their own share the type. */
    __atomic_fetch_add(&codes_freed[code_place(code)], 1, __ATOMIC_RELAXED);
}

void codes_watch(void)
{
    destructor now = PyCode_Type.tp_dealloc;
    if (now == codes_free || (original && now != original)) return; /* ours is there, or below another tool's */
    original = now;
    codes_epoch += 1ull << 32;
    PyCode_Type.tp_dealloc = codes_free;
}

void codes_unwatch(void)
{
    if (codes_watched()) PyCode_Type.tp_dealloc = original;
}
