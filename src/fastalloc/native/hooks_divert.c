/* The hooks of the divert design: what CPython calls instead of its allocators.
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
#include "hook_parts.h"

/* --- RAW -------------------------------------------------------------------------------- */

static NOINLINE void *raw_allocate_slow(size_t count, size_t size, int zeroed)
{
    PyMemAllocatorEx *raw = &original[FA_DOMAIN_RAW];
    size_t n = count * size;
    if (fa_tls.nested == FA_NESTED_DIVERT && n == SMALL + 1) { /* our own request, not another tool's */
        if (fa_tls.divert_bytes) n = fa_tls.divert_bytes;
        return fa_tls.diverted = zeroed ? raw->calloc(raw->ctx, 1, n) : raw->malloc(raw->ctx, n);
    }
    uint64_t weight = sample_due(n);
    void *block = zeroed ? raw->calloc(raw->ctx, count, size) : raw->malloc(raw->ctx, n);
    if (weight && block) sample_take(block, n, weight, fa_tls.domain);
    if (!block && !fa_tls.nested) sample_failed(n, fa_tls.domain);
    return block;
}

static NOINLINE void *raw_failed(size_t n)
{
    sample_failed(n, fa_tls.domain);
    return NULL;
}

static HOT_HOOK void *raw_malloc(void *ctx, size_t n)
{
    if (count_allocation(n)) return raw_allocate_slow(1, n, 0);
    void *block = original[FA_DOMAIN_RAW].malloc(ctx, n);
    return LIKELY(block) ? block : raw_failed(n);
}

static void *raw_calloc(void *ctx, size_t count, size_t size)
{
    if (count_allocation(count * size)) return raw_allocate_slow(count, size, 1);
    void *block = original[FA_DOMAIN_RAW].calloc(ctx, count, size);
    return LIKELY(block) ? block : raw_failed(count * size);
}

/* A sample, a call from inside OBJ or MEM realloc (which counted it), or the countdown is used up. */
static NOINLINE void *raw_realloc_slow(void *ctx, void *block, size_t n)
{
    struct fa_live taken;
    uint64_t weight = 0;
    struct fa_thread *thread = fa_tls.slot;
    int diverting = fa_tls.nested == FA_NESTED_DIVERT;
    int counted = fa_tls.nested || (block && thread->counted_block == (uintptr_t)block);
    thread->counted_block = 0;
    int taken_out = block && live_maybe(block) && sample_out(block, &taken);
    if (!counted && count_allocation(n)) weight = sample_due_again(n);
    void *moved = original[FA_DOMAIN_RAW].realloc(ctx, block, n);
    if (diverting && n == SMALL + 1) fa_tls.diverted = moved;
    if (taken_out) sample_out_done(&taken, moved != NULL);
    if (weight && moved) sample_take(moved, n, weight, fa_tls.domain);
    if (UNLIKELY(!moved) && !counted) sample_failed(n, fa_tls.domain);
    return moved;
}

static HOT_HOOK void *raw_realloc(void *ctx, void *block, size_t n)
{
    struct fa_thread *thread = fa_tls.slot;
    if (UNLIKELY(thread->left < (int64_t)n) || UNLIKELY(thread->counted_block == (uintptr_t)block) ||
        UNLIKELY(!live_home_empty(block)))
        return raw_realloc_slow(ctx, block, n);
    (void)count_allocation(n);
    void *moved = original[FA_DOMAIN_RAW].realloc(ctx, block, n);
    return LIKELY(moved) ? moved : raw_failed(n);
}

static NOINLINE void raw_free_slow(void *ctx, void *block)
{
    if (live_maybe(block)) sample_freed(block);
    original[FA_DOMAIN_RAW].free(ctx, block);
}

/* NULL first: no allocator does anything with it, and it is 1,512 of the 2,116 blocks that numpy's workload frees here. */
static HOT_HOOK void raw_free(void *ctx, void *block)
{
    if (!block) return;
    if (UNLIKELY(!live_home_empty(block))) {
        raw_free_slow(ctx, block);
        return;
    }
    original[FA_DOMAIN_RAW].free(ctx, block);
}

/* --- OBJ and MEM, divert design ---------------------------------------------------------- */

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
    uint64_t weight = sample_due(n);
    if (!weight) return zeroed ? original[domain].calloc(ctx, count, size) : original[domain].malloc(ctx, n);
    struct suspended was = suspend(FA_NESTED_DIVERT, n);
    void *block = zeroed ? original[domain].calloc(ctx, 1, SMALL + 1) : original[domain].malloc(ctx, SMALL + 1);
    int diverted = block && block == fa_tls.diverted;
    resume(was);
    if (diverted) sample_take(block, n, weight, domain);
    if (!block) sample_failed(n, domain);
    return block; /* if it did not come from RAW (the probe excludes it), it holds n bytes all the same */
}

static NOINLINE void *small_realloc_slow(void *ctx, void *block, size_t n, int domain)
{
    if (fa_tls.nested) return original[domain].realloc(ctx, block, n);
    uint64_t weight = sample_due(n);
    if (!weight) {
        fa_tls.slot->counted_block = (uintptr_t)block;
        return original[domain].realloc(ctx, block, n);
    }
    /* 513 bytes, since pymalloc copies the old block's size class into it; then cut down. A RAW
     * sample is taken out by the RAW hook below. */
    struct suspended was = suspend(FA_NESTED_DIVERT, 0);
    void *moved = original[domain].realloc(ctx, block, SMALL + 1);
    int diverted = moved && moved == fa_tls.diverted;
    resume(was);
    if (!moved) sample_failed(n, domain);
    if (!diverted) return moved;
    void *fitted = original[FA_DOMAIN_RAW].realloc(original[FA_DOMAIN_RAW].ctx, moved, n);
    if (fitted) moved = fitted;
    sample_take(moved, n, weight, domain);
    return moved;
}

/* Realloc to a small size. The block may be pymalloc's (it then stays or moves inside, and no hook of
 * ours runs below), or RAW's (a sample, or once larger), so that RAW realloc runs below and must not
 * count again: it knows the block by `counted_block`, forgets it there, and so costs this path one
 * store and leaves it its tail call.
 *
 *   OBJ realloc(b, 48) --> counts, counted_block = b --> original --+--> inside pymalloc
 *                                                                   +--> RAW realloc(b, 48): is it b? counted
 *
 * Safe: the field is the thread's own. A pymalloc block's address stays behind in it, and RAW never
 * sees one, unless the whole arena went back to the system and the C library mapped the same
 * address: then one RAW realloc goes uncounted, and nothing else happens. Measured on the PGO build:
 * see benchmarks/budgets.json. (Where pymalloc can get no arena it falls back on RAW malloc, which
 * then counts again.) */
static inline void *small_realloc(void *ctx, void *block, size_t n, int domain)
{
    if (count_allocation(n)) return small_realloc_slow(ctx, block, n, domain);
    fa_tls.slot->counted_block = (uintptr_t)block;
    return original[domain].realloc(ctx, block, n);
}

static inline void *large_realloc(void *ctx, void *block, size_t n, int domain)
{
    fa_tls.domain = (uint8_t)domain;
    void *moved = original[domain].realloc(ctx, block, n);
    fa_tls.domain = FA_DOMAIN_RAW;
    return moved;
}

#define DIVERT_HOOKS(name, domain)                                                                        \
    static HOT_HOOK void *name##_malloc(void *ctx, size_t n)                                              \
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

PyMemAllocatorEx divert_hooks(int domain)
{
    void *ctx = original[domain].ctx;
    switch (domain) {
    case FA_DOMAIN_RAW: return (PyMemAllocatorEx){ctx, raw_malloc, raw_calloc, raw_realloc, raw_free};
    case FA_DOMAIN_MEM: return (PyMemAllocatorEx){ctx, mem_malloc, mem_calloc, mem_realloc, original[domain].free};
    default: return (PyMemAllocatorEx){ctx, obj_malloc, obj_calloc, obj_realloc, original[domain].free};
    }
}
