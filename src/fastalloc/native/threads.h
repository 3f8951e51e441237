/* Running threads: their slots in the recording, from the first allocation to the exit. */
#ifndef FA_THREADS_H
#define FA_THREADS_H

#include "recorder.h"

/* The calling thread's slot, registered if need be; NULL when it can have none (table full,
 * thread exiting, nothing recorded). Takes the lock. */
struct fa_thread *thread_slot(void);

/* Name index (FA_THREAD_NAMES) of the calling thread's slot; lock held. */
void threads_reset(void);       /* new recording; lock held */
void threads_keep_only_self(void); /* forked child; lock held */
void threads_end_all(void);     /* stop: adds every running thread's totals to ended_*; lock held */

#endif
