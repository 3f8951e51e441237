#include "live.h"

#include <math.h>
#include <string.h>

#include "held.h"
#include "raw_memory.h"
#include "records.h"
#include "sampler.h"
#include "scopes.h"

/* Before the first recording: shift 63 leads to slot 0 or 1, both empty. */
static uint32_t no_index[5] = {63, 0, 0, 0, 0};

struct live_index *live_index_current = (struct live_index *)(void *)no_index;

#define FEWEST_BITS 12
#define MOST_BITS (LIVE_SLOT_BITS + 4) /* at most 1/8 full, then it doubles */

/* Every index ever made, by bits: never unmapped, for a free without the lock may still look into one that is
 * out of use. Another recording takes it again, so that starts and stops leave nothing behind. */
static struct live_index *made[MOST_BITS + 1];
static uint32_t live_used; /* entries in the index */
static uint64_t thinning_rng = 0x9E3779B97F4A7C15ull;

/* --- the index -------------------------------------------------------------------------- */

/* An empty one. Who still looks into it for an earlier recording finds that its block is no sample: true, for a
 * block that is being freed is none of this recording. */
static struct live_index *index_make(uint32_t bits)
{
    if (bits > MOST_BITS) return NULL;
    struct live_index *index = made[bits];
    if (index) {
        for (uint32_t at = 0; at <= index->mask; at++) /* what was never touched stays so */
            if (index->slots[at]) __atomic_store_n(&index->slots[at], 0, __ATOMIC_RELEASE);
        return index;
    }
    index = raw_memory_map(sizeof *index + (sizeof(uint32_t) << bits));
    if (!index) return NULL;
    index->shift = 64 - bits;
    index->mask = (1u << bits) - 1;
    return made[bits] = index;
}

int live_maybe_behind(const struct live_index *index, uint64_t hash)
{
    uint32_t moves = __atomic_load_n(&index->moves, __ATOMIC_ACQUIRE), entry;
    uint32_t at = (uint32_t)(hash >> index->shift), tag = live_tag(hash);
    if (moves & 1) return 1;
    while ((entry = __atomic_load_n(&index->slots[at], __ATOMIC_RELAXED))) {
        if (entry - tag <= LIVE_SLOT(entry)) return 1; /* the tags are the same */
        at = (at + 1) & index->mask;
    }
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
    return __atomic_load_n(&index->moves, __ATOMIC_RELAXED) != moves;
}

static uint32_t home_of(const struct live_index *index, uintptr_t address)
{
    return (uint32_t)(live_hash(address) >> index->shift);
}

static void index_place(struct live_index *index, uintptr_t address, uint32_t slot)
{
    uint32_t at = home_of(index, address);
    while (index->slots[at]) at = (at + 1) & index->mask;
    __atomic_store_n(&index->slots[at], live_tag(live_hash(address)) | slot, __ATOMIC_RELEASE);
}

static uintptr_t address_at(const struct live_index *index, uint32_t at)
{
    return (uintptr_t)fa.live[LIVE_SLOT(index->slots[at])].address;
}

/* A larger index. The old one is left as it is: what a free without the lock still finds there stays true
 * enough (a block added later cannot be freed by one who has not seen the new index; one removed later
 * costs a needless look). */
static void index_grow(void)
{
    struct live_index *old = live_index_current, *larger = index_make(64 - old->shift + 1);
    if (!larger) return;
    for (uint32_t at = 0; at <= old->mask; at++)
        if (old->slots[at]) index_place(larger, address_at(old, at), LIVE_SLOT(old->slots[at]));
    __atomic_store_n(&live_index_current, larger, __ATOMIC_RELEASE);
}

/* The block's slot in FA_LIVE, and where the index has it; 0: it is not there. */
static uint32_t index_find(uintptr_t address, uint32_t *at)
{
    const struct live_index *index = live_index_current;
    *at = home_of(index, address);
    if (!address) return 0;
    for (uint32_t entry; (entry = index->slots[*at]); *at = (*at + 1) & index->mask)
        if (fa.live[LIVE_SLOT(entry)].address == address) return LIVE_SLOT(entry);
    return 0;
}

/* Moves back what stands behind the hole, then empties the last slot: see the laws in live.h. */
static void index_remove(uint32_t hole)
{
    struct live_index *index = live_index_current;
    __atomic_store_n(&index->moves, index->moves + 1, __ATOMIC_RELAXED);
    __atomic_thread_fence(__ATOMIC_RELEASE);
    for (uint32_t at = (hole + 1) & index->mask; index->slots[at]; at = (at + 1) & index->mask) {
        uint32_t home = home_of(index, address_at(index, at));
        if (((at - home) & index->mask) < ((at - hole) & index->mask)) continue;
        __atomic_store_n(&index->slots[hole], index->slots[at], __ATOMIC_RELEASE);
        hole = at;
    }
    __atomic_store_n(&index->slots[hole], 0, __ATOMIC_RELEASE);
    __atomic_store_n(&index->moves, index->moves + 1, __ATOMIC_RELEASE);
}

/* An index for what is in FA_LIVE. */
int live_child(void)
{
    uint32_t bits = FEWEST_BITS;
    while (bits < MOST_BITS && REGION(FA_LIVE).used * 8 > 1ull << bits) bits++;
    struct live_index *index = index_make(bits);
    if (!index) return -1;
    live_used = 0;
    for (uint32_t slot = 1; slot < REGION(FA_LIVE).used; slot++) {
        if (!fa.live[slot].address) continue;
        index_place(index, (uintptr_t)fa.live[slot].address, slot);
        live_used++;
    }
    __atomic_store_n(&live_index_current, index, __ATOMIC_RELEASE);
    return 0;
}

int live_reset(void)
{
    REGION(FA_LIVE).used = 1;
    fa.header->live_free = 0;
    return live_child();
}

/* --- totals ----------------------------------------------------------------------------- */

static void totals_add(const struct fa_live *sample)
{
    uint64_t count = sampler_count_q16(sample->size, sample->weight);
    held_add(&fa.sites[sample->site].held, sample->weight, count);
    if (sample->domain == FA_DOMAIN_ARENA) return;
    struct fa_span *span = &fa.spans[sample->span];
    held_add(&span->held, sample->weight, count);
    if (span->held.live_bytes > span->peak_bytes) span->peak_bytes = span->held.live_bytes;
    held_add(&fa.phases[sample->phase].held, sample->weight, count);
    held_add(&fa.thread_names[sample->thread_name].held, sample->weight, count);
    struct fa_header *header = fa.header;
    header->live_bytes += sample->weight;
    header->live_count_q16 += count;
    header->live_samples++;
    if (header->live_bytes > header->high_water_bytes) {
        header->high_water_bytes = header->live_bytes;
        header->high_water_count_q16 = header->live_count_q16;
        header->high_water_ns = header->updated_ns; /* a thinned sample is an old one */
        header->at_peak = 1;
    }
}

static void totals_remove(const struct fa_live *sample)
{
    uint64_t count = sampler_count_q16(sample->size, sample->weight);
    if (sample->domain != FA_DOMAIN_ARENA) {
        struct fa_header *header = fa.header;
        if (header->at_peak) {
            header->at_peak = 0;
            header->peak++;
        }
        held_remove(&fa.spans[sample->span].held, sample->weight, count);
        held_remove(&fa.phases[sample->phase].held, sample->weight, count);
        held_remove(&fa.thread_names[sample->thread_name].held, sample->weight, count);
        header->live_bytes -= sample->weight;
        header->live_count_q16 -= count;
        header->live_samples--;
    }
    held_remove(&fa.sites[sample->site].held, sample->weight, count);
}

/* --- samples ---------------------------------------------------------------------------- */

static uint32_t slot_take(void)
{
    uint32_t slot = fa.header->live_free;
    if (slot) {
        fa.header->live_free = fa.live[slot].site;
        return slot;
    }
    struct fa_region *region = &REGION(FA_LIVE);
    return region->used < region->capacity ? (uint32_t)region->used++ : 0;
}

static void slot_give_back(uint32_t slot)
{
    fa.live[slot].address = 0; /* first: a reader takes it for free from here on */
    fa.live[slot].site = fa.header->live_free;
    fa.header->live_free = slot;
}

static int remove_at(uint32_t slot, uint32_t at, struct fa_live *taken)
{
    *taken = fa.live[slot];
    taken->generation = (uint32_t)taken->generation | (uint64_t)fa.header->sweeps << 32;
    index_remove(at);
    slot_give_back(slot);
    live_used--;
    totals_remove(taken);
    return 1;
}

int live_take(uintptr_t address, struct fa_live *taken)
{
    uint32_t at, slot = index_find(address, &at);
    return slot ? remove_at(slot, at, taken) : 0;
}

/* The table is full: double the interval and keep each sample with the probability that it would
 * have been one under the new interval, given that it was under the old. The weights stay
 * unbiased, and the recorder does not go blind. About 50 ns a sample, once a doubling. */
static void thin(void)
{
    uint64_t old = fa.interval, interval = old < 2 ? 2 : old * 2;
    if (old >= (uint64_t)FA_PARKED) return; /* tracking is stopped: under that interval nothing would be kept */
    uint64_t used = REGION(FA_LIVE).used;
    for (uint32_t slot = 1; slot < used; slot++) {
        struct fa_live *sample = &fa.live[slot];
        if (!sample->address || sample->domain == FA_DOMAIN_ARENA) continue;
        uint64_t size = sample->size ? sample->size : 1;
        uint64_t weight = sampler_weight(size, interval);
        if (weight <= sample->weight) continue; /* taken under a wider interval already */
        struct fa_live taken;
        uint32_t at;
        index_find((uintptr_t)sample->address, &at);
        double was = sample->weight ? (double)size / (double)sample->weight : 1;
        double keep = (double)size / (double)weight / was;
        remove_at(slot, at, &taken);
        if (sampler_uniform(&thinning_rng) <= keep) {
            taken.weight = sample->size ? weight : taken.weight;
            live_add((uintptr_t)taken.address, &taken);
        } else {
            span_check_unused(taken.span);
        }
    }
    fa.interval = interval;
    fa.header->interval_bytes = interval;
    event_write(FA_EVENT_THINNED, old, interval, 0);
}

void live_add(uintptr_t address, const struct fa_live *sample)
{
    uint32_t at, slot = index_find(address, &at);
    struct fa_live stale;
    if (slot) { /* its free went unseen */
        remove_at(slot, at, &stale);
        span_check_unused(stale.span);
        fa_lose(FA_LOSS_STALE);
    }
    slot = slot_take();
    if (!slot) {
        thin();
        slot = slot_take();
    }
    if (!slot) {
        fa_lose(FA_LOSS_LIVE);
        return;
    }
    if (live_used * 8u >= live_index_current->mask) index_grow();
    if (live_used + 1 >= live_index_current->mask) { /* no memory to grow: keep an empty slot */
        slot_give_back(slot);
        fa_lose(FA_LOSS_LIVE);
        return;
    }
    fa.live[slot] = *sample;
    __atomic_store_n(&fa.live[slot].address, address, __ATOMIC_RELEASE);
    index_place(live_index_current, address, slot);
    live_used++;
    totals_add(&fa.live[slot]);
}

static int is_of_this_recording(const struct fa_live *taken)
{
    return (uint32_t)taken->generation == fa.generation;
}

/* Its site may have been given up while the original worked. */
static uint32_t site_now(const struct fa_live *taken)
{
    return taken->generation >> 32 == fa.header->sweeps ? taken->site : 0;
}

void live_restore(const struct fa_live *taken)
{
    struct fa_live sample = *taken;
    sample.site = site_now(taken);
    if (!fa.spans[sample.span].id) sample.span = 0; /* its span was given up meanwhile */
    if (is_of_this_recording(taken)) live_add((uintptr_t)sample.address, &sample);
}

void live_forget(const struct fa_live *taken)
{
    if (!is_of_this_recording(taken)) return; /* its recording was closed meanwhile */
    if (taken->domain != FA_DOMAIN_ARENA) {
        struct fa_region *region = &REGION(FA_FREED);
        *RING_SLOT(fa.freed, FA_FREED, region->used) = (struct fa_freed){
            .time_ns = taken->time_ns,
            .freed_ns = fa_now_ns(),
            .address = taken->address,
            .size = taken->size,
            .weight = taken->weight,
            .site = site_now(taken),
            .tid = taken->tid,
            .span_id = fa.spans[taken->span].id,
            .phase = taken->phase,
            .thread_name = taken->thread_name,
        };
        region->used++;
    }
    fa.header->freed++;
    span_check_unused(taken->span);
}

void live_drop_domain(uint32_t domain)
{
    for (uint32_t slot = 1; slot < REGION(FA_LIVE).used; slot++) {
        if (!fa.live[slot].address || fa.live[slot].domain != domain) continue;
        struct fa_live taken;
        uint32_t at;
        index_find((uintptr_t)fa.live[slot].address, &at);
        remove_at(slot, at, &taken);
        span_check_unused(taken.span);
    }
}
