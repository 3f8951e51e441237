/* Scopes: open spans and phases, and what the threads count for them.
 *
 * A scope is an entry of a private table, since readers need only the span and the phase label
 * behind it; these are in the recording.
 *
 *   thread slot --scope--> scopes[] --span--> FA_SPANS   (one per span: a request)
 *                                   --phase-> FA_PHASES  (one per label: span name, phase name)
 *
 * Laws
 *  1. Exactness: a thread counts into its own slot only. When it goes to another scope, the
 *     difference since it entered the present one is added to that scope's entries. So every
 *     allocation is counted for exactly one scope, and the sum over all phases plus what the
 *     slots have pending is the process's total.
 *  2. An entry of FA_SPANS lives while a scope of it exists (pins) or samples point to it.
 *  3. An fa_scope is an index with a serial number: entries are used again, and threads, contexts and
 *     generators may hold a scope long after it is gone. A stale one is never taken for another.
 *  4. The running context (contextvars) is the truth about the scope. The slot follows it where a
 *     switch can be watched. A sample reads the context itself, and where the slot missed a switch
 *     it catches up. Around the steps of a task there are gaps, in which the context is not that of
 *     the code that runs: there `ignored_context` keeps samples from following it, and what was
 *     caught up too early is undone by remembering the scope before (`before_catch_up`).
 *
 *        loop's context | task's context entered | step ... | task's context left | loop's context
 *                       |          gap           ^ task_enter  task_leave ^  gap  |
 *  5. A span that is renamed takes its counts along, from the labels of its old name to those of the new
 *     one: its own, those of its open phases, and of closed ones those of `SCOPE_LABELS` labels.
 */
#ifndef FA_SCOPES_H
#define FA_SCOPES_H

#include "fastalloc.h"
#include "recorder.h"
#include "sampler.h"

#define SCOPE_LABELS 6 /* an integration's phases before the route is known: one or two */

/* What the closed phases of one label of a span have counted. */
struct closed_phases {
    uint32_t label; /* 0: unused */
    uint32_t entered;
    uint64_t count;
    uint64_t bytes;
};

struct scope {
    uint64_t count; /* own, with those of scopes closed inside it */
    uint64_t bytes;
    uint64_t own_count; /* without those */
    uint64_t own_bytes;
    uint64_t start_ns;
    uint64_t start_live_bytes;
    uint64_t span_id;
    uint32_t span;
    uint32_t phase;
    fa_scope parent;
    uint32_t name;       /* string id */
    uint32_t interval;   /* between samples in it and inside it; 0: the process's */
    uint32_t generation; /* of the recording it was opened in; 0: free */
    uint32_t next_free;
    uint16_t serial;     /* counts the uses of this entry */
    uint8_t is_span;
    uint8_t is_quiet; /* leaves no record */
    uint8_t closed;
    uint8_t entered; /* in its label, by this process: not after a fork */
    struct closed_phases phases[SCOPE_LABELS]; /* of a span */
};

int scopes_prepare(void); /* private table; 0 on success */
void scopes_reset(void);  /* new recording; lock held, as for all below */
struct scope *scope_get(fa_scope scope); /* NULL: it is gone, or of an earlier recording */
fa_scope scope_take(void);               /* 0: none free */
void scope_give_back(fa_scope scope);
void scope_set_process_phase(uint32_t label);

int scopes_copy_aside(void); /* before a fork; 0 on success */
void scopes_drop_copy(void);
void scopes_child(void);     /* forked child: from the copy, with counters from zero */

/* The interval for the thread's next draw. A scope's own is given up while the live table is half full, so
 * that one request never makes the recorder thin what it knows of all others. */
static inline uint64_t scope_interval(const struct fa_thread *slot)
{
    uint32_t own = slot->scope_interval;
    if (LIKELY(!own) || own >= fa.interval || fa.interval >= (uint64_t)FA_PARKED) return fa.interval;
    return fa.header->live_samples * 2 < REGION(FA_LIVE).capacity ? own : fa.interval;
}

void scope_flush(struct fa_thread *slot);
void scope_enter(struct fa_thread *slot, fa_scope to); /* flush and go */
void scope_catch_up(struct fa_thread *slot, fa_scope scope);
/* An open span's name, with all that it has counted so far. Looks at all entries in use. */
void scope_rename_span(struct scope *span, uint32_t name);
void scope_keep_closed(const struct scope *phase); /* so that a later name gets its counts, too */
/* spans.c */
void spans_reset(void);
void span_check_unused(uint32_t span); /* frees the entry if nothing needs it */

#endif
