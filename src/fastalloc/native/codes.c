#include "codes.h"
#include "cpython_frames.h"
#include "hooks.h"

uint32_t codes_freed[CODE_PLACES];
uint64_t codes_epoch = 1ull << 63;

static destructor original; /* set once: CPython's */

void codes_free(PyObject *code)
{
    uint32_t *freed = &codes_freed[code_place(code)];
    /* Atomic: interpreters with a GIL of their own share the type. */
    __atomic_fetch_add(freed, 1, __ATOMIC_RELAXED);
    __atomic_load_n(&original, __ATOMIC_RELAXED)(code);
    __atomic_fetch_add(freed, 1, __ATOMIC_RELAXED);
}

void codes_watch(void)
{
    destructor now = PyCode_Type.tp_dealloc;
    if (now == codes_free || (original && now != original)) return; /* ours is there, or below another tool's */
    __atomic_store_n(&original, now, __ATOMIC_RELAXED);
    codes_epoch += 1ull << 32;
    hooks_order_stores(); /* who walks without the GIL, or in another interpreter, must see them first */
    __atomic_store_n(&PyCode_Type.tp_dealloc, codes_free, __ATOMIC_RELEASE);
}

void codes_unwatch(void)
{
    if (codes_watched()) PyCode_Type.tp_dealloc = original;
}
