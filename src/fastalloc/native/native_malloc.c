/* The hooks of malloc and its kin, and of dlsym and dlopen, by which newly loaded objects are noticed. */
#include "native_hooks.h"

#include <errno.h>

#include "live.h"
#include "notice.h"
#include "patches.h"
#include "sample.h"

#define HOT_HOOK __attribute__((hot, aligned(64)))

struct native_originals native_original;

/* After the original. A request that it turned down for its alignment was none. */
static NOINLINE void *allocated(void *block, size_t n, uint64_t weight)
{
    if (LIKELY(block)) {
        if (weight) sample_take(block, n, weight, FA_DOMAIN_MALLOC);
    } else if (n && errno == ENOMEM && !fa_tls.nested) {
        sample_failed(n, FA_DOMAIN_MALLOC);
    } else if (!fa_tls.nested) {
        sample_uncount(n);
    }
    return block;
}

static NOINLINE void *malloc_slow(size_t n)
{
    uint64_t weight = sample_due(n);
    return allocated(native_original.malloc(n), n, weight);
}

static HOT_HOOK void *hook_malloc(size_t n)
{
    if (count_allocation(n)) return malloc_slow(n);
    void *block = native_original.malloc(n);
    return LIKELY(block) ? block : allocated(NULL, n, 0);
}

static void *hook_calloc(size_t count, size_t size)
{
    size_t n = count * size; /* if that is too large, the original refuses, and it is taken back */
    uint64_t weight = count_allocation(n) ? sample_due(n) : 0;
    void *block = native_original.calloc(count, size);
    return LIKELY(block && !weight) ? block : allocated(block, n, weight);
}

static NOINLINE void free_slow(void *block)
{
    if (live_maybe(block)) sample_freed(block);
    native_original.free(block);
}

static HOT_HOOK void hook_free(void *block)
{
    if (UNLIKELY(!live_home_empty(block))) {
        free_slow(block);
        return;
    }
    native_original.free(block);
}

/* The block may be a sample, or is to become one. */
static NOINLINE void *realloc_slow(void *block, size_t n, int due)
{
    struct fa_live taken;
    int taken_out = block && live_maybe(block) && sample_out(block, &taken);
    uint64_t weight = due ? sample_due_again(n) : 0;
    void *moved = native_original.realloc(block, n);
    if (taken_out) sample_out_done(&taken, moved || !n); /* to 0 bytes: freed */
    return allocated(moved, n, weight);
}

static HOT_HOOK void *hook_realloc(void *block, size_t n)
{
    int due = count_allocation(n);
    if (UNLIKELY(due || !live_home_empty(block))) return realloc_slow(block, n, due);
    void *moved = native_original.realloc(block, n);
    return LIKELY(moved) ? moved : allocated(NULL, n, 0);
}

static void *hook_reallocarray(void *block, size_t count, size_t size)
{
    if (size && count > SIZE_MAX / size) return native_original.reallocarray(block, count, size); /* refuses */
    return hook_realloc(block, count * size);
}

static int hook_posix_memalign(void **block, size_t alignment, size_t n)
{
    uint64_t weight = count_allocation(n) ? sample_due(n) : 0;
    int error = native_original.posix_memalign(block, alignment, n);
    if (error) {
        int saved = errno; /* it answers with the error, and may leave errno alone */
        errno = error;
        allocated(NULL, n, 0);
        errno = saved;
    } else if (weight) {
        allocated(*block, n, weight);
    }
    return error;
}

static void *hook_aligned_alloc(size_t alignment, size_t n)
{
    uint64_t weight = count_allocation(n) ? sample_due(n) : 0;
    return allocated(native_original.aligned_alloc(alignment, n), n, weight);
}

static void *hook_memalign(size_t alignment, size_t n)
{
    uint64_t weight = count_allocation(n) ? sample_due(n) : 0;
    return allocated(native_original.memalign(alignment, n), n, weight);
}

static void *hook_valloc(size_t n)
{
    uint64_t weight = count_allocation(n) ? sample_due(n) : 0;
    return allocated(native_original.valloc(n), n, weight);
}

static void *hook_pvalloc(size_t n)
{
    uint64_t weight = count_allocation(n) ? sample_due(n) : 0;
    return allocated(native_original.pvalloc(n), n, weight);
}

/* Who has loaded an object asks for its symbols next: `import` for the module's initializer, ctypes for
 * functions. So this is when new objects are patched, before they run. A tail call: the original looks
 * at its return address to know who asks. */
static void *hook_dlsym(void *handle, const char *name)
{
    patches_follow();
    return native_original.dlsym(handle, name);
}

/* Whoever loads an object without the GIL may not go through it, nor may it ever be asked for a symbol. A
 * tail call, likewise: where a library is looked for depends on who asks. */
static void *hook_dlopen(const char *file, int mode)
{
    notice_loading();
    return native_original.dlopen(file, mode);
}

#define HOOK(name, family, hook) {#name, family, (void *)(hook), (void **)(void *)&native_original.name}

const struct native_hook native_hooks[NATIVE_HOOKS] = {
    HOOK(malloc, NATIVE_MALLOC, hook_malloc),
    HOOK(calloc, NATIVE_MALLOC, hook_calloc),
    HOOK(realloc, NATIVE_MALLOC, hook_realloc),
    HOOK(free, NATIVE_MALLOC, hook_free),
    HOOK(reallocarray, NATIVE_MALLOC, hook_reallocarray),
    HOOK(posix_memalign, NATIVE_MALLOC, hook_posix_memalign),
    HOOK(aligned_alloc, NATIVE_MALLOC, hook_aligned_alloc),
    HOOK(memalign, NATIVE_MALLOC, hook_memalign),
    HOOK(valloc, NATIVE_MALLOC, hook_valloc),
    HOOK(pvalloc, NATIVE_MALLOC, hook_pvalloc),
    HOOK(mmap, NATIVE_MMAP, native_mmap),
    {"mmap64", NATIVE_MMAP, (void *)native_mmap, (void **)(void *)&native_original.mmap},
    HOOK(munmap, NATIVE_MMAP, native_munmap),
    HOOK(mremap, NATIVE_MMAP, native_mremap),
    HOOK(dlsym, NATIVE_LOADER, hook_dlsym),
    HOOK(dlopen, NATIVE_LOADER, hook_dlopen),
};
