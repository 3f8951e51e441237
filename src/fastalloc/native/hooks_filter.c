/* The hooks of the filter design, for all that is not pymalloc (PYTHONMALLOC=malloc, debug hooks).
 *
 * The laws are those of hooks_divert.c. Every call counts where it enters, whatever its size, and the
 * hooks that the original reaches below only forward. Free is hooked in every domain, behind the live
 * table's lock-free filter.
 */
#include "hook_parts.h"

static void *filter_allocate(void *ctx, size_t count, size_t size, int zeroed, int domain)
{
    size_t n = count * size;
    uint64_t weight = 0;
    int outer = fa_tls.nested;
    struct suspended was = {NULL};
    if (!outer) {
        if (count_allocation(n)) weight = sample_due(n);
        was = suspend(FA_NESTED_PASS, 0);
    }
    void *block = zeroed ? original[domain].calloc(ctx, count, size) : original[domain].malloc(ctx, n);
    if (outer) return block;
    resume(was);
    if (weight && block) sample_take(block, n, weight, domain);
    if (UNLIKELY(!block)) sample_failed(n, domain);
    return block;
}

static void *filter_realloc(void *ctx, void *block, size_t n, int domain)
{
    struct fa_live taken;
    uint64_t weight = 0;
    int outer = fa_tls.nested, taken_out = 0;
    struct suspended was = {NULL};
    if (!outer) {
        taken_out = block && live_maybe(block) && sample_out(block, &taken);
        if (count_allocation(n)) weight = sample_due_again(n);
        was = suspend(FA_NESTED_PASS, 0);
    }
    void *moved = original[domain].realloc(ctx, block, n);
    if (outer) return moved;
    resume(was);
    if (taken_out) sample_out_done(&taken, moved != NULL);
    if (weight && moved) sample_take(moved, n, weight, domain);
    if (UNLIKELY(!moved)) sample_failed(n, domain);
    return moved;
}

static void filter_free(void *ctx, void *block, int domain)
{
    /* Inside another hook the block is an inner one: never a sample, but its address may be one's. */
    if (UNLIKELY(live_maybe(block)) && !fa_tls.nested) sample_freed(block);
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

PyMemAllocatorEx filter_hooks(int domain)
{
    void *ctx = original[domain].ctx;
    switch (domain) {
    case FA_DOMAIN_RAW:
        return (PyMemAllocatorEx){ctx, filter_raw_malloc, filter_raw_calloc, filter_raw_realloc, filter_raw_free};
    case FA_DOMAIN_MEM:
        return (PyMemAllocatorEx){ctx, filter_mem_malloc, filter_mem_calloc, filter_mem_realloc, filter_mem_free};
    default:
        return (PyMemAllocatorEx){ctx, filter_obj_malloc, filter_obj_calloc, filter_obj_realloc, filter_obj_free};
    }
}
