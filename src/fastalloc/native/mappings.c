#include "mappings.h"

#include <errno.h>
#include <string.h>

#include "live.h"
#include "raw_memory.h"
#include "scopes.h"

/* A quarter of the live table's, so it follows the option `scale`: 4096 at 1. More than the kernel's usual limit of
 * mappings (65530 for a process) helps nobody, and would make what is moved at an insertion long. */
#define MOST 65536u

struct range {
    uintptr_t start, end;
};
static struct range *ranges; /* sorted, none overlaps another */
static uint32_t used, capacity;

void mappings_reset(void)
{
    uint32_t wanted = REGION(FA_LIVE).capacity / 4 < MOST ? REGION(FA_LIVE).capacity / 4 : MOST;
    __atomic_store_n(&used, 0, __ATOMIC_RELAXED);
    if (wanted == capacity) return;
    raw_memory_unmap(ranges, capacity * sizeof *ranges);
    ranges = NULL;
    capacity = wanted;
}

/* The first range that ends behind `address`. */
static uint32_t first_behind(uintptr_t address)
{
    uint32_t low = 0, high = used;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (ranges[middle].end > address) high = middle;
        else low = middle + 1;
    }
    return low;
}

static int insert(uintptr_t start, uintptr_t end)
{
    if (!ranges) ranges = raw_memory_map(capacity * sizeof *ranges);
    if (!ranges || used >= capacity) return 0;
    uint32_t at = first_behind(start);
    memmove(&ranges[at + 1], &ranges[at], (used - at) * sizeof *ranges);
    ranges[at] = (struct range){start, end};
    __atomic_store_n(&used, used + 1, __ATOMIC_RELAXED);
    return 1;
}

static void remove_at(uint32_t at)
{
    __atomic_store_n(&used, used - 1, __ATOMIC_RELAXED);
    memmove(&ranges[at], &ranges[at + 1], (used - at) * sizeof *ranges);
}

static void add_piece(const struct fa_live *whole, uintptr_t start, uintptr_t end)
{
    struct fa_live piece = *whole;
    if (start >= end) return;
    piece.size = end - start;
    piece.weight = (uint64_t)((double)whole->weight * (double)piece.size / (double)whole->size + 0.5);
    if (insert(start, end)) live_add(start, &piece);
    else fa_lose(FA_LOSS_LIVE);
}

/* Takes the next sample that overlaps [start, end) out of the live heap, and puts back what lies outside of it.
 * 0: there is none. */
static int cut_next(uintptr_t start, uintptr_t end, struct fa_live *whole)
{
    for (;;) {
        uint32_t at = first_behind(start);
        if (at >= used || ranges[at].start >= end) return 0;
        struct range range = ranges[at];
        remove_at(at);
        if (!live_take(range.start, whole)) continue; /* given up meanwhile, when the table was thinned */
        if (whole->domain != FA_DOMAIN_MMAP) { /* likewise, and the address was allocated again */
            live_add(range.start, whole);
            continue;
        }
        add_piece(whole, range.start, start < range.start ? range.start : start);
        add_piece(whole, end > range.end ? range.end : end, range.end);
        return 1;
    }
}

static int inside(const struct mapping_cut *cut, const struct fa_live *whole)
{
    return whole->address >= cut->start && whole->address + whole->size <= cut->end;
}

int mappings_add(uintptr_t start, uint64_t bytes)
{
    struct fa_live stale;
    while (cut_next(start, start + bytes, &stale)) {
        span_check_unused(stale.span);
        fa_lose(FA_LOSS_STALE);
    }
    return insert(start, start + bytes);
}

void mappings_cut(struct mapping_cut *cut, uintptr_t start, uint64_t bytes)
{
    struct fa_live whole;
    cut->start = start;
    cut->end = start + bytes;
    cut->count = 0;
    if (!__atomic_load_n(&used, __ATOMIC_RELAXED) || fa_barred() || !fa.header || cut->end <= start) return;
    int saved = errno;
    fa_lock();
    while (cut_next(cut->start, cut->end, &whole)) {
        if (cut->count < MAPPING_CUTS) cut->taken[cut->count++] = whole;
        else if (inside(cut, &whole)) live_forget(&whole);
    }
    fa_unlock();
    errno = saved;
}

void mappings_cut_done(const struct mapping_cut *cut, int gone)
{
    struct fa_live piece;
    if (!cut->count) return;
    int saved = errno;
    fa_lock();
    for (uint32_t i = 0; i < cut->count; i++) {
        const struct fa_live *whole = &cut->taken[i];
        if (gone) {
            if (inside(cut, whole)) live_forget(whole);
            continue;
        }
        while (cut_next(whole->address, whole->address + whole->size, &piece)) continue;
        if (insert(whole->address, whole->address + whole->size)) live_restore(whole);
    }
    fa_unlock();
    errno = saved;
}

void mappings_child(void)
{
    used = 0;
    for (uint32_t slot = 1; slot < REGION(FA_LIVE).used; slot++) {
        const struct fa_live *sample = &fa.live[slot];
        if (sample->address && sample->domain == FA_DOMAIN_MMAP)
            insert((uintptr_t)sample->address, (uintptr_t)(sample->address + sample->size));
    }
}
