#define _GNU_SOURCE
#include "records.h"

#include <sys/syscall.h>
#include <unistd.h>

#include "sampler.h"
#include "strings.h"
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

static void event_write_at(uint64_t index, enum fa_event_kind kind, uint64_t a, uint64_t b, uint32_t node)
{
    const struct fa_thread *slot = fa_tls.slot;
    const struct fa_span *span = &fa.spans[slot == &fa_nobody ? 0 : slot->span];
    *RING_SLOT(fa.events, FA_EVENTS, index) = (struct fa_event){
        .sequence = index + 1,
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
}

void event_write(enum fa_event_kind kind, uint64_t a, uint64_t b, uint32_t node)
{
    event_write_at(REGION(FA_EVENTS).used, kind, a, b, node);
    REGION(FA_EVENTS).used++;
}

/* Where memory is gone one failure brings the next, and a program may try again and again: each as an
 * event of its own would push out of the ring what it is there for. */
#define LOOK_BACK 16

void event_write_failure(uint64_t size, int domain, uint32_t node)
{
    uint64_t used = REGION(FA_EVENTS).used, b = (uint64_t)domain;
    for (uint64_t back = 1; back <= LOOK_BACK && back <= used; back++) {
        const struct fa_event *event = RING_SLOT(fa.events, FA_EVENTS, used - back);
        if (event->kind != FA_EVENT_FAILED_ALLOCATION || event->node != node || (uint32_t)event->b != b) continue;
        uint64_t repeats = event->b >> 32;
        if (repeats < UINT32_MAX) repeats++;
        event_write_at(used - back, FA_EVENT_FAILED_ALLOCATION, size > event->a ? size : event->a, repeats << 32 | b, node);
        return;
    }
    event_write(FA_EVENT_FAILED_ALLOCATION, size, b, node);
}

void event_write_about(enum fa_event_kind kind, uint64_t a, uint64_t b, const char *name, size_t name_bytes)
{
    uint32_t span = string_intern(name, name_bytes);
    event_write(kind, a, b, 0);
    struct fa_event *event = RING_SLOT(fa.events, FA_EVENTS, REGION(FA_EVENTS).used - 1);
    event->span = span;
    event->span_id = 0;
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
    const struct fa_tick *last = &fa.timeline[region->used ? (region->used - 1) % region->capacity : 0];
    /* Negative where another thread, which looked at the clock later, was here first. */
    if (region->used && (int64_t)(now_ns - last->time_ns) < 1000000000) return;
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
