/* The hooks: what CPython calls instead of its allocators.
 *
 * Laws
 *  1. A sample is taken out of the live table before the original frees its block: afterwards
 *     another thread may own the address. A realloc takes it out first and puts it back if the
 *     original fails.
 *  2. Hooks do not use `ctx`; they are installed with the original's own. So a PyMem_SetAllocator
 *     that another thread sees half done is harmless: every mixture of old and new functions gets
 *     the context it needs, and every hook may be called at any time after its installation.
 *  3. A hook makes no CPython call but the original, allocates nothing, and holds no lock while
 *     the original runs.
 *  4. What is counted: OBJ and MEM up to 512 bytes (n - 1 < 512), all of RAW. Larger requests, and
 *     those of 0 bytes, reach RAW through the original, and would count twice.
 *
 * The divert design, for pymalloc: the free of a small block must cost nothing, so OBJ and MEM
 * free stay the original. When a small block is chosen as a sample, the original is asked for 513
 * bytes; pymalloc passes that on to RAW, where our hook hands out a block of the size wanted.
 * When Python frees it, pymalloc's own address check sends it to RAW, whose free is hooked.
 *
 *   OBJ malloc(48), chosen --> hook --> original(513) --> RAW hook --> original RAW malloc(48)
 *   OBJ free(block)        ---------->  original       --> RAW hook: a sample --> original RAW free
 *
 * A probe at start proves that this holds here; otherwise (PYTHONMALLOC=malloc, debug) the filter
 * design hooks free as well, behind the live table's lock-free filter.
 */
#include "cpython_frames.h"

#include "fastalloc.h"
#include "hooks.h"
#include "live.h"
#include "recorder.h"
#include "sample.h"
#include "sampler.h"
#include "threads.h"

#define SMALL 512u
#define IS_SMALL(n) ((n) - 1 < SMALL)

static PyMemAllocatorEx original[3]; /* by enum fa_domain, which has PyMemAllocatorDomain's order */
static PyObjectArenaAllocator original_arena;

_Static_assert((int)FA_DOMAIN_RAW == (int)PYMEM_DOMAIN_RAW && (int)FA_DOMAIN_MEM == (int)PYMEM_DOMAIN_MEM &&
                   (int)FA_DOMAIN_OBJ == (int)PYMEM_DOMAIN_OBJ, "");

/* Counts an allocation. True when the countdown is used up. With the tail call that follows, 9
 * instructions for OBJ malloc on x86_64, 3 of them the test for small. */
static inline int count_allocation(size_t n)
{
    struct fa_thread *thread = fa_tls.slot;
    thread->count++;
    return UNLIKELY((thread->left -= (int64_t)n) < 0);
}

/* --- RAW -------------------------------------------------------------------------------- */

static NOINLINE void *raw_allocate_slow(size_t count, size_t size, int zeroed)
{
    PyMemAllocatorEx *raw = &original[FA_DOMAIN_RAW];
    size_t n = count * size;
    if (fa_tls.nested == FA_NESTED_DIVERT) {
        if (fa_tls.divert_bytes) n = fa_tls.divert_bytes;
        return fa_tls.diverted = zeroed ? raw->calloc(raw->ctx, 1, n) : raw->malloc(raw->ctx, n);
    }
    uint64_t interval = sample_due(n);
    void *block = zeroed ? raw->calloc(raw->ctx, count, size) : raw->malloc(raw->ctx, n);
    if (interval && block) sample_take(block, n, interval, fa_tls.domain);
    if (!block && !fa_tls.nested) sample_failed(n, fa_tls.domain);
    return block;
}

static void *raw_malloc(void *ctx, size_t n)
{
    (void)ctx;
    if (count_allocation(n)) return raw_allocate_slow(1, n, 0);
    return original[FA_DOMAIN_RAW].malloc(ctx, n);
}

static void *raw_calloc(void *ctx, size_t count, size_t size)
{
    if (count_allocation(count * size)) return raw_allocate_slow(count, size, 1);
    return original[FA_DOMAIN_RAW].calloc(ctx, count, size);
}

static void *raw_realloc(void *ctx, void *block, size_t n)
{
    struct fa_live taken;
    uint64_t interval = 0;
    int taken_out = block && live_maybe(block) && sample_out(block, &taken);
    int outer = fa_tls.nested;
    if (!outer && count_allocation(n)) interval = sample_due(n);
    void *moved = original[FA_DOMAIN_RAW].realloc(ctx, block, n);
    if (outer == FA_NESTED_DIVERT) fa_tls.diverted = moved;
    if (taken_out) sample_out_done(&taken, moved != NULL);
    if (interval && moved) sample_take(moved, n, interval, fa_tls.domain);
    if (UNLIKELY(!moved) && !outer) sample_failed(n, fa_tls.domain);
    return moved;
}

static NOINLINE void raw_free_slow(void *ctx, void *block)
{
    struct fa_live taken;
    if (sample_out(block, &taken)) sample_out_done(&taken, 1);
    original[FA_DOMAIN_RAW].free(ctx, block);
}

static void raw_free(void *ctx, void *block)
{
    if (UNLIKELY(live_maybe(block))) {
        raw_free_slow(ctx, block);
        return;
    }
    original[FA_DOMAIN_RAW].free(ctx, block);
}

/* --- OBJ and MEM, divert design ---------------------------------------------------------- */

struct suspended {
    struct fa_thread *slot;
};

/* From here to resume(), hooks below only forward (or divert): see struct fa_tls. */
static inline struct suspended suspend(enum fa_nested nested, size_t divert_bytes)
{
    struct suspended was = {fa_tls.slot};
    fa_tls.slot = &fa_nobody;
    fa_tls.nested = (uint8_t)nested;
    fa_tls.divert_bytes = divert_bytes;
    fa_tls.diverted = NULL;
    return was;
}

static inline void resume(struct suspended was)
{
    fa_tls.nested = FA_NESTED_NO;
    fa_tls.slot = was.slot;
}

/* A large block: RAW counts it, but it is this domain's. */
static inline void *large_malloc(void *ctx, size_t n, int domain)
{
    fa_tls.domain = (uint8_t)domain;
    void *block = original[domain].malloc(ctx, n);
    fa_tls.domain = FA_DOMAIN_RAW;
    return block;
}

static inline void *large_calloc(void *ctx, size_t count, size_t size, int domain)
{
    fa_tls.domain = (uint8_t)domain;
    void *block = original[domain].calloc(ctx, count, size);
    fa_tls.domain = FA_DOMAIN_RAW;
    return block;
}

static NOINLINE void *small_slow(void *ctx, size_t count, size_t size, int zeroed, int domain)
{
    size_t n = count * size;
    if (fa_tls.nested) /* another allocator's hook of this domain called us inside ours */
        return zeroed ? original[domain].calloc(ctx, count, size) : original[domain].malloc(ctx, n);
    uint64_t interval = sample_due(n);
    if (!interval) return zeroed ? original[domain].calloc(ctx, count, size) : original[domain].malloc(ctx, n);
    struct suspended was = suspend(FA_NESTED_DIVERT, n);
    void *block = zeroed ? original[domain].calloc(ctx, 1, SMALL + 1) : original[domain].malloc(ctx, SMALL + 1);
    int diverted = block && block == fa_tls.diverted;
    resume(was);
    if (diverted) sample_take(block, n, interval, domain);
    if (!block) sample_failed(n, domain);
    return block; /* if it did not come from RAW (the probe excludes it), it holds n bytes all the same */
}

/* Realloc to a small size. The block may be pymalloc's (it then stays or moves inside), or RAW's
 * (a sample, or once larger), so that RAW realloc runs below and must not count again. */
static inline void *small_realloc(void *ctx, void *block, size_t n, int domain)
{
    if (fa_tls.nested) return original[domain].realloc(ctx, block, n);
    uint64_t interval = count_allocation(n) ? sample_due(n) : 0;
    if (UNLIKELY(interval)) {
        /* 513 bytes, since pymalloc copies the old block's size class into it; then cut down. A
         * RAW sample is taken out by the RAW hook below. */
        struct suspended was = suspend(FA_NESTED_DIVERT, 0);
        void *moved = original[domain].realloc(ctx, block, SMALL + 1);
        int diverted = moved && moved == fa_tls.diverted;
        resume(was);
        if (!moved) sample_failed(n, domain);
        if (!diverted) return moved;
        void *fitted = original[FA_DOMAIN_RAW].realloc(original[FA_DOMAIN_RAW].ctx, moved, n);
        if (fitted) moved = fitted;
        sample_take(moved, n, interval, domain);
        return moved;
    }
    struct suspended was = suspend(FA_NESTED_PASS, 0);
    void *moved = original[domain].realloc(ctx, block, n);
    resume(was);
    return moved;
}

static inline void *large_realloc(void *ctx, void *block, size_t n, int domain)
{
    fa_tls.domain = (uint8_t)domain;
    void *moved = original[domain].realloc(ctx, block, n);
    fa_tls.domain = FA_DOMAIN_RAW;
    return moved;
}

#define DIVERT_HOOKS(name, domain)                                                                        \
    static void *name##_malloc(void *ctx, size_t n)                                                       \
    {                                                                                                     \
        if (UNLIKELY(!IS_SMALL(n))) return large_malloc(ctx, n, domain);                                  \
        if (count_allocation(n)) return small_slow(ctx, 1, n, 0, domain);                                 \
        return original[domain].malloc(ctx, n);                                                           \
    }                                                                                                     \
    static void *name##_calloc(void *ctx, size_t count, size_t size)                                      \
    {                                                                                                     \
        if (UNLIKELY(!IS_SMALL(count * size))) return large_calloc(ctx, count, size, domain);             \
        if (count_allocation(count * size)) return small_slow(ctx, count, size, 1, domain);               \
        return original[domain].calloc(ctx, count, size);                                                 \
    }                                                                                                     \
    static void *name##_realloc(void *ctx, void *block, size_t n)                                         \
    {                                                                                                     \
        return IS_SMALL(n) ? small_realloc(ctx, block, n, domain) : large_realloc(ctx, block, n, domain); \
    }

DIVERT_HOOKS(mem, FA_DOMAIN_MEM)
DIVERT_HOOKS(obj, FA_DOMAIN_OBJ)

/* --- all domains, filter design ------------------------------------------------------------
 * Every call counts where it enters; what the original calls below only forwards. */

static void *filter_allocate(void *ctx, size_t count, size_t size, int zeroed, int domain)
{
    size_t n = count * size;
    uint64_t interval = 0;
    int outer = fa_tls.nested;
    struct suspended was = {NULL};
    if (!outer) {
        if (count_allocation(n)) interval = sample_due(n);
        was = suspend(FA_NESTED_PASS, 0);
    }
    void *block = zeroed ? original[domain].calloc(ctx, count, size) : original[domain].malloc(ctx, n);
    if (outer) return block;
    resume(was);
    if (interval && block) sample_take(block, n, interval, domain);
    if (UNLIKELY(!block)) sample_failed(n, domain);
    return block;
}

static void *filter_realloc(void *ctx, void *block, size_t n, int domain)
{
    struct fa_live taken;
    uint64_t interval = 0;
    int outer = fa_tls.nested, taken_out = 0;
    struct suspended was = {NULL};
    if (!outer) {
        taken_out = block && live_maybe(block) && sample_out(block, &taken);
        if (count_allocation(n)) interval = sample_due(n);
        was = suspend(FA_NESTED_PASS, 0);
    }
    void *moved = original[domain].realloc(ctx, block, n);
    if (outer) return moved;
    resume(was);
    if (taken_out) sample_out_done(&taken, moved != NULL);
    if (interval && moved) sample_take(moved, n, interval, domain);
    if (UNLIKELY(!moved)) sample_failed(n, domain);
    return moved;
}

static void filter_free(void *ctx, void *block, int domain)
{
    struct fa_live taken;
    /* Inside another hook the block is an inner one: never a sample, but its address may be one's. */
    if (UNLIKELY(live_maybe(block)) && !fa_tls.nested && sample_out(block, &taken)) sample_out_done(&taken, 1);
    int outer = fa_tls.nested;
    fa_tls.nested = FA_NESTED_PASS;
    original[domain].free(ctx, block);
    fa_tls.nested = (uint8_t)outer;
}

#define FILTER_HOOKS(name, domain)                                              \
    static void *name##_malloc(void *ctx, size_t n)                             \
    {                                                                           \
        return filter_allocate(ctx, 1, n, 0, domain);                           \
    }                                                                           \
    static void *name##_calloc(void *ctx, size_t count, size_t size)            \
    {                                                                           \
        return filter_allocate(ctx, count, size, 1, domain);                    \
    }                                                                           \
    static void *name##_realloc(void *ctx, void *block, size_t n)               \
    {                                                                           \
        return filter_realloc(ctx, block, n, domain);                           \
    }                                                                           \
    static void name##_free(void *ctx, void *block)                             \
    {                                                                           \
        filter_free(ctx, block, domain);                                        \
    }

FILTER_HOOKS(filter_raw, FA_DOMAIN_RAW)
FILTER_HOOKS(filter_mem, FA_DOMAIN_MEM)
FILTER_HOOKS(filter_obj, FA_DOMAIN_OBJ)

/* --- arenas --------------------------------------------------------------------------------- */

static void *arena_alloc(void *ctx, size_t n)
{
    void *arena = original_arena.alloc(ctx, n);
    if (arena) sample_arena(arena, n);
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
    return NULL;
#endif
}

/* --- installation; GIL held ------------------------------------------------------------------ */

static struct {
    enum fa_free_design design;
    int level; /* 0: nothing, 1: RAW and arenas, 2: all */
} installed;

static PyMemAllocatorEx hooks_of(int domain, enum fa_free_design design)
{
    void *ctx = original[domain].ctx;
    if (design == FA_FREE_FILTER) {
        switch (domain) {
        case FA_DOMAIN_RAW:
            return (PyMemAllocatorEx){ctx, filter_raw_malloc, filter_raw_calloc, filter_raw_realloc, filter_raw_free};
        case FA_DOMAIN_MEM:
            return (PyMemAllocatorEx){ctx, filter_mem_malloc, filter_mem_calloc, filter_mem_realloc, filter_mem_free};
        default:
            return (PyMemAllocatorEx){ctx, filter_obj_malloc, filter_obj_calloc, filter_obj_realloc, filter_obj_free};
        }
    }
    switch (domain) {
    case FA_DOMAIN_RAW: return (PyMemAllocatorEx){ctx, raw_malloc, raw_calloc, raw_realloc, raw_free};
    case FA_DOMAIN_MEM: return (PyMemAllocatorEx){ctx, mem_malloc, mem_calloc, mem_realloc, original[domain].free};
    default: return (PyMemAllocatorEx){ctx, obj_malloc, obj_calloc, obj_realloc, original[domain].free};
    }
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

static void set_hooks(int domain)
{
    PyMemAllocatorEx hooks = hooks_of(domain, installed.design);
    PyMem_SetAllocator((PyMemAllocatorDomain)domain, &hooks);
}

/* Never twice: hooks that stayed below another tool's at an earlier stop still work, and hooking
 * on top of that tool would make a circle. Returns whether the hook is new. */
static int install(int domain)
{
    if (reached(domain)) return 0;
    PyMem_GetAllocator((PyMemAllocatorDomain)domain, &original[domain]);
    set_hooks(domain);
    return 1;
}

/* Only where CPython calls us directly. A tool that hooked later calls us as its original: it stays
 * in place, and our hooks below it only forward while nothing is recorded. */
static void uninstall(int domain)
{
    PyMemAllocatorEx now, hooks = hooks_of(domain, installed.design);
    PyMem_GetAllocator((PyMemAllocatorDomain)domain, &now);
    if (now.malloc == hooks.malloc) PyMem_SetAllocator((PyMemAllocatorDomain)domain, &original[domain]);
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
    PyObjectArenaAllocator now;
    PyObject_GetArenaAllocator(&now);
    int ours = now.alloc == arena_alloc;
    if (wanted && !ours) {
        original_arena = now;
        now.alloc = arena_alloc;
        now.free = arena_free;
        PyObject_SetArenaAllocator(&now);
    } else if (!wanted && ours) {
        PyObject_SetArenaAllocator(&original_arena);
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
        installed.design = FA_FREE_DIVERT;
        if (install(FA_DOMAIN_RAW) && !probe_divert()) {
            installed.design = FA_FREE_FILTER;
            set_hooks(FA_DOMAIN_RAW);
        }
        set_arena_hook(1);
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
    }
    installed.level = level;
}
