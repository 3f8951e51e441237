#include "notice.h"

#include <stdlib.h>

#include "fastalloc.h"
#include "native_state.h"
#include "watcher.h"

#define AT_MOST_EVERY_NS 100000000ull

static void **sentinel;
static void *sentinel_hook;
static int loading;
static uint64_t rung_ns;

/* What makes the linker keep a slot for it. */
void *volatile sentinel_address HIDDEN;

void sentinel_set(void **slot, void *hook)
{
    sentinel_address = (void *)free;
    if (slot) __atomic_store_n(&sentinel_hook, hook, __ATOMIC_RELAXED);
    __atomic_store_n(&sentinel, slot, __ATOMIC_RELEASE);
}

int sentinel_is_taken(void)
{
    void **slot = __atomic_load_n(&sentinel, __ATOMIC_ACQUIRE);
    return slot && __atomic_load_n(slot, __ATOMIC_RELAXED) != __atomic_load_n(&sentinel_hook, __ATOMIC_RELAXED);
}

void notice_loading(void)
{
    __atomic_store_n(&loading, 1, __ATOMIC_RELAXED);
}

void notice_walk(void)
{
    __atomic_store_n(&loading, 0, __ATOMIC_RELAXED);
}

static int is_due(void)
{
    if (LIKELY(!__atomic_load_n(&loading, __ATOMIC_RELAXED) && !sentinel_is_taken())) return 0;
    if (!native_state.on) return 0;
    uint64_t now = fa_now_ns(), last = __atomic_load_n(&rung_ns, __ATOMIC_RELAXED);
    if (now - last < AT_MOST_EVERY_NS) return 0;
    return __atomic_compare_exchange_n(&rung_ns, &last, now, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
}

void notice_at_sample(void)
{
    if (is_due()) watcher_raise(FA_REASON_NATIVE);
}

int notice_at_watch(void)
{
    return !native_state.stuck && is_due();
}
