/* The recorder: the one process-wide state behind the hooks, and its lock.
 *
 * Laws
 *  1. The lock is never held across foreign code: no CPython call, no original allocator, no
 *     callback, no fork (whose handlers are foreign code). Its holder may only touch the mapping and private tables (page faults, mmap),
 *     so no cycle of waiting can arise.
 *  2. Whoever holds it has set fa_tls.locked, so that a signal handler which allocates on top
 *     of the holder goes straight to the original instead of waiting for itself.
 *  3. The mapping's address range is never given back while the process lives: a thread may
 *     stand between two instructions of a hook with a pointer into it. stop() puts anonymous
 *     memory under it instead.
 *  4. Nothing here allocates through malloc or Python: private tables come from mmap
 *     (raw_memory.c).
 */
#ifndef FA_RECORDER_H
#define FA_RECORDER_H

#include <stddef.h>
#include <stdint.h>

#include "layout.h"

/* Extern data of our own, reached without the GOT: -fvisibility covers definitions only. */
#define HIDDEN __attribute__((visibility("hidden")))

#define LIKELY(x) __builtin_expect(!!(x), 1)
#define UNLIKELY(x) __builtin_expect(!!(x), 0)
#define NOINLINE __attribute__((noinline))

/* What a thread needs in every hook. One block, so that the hook finds it with one address
 * computation. `slot` is &fa_nobody until the thread has registered, and while it is inside a
 * nested call: fa_nobody's countdown is always used up, so every hook then takes its slow path,
 * which looks at the other fields. The fast path tests nothing. */
struct fa_tls {
    struct fa_thread *slot;
    void *diverted;      /* the block that RAW handed out during a diversion */
    size_t divert_bytes; /* what RAW shall hand out; 0: as asked */
    uint8_t nested;      /* enum fa_nested */
    uint8_t busy;        /* recording a sample */
    uint8_t locked;      /* holds the recorder's lock */
    uint8_t outside;     /* past its exit destructor, or our own work: never registers (again) */
    uint32_t refused;    /* generation in which no slot was free for it */
    uint32_t slot_index;
    uint8_t domain;      /* of a large block on its way from OBJ or MEM to RAW */
    uint8_t forking;     /* between its fork handlers: see fa_barred */
    uint8_t caught_up;   /* a sample moved the thread to the running context's scope; see scopes.h */
    uint32_t before_catch_up;          /* the scope it was in before that */
    const void *ignored_context;       /* a context that does not tell the scope just now */
};

enum fa_nested {
    FA_NESTED_NO,
    FA_NESTED_PASS,   /* an outer hook counts: RAW only forwards */
    FA_NESTED_DIVERT, /* RAW serves a sample of OBJ or MEM */
};

extern __thread struct fa_tls fa_tls HIDDEN;
extern struct fa_thread fa_nobody HIDDEN;

/* Counts an allocation. True when the countdown is used up. With the tail call that follows, 9
 * instructions for OBJ malloc on x86_64, 3 of them the test for small. No atomics: the slot is this
 * thread's own, and readers of the recording take what they find. */
static inline int count_allocation(size_t n)
{
    struct fa_thread *thread = fa_tls.slot;
    thread->count++;
    return UNLIKELY((thread->left -= (int64_t)n) < 0);
}

struct fa_recorder {
    struct fa_header *header; /* NULL until the first start */
    /* the regions of `header`, as pointers */
    struct fa_thread *threads;
    char *strings;
    struct fa_function *functions;
    struct fa_node *nodes;
    struct fa_site *sites;
    struct fa_live *live;
    struct fa_freed *freed;
    struct fa_span *spans;
    struct fa_phase *phases;
    struct fa_thread_name *thread_names;
    struct fa_record *records;
    struct fa_tick *timeline;
    struct fa_tick *timeline_long;
    struct fa_event *events;

    uint32_t generation; /* counts recordings; a thread's slot belongs to one of them */
    int active;          /* samples are taken (atomic; hooks may be in place without) */
    int walk;            /* stacks may be walked (cleared before the interpreter goes) */
    uint64_t interval;   /* in force; threads take it up at their next draw */
    uint32_t max_frames;
    uint32_t native_frames; /* 0: none are kept */
    size_t mapped_bytes; /* of the range at `header` */
    char directory[1024];
    char path[1200];
};

extern struct fa_recorder fa HIDDEN;

#define REGION(id) (fa.header->regions[id])

void fa_lock(void);
void fa_unlock(void);
void fa_lock_reset(void); /* in a forked child */

/* Must this thread leave lock and tables alone? It holds the lock already. Or it is a child in which an
 * earlier library's fork handler runs before ours: there the mapping is still the parent's, and a
 * thread that the child has not may hold the lock. */
int fa_in_unready_child(void);
static inline int fa_barred(void)
{
    return fa_tls.locked || UNLIKELY(fa_tls.forking && fa_in_unready_child());
}

uint64_t fa_now_ns(void); /* since start_monotonic_ns */

static inline void fa_lose(enum fa_loss loss)
{
    if (fa.header) __atomic_fetch_add(&fa.header->losses[loss], 1, __ATOMIC_RELAXED);
}

/* Slot of a ring for entry number `n` (0-based). */
#define RING_SLOT(array, region, n) (&(array)[(n) % REGION(region).capacity])

#endif
