/* The guard: acts before the memory runs out.
 *
 *            summary_percent              guard_percent
 *   ARMED ----------------------> WARNED ----------------> TRIPPED
 *     ^  <----- 5 points below ------'                        |
 *     +---- below guard_rearm_percent, after the cooldown ----+
 *
 * Two look at the usage:
 *  - the allocations. Each thread comes by once in FA_DRAW_CAP bytes at the latest, and before any single
 *    allocation larger than that. The bytes of all threads add up, and when they might have taken half of
 *    what is left to the next line, or 128 MiB, the usage is read. So a thread that allocates at full speed in
 *    one C call cannot run past the line; and one allocation that would carry the usage over it is seen before.
 *  - the watcher, for memory that is touched later, file mappings, other processes of the cgroup.
 *
 * Who finds the line crossed stamps it into the recording, with the stack that allocates: nothing is left
 * to be flushed, and stops the sampling. All else (dump, callbacks, log line, hooks off) is Python's, in the
 * watcher's thread.
 *
 * The watcher has no stack to stamp: the thread that comes by next stamps the same once more, with its own, as the
 * witness. Python's acting is put off for it, by 100 ms at most, and no longer than until an eighth of what was left of
 * the limit is taken.
 *
 * While TRIPPED tracking is stopped: no object hooks, no samples. RAW and arena hooks stay, which cost
 * nothing: they see samples freed, so that the live heap stays true, and allocations that fail.
 */
#ifndef FA_GUARD_H
#define FA_GUARD_H

#include <stddef.h>
#include <stdint.h>

#include "fastalloc.h"
#include "recorder.h"

void guard_begin(const struct fa_config *config); /* with a recording, its limits open */
void guard_child(void);                           /* a child has a guard of its own */
void guard_forget_stop(void);                     /* the program has chosen a mode by itself */

extern uint32_t guard_looks HIDDEN; /* 1: allocations are to come by */
void guard_add(struct fa_thread *thread, uint64_t about_to);
void guard_add_arena(uint64_t bytes);

/* A thread comes by, `about_to` allocate that much. In hooks, no lock held. About 5 ns; 17 to
 * 50 us when it reads, in a program that fills the caches. */
static inline void guard_come_by(struct fa_thread *thread, uint64_t about_to)
{
    if (__atomic_load_n(&guard_looks, __ATOMIC_RELAXED)) guard_add(thread, about_to);
}

/* The watcher looks. In how many ns to look again. */
uint64_t guard_poll(uint32_t *reasons);

#endif
