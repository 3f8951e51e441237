/* The watcher: one thread of ours in each recorded process, for what no allocation brings about.
 *
 * It sleeps on a futex. When it wakes, by a ring or by its own clock, it looks at the usage, the control
 * word and the requests; at most once a second while nothing is near. Only when Python has work does it take
 * the GIL, and the thread is known to Python no longer than that takes.
 *
 *              start                 ring, clock                 work is due
 *   ABSENT --------------> IDLE --------------------> IDLE -----------------------> BUSY
 *      ^                    |   look: system calls         Python, with the GIL      |
 *      +------ LEAVING <----+   only, no GIL                                         |
 *                 ^   stop, fork: it is joined, which needs no GIL       back to IDLE+
 *
 * One that is BUSY cannot be joined by who holds the GIL: it is left alone. After a stop it is nobody's
 * (`generation` has moved on) and ends by itself when its work does.
 *
 * A fork finds no thread of ours: it is joined before, so that the parent is not told that it forked with
 * threads, and starts again when the frame that forked runs on, before it can wait in C. In a child too: it is
 * the clock by which a child that only sleeps gets its recording (recording_settle).
 *
 * A process ends with its last thread. Where its first one may end before others, in a child that was forked by a thread
 * which then returns, the watcher leaves with that one and does not come back.
 */
#ifndef FA_WATCHER_H
#define FA_WATCHER_H

#include <stdint.h>

#include "fastalloc.h"

/* With a recording running; GIL, or a fork's child. It starts at once (about 50 us). */
void watcher_start(void);
/* Before a recording ends. Joins an idle one (about 50 us), gives up a busy one. */
void watcher_stop(void);
/* After a fork: starts again if it is missing and may. GIL, outside of hooks. */
int watcher_missing(void);
void watcher_restart(void);

/* Python work for one or more reasons (enum fa_reason). Any thread, also inside a hook: one system call. */
void watcher_raise(uint32_t reasons);

/* Around a fork; in this order with what lifecycle.c does. No lock held. */
void watcher_before_fork(void);
void watcher_after_fork_in_parent(void);
void watcher_after_fork_in_child(void);

#endif
