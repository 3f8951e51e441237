/* Which allocations become samples.
 *
 * A Poisson process runs over the bytes a thread allocates: on average one event every
 * `interval` bytes. An allocation becomes a sample when at least one event falls inside it,
 * which happens with probability p = 1 - exp(-size/interval), and then stands for
 * weight = size / p bytes. Horvitz and Thompson: the sum of weights is an unbiased estimate of
 * the bytes, of any subset, whatever the sizes.
 *
 *   bytes allocated on this thread ------------------------------------------->
 *   |--4K--|-64-|---------1M---------|-64-|--4K--|-64-|-64-| ...
 *                    ^       ^                        ^
 *                    events; this 1M block is one sample, not two
 *
 * The distance to the next event is drawn once and counted down; the draw is floor(Exp), so
 * that P(draw >= size) = exp(-size/interval) exactly. The process has no memory, so
 *  - after an allocation that contained events the next distance is drawn anew, and
 *  - a long draw may be handed to `left` in pieces of at most FA_DRAW_CAP (the slow path looks
 *    at the control word and the clock that often), and
 *  - at such a piece's end the rest may be redrawn under a new interval.
 */
#ifndef FA_SAMPLER_H
#define FA_SAMPLER_H

#include <stddef.h>
#include <stdint.h>

#include "layout.h"

#define FA_DRAW_CAP ((int64_t)1 << 20)
#define FA_PARKED ((int64_t)1 << 60) /* a countdown that no program reaches */

/* Bytes handed to or taken from the countdown. Keeps bytes = issued - left. Own thread only. */
static inline void sampler_issue(struct fa_thread *thread, uint64_t bytes)
{
    __atomic_store_n(&thread->issued, thread->issued + bytes, __ATOMIC_RELAXED);
    __atomic_store_n(&thread->left, (int64_t)((uint64_t)thread->left + bytes), __ATOMIC_RELEASE);
}

static inline uint64_t sampler_bytes(const struct fa_thread *thread)
{
    return thread->issued - (uint64_t)thread->left;
}

/* First draw of a thread; `left` may already be negative. */
void sampler_begin(struct fa_thread *thread, uint64_t interval, uint64_t seed);

/* A new draw under another interval; allowed at any point, the process having no memory. Own thread. */
void sampler_redraw(struct fa_thread *thread, uint64_t interval);

/* The countdown is below zero. Refills it. Returns the interval under which the allocation that
 * did it was sampled, or 0 if it was not. */
uint64_t sampler_refill(struct fa_thread *thread, uint64_t interval);

/* Bytes that a sample of `size` stands for, rounded to whole bytes. interval <= 1: size. */
uint64_t sampler_weight(uint64_t size, uint64_t interval);

/* Estimated number of allocations of a sample, in 1/65536. */
uint64_t sampler_count_q16(uint64_t size, uint64_t weight);

/* Uniform in (0, 1]. */
double sampler_uniform(uint64_t *state);

#endif
