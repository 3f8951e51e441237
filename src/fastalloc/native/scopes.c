#include "scopes.h"

#include <string.h>

#include "climb.h"
#include "held.h"
#include "raw_memory.h"
#include "records.h"
#include "sampler.h"
#include "stack.h"
#include "strings.h"
#include "threads.h"
#include "usage.h"

struct scope {
    uint64_t count; /* own, with those of scopes closed inside it */
    uint64_t bytes;
    uint64_t start_ns;
    uint64_t start_live_bytes;
    uint64_t span_id;
    uint32_t span;
    uint32_t phase;
    fa_scope parent;     /* free entry: next free */
    uint32_t generation; /* of the recording it was opened in; 0: free */
    uint32_t name;       /* string id */
    uint8_t is_span;
    uint8_t closed;
};

#define SCOPES_CAPACITY 65536u /* virtual; pages are touched as scopes are open at once */
#define SPAN_NAMES_CAPACITY 1024

static struct scope *scopes; /* [0]: the process's own phase */
static fa_scope first_free, scopes_used;

int scopes_prepare(void)
{
    if (!scopes) scopes = raw_memory_map(SCOPES_CAPACITY * sizeof *scopes);
    return scopes ? 0 : -1;
}

static uint32_t phase_label(uint32_t span_name, uint32_t name)
{
    uint64_t used = REGION(FA_PHASES).used;
    for (uint32_t i = 1; i < used; i++)
        if (fa.phases[i].name == name && fa.phases[i].span_name == span_name) return i;
    if (!name || used >= REGION(FA_PHASES).capacity) {
        fa_lose(FA_LOSS_PHASES);
        return 0;
    }
    fa.phases[used].name = name;
    fa.phases[used].span_name = span_name;
    REGION(FA_PHASES).used = used + 1;
    return (uint32_t)used;
}

void scopes_reset(void)
{
    /* Scopes of an earlier recording may still be held by the program; their entries stay
     * taken (generation tells them) until released. */
    if (!scopes_used) scopes_used = 1;
    REGION(FA_PHASES).used = 1;
    REGION(FA_SPANS).used = 1;
    fa.header->spans_free = 0;
    fa.header->process_phase = phase_label(0, string_intern("startup", 7));
    memset(&scopes[0], 0, sizeof scopes[0]);
    scopes[0].generation = fa.generation;
    scopes[0].phase = fa.header->process_phase;
}

void scopes_child(void)
{
    for (uint32_t i = 0; i < REGION(FA_PHASES).used; i++)
        fa.phases[i].count = fa.phases[i].bytes = fa.phases[i].entered = 0;
    for (uint32_t i = 0; i < REGION(FA_SPANS).used; i++) fa.spans[i].count = fa.spans[i].bytes = 0;
    for (fa_scope i = 0; i < scopes_used; i++) scopes[i].count = scopes[i].bytes = 0;
}

/* --- counting --------------------------------------------------------------------------- */

static int is_current(fa_scope scope)
{
    return scope < scopes_used && scopes[scope].generation == fa.generation;
}

void scope_flush(struct fa_thread *slot)
{
    uint64_t count = slot->count - slot->count_mark;
    uint64_t bytes = sampler_bytes(slot) - slot->bytes_mark;
    if (!count && !bytes) return;
    slot->count_mark += count;
    slot->bytes_mark += bytes;
    fa.phases[slot->phase].count += count;
    fa.phases[slot->phase].bytes += bytes;
    fa.spans[slot->span].count += count;
    fa.spans[slot->span].bytes += bytes;
    struct scope *scope = &scopes[slot->scope];
    if (scope->generation == fa.generation && scope->span == slot->span) {
        scope->count += count;
        scope->bytes += bytes;
    }
}

void scope_enter(struct fa_thread *slot, fa_scope to)
{
    if (!is_current(to)) to = 0;
    scope_flush(slot);
    slot->scope = to;
    slot->span = scopes[to].span;
    slot->phase = scopes[to].phase;
}

void scope_catch_up(struct fa_thread *slot, fa_scope scope)
{
    if (scope == FA_SCOPE_UNKNOWN) return;
    if (slot->scope == scope && (scope || slot->phase == fa.header->process_phase)) return;
    if (!fa_tls.caught_up) {
        fa_tls.caught_up = 1;
        fa_tls.before_catch_up = slot->scope;
    }
    scope_enter(slot, scope);
}

/* The thread's scope as watched switches have it. */
static fa_scope watched_scope(const struct fa_thread *slot)
{
    fa_scope scope = fa_tls.caught_up ? fa_tls.before_catch_up : slot->scope;
    fa_tls.caught_up = 0;
    return scope;
}

static void switch_slot(struct fa_thread *slot, fa_scope to)
{
    fa_tls.caught_up = 0;
    if (slot->scope == to) return;
    fa_lock();
    if (slot->generation == fa.generation) scope_enter(slot, to);
    fa_unlock();
}

static struct fa_thread *active_slot(void)
{
    return fa_is_active() ? thread_slot() : NULL;
}

fa_scope fa_switch_scope(fa_scope to)
{
    struct fa_thread *slot = active_slot();
    if (!slot) return 0;
    fa_scope was = slot->scope;
    switch_slot(slot, to);
    return was;
}

void fa_follow_context(void)
{
    struct fa_thread *slot = active_slot();
    fa_scope to = slot ? fa_context_scope() : FA_SCOPE_UNKNOWN;
    if (to != FA_SCOPE_UNKNOWN) switch_slot(slot, to);
}

void fa_task_enter(void)
{
    struct fa_thread *slot = active_slot();
    if (!slot) return;
    slot->outer_scope = watched_scope(slot);
    fa_tls.ignored_context = NULL;
    fa_follow_context();
}

void fa_task_leave(void)
{
    struct fa_thread *slot = active_slot();
    if (!slot) return;
    fa_tls.ignored_context = stack_context_nopy();
    switch_slot(slot, slot->outer_scope);
}

struct fa_step fa_step_begin(fa_scope scope)
{
    struct fa_thread *slot = active_slot();
    struct fa_step step = {0, fa_tls.ignored_context};
    if (slot) {
        step.outer = watched_scope(slot);
        fa_tls.ignored_context = stack_context_nopy();
        switch_slot(slot, scope);
    }
    return step;
}

void fa_step_end(struct fa_step step)
{
    struct fa_thread *slot = active_slot();
    if (slot) switch_slot(slot, step.outer);
    fa_tls.ignored_context = step.ignored_context;
}

/* --- spans ------------------------------------------------------------------------------ */

static uint32_t span_take(void)
{
    uint32_t index = fa.header->spans_free;
    if (index) {
        fa.header->spans_free = fa.spans[index].name;
        return index;
    }
    struct fa_region *region = &REGION(FA_SPANS);
    if (region->used >= region->capacity) return 0;
    return (uint32_t)region->used++;
}

void span_check_unused(uint32_t index)
{
    struct fa_span *span = &fa.spans[index];
    if (!index || !span->id || span->pins || span->held.samples || !span->end_ns) return;
    memset(span, 0, sizeof *span);
    span->name = fa.header->spans_free;
    fa.header->spans_free = index;
}

static fa_scope scope_take(void)
{
    fa_scope scope = first_free;
    if (scope) first_free = scopes[scope].parent;
    else if (scopes_used && scopes_used < SCOPES_CAPACITY) scope = scopes_used++;
    if (scope) memset(&scopes[scope], 0, sizeof scopes[scope]);
    return scope;
}

/* A new scope below `parent`, not yet entered. Lock held. */
static fa_scope scope_make(fa_scope parent)
{
    fa_scope scope = scope_take();
    if (!scope) return 0;
    if (!is_current(parent)) parent = 0;
    struct scope *made = &scopes[scope];
    made->parent = parent;
    made->generation = fa.generation;
    made->start_ns = fa_now_ns();
    made->start_live_bytes = fa.header->live_bytes;
    made->span = scopes[parent].span;
    made->span_id = scopes[parent].span_id;
    return scope;
}

/* Distinct span names are bounded, so that raw paths used as names cannot fill the strings. */
static uint32_t span_name_intern(const char *name, size_t bytes)
{
    static uint32_t names, generation;
    if (generation != fa.generation) {
        generation = fa.generation;
        names = 0;
    }
    uint64_t before = REGION(FA_STRINGS).used;
    if (names >= SPAN_NAMES_CAPACITY) {
        name = "(other)";
        bytes = 7;
    }
    uint32_t string = string_intern(name, bytes);
    if (REGION(FA_STRINGS).used != before) names++;
    return string;
}

fa_scope fa_span_open(fa_scope parent, const char *name, size_t name_bytes, const char *attributes,
                      size_t attributes_bytes)
{
    if (UNLIKELY(climb_wanted())) climb_switch();
    struct fa_thread *slot = thread_slot();
    if (!slot) return 0;
    fa_lock();
    fa_scope scope = slot->generation == fa.generation ? scope_make(parent) : 0;
    uint32_t index = scope ? span_take() : 0;
    if (index) {
        struct fa_span *span = &fa.spans[index];
        memset(span, 0, sizeof *span);
        span->id = fa.header->next_span_id++;
        span->parent_id = scopes[scope].span_id;
        span->start_ns = scopes[scope].start_ns;
        span->name = span_name_intern(name, name_bytes);
        span->thread_name = slot->name;
        span->tid = slot->tid;
        span->pins = 1;
        if (attributes_bytes >= FA_ATTRIBUTES_BYTES) {
            attributes_bytes = FA_ATTRIBUTES_BYTES - 1;
            while (attributes_bytes && ((unsigned char)attributes[attributes_bytes] & 0xC0) == 0x80)
                attributes_bytes--;
        }
        if (attributes_bytes) memcpy(span->attributes, attributes, attributes_bytes);
        scopes[scope].span = index;
        scopes[scope].span_id = span->id;
        scopes[scope].name = span->name;
        scopes[scope].is_span = 1;
        scopes[scope].phase = phase_label(span->name, span->name); /* outside its named phases */
        fa.phases[scopes[scope].phase].entered++;
    } else if (scope) {
        scopes[scope].generation = 0;
        scopes[scope].parent = first_free;
        first_free = scope;
        scope = 0;
    }
    if (!scope) fa_lose(FA_LOSS_SPANS);
    fa_unlock();
    return scope;
}

fa_scope fa_phase_open(fa_scope parent, const char *name, size_t name_bytes)
{
    struct fa_thread *slot = thread_slot();
    if (!slot) return 0;
    fa_lock();
    fa_scope scope = slot->generation == fa.generation ? scope_make(parent) : 0;
    if (scope) {
        struct scope *made = &scopes[scope];
        made->name = string_intern(name, name_bytes);
        made->phase = phase_label(made->span ? fa.spans[made->span].name : 0, made->name);
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
    if (!fa.active || !scope) return;
    fa_lock();
    if (is_current(scope) && scopes[scope].is_span && !scopes[scope].closed) {
        /* What was counted so far stays with the label it was counted for. */
        struct fa_thread *slot = fa_tls.slot;
        uint32_t string = span_name_intern(name, name_bytes);
        if (string) {
            fa.spans[scopes[scope].span].name = string;
            scopes[scope].name = string;
            scopes[scope].phase = phase_label(string, string);
            fa.phases[scopes[scope].phase].entered++;
            if (slot != &fa_nobody && slot->scope == scope) scope_enter(slot, scope);
        }
    }
    fa_unlock();
}

void fa_scope_close(fa_scope scope)
{
    if (!scope || !fa.active) return;
    struct fa_thread *slot = thread_slot();
    if (!slot) return;
    usage_refresh(10000000);
    fa_lock();
    if (is_current(scope) && !scopes[scope].closed) {
        struct scope *closing = &scopes[scope];
        closing->closed = 1;
        if (slot->generation == fa.generation && slot->scope == scope) scope_enter(slot, closing->parent);
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
        if (closing->is_span) span->end_ns = record.time_ns | 1;
        record_write(&record);
        if (closing->parent && is_current(closing->parent)) {
            scopes[closing->parent].count += closing->count;
            scopes[closing->parent].bytes += closing->bytes;
        }
    }
    fa_unlock();
}

void fa_scope_release(fa_scope scope)
{
    if (!scope || !fa.header) return;
    fa_lock();
    struct scope *gone = &scopes[scope];
    if (gone->generation == fa.generation && gone->span) {
        struct fa_span *span = &fa.spans[gone->span];
        if (gone->is_span && !span->end_ns) span->end_ns = fa_now_ns() | 1; /* never closed */
        span->pins--;
        span_check_unused(gone->span);
    }
    gone->generation = 0;
    gone->parent = first_free;
    first_free = scope;
    fa_unlock();
}

uint64_t fa_scope_span_id(fa_scope scope)
{
    return scope && fa.header && is_current(scope) ? scopes[scope].span_id : 0;
}

void fa_set_process_phase(const char *name, size_t name_bytes)
{
    if (!fa.active) return;
    fa_lock();
    uint32_t label = phase_label(0, string_intern(name, name_bytes));
    if (label && label != fa.header->process_phase) {
        fa.header->process_phase = label;
        fa.phases[label].entered++;
        scopes[0].phase = label;
        /* Threads outside all scopes go over when they next look up; this one does now. */
        struct fa_thread *slot = fa_tls.slot;
        if (slot != &fa_nobody && slot->generation == fa.generation && !slot->scope) scope_enter(slot, 0);
        event_write(FA_EVENT_PHASE, label, 0, 0);
    }
    fa_unlock();
}

void fa_checkpoint(const char *name, size_t name_bytes)
{
    struct fa_thread *slot = fa.active ? thread_slot() : NULL;
    if (!slot) return;
    usage_refresh(0);
    fa_lock();
    if (slot->generation == fa.generation) {
        scope_flush(slot);
        struct scope *scope = &scopes[slot->scope];
        struct fa_span *span = &fa.spans[slot->span];
        struct fa_record record = {
            .time_ns = fa_now_ns(),
            .start_ns = slot->span ? span->start_ns : 0,
            .span_id = slot->span ? span->id : 0,
            .count = slot->span ? span->count : fa.phases[slot->phase].count,
            .bytes = slot->span ? span->bytes : fa.phases[slot->phase].bytes,
            .live_change_bytes = (int64_t)(fa.header->live_bytes - scope->start_live_bytes),
            .kind = FA_RECORD_CHECKPOINT,
            .name = string_intern(name, name_bytes),
            .span_name = slot->span ? span->name : 0,
            .thread_name = slot->name,
            .tid = slot->tid,
        };
        record_write(&record);
    }
    fa_unlock();
}
