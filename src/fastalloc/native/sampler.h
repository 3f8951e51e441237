/* Which allocations become samples.
 *
 * The bytes that a thread allocates lie in strata of `interval` bytes each, and in every stratum one byte is drawn,
 * each as likely as the others: the event. An allocation becomes a sample when an event falls inside it.
 *
 *   bytes allocated on this thread ------------------------------------------->
 *   |--4K--|-64-|---------1M---------|-64-|--4K--|-64-|-64-| ...
 *   .                .               .                .            strata
 *            ^          ^       ^                      ^
 *            events; this 1M block is one sample, not two
 *
 * A block with a, b and c bytes in three strata of T bytes is one with the chance
 *
 *   p = 1 - (1 - a/T) (1 - b/T) (1 - c/T)      that is size / T where it lies in one; 1 where it fills one
 *
 * and then stands for weight = size / p bytes. Horvitz and Thompson: the sum of weights is an unbiased estimate of the
 * bytes, of any subset, whatever the sizes and their order. (It has to be the p of where the block lies. Where all blocks
 * are as large as the interval they lie alike for ever, and an average p would be wrong by a fifth of it.)
 *
 * Why strata, and no Poisson process (distances drawn from an exponential law): each byte is as likely to be drawn in
 * both, but in a stratum that one line fills the line has one event for certain. Of f, the part of the bytes in each
 * stratum that is a line's, n strata have n f events on average, with the variance n f (1 - f); a Poisson process has
 * n f. So the error is never larger, and that of what allocates most, which is looked for, is far smaller.
 *
 * A draw may be given up for one from any place in a stratum, under another interval, where the program says so (a scope
 * that is recorded closely begins): the bytes behind and ahead have had, and have, the same chance. Where an event says
 * so, they have not: behind one comes the rest of its stratum, which has none, and who went elsewhere at each event would
 * count too many. So a thread looks up at notches too, whenever its bytes reach a multiple of FA_DRAW_CAP, events or
 * not, and changes the interval there (from 1, where each allocation is an event, and where none was, at once).
 */
#ifndef FA_SAMPLER_H
#define FA_SAMPLER_H

#include <stddef.h>
#include <stdint.h>

#include "layout.h"

#define FA_DRAW_CAP ((int64_t)1 << 20) /* a thread looks at the control word and the clock that often, at least */
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

/* A new draw under another interval, from any place in a stratum; allowed wherever no event has led to. Own thread. */
void sampler_redraw(struct fa_thread *thread, uint64_t interval);

/* Bytes that an allocation of `size` stands for which has taken the countdown below zero, rounded to whole bytes; 1 if it
 * is an empty one's; 0 if it is no sample. Before the refill. */
uint64_t sampler_due(const struct fa_thread *thread, uint64_t size);

/* The countdown is below zero. Refills it, under `interval` where it may change. */
void sampler_refill(struct fa_thread *thread, uint64_t interval);

/* Bytes that a sample of `size` stands for which is kept, or not, under an interval by its size alone: thinning. At 1 and
 * below each is. */
uint64_t sampler_weight(uint64_t size, uint64_t interval);

/* Estimated number of allocations of a sample, in 1/65536. */
uint64_t sampler_count_q16(uint64_t size, uint64_t weight);

/* Uniform in (0, 1]. */
double sampler_uniform(uint64_t *state);

#endif
