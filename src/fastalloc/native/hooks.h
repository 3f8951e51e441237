/* Which hooks are in place. All need the GIL. */
#ifndef FA_HOOKS_H
#define FA_HOOKS_H

#include "layout.h"

/* 0: none. 1: RAW and arenas. 2: OBJ and MEM too. Any change, any number of times, with other
 * threads allocating. */
void hooks_set_level(int level);
enum fa_free_design hooks_design(void);
int hooks_displaced(void); /* another tool took away hooks that should be in place */

/* Calls it while CPython's object allocator is its own, where nobody has hooked on top of us: CPython prints
 * that allocator's statistics only then. What it allocates from OBJ is not seen. */
void hooks_with_original_objects(void (*call)(void *), void *argument);

/* Does the calling thread hold the GIL? No: it may not know. Any thread. */
int hooks_gil_held(void);
/* What was written so far is seen by every thread that sees what is written from now on, even without
 * a barrier of its own. */
void hooks_order_stores(void);

/* Lets the interpreter call `function(NULL)` with the GIL, soon, if that can be asked for here. Any
 * thread, also inside a hook: before 3.13 it takes the interpreter's own small lock, under which
 * nothing is allocated; from 3.13 on only threads without the GIL ask. */
void hooks_call_soon(int (*function)(void *));
/* The same where the GIL may be given up for a moment, so never inside a hook. -1: too many wait. */
int hooks_call_after_fork(int (*function)(void *));
/* Has Python a thread? Without the GIL: one that has just ended may still count. */
int hooks_python_has_threads(void);
void hooks_child(void); /* in a forked child: the watcher, if it waited for the GIL, does so no longer */
uintptr_t hooks_frame(void); /* the calling thread's newest frame, to be compared; 0: none */

#endif
