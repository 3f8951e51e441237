/* What something's samples hold now, and held at the high-water mark (see layout.h). */
#ifndef FA_HELD_H
#define FA_HELD_H

#include "recorder.h"

/* Before any change: keep what was held when the last high-water mark was left behind. */
static inline void held_touch(struct fa_held *held)
{
    if (held->peak == fa.header->peak) return;
    held->high_water_bytes = held->live_bytes;
    held->high_water_count_q16 = held->live_count_q16;
    held->peak = fa.header->peak;
}

static inline void held_add(struct fa_held *held, uint64_t bytes, uint64_t count_q16)
{
    held_touch(held);
    held->live_bytes += bytes;
    held->live_count_q16 += count_q16;
    held->samples++;
}

/* Bytes held at the present high-water mark: the rule of layout.h. */
static inline uint64_t held_high_water(const struct fa_held *held)
{
    return fa.header->at_peak || held->peak != fa.header->peak ? held->live_bytes : held->high_water_bytes;
}

static inline void held_remove(struct fa_held *held, uint64_t bytes, uint64_t count_q16)
{
    held_touch(held);
    held->live_bytes -= bytes;
    held->live_count_q16 -= count_q16;
    held->samples--;
}

#endif
