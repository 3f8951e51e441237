/* Which hooks are in place: installed, switched and taken away while other threads allocate.
 *
 * PyMem_SetAllocator copies five words without a lock (before 3.13), and RAW is called without the
 * GIL. Since hooks and originals share their ctx, any mixture of the two that a thread may see works.
 */
#include "cpython_frames.h"
#include "hook_parts.h"

#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "codes.h"
#include "fastalloc.h"
#include "hooks.h"
#include "sampler.h"

PyMemAllocatorEx original[3];
static PyObjectArenaAllocator original_arena;

_Static_assert((int)FA_DOMAIN_RAW == (int)PYMEM_DOMAIN_RAW && (int)FA_DOMAIN_MEM == (int)PYMEM_DOMAIN_MEM &&
                   (int)FA_DOMAIN_OBJ == (int)PYMEM_DOMAIN_OBJ, "");

/* --- arenas --------------------------------------------------------------------------------- */

static void *arena_alloc(void *ctx, size_t n)
{
    void *arena = original_arena.alloc(ctx, n);
    if (arena) sample_arena(arena, n);
    else sample_failed(n, FA_DOMAIN_ARENA);
    return arena;
}

static void arena_free(void *ctx, void *arena, size_t n)
{
    sample_arena_freed(arena, n);
    original_arena.free(ctx, arena, n);
}

const char *fa_unsupported(void)
{
#ifdef Py_GIL_DISABLED
    return "free-threaded builds of CPython are not supported yet";
#elif !defined(__linux__)
    return "only Linux is supported";
#elif !defined(__x86_64__) && !defined(__aarch64__)
    return "only x86_64 and ARM64 are supported";
#else
    if (Py_Version < 0x030b0200) return "CPython 3.11.0 and 3.11.1 keep frames that are being cleared; use 3.11.2 or later";
    return fa_misfit();
#endif
}

/* --- installation; GIL held ------------------------------------------------------------------ */

static struct {
    enum fa_free_design design;
    int level; /* 0: nothing, 1: RAW and arenas, 2: all */
} installed;

static PyMemAllocatorEx hooks_of(int domain)
{
    return installed.design == FA_FREE_FILTER ? filter_hooks(domain) : divert_hooks(domain);
}

/* Does an allocation of this domain come through our hook? It may, under another tool's hook. */
static int reached(int domain)
{
    struct fa_thread counter = {.left = FA_DRAW_CAP};
    struct fa_thread *was = fa_tls.slot;
    fa_tls.slot = &counter;
    switch (domain) {
    case FA_DOMAIN_RAW: PyMem_RawFree(PyMem_RawMalloc(16)); break;
    case FA_DOMAIN_MEM: PyMem_Free(PyMem_Malloc(16)); break;
    default: PyObject_Free(PyObject_Malloc(16));
    }
    fa_tls.slot = was;
    return counter.count != 0;
}

/* Whoever sees the hook must see its original. On x86_64 stores arrive in order. */
void hooks_order_stores(void)
{
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
#ifdef __aarch64__
    /* The reader has no barrier of its own: every core gets one now. Where the kernel gives none (a
     * sandbox, an emulator), wait much longer than a core can run ahead of what it has read. */
    if (syscall(__NR_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0) != 0 ||
        syscall(__NR_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0) != 0)
        nanosleep(&(struct timespec){.tv_nsec = 200000}, NULL);
#endif
}

static void set_hooks(int domain)
{
    PyMemAllocatorEx hooks = hooks_of(domain);
    PyMem_SetAllocator((PyMemAllocatorDomain)domain, &hooks);
}

/* Never twice: hooks that stayed below another tool's at an earlier stop still work, and hooking
 * on top of that tool would make a circle. */
static void install(int domain)
{
    if (reached(domain)) return;
    PyMem_GetAllocator((PyMemAllocatorDomain)domain, &original[domain]);
    hooks_order_stores();
    set_hooks(domain);
}

/* Only where CPython calls us directly. A tool that hooked later calls us as its original: it stays
 * in place, and our hooks below it only forward while nothing is recorded. */
static void uninstall(int domain)
{
    PyMemAllocatorEx now;
    PyMem_GetAllocator((PyMemAllocatorDomain)domain, &now);
    if (now.malloc == hooks_of(domain).malloc) PyMem_SetAllocator((PyMemAllocatorDomain)domain, &original[domain]);
}

/* Does pymalloc hand requests over 512 bytes on to RAW as they are, and keep smaller ones? RAW's
 * hook must be in place. */
static int probe_divert(void)
{
    int holds = 1;
    for (int domain = FA_DOMAIN_MEM; domain <= FA_DOMAIN_OBJ; domain++) {
        PyMemAllocatorEx *o = &original[domain];
        for (int zeroed = 0; zeroed < 2; zeroed++) {
            struct suspended was = suspend(FA_NESTED_DIVERT, 0);
            void *large = zeroed ? o->calloc(o->ctx, 1, SMALL + 1) : o->malloc(o->ctx, SMALL + 1);
            holds &= large && large == fa_tls.diverted;
            fa_tls.diverted = NULL;
            void *small = zeroed ? o->calloc(o->ctx, 1, 64) : o->malloc(o->ctx, 64);
            holds &= small && fa_tls.diverted == NULL;
            resume(was);
            if (large) o->free(o->ctx, large);
            if (small) o->free(o->ctx, small);
        }
    }
    return holds;
}

static void set_arena_hook(int wanted)
{
    static int buried; /* a tool that hooked after us calls ours as its original */
    PyObjectArenaAllocator now;
    PyObject_GetArenaAllocator(&now);
    int ours = now.alloc == arena_alloc;
    if (wanted && !ours && !buried) {
        original_arena = now;
        now.alloc = arena_alloc;
        now.free = arena_free;
        PyObject_SetArenaAllocator(&now);
    } else if (!wanted && ours) {
        PyObject_SetArenaAllocator(&original_arena);
        buried = 0;
    } else if (!wanted && installed.level > 0) {
        buried = 1;
    }
}

enum fa_free_design hooks_design(void)
{
    return installed.design;
}

int hooks_displaced(void)
{
    if (installed.level >= 1 && !reached(FA_DOMAIN_RAW)) return 1;
    return installed.level == 2 && (!reached(FA_DOMAIN_MEM) || !reached(FA_DOMAIN_OBJ));
}

void hooks_set_level(int level)
{
    if (level >= 1 && installed.level == 0) {
        /* The originals of MEM and OBJ are what the probe calls. */
        if (!reached(FA_DOMAIN_MEM)) PyMem_GetAllocator(PYMEM_DOMAIN_MEM, &original[FA_DOMAIN_MEM]);
        if (!reached(FA_DOMAIN_OBJ)) PyMem_GetAllocator(PYMEM_DOMAIN_OBJ, &original[FA_DOMAIN_OBJ]);
        if (!reached(FA_DOMAIN_RAW)) { /* else hooks are left from before, of the design noted then */
            installed.design = FA_FREE_DIVERT;
            install(FA_DOMAIN_RAW);
            if (!probe_divert()) {
                installed.design = FA_FREE_FILTER;
                set_hooks(FA_DOMAIN_RAW);
            }
        }
        set_arena_hook(1);
        codes_watch();
    }
    if (level >= 2 && installed.level < 2) {
        install(FA_DOMAIN_MEM);
        install(FA_DOMAIN_OBJ);
    }
    if (level < 2 && installed.level == 2) {
        uninstall(FA_DOMAIN_OBJ);
        uninstall(FA_DOMAIN_MEM);
    }
    if (level == 0 && installed.level > 0) {
        set_arena_hook(0);
        uninstall(FA_DOMAIN_RAW);
        codes_unwatch();
    }
    installed.level = level;
}

/* Nothing is allocated from OBJ meanwhile: that takes the GIL. */
void hooks_with_original_objects(void (*call)(void *), void *argument)
{
    PyMemAllocatorEx now;
    PyMem_GetAllocator(PYMEM_DOMAIN_OBJ, &now);
    int ours = installed.level == 2 && now.malloc == hooks_of(FA_DOMAIN_OBJ).malloc;
    if (ours) PyMem_SetAllocator(PYMEM_DOMAIN_OBJ, &original[FA_DOMAIN_OBJ]);
    call(argument);
    if (ours) set_hooks(FA_DOMAIN_OBJ);
}

int hooks_gil_held(void)
{
    return thread_is_attached();
}

void hooks_call_soon(int (*function)(void *))
{
    if (pending_call_may_detach()) return;
    (void)Py_AddPendingCall(function, NULL); /* -1: too many wait; the next look asks again */
}

void hooks_child(void)
{
    forget_who_waits_for_gil();
}

uintptr_t hooks_frame(void)
{
    PyThreadState *state = own_thread_state();
    return state ? (uintptr_t)newest_frame(state) : 0;
}

int hooks_python_has_threads(void)
{
    PyInterpreterState *interpreter = PyInterpreterState_Main();
    return interpreter && PyInterpreterState_ThreadHead(interpreter);
}

int hooks_call_after_fork(int (*function)(void *))
{
    return Py_AddPendingCall(function, NULL);
}
