#include "scopes.h"

#include <string.h>

#include "labels.h"
#include "raw_memory.h"
#include "sampler.h"
#include "stack.h"
#include "threads.h"

#define SCOPES_CAPACITY 65536u /* virtual; pages are touched as scopes are open at once */

static struct scope *scopes; /* [0]: the process's own phase */
static uint32_t first_free, scopes_used;

int scopes_prepare(void)
{
    if (!scopes) scopes = raw_memory_map(SCOPES_CAPACITY * sizeof *scopes);
    return scopes ? 0 : -1;
}

void scopes_reset(void)
{
    /* The program may still hold scopes of an earlier recording: their entries stay taken, and are
     * told by their generation, until released. */
    if (!scopes_used) scopes_used = 1;
    scopes[0] = (struct scope){.generation = fa.generation};
    scope_set_process_phase(phase_label(0, "startup", 7));
}

void scope_set_process_phase(uint32_t label)
{
    fa.header->process_phase = label;
    scopes[0].phase = label;
    fa.phases[label].entered++;
}

/* --- entries ---------------------------------------------------------------------------- */

#define INDEX(scope) ((scope) & 0xFFFFu)
#define SERIAL(scope) ((scope) >> 16)

struct scope *scope_get(fa_scope scope)
{
    struct scope *entry = &scopes[INDEX(scope)];
    if (scope && (entry->serial != SERIAL(scope) || entry->generation != fa.generation)) return NULL;
    return entry;
}

fa_scope scope_take(void)
{
    uint32_t index = first_free;
    if (index) first_free = scopes[index].next_free;
    else if (scopes_used && scopes_used < SCOPES_CAPACITY) index = scopes_used++;
    if (!index) return 0;
    uint16_t serial = (uint16_t)(scopes[index].serial + 1);
    scopes[index] = (struct scope){.serial = serial, .generation = fa.generation};
    return (fa_scope)serial << 16 | index;
}

void scope_give_back(fa_scope scope)
{
    struct scope *entry = &scopes[INDEX(scope)];
    if (!scope || entry->serial != SERIAL(scope) || !entry->generation) return;
    for (uint32_t i = 1; i < REGION(FA_THREADS).used; i++)
        if (fa.threads[i].scope == scope) fa.threads[i].span = 0; /* its entry may be used again */
    entry->generation = 0;
    entry->next_free = first_free;
    first_free = INDEX(scope);
}

/* --- fork ------------------------------------------------------------------------------- */

static __thread struct scope *aside;
static __thread uint32_t aside_first_free, aside_used;

int scopes_copy_aside(void)
{
    aside_used = scopes_used;
    aside_first_free = first_free;
    aside = raw_memory_map(aside_used * sizeof *aside);
    if (!aside) return -1;
    memcpy(aside, scopes, aside_used * sizeof *aside);
    return 0;
}

void scopes_drop_copy(void)
{
    raw_memory_unmap(aside, aside_used * sizeof *aside);
    aside = NULL;
}

void scopes_child(void)
{
    /* As they were when the recording was copied: another thread may have been at the table when
     * the process forked. Scopes that it opened since have serials that no entry has. */
    memcpy(scopes, aside, aside_used * sizeof *scopes);
    for (uint32_t i = aside_used; i < scopes_used; i++) scopes[i].generation = 0;
    first_free = aside_first_free;
    scopes_used = aside_used;
    for (uint32_t i = 0; i < scopes_used; i++) {
        struct scope *scope = &scopes[i];
        scope->count = scope->bytes = scope->own_count = scope->own_bytes = 0;
        scope->entered = 0;
        memset(scope->phases, 0, sizeof scope->phases);
    }
    for (uint32_t i = 0; i < REGION(FA_PHASES).used; i++)
        fa.phases[i].count = fa.phases[i].bytes = fa.phases[i].entered = 0;
    for (uint32_t i = 0; i < REGION(FA_SPANS).used; i++) fa.spans[i].count = fa.spans[i].bytes = 0;
}

/* --- counting --------------------------------------------------------------------------- */

void scope_flush(struct fa_thread *slot)
{
    uint64_t count = slot->count - slot->count_mark;
    uint64_t bytes = sampler_bytes(slot) - slot->bytes_mark;
    if (!count && !bytes) return;
    struct scope *scope = scope_get(slot->scope);
    uint32_t span = scope ? slot->span : 0;
    slot->count_mark += count;
    slot->bytes_mark += bytes;
    fa.phases[slot->phase].count += count;
    fa.phases[slot->phase].bytes += bytes;
    fa.spans[span].count += count;
    fa.spans[span].bytes += bytes;
    if (scope) {
        scope->count += count;
        scope->bytes += bytes;
        scope->own_count += count;
        scope->own_bytes += bytes;
    }
}

static void go_to(struct fa_thread *slot, fa_scope to)
{
    struct scope *scope = scope_get(to);
    if (!scope) {
        to = 0;
        scope = &scopes[0];
    }
    scope_flush(slot);
    slot->scope = to;
    slot->span = scope->span;
    slot->phase = scope->phase;
    slot->scope_interval = scope->interval;
}

void scope_enter(struct fa_thread *slot, fa_scope to)
{
    uint32_t interval = slot->scope_interval;
    go_to(slot, to);
    if (UNLIKELY(slot->scope_interval != interval)) sampler_redraw(slot, scope_interval(slot));
}

void scope_catch_up(struct fa_thread *slot, fa_scope scope)
{
    if (scope == FA_SCOPE_UNKNOWN) scope = slot->scope;
    if (slot->scope == scope && (scope ? scope_get(scope) != NULL : slot->phase == fa.header->process_phase)) return;
    if (!fa_tls.caught_up) {
        fa_tls.caught_up = 1;
        fa_tls.before_catch_up = slot->scope;
    }
    go_to(slot, scope); /* a sample has led here, so the interval changes at the next notch: see sampler.h */
}

/* --- names ------------------------------------------------------------------------------ */

static void move_counts(uint32_t from, uint32_t to, uint32_t entered, uint64_t count, uint64_t bytes)
{
    struct fa_phase *before = &fa.phases[from], *after = &fa.phases[to];
    before->entered -= entered;
    before->count -= count;
    before->bytes -= bytes;
    after->entered += entered;
    after->count += count;
    after->bytes += bytes;
}

void scope_rename_span(struct scope *span, uint32_t name)
{
    uint32_t index = span->span;
    for (uint32_t i = 1; i < REGION(FA_THREADS).used; i++)
        if (fa.threads[i].span == index && fa.threads[i].start_ns) scope_flush(&fa.threads[i]);
    fa.spans[index].name = name;
    span->name = name;
    for (uint32_t i = 1; i < scopes_used; i++) {
        struct scope *scope = &scopes[i];
        if (scope->span != index || scope->generation != fa.generation || scope->closed) continue;
        uint32_t label = phase_label_of(name, scope->name);
        move_counts(scope->phase, label, scope->entered, scope->own_count, scope->own_bytes);
        scope->phase = label;
    }
    for (unsigned i = 0; i < SCOPE_LABELS && span->phases[i].label; i++) {
        struct closed_phases *closed = &span->phases[i];
        uint32_t label = phase_label_of(name, fa.phases[closed->label].name);
        if (!label) continue; /* no room for it: they stay where they are; 0 would mean that the entry is free */
        move_counts(closed->label, label, closed->entered, closed->count, closed->bytes);
        closed->label = label;
    }
    for (uint32_t i = 1; i < REGION(FA_THREADS).used; i++) {
        struct fa_thread *slot = &fa.threads[i];
        const struct scope *scope = slot->span == index && slot->start_ns ? scope_get(slot->scope) : NULL;
        if (scope) slot->phase = scope->phase;
    }
}

void scope_keep_closed(const struct scope *phase)
{
    struct scope *span = scope_get(phase->parent);
    while (span && !span->is_span && span->parent) span = scope_get(span->parent);
    if (!phase->phase || !span || !span->is_span || span->span != phase->span) return;
    for (unsigned i = 0; i < SCOPE_LABELS; i++) {
        struct closed_phases *closed = &span->phases[i];
        if (closed->label && closed->label != phase->phase) continue;
        closed->label = phase->phase;
        closed->entered += phase->entered;
        closed->count += phase->own_count;
        closed->bytes += phase->own_bytes;
        return;
    }
}

/* --- switches --------------------------------------------------------------------------- */

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

static void follow_context(struct fa_thread *slot)
{
    fa_scope to = fa_context_scope();
    if (to != FA_SCOPE_UNKNOWN) switch_slot(slot, to);
}

void fa_follow_context(void)
{
    struct fa_thread *slot = active_slot();
    if (slot) follow_context(slot);
}

void fa_task_enter(void)
{
    struct fa_thread *slot = active_slot();
    if (!slot) return;
    slot->outer_scope = watched_scope(slot);
    fa_tls.ignored_context = NULL;
    follow_context(slot);
}

void fa_task_leave(void)
{
    struct fa_thread *slot = active_slot();
    if (!slot) return;
    fa_tls.ignored_context = stack_context_nopy();
    switch_slot(slot, slot->outer_scope);
}

void fa_task_resume(fa_scope scope)
{
    struct fa_thread *slot = active_slot();
    if (!slot) return;
    fa_tls.ignored_context = stack_context_nopy();
    switch_slot(slot, scope);
}

fa_scope fa_present_scope(void)
{
    struct fa_thread *slot = active_slot();
    return slot ? slot->scope : 0;
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
