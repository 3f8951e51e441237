/* Spans and phases as the program opens and closes them; checkpoints. */
#include <string.h>

#include "climb.h"
#include "held.h"
#include "labels.h"
#include "recording.h"
#include "records.h"
#include "scopes.h"
#include "threads.h"
#include "usage.h"
#include "watcher.h"

void spans_reset(void)
{
    REGION(FA_SPANS).used = 1;
    fa.header->spans_free = 0;
}

static uint32_t span_take(void)
{
    uint32_t index = fa.header->spans_free;
    struct fa_region *region = &REGION(FA_SPANS);
    if (index && index < region->used) {
        fa.header->spans_free = fa.spans[index].name;
        return index;
    }
    return region->used < region->capacity ? (uint32_t)region->used++ : 0;
}

void span_check_unused(uint32_t index)
{
    struct fa_span *span = &fa.spans[index];
    if (!index || !span->id || span->pins || span->held.samples || !span->end_ns) return;
    memset(span, 0, sizeof *span);
    span->name = fa.header->spans_free;
    fa.header->spans_free = index;
}

/* A new scope below `parent`, not yet entered. */
static fa_scope scope_make(const struct fa_thread *slot, fa_scope parent)
{
    fa_scope scope = slot->generation == fa.generation ? scope_take() : 0;
    if (!scope) return 0;
    const struct scope *outer = scope_get(parent);
    struct scope *made = scope_get(scope);
    made->parent = outer ? parent : 0;
    made->start_ns = fa_now_ns();
    made->start_live_bytes = fa.header->live_bytes;
    made->span = outer ? outer->span : 0;
    made->span_id = outer ? outer->span_id : 0;
    made->interval = outer ? outer->interval : 0;
    return scope;
}

static size_t cut_to_fit(const char *text, size_t bytes, size_t capacity)
{
    if (bytes < capacity) return bytes;
    bytes = capacity - 1;
    while (bytes && ((unsigned char)text[bytes] & 0xC0) == 0x80) bytes--; /* not inside a character */
    return bytes;
}

fa_scope fa_span_open(fa_scope parent, const char *name, size_t name_bytes, const char *attributes,
                      size_t attributes_bytes)
{
    if (UNLIKELY(climb_wanted())) climb_switch();
    recording_settle(0);
    if (UNLIKELY(watcher_missing())) watcher_restart();
    struct fa_thread *slot = thread_slot();
    if (!slot) return 0;
    fa_lock();
    fa_scope scope = scope_make(slot, parent);
    uint32_t index = scope ? span_take() : 0;
    if (index) {
        struct scope *made = scope_get(scope);
        struct fa_span *span = &fa.spans[index];
        memset(span, 0, sizeof *span);
        span->id = fa.header->next_span_id++;
        span->parent_id = made->span_id;
        span->start_ns = made->start_ns;
        span->name = name_intern(name, name_bytes);
        span->thread_name = slot->name;
        span->tid = slot->tid;
        span->pins = 1;
        span->held.peak = fa.header->peak;
        memcpy(span->attributes, attributes, cut_to_fit(attributes, attributes_bytes, FA_ATTRIBUTES_BYTES));
        made->span = index;
        made->span_id = span->id;
        made->name = span->name;
        made->is_span = 1;
        made->phase = phase_label_of(span->name, span->name); /* the span outside its named phases */
        made->entered = 1;
        fa.phases[made->phase].entered++;
    } else {
        scope_give_back(scope);
        scope = 0;
        fa_lose(FA_LOSS_SPANS);
    }
    fa_unlock();
    return scope;
}

fa_scope fa_phase_open(fa_scope parent, const char *name, size_t name_bytes, int quiet)
{
    struct fa_thread *slot = thread_slot();
    if (!slot) return 0;
    fa_lock();
    fa_scope scope = scope_make(slot, parent);
    if (scope) {
        struct scope *made = scope_get(scope);
        made->name = name_intern(name, name_bytes);
        made->is_quiet = quiet != 0;
        made->phase = phase_label_of(made->span ? fa.spans[made->span].name : 0, made->name);
        made->entered = 1;
        fa.phases[made->phase].entered++;
        if (made->span) fa.spans[made->span].pins++;
    } else {
        fa_lose(FA_LOSS_PHASES);
    }
    fa_unlock();
    return scope;
}

void fa_scope_rename(fa_scope scope, const char *name, size_t name_bytes)
{
    if (!fa_is_active() || !scope) return;
    fa_lock();
    struct scope *renamed = scope_get(scope);
    uint32_t string = renamed && renamed->is_span && !renamed->closed ? name_intern(name, name_bytes) : 0;
    if (string && string != renamed->name) scope_rename_span(renamed, string);
    fa_unlock();
}

/* The lock is held. */
static void totals_of(const struct scope *entry, uint64_t now_ns, struct fa_scope_totals *totals)
{
    totals->duration_ns = now_ns - entry->start_ns;
    totals->count = entry->count;
    totals->bytes = entry->bytes;
    totals->live_change_bytes = (int64_t)(fa.header->live_bytes - entry->start_live_bytes);
    if (!entry->is_span) return;
    const struct fa_span *span = &fa.spans[entry->span];
    if (span->count > totals->count) totals->count = span->count;
    if (span->bytes > totals->bytes) totals->bytes = span->bytes;
    totals->held_bytes = span->held.live_bytes;
    totals->peak_bytes = span->peak_bytes;
}

void fa_scope_close(fa_scope scope, fa_scope next, struct fa_scope_totals *totals)
{
    memset(totals, 0, sizeof *totals);
    struct fa_thread *slot = scope && fa_is_active() ? thread_slot() : NULL;
    if (!slot) return;
    usage_refresh(fa_now_ns(), USAGE_SCOPE_NS);
    fa_lock();
    struct scope *closing = scope_get(scope);
    if (closing && !closing->closed && slot->generation == fa.generation) {
        closing->closed = 1;
        for (uint32_t i = 1; i < REGION(FA_THREADS).used; i++) /* what other threads have pending for it */
            if (fa.threads[i].scope == scope && fa.threads[i].start_ns) scope_flush(&fa.threads[i]);
        const struct scope *now = scope_get(slot->scope); /* may have been closed by another thread */
        if (slot->scope == scope || (now && now->closed)) scope_enter(slot, next);
        fa_tls.caught_up = 0;
        struct fa_span *span = &fa.spans[closing->span];
        struct fa_record record = {
            .time_ns = fa_now_ns(),
            .start_ns = closing->start_ns,
            .span_id = closing->span_id,
            .count = closing->count,
            .bytes = closing->bytes,
            .live_change_bytes = (int64_t)(fa.header->live_bytes - closing->start_live_bytes),
            .kind = closing->is_span ? FA_RECORD_SPAN : FA_RECORD_PHASE,
            .name = closing->name,
            .span_name = span->name,
            .thread_name = slot->name,
            .tid = slot->tid,
        };
        totals_of(closing, record.time_ns, totals);
        if (closing->is_span) span->end_ns = record.time_ns | 1;
        if (!closing->is_quiet) record_write(&record);
        struct scope *parent = closing->parent ? scope_get(closing->parent) : NULL;
        while (parent && parent->closed) parent = parent->parent ? scope_get(parent->parent) : NULL; /* left before it */
        if (parent) {
            if (!closing->is_span) scope_keep_closed(closing);
            parent->count += closing->count;
            parent->bytes += closing->bytes;
        }
    }
    fa_unlock();
}

void fa_scope_release(fa_scope scope)
{
    if (!scope || !fa.header) return;
    fa_lock();
    struct scope *gone = scope_get(scope);
    if (gone && gone->span) {
        struct fa_span *span = &fa.spans[gone->span];
        if (gone->is_span && !span->end_ns) span->end_ns = fa_now_ns() | 1; /* never closed */
        span->pins--;
        span_check_unused(gone->span);
    }
    scope_give_back(scope);
    fa_unlock();
}

uint64_t fa_scope_span_id(fa_scope scope)
{
    const struct scope *entry = scope && fa.header ? scope_get(scope) : NULL;
    return entry ? entry->span_id : 0;
}

uint64_t fa_scope_held_bytes(fa_scope scope)
{
    const struct scope *entry = scope && fa_is_active() ? scope_get(scope) : NULL;
    return entry && entry->is_span ? __atomic_load_n(&fa.spans[entry->span].held.live_bytes, __ATOMIC_RELAXED) : 0;
}

void fa_scope_record_closely(fa_scope scope, uint32_t interval_bytes)
{
    struct fa_thread *slot = scope && fa_is_active() ? thread_slot() : NULL;
    if (!slot) return;
    fa_lock();
    struct scope *entry = scope_get(scope);
    if (entry && !entry->closed && slot->generation == fa.generation) {
        entry->interval = interval_bytes;
        struct scope *now = scope_get(slot->scope); /* itself, or a phase that was opened in it before */
        if (now && slot->scope && now->span == entry->span) {
            now->interval = interval_bytes;
            scope_enter(slot, slot->scope);
        }
    }
    fa_unlock();
}

int fa_scope_totals(fa_scope scope, struct fa_scope_totals *totals)
{
    memset(totals, 0, sizeof *totals);
    struct fa_thread *slot = scope && fa_is_active() ? thread_slot() : NULL;
    if (!slot) return 0;
    fa_lock();
    const struct scope *entry = scope_get(scope);
    if (entry && slot->generation == fa.generation) {
        if (!entry->closed) scope_flush(slot);
        totals_of(entry, fa_now_ns(), totals);
    }
    fa_unlock();
    return entry != NULL;
}

void fa_set_process_phase(const char *name, size_t name_bytes)
{
    if (!fa_is_active()) return;
    recording_settle(0);
    fa_lock();
    uint32_t label = phase_label(0, name, name_bytes);
    if (label && label != fa.header->process_phase) {
        /* Threads outside all scopes go over when they next look up; this one does now. */
        struct fa_thread *slot = fa_tls.slot;
        scope_set_process_phase(label);
        if (slot != &fa_nobody && slot->generation == fa.generation && !slot->scope) scope_enter(slot, 0);
        event_write(FA_EVENT_PHASE, label, 0, 0);
    }
    fa_unlock();
}

void fa_checkpoint(const char *name, size_t name_bytes)
{
    struct fa_thread *slot = fa_is_active() ? thread_slot() : NULL;
    if (!slot) return;
    usage_refresh(fa_now_ns(), 0);
    fa_lock();
    if (slot->generation == fa.generation) {
        scope_flush(slot);
        const struct scope *scope = scope_get(slot->scope);
        const struct fa_span *span = &fa.spans[slot->span];
        struct fa_record record = {
            .time_ns = fa_now_ns(),
            .start_ns = slot->span ? span->start_ns : 0,
            .span_id = slot->span ? span->id : 0,
            .count = slot->span ? span->count : fa.phases[slot->phase].count,
            .bytes = slot->span ? span->bytes : fa.phases[slot->phase].bytes,
            .live_change_bytes = (int64_t)(fa.header->live_bytes - (scope ? scope->start_live_bytes : 0)),
            .kind = FA_RECORD_CHECKPOINT,
            .name = name_intern(name, name_bytes),
            .span_name = slot->span ? span->name : 0,
            .thread_name = slot->name,
            .tid = slot->tid,
        };
        record_write(&record);
    }
    fa_unlock();
}
