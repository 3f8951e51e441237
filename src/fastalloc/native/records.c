#define _GNU_SOURCE
#include "records.h"

#include <sys/syscall.h>
#include <unistd.h>

#include "sampler.h"
#include "usage.h"

void record_write(struct fa_record *record)
{
    struct fa_region *region = &REGION(FA_RECORDS);
    record->rss_bytes = usage_rss();
    record->cgroup_bytes = usage_of_cgroup();
    record->live_bytes = fa.header->live_bytes;
    record->sequence = region->used + 1;
    *RING_SLOT(fa.records, FA_RECORDS, region->used) = *record;
    region->used++;
    fa.header->updated_ns = record->time_ns;
}

void event_write(enum fa_event_kind kind, uint64_t a, uint64_t b, uint32_t node)
{
    struct fa_region *region = &REGION(FA_EVENTS);
    const struct fa_thread *slot = fa_tls.slot;
    const struct fa_span *span = &fa.spans[slot == &fa_nobody ? 0 : slot->span];
    *RING_SLOT(fa.events, FA_EVENTS, region->used) = (struct fa_event){
        .sequence = region->used + 1,
        .time_ns = fa_now_ns(),
        .a = a,
        .b = b,
        .kind = kind,
        .node = node,
        .span = span->id ? span->name : 0,
        .span_id = span->id,
        .tid = slot == &fa_nobody ? (uint32_t)syscall(SYS_gettid) : slot->tid,
        .rss_bytes = usage_rss(),
    };
    region->used++;
}

/* --- the timeline ------------------------------------------------------------------------- */

static void totals(uint64_t *count, uint64_t *bytes)
{
    *count = fa.header->ended_count;
    *bytes = fa.header->ended_bytes;
    for (uint32_t i = 1; i < REGION(FA_THREADS).used; i++) {
        if (!fa.threads[i].start_ns) continue;
        *count += fa.threads[i].count;
        *bytes += sampler_bytes(&fa.threads[i]);
    }
}

static void append_tick(struct fa_tick *ring, struct fa_region *region, const struct fa_tick *tick, uint64_t every_ns)
{
    if (region->used && tick->time_ns - ring[(region->used - 1) % region->capacity].time_ns < every_ns) return;
    ring[region->used % region->capacity] = *tick;
    region->used++;
}

void timeline_tick(uint64_t now_ns)
{
    struct fa_region *region = &REGION(FA_TIMELINE);
    if (region->used && now_ns - fa.timeline[(region->used - 1) % region->capacity].time_ns < 1000000000ull) return;
    struct fa_tick tick = {
        .time_ns = now_ns,
        .rss_bytes = usage_rss(),
        .cgroup_bytes = usage_of_cgroup(),
        .live_bytes = fa.header->live_bytes,
    };
    totals(&tick.count, &tick.bytes);
    append_tick(fa.timeline, region, &tick, 0);
    append_tick(fa.timeline_long, &REGION(FA_TIMELINE_LONG), &tick, 60000000000ull);
}
