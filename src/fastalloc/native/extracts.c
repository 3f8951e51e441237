/* What a dump says of the recording in plain words: open spans and checkpoints, copied under the lock
 * into memory that was reserved before. */
#include "fastalloc.h"

#include <string.h>

#include "dump.h"
#include "recorder.h"
#include "sampler.h"
#include "usage.h"

#define MOST_SPANS (DUMP_SCRATCH_BYTES / sizeof(struct fa_span))
#define MOST_RECORDS (DUMP_SCRATCH_BYTES / sizeof(struct fa_record))

/* What running threads have allocated in it since they entered is not in the entry yet. */
static void add_pending(struct fa_span *copy, uint32_t index)
{
    for (uint32_t i = 1; i < REGION(FA_THREADS).used; i++) {
        const struct fa_thread *slot = &fa.threads[i];
        if (!slot->start_ns || slot->span != index) continue;
        copy->count += slot->count - slot->count_mark;
        copy->bytes += sampler_bytes(slot) - slot->bytes_mark;
    }
}

static size_t smallest_of(const struct fa_span *spans, size_t count)
{
    size_t smallest = 0;
    for (size_t i = 1; i < count; i++)
        if (spans[i].held.live_bytes < spans[smallest].held.live_bytes) smallest = i;
    return smallest;
}

size_t fa_open_spans(const struct fa_span **spans, size_t *more)
{
    struct fa_span *found = dump_scratch();
    size_t count = 0, smallest = 0;
    *more = 0;
    *spans = found;
    if (!found || !fa.header) return 0;
    fa_lock();
    for (uint32_t i = 1; i < REGION(FA_SPANS).used; i++) {
        const struct fa_span *span = &fa.spans[i];
        if (!span->id || span->end_ns) continue;
        size_t at = count;
        if (count == MOST_SPANS) {
            ++*more;
            if (span->held.live_bytes <= found[smallest].held.live_bytes) continue;
            at = smallest;
        } else {
            count++;
        }
        found[at] = *span;
        add_pending(&found[at], i);
        if (count == MOST_SPANS) smallest = smallest_of(found, count);
    }
    fa_unlock();
    return count;
}

size_t fa_checkpoints(const struct fa_record **records)
{
    struct fa_record *found = dump_scratch();
    size_t count = 0;
    *records = found;
    if (!found || !fa.header) return 0;
    fa_lock();
    const struct fa_region *region = &REGION(FA_RECORDS);
    uint64_t oldest = region->used > region->capacity ? region->used - region->capacity : 0;
    for (uint64_t n = region->used; n > oldest && count < MOST_RECORDS; n--) {
        const struct fa_record *record = RING_SLOT(fa.records, FA_RECORDS, n - 1);
        if (record->kind == FA_RECORD_CHECKPOINT) found[MOST_RECORDS - ++count] = *record;
    }
    fa_unlock();
    *records = found + MOST_RECORDS - count;
    return count;
}

const char *fa_string(uint32_t id, size_t *bytes)
{
    uint16_t length = 0;
    if (fa.header && id && id + 3 <= REGION(FA_STRINGS).used) memcpy(&length, fa.strings + id, sizeof length);
    *bytes = length;
    return length ? fa.strings + id + 2 : "";
}

uint32_t fa_thread_name_string(uint32_t thread_name)
{
    return fa.header && thread_name < REGION(FA_THREAD_NAMES).used ? fa.thread_names[thread_name].name : 0;
}

uint32_t fa_next_thread(uint32_t after, uint32_t *tid, uint64_t *span_id, uint32_t *phase_name)
{
    for (uint32_t i = after + 1; fa.header && i < REGION(FA_THREADS).used; i++) {
        const struct fa_thread *slot = &fa.threads[i];
        if (!slot->start_ns) continue;
        uint32_t span = slot->span, phase = slot->phase; /* another thread's: may change meanwhile */
        *tid = slot->tid;
        *span_id = span < REGION(FA_SPANS).used ? fa.spans[span].id : 0;
        *phase_name = phase < REGION(FA_PHASES).used ? fa.phases[phase].name : 0;
        return i;
    }
    return 0;
}

int64_t fa_headroom(void)
{
    return fa.header ? usage_headroom() : -1;
}
