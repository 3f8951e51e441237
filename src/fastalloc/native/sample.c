#define _GNU_SOURCE
#include "sample.h"

#include <errno.h>

#include "climb.h"
#include "control.h"
#include "fastalloc.h"
#include "guard.h"
#include "live.h"
#include "mappings.h"
#include "native_frames.h"
#include "notice.h"
#include "own_cpu.h"
#include "recording.h"
#include "records.h"
#include "sampler.h"
#include "scopes.h"
#include "sites.h"
#include "stack.h"
#include "sweep.h"
#include "threads.h"
#include "usage.h"

static int active(void)
{
    return __atomic_load_n(&fa.active, __ATOMIC_ACQUIRE);
}

/* about_to: how much of it the guard must expect to be new. */
static inline uint64_t due(size_t n, size_t about_to)
{
    struct fa_thread *thread = fa_tls.slot;
    if (thread == &fa_nobody || thread->generation != fa.generation) {
        fa_nobody.left = -1;
        fa_tls.slot = thread == &fa_nobody ? thread : &fa_nobody; /* a slot of an earlier recording */
        thread = thread_slot();
        if (!thread) return 0;
        thread->count++;
        if ((thread->left -= (int64_t)n) >= 0) return 0;
    }
    if (!active()) {
        sampler_issue(thread, (uint64_t)FA_DRAW_CAP - (uint64_t)thread->left); /* look again then: it may be switched on */
        return 0;
    }
    /* Told before the guard comes by: what makes it stop sampling is sampled still, a jump is what the recording has
     * to name. */
    uint64_t weight = sampler_due(thread, n);
    guard_come_by(thread, about_to);
    sampler_refill(thread, scope_interval(thread));
    return weight;
}

uint64_t sample_due(size_t n)
{
    return due(n, n);
}

uint64_t sample_due_again(size_t n)
{
    return due(n, n / 8);
}

/* The stack and what to do with it, for samples and events alike. */
struct stack {
    struct raw_frame *frames;
    int count;
    int cut;
    uint64_t hash;
    fa_scope scope;
};

/* A thread that Python does not know; it may have a C stack of 16 KiB, too little for `frames`. */
static const struct stack no_stack = {.count = -1, .scope = FA_SCOPE_UNKNOWN};

/* Domain of what has no native frames: an event, or not of a library. */
#define NO_DOMAIN (-1)

static int native_frames_of(int domain)
{
    return domain == FA_DOMAIN_MALLOC || domain == FA_DOMAIN_MMAP ? (int)fa.native_frames : 0;
}

static void walk(struct stack *stack, struct raw_frame frames[FA_MAX_STACK], int domain)
{
    int native = native_frames_of(domain), native_cut;
    uint64_t native_hash = 0;
    if (native) native = native_frames_walk(frames, native, stack_native_limit_nopy(), &native_hash, &native_cut);
    stack->frames = frames;
    stack->count = stack_walk_nopy(frames + native, (int)fa.max_frames, &stack->hash, &stack->cut);
    if (native) {
        stack->count = native + (stack->count > 0 ? stack->count : 0);
        stack->hash ^= native_hash * 0x9E3779B97F4A7C15ull;
    }
    stack->scope = fa_context_scope();
}

/* Lock held. */
static uint32_t intern(const struct stack *stack)
{
    sweep_if_needed();
    if (stack->cut) fa_lose(FA_LOSS_DEEP_STACK);
    if (stack->count <= 0) fa_lose(FA_LOSS_NO_STACK);
    return stack_intern(stack->frames, stack->count, stack->hash, stack->cut);
}

static NOINLINE void record_at(const struct stack *stack, const void *block, uint64_t size, uint64_t weight, int domain)
{
    uint64_t now = fa_now_ns();
    usage_refresh(now, 1000000000ull);
    recording_settle(sampler_bytes(fa_tls.slot) > FA_SETTLE_BYTES ? 0 : FA_SETTLE_NS);
    fa_lock();
    struct fa_thread *slot = fa_tls.slot;
    if (active() && slot != &fa_nobody && slot->generation == fa.generation) {
        scope_catch_up(slot, stack->scope);
        uint32_t site = site_intern(intern(stack), (uint32_t)domain);
        struct fa_live sample = {
            .size = size,
            .weight = weight,
            .time_ns = now,
            .site = site,
            .span = slot->span,
            .phase = slot->phase,
            .tid = slot->tid,
            .thread_name = slot->name,
            .domain = (uint32_t)domain,
            .generation = fa.generation,
        };
        fa.sites[site].total_bytes += weight;
        fa.sites[site].total_count_q16 += sampler_count_q16(size, weight);
        fa.header->samples++;
        fa.header->updated_ns = now;
        if (domain != FA_DOMAIN_MMAP || mappings_add((uintptr_t)block, size)) live_add((uintptr_t)block, &sample);
        else fa_lose(FA_LOSS_LIVE);
        timeline_tick(now);
        control_look();
    }
    fa_unlock();
    climb_look();
    notice_at_sample();
}

static NOINLINE void record_with_stack(const void *block, uint64_t size, uint64_t weight, int domain)
{
    struct raw_frame frames[FA_MAX_STACK];
    struct stack stack;
    walk(&stack, frames, domain);
    record_at(&stack, block, size, weight, domain);
}

static NOINLINE void record_in_native_thread(const void *block, uint64_t size, uint64_t weight, int domain)
{
    struct raw_frame frames[FA_MAX_NATIVE_FRAMES];
    struct stack stack = no_stack;
    stack.frames = frames;
    stack.hash = 0;
    stack.count = native_frames_walk(frames, native_frames_of(domain), 0, &stack.hash, &stack.cut);
    record_at(&stack, block, size, weight, domain);
}

static void record(const void *block, uint64_t size, uint64_t weight, int domain)
{
    int saved = errno;
    if (stack_has_python_nopy()) record_with_stack(block, size, weight, domain);
    else if (native_frames_of(domain)) record_in_native_thread(block, size, weight, domain);
    else record_at(&no_stack, block, size, weight, domain);
    errno = saved;
}

void sample_take(const void *block, size_t n, uint64_t weight, int domain)
{
    if (fa_tls.busy || fa_barred()) { /* a signal handler on top of ourselves */
        fa_lose(FA_LOSS_REENTRANT);
        return;
    }
    fa_tls.busy = 1;
    uint64_t begun = own_cpu_begin();
    record(block, n, n ? weight : 0, domain);
    own_cpu_end(begun);
    fa_tls.busy = 0;
}

int sample_out(const void *block, struct fa_live *taken)
{
    if (fa_barred() || !fa.header || !block) return 0;
    int saved = errno;
    uint64_t begun = own_cpu_begin();
    fa_lock();
    int was = live_take((uintptr_t)block, taken);
    fa_unlock();
    own_cpu_end(begun);
    errno = saved;
    return was;
}

void sample_freed(const void *block)
{
    struct fa_live taken;
    if (fa_barred() || !fa.header || !block) return;
    int saved = errno;
    uint64_t begun = own_cpu_begin();
    fa_lock();
    if (live_take((uintptr_t)block, &taken)) live_forget(&taken);
    fa_unlock();
    own_cpu_end(begun);
    errno = saved;
}

void sample_out_done(const struct fa_live *taken, int gone)
{
    int saved = errno;
    uint64_t begun = own_cpu_begin();
    fa_lock();
    if (gone) live_forget(taken);
    else live_restore(taken);
    fa_unlock();
    own_cpu_end(begun);
    errno = saved;
}

static void event_at(const struct stack *stack, enum fa_event_kind kind, uint64_t a, uint64_t b)
{
    fa_lock();
    if (active()) event_write(kind, a, b, stack->count > 0 ? intern(stack) : 0);
    fa_unlock();
}

static NOINLINE void event_with_stack(enum fa_event_kind kind, uint64_t a, uint64_t b)
{
    struct raw_frame frames[FA_MAX_STACK];
    struct stack stack;
    walk(&stack, frames, NO_DOMAIN);
    event_at(&stack, kind, a, b);
}

void sample_event(enum fa_event_kind kind, uint64_t a, uint64_t b)
{
    int saved = errno;
    if (stack_has_python_nopy()) event_with_stack(kind, a, b);
    else event_at(&no_stack, kind, a, b);
    errno = saved;
}

void sample_uncount(size_t n)
{
    struct fa_thread *thread = fa_tls.slot;
    if (thread == &fa_nobody || thread->generation != fa.generation || !thread->count) return;
    thread->count--;
    thread->issued -= n;
    if ((int64_t)n < 0) sampler_redraw(thread, scope_interval(thread)); /* so large that it counted upwards */
}

static NOINLINE void record_failure_at(const struct stack *stack, size_t n, int domain)
{
    usage_refresh(fa_now_ns(), 1000000);
    fa_lock();
    if (active()) event_write_failure(n, domain, intern(stack));
    fa_unlock();
}

static NOINLINE void record_failure_with_stack(size_t n, int domain)
{
    struct raw_frame frames[FA_MAX_STACK];
    struct stack stack;
    walk(&stack, frames, domain);
    record_failure_at(&stack, n, domain);
}

void sample_failed(size_t n, int domain)
{
    if (domain != FA_DOMAIN_ARENA) sample_uncount(n);
    if (!active() || fa_tls.busy || fa_barred() || !fa.header) return;
    int saved = errno;
    fa_tls.busy = 1;
    if (stack_has_python_nopy()) record_failure_with_stack(n, domain);
    else record_failure_at(&no_stack, n, domain);
    fa_tls.busy = 0;
    errno = saved;
}

void sample_arena(const void *arena, size_t n)
{
    if (!active() || fa_tls.busy || fa_barred()) return;
    __atomic_fetch_add(&fa.header->arena_bytes, n, __ATOMIC_RELAXED);
    if (fa.header->mode != FA_MODE_STANDBY || !thread_slot()) return;
    guard_add_arena(n);
    if (fa.interval >= (uint64_t)FA_PARKED) return; /* the guard has stopped tracking */
    fa_tls.busy = 1;
    uint64_t begun = own_cpu_begin();
    record(arena, n, n, FA_DOMAIN_ARENA);
    own_cpu_end(begun);
    fa_tls.busy = 0;
}

void sample_arena_freed(const void *arena, size_t n)
{
    if (!fa.header) return;
    __atomic_fetch_sub(&fa.header->arena_bytes, n, __ATOMIC_RELAXED);
    if (live_maybe(arena)) sample_freed(arena);
}
