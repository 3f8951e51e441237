/* The live table: samples that were not freed yet.
 *
 *   address --hash--> index (private, 4 bytes a slot) --> FA_LIVE slot (in the recording)
 *
 * Slots never move while a sample lives, so a reader needs no index, and the recording's pages
 * are touched densely. The index is at most 1/8 full, and doubles as the filter in front of every
 * free. An entry holds 12 bits of the address's hash (the tag) and the slot's number:
 *
 *     31          20 19                    0
 *    |     tag      |     FA_LIVE slot      |     0: empty
 *
 * Laws
 *  1. While a block is in the table, its home slot in the index is not empty. (Linear probing: an
 *     entry stands at or behind its home with no gap between; removal moves entries back into the
 *     hole before the last of them is emptied.) So one 4-byte load of an empty home slot, without a
 *     lock, proves that a block is no sample. The thread that made the sample wrote the entry before
 *     the block's address could reach the thread that frees it.
 *  2. Where the home slot is not empty, no entry with the block's tag up to the next empty slot proves
 *     the same, if no entry was moved meanwhile: `moves` is even and the same before and after.
 */
#ifndef FA_LIVE_H
#define FA_LIVE_H

#include <stdint.h>

#include "recorder.h"

struct live_index {
    uint32_t shift; /* home slot = hash >> shift */
    uint32_t mask;
    uint32_t moves; /* odd while an entry is being removed */
    uint32_t slots[];
};

#define LIVE_SLOT_BITS 20
#define LIVE_SLOT(entry) ((entry) & ((1u << LIVE_SLOT_BITS) - 1))

extern struct live_index *live_index_current HIDDEN; /* never NULL */

static inline uint64_t live_hash(uintptr_t address)
{
    return (uint64_t)(address >> 4) * 0x9E3779B97F4A7C15ull;
}

static inline uint32_t live_tag(uint64_t hash)
{
    return (uint32_t)(hash >> 12) & ~((1u << LIVE_SLOT_BITS) - 1);
}

int live_maybe_behind(const struct live_index *index, uint64_t hash); /* law 2 */

/* Is the block's home slot empty? Then it is no sample (law 1). For the one free that must be quick. */
static inline int live_home_empty(const void *block)
{
    const struct live_index *index = __atomic_load_n(&live_index_current, __ATOMIC_ACQUIRE);
    return !__atomic_load_n(&index->slots[live_hash((uintptr_t)block) >> index->shift], __ATOMIC_RELAXED);
}

/* May this block be a sample? No lock. Wrong about once in 30,000 times, and only with yes. */
static inline int live_maybe(const void *block)
{
    const struct live_index *index = __atomic_load_n(&live_index_current, __ATOMIC_ACQUIRE);
    uint64_t hash = live_hash((uintptr_t)block);
    if (LIKELY(!__atomic_load_n(&index->slots[hash >> index->shift], __ATOMIC_RELAXED))) return 0;
    return live_maybe_behind(index, hash);
}

int live_reset(void); /* new recording; 0 on success; lock held, as for all below */
int live_child(void); /* forked child: the index anew, from the recording; 0 on success */
/* Adds a sample; `sample` without its address is what a slot shall hold. */
void live_add(uintptr_t address, const struct fa_live *sample);
/* Takes a sample out. 1 and the sample, or 0 when the block is none. */
int live_take(uintptr_t address, struct fa_live *taken);
/* Undoes a take: the block stays where it was (a realloc failed). */
void live_restore(const struct fa_live *taken);
/* Tells history and totals that a taken sample is gone for good. */
void live_forget(const struct fa_live *taken);
/* Drops all samples of a domain: their frees will not be seen any more. */
void live_drop_domain(uint32_t domain);

#endif
