/* The rare path of a hook: one allocation becomes a sample, or stops being one.
 *
 * None of these allocates, calls Python, or keeps the lock on return; errno survives.
 */
#ifndef FA_SAMPLE_H
#define FA_SAMPLE_H

#include <stddef.h>
#include <stdint.h>

#include "recorder.h"

/* The countdown is used up (or the thread is unknown yet): registers, refills. What this allocation stands for as a
 * sample, as sampler_due() says; 0: it is none. */
uint64_t sample_due(size_t n);
/* The same for a realloc: of the n bytes most are there already. CPython's own lists and bytearrays grow
 * by an eighth. */
uint64_t sample_due_again(size_t n);
void sample_take(const void *block, size_t n, uint64_t weight, int domain);

/* Before the original frees a block that may be a sample. */
void sample_freed(const void *block);
/* Before the original moves a block: out of the live table. 1 if it was a sample. */
int sample_out(const void *block, struct fa_live *taken);
/* After: `gone`, or still where it was. */
void sample_out_done(const struct fa_live *taken, int gone);

/* Takes an allocation back that was counted and then refused. */
void sample_uncount(size_t n);
/* The original returned NULL: taken back from the counters, and an event with the stack. */
void sample_failed(size_t n, int domain);
/* An event with the calling thread's stack. fa_tls.busy is set, no lock held. */
void sample_event(enum fa_event_kind kind, uint64_t a, uint64_t b);
void sample_arena(const void *arena, size_t n);
void sample_arena_freed(const void *arena, size_t n);

#endif
