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
 *  3. The running context (contextvars) is the truth about the scope. The slot follows it where a
 *     switch can be watched. A sample reads the context itself, and where the slot missed a switch
 *     it catches up. Around the steps of a task there are gaps, in which the context is not that of
 *     the code that runs: there `ignored_context` keeps samples from following it, and what was
 *     caught up too early is undone by remembering the scope before (`before_catch_up`).
 *
 *        loop's context | task's context entered | step ... | task's context left | loop's context
 *                       |          gap           ^ task_enter  task_leave ^  gap  |
 */
#ifndef FA_SCOPES_H
#define FA_SCOPES_H

#include "fastalloc.h"
#include "recorder.h"

int scopes_prepare(void); /* private table; 0 on success */
void scopes_reset(void);  /* new recording; lock held */
void scopes_child(void);  /* forked child: counters from zero; lock held */

void scope_flush(struct fa_thread *slot);              /* lock held */
void scope_enter(struct fa_thread *slot, fa_scope to); /* flush and go; lock held */
void scope_catch_up(struct fa_thread *slot, fa_scope scope); /* lock held */
void span_check_unused(uint32_t span);                 /* frees the entry if nothing needs it; lock held */

#endif
